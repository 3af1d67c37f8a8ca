//! The line that turns this device's time into room time: small, copied to whoever needs it.

use crate::base::{LocalTime, RoomTime, Span};

/// `room = room0 + (local - local0) * (1 + rate)`, with how far it may be wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClockModel {
    /// Anchor on this device's clock, near the present.
    pub local0: LocalTime,
    /// The same instant in room time.
    pub room0: RoomTime,
    /// Room seconds per local second, minus one.
    pub rate: f64,
    /// One standard deviation of the statistical error at the anchor, seconds.
    pub sigma: f64,
    /// Bound of the error that no two-way exchange can see: half the smallest round trip,
    /// seconds; 0 on the coordinator.
    pub asymmetry: f64,
    /// Counts the discontinuities of this line: while it stays, the line only ever bends.
    pub generation: u32,
}

impl ClockModel {
    /// Room time at an instant of this device.
    #[must_use]
    pub fn room(&self, local: LocalTime) -> RoomTime {
        let dt = local - self.local0;
        self.room0 + dt + Span::from_secs_f64(dt.as_secs_f64() * self.rate)
    }

    /// This device's time at an instant of the room.
    #[must_use]
    pub fn local(&self, room: RoomTime) -> LocalTime {
        let dt = room - self.room0;
        self.local0 + dt - Span::from_secs_f64(dt.as_secs_f64() * self.rate / (1.0 + self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_meet() {
        let model = ClockModel {
            local0: LocalTime(1_000),
            room0: RoomTime(77_000_000_000),
            rate: 123e-6,
            sigma: 0.0,
            asymmetry: 0.0,
            generation: 0,
        };
        for local in [0, 5_000_000_000, -3_000_000_000, 3_600_000_000_000] {
            let there_and_back = model.local(model.room(LocalTime(local)));
            assert!((there_and_back - LocalTime(local)).abs() <= Span(2), "{local}");
        }
    }
}
