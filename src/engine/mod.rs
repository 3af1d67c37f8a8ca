//! The pure machine: everything that decides. No clock, socket, file, thread, runtime or
//! ambient randomness; time is passed in, results are polled out.

pub mod clock;
pub mod command;
pub mod election;
pub mod friends;
pub mod limits;
pub mod membership;
pub mod node;
pub mod pairing;
pub mod planted;
pub mod playout;
pub mod room;
pub mod status;
pub mod transfer;

pub use command::{Command, CommandReply, RequestId};
pub use status::Status;
