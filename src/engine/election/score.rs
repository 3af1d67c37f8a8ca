//! How fit a device is to coordinate, as one number: the order of succession follows it.
//!
//! What is not known yet costs nothing and earns nothing. Nobody is replaced because somebody
//! fitter came: the score only says who is next.

use crate::base::Span;

/// What a device may do at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum FitnessClass {
    /// Only when there is nobody else.
    LastResort = 0,
    /// On a battery or a metered link: may be gone any minute.
    Fleeting = 1,
    /// Everybody else.
    #[default]
    Normal = 2,
    /// Chosen by a person.
    Pinned = 3,
}

/// What is known of a device's fitness.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Fitness {
    /// What it may do at all.
    pub class: FitnessClass,
    /// Whether its link is a cable, if known.
    pub wired: Option<bool>,
    /// Since its start.
    pub uptime: Span,
    /// Median round trip to the others, if measured.
    pub rtt: Option<Span>,
    /// 99th percentile of the delay beyond its floor, if measured.
    pub jitter: Option<Span>,
}

impl Fitness {
    /// The score: class first, then 0 to 4,095 points in steps of 64, so that noise does not
    /// reorder the succession.
    #[must_use]
    pub fn score(&self) -> u16 {
        let points = 1500 + self.link_points() + self.uptime_points()
            - penalty(self.rtt, 4, 600)
            - penalty(self.jitter, 3, 900);
        let points = u16::try_from(points.clamp(0, 4095)).expect("clamped") & !63;
        ((self.class as u16) << 12) | points
    }

    fn link_points(&self) -> i64 {
        if self.wired == Some(true) { 800 } else { 0 }
    }

    /// 50 for every doubling of the minutes: what has run for long will run on.
    fn uptime_points(&self) -> i64 {
        let minutes = u64::try_from(self.uptime.as_millis() / 60_000).unwrap_or(0);
        i64::from(minutes.checked_ilog2().unwrap_or(0) * 50).min(400)
    }
}

fn penalty(delay: Option<Span>, per_ms: i64, cap: i64) -> i64 {
    delay.map_or(0, |d| d.as_millis().clamp(0, cap).saturating_mul(per_ms).min(cap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cable_beats_wifi_and_a_battery_beats_nobody() {
        let wifi = Fitness::default();
        let cable = Fitness { wired: Some(true), ..wifi };
        let phone = Fitness { class: FitnessClass::Fleeting, wired: Some(true), ..wifi };
        assert!(cable.score() > wifi.score());
        assert!(wifi.score() > phone.score());
    }

    #[test]
    fn delay_costs_and_never_wraps() {
        let calm = Fitness { rtt: Some(Span::from_millis(2)), ..Fitness::default() };
        let slow = Fitness {
            rtt: Some(Span::from_millis(400)),
            jitter: Some(Span::MAX),
            ..Fitness::default()
        };
        assert!(calm.score() > slow.score());
        assert_eq!(slow.score() >> 12, 2, "points never eat into the class");
    }
}
