//! Room time on this device.
//!
//! ```text
//!  ProbeReply ──► RoomClock ──► Estimator ──► envelope   raw clock of the coordinator
//!                     │             └───────► holdover   against ours
//!                     │         PathStats                 what the answers took
//!                     │         Schedule                  when to ask
//!                     ├── Standby ──► Estimator        raw clock of whoever would take over
//!                     └── composes with the coordinator's RoomLine ──► ClockModel
//! ```
//!
//! [`RoomClock`] is all that a node uses. The rest knows nothing of rooms: two raw clocks are
//! compared, so that a takeover re-anchors nothing.

pub mod envelope;
pub mod estimator;
pub mod holdover;
pub mod model;
pub mod path_stats;
pub mod room_clock;
pub mod schedule;
pub mod standby;

pub use estimator::{Estimator, Exchange};
pub use model::ClockModel;
pub use room_clock::{ClockStats, LOST_ERROR, MAX_RTT, RoomClock};
pub use standby::{raw_answer, raw_source};
