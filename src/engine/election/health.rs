//! Whether this node should trust its own ears: who hears nobody at all, or is run late, is more
//! likely at fault itself than the coordinator that it does not hear. For a while it then gives the
//! coordinator twice the time.
//!
//! The idea is that of Lifeguard (Dadgar, Phillips, Currey: "Lifeguard: Local Health Awareness for
//! More Accurate Failure Detection", 2018), which makes SWIM's time-outs longer in the same way.

use crate::base::{LocalTime, Span};

use super::Election;
use super::timing::{DOUBTFUL_FOR, HEARD_NOBODY, RUN_LATE};

impl Election {
    /// Something came from another device of the room, whatever it was.
    pub fn contact(&mut self, now: LocalTime) {
        if now - self.contact >= HEARD_NOBODY && self.connected().next().is_some() {
            self.doubt_itself(now);
        }
        self.contact = now;
    }

    /// Looks whether this node is run in time.
    pub(super) fn notice_lateness(&mut self, now: LocalTime) {
        if self.poll_timeout().is_some_and(|due| now - due >= RUN_LATE) {
            self.doubt_itself(now);
        }
    }

    fn doubt_itself(&mut self, now: LocalTime) {
        self.doubtful_until = now + DOUBTFUL_FOR;
    }

    /// The silence after which this node suspects the coordinator that it last heard then.
    pub(super) fn patience(&self, heard: LocalTime) -> Span {
        let silence = self.timing().silence;
        if heard < self.doubtful_until { silence + silence } else { silence }
    }
}
