//! How fit a device is to coordinate, as one number: the order of succession follows it, and
//! in the long run the lead does.
//!
//! What is not known yet costs nothing and earns nothing.

use crate::base::{Ppm, Span};

/// What a device may do at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum FitnessClass {
    /// Only when there is nobody else.
    LastResort = 0,
    /// On a battery: may be gone any minute.
    Fleeting = 1,
    /// Everybody else.
    #[default]
    Normal = 2,
    /// Chosen by a person.
    Pinned = 3,
}

/// What a person wants of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Coordinate {
    /// Whatever is best.
    #[default]
    Auto,
    /// It coordinates whenever it is here.
    Prefer,
    /// It coordinates only when there is nobody else.
    Never,
}

impl std::str::FromStr for Coordinate {
    type Err = ();

    fn from_str(text: &str) -> Result<Coordinate, ()> {
        match text {
            "auto" => Ok(Coordinate::Auto),
            "prefer" => Ok(Coordinate::Prefer),
            "never" => Ok(Coordinate::Never),
            _ => Err(()),
        }
    }
}

/// What the driver finds out about its device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceFacts {
    /// What a person wants of it.
    pub coordinate: Coordinate,
    /// Whether its link is a cable.
    pub wired: Option<bool>,
    /// Whether it is fed from the mains.
    pub mains: Option<bool>,
    /// How full its battery is, if it has one.
    pub battery_percent: Option<u8>,
    /// Whether its radio sleeps between packets.
    pub power_save: Option<bool>,
    /// How busy its processor was lately, all cores together.
    pub busy_percent: Option<u8>,
    /// Whether a part of it is so hot that the system slows it down.
    pub throttled: Option<bool>,
    /// Whether its wall clock follows a time server.
    pub wall_clock_synced: Option<bool>,
}

impl DeviceFacts {
    /// Whether it is too hot or too busy to answer in time for long.
    #[must_use]
    pub fn is_hot(&self) -> Option<bool> {
        let busy = self.busy_percent.map(|percent| percent > BUSY_PERCENT);
        match (busy, self.throttled) {
            (None, None) => None,
            (busy, throttled) => Some(busy == Some(true) || throttled == Some(true)),
        }
    }

    /// What the device may do, and whether its battery counts as nearly empty from now on. A
    /// battery that was nearly empty must recover a little, or the lead would move with every
    /// percent.
    #[must_use]
    pub fn class(&self, was_nearly_empty: bool) -> (FitnessClass, bool) {
        let on_battery = self.mains == Some(false);
        let limit = if was_nearly_empty { RECOVERED_PERCENT } else { NEARLY_EMPTY_PERCENT };
        let nearly_empty = on_battery && self.battery_percent.is_some_and(|left| left < limit);
        let class = match self.coordinate {
            _ if nearly_empty => FitnessClass::LastResort,
            Coordinate::Never => FitnessClass::LastResort,
            Coordinate::Prefer => FitnessClass::Pinned,
            Coordinate::Auto if on_battery => FitnessClass::Fleeting,
            Coordinate::Auto => FitnessClass::Normal,
        };
        (class, nearly_empty)
    }
}

/// Above this a processor has no room for a burst of somebody's resampling.
const BUSY_PERCENT: u8 = 70;

/// Below this a device on its battery gives the lead away.
const NEARLY_EMPTY_PERCENT: u8 = 20;

/// From this on it may take it again.
const RECOVERED_PERCENT: u8 = 25;

/// Points of a device of which nothing is known.
const BASE: i64 = 1500;

/// A cable: on Wi-Fi there are some twenty needless changes of coordinator an hour among
/// sixteen devices, with a wired one there are none.
const WIRED: i64 = 800;

/// Fed from the mains.
const MAINS: i64 = 500;

/// A radio that sleeps answers after up to two seconds.
const POWER_SAVE: i64 = -300;

/// Hot or busy: its answers will come late.
const HOT: i64 = -200;

/// Its wall clock follows a time server: deadlines outlive a power cut by it.
const WALL_CLOCK: i64 = 100;

/// Connected to everybody: as coordinator it leaves nobody out.
const SEES_ALL: i64 = 150;

/// Each time in the last hour that it lost the lead because it stalled.
const FLAP: i64 = -250;

/// It cannot tell yet how fast the room's time goes. As coordinator it would make what it
/// believes the room's time: 10 ppm are 300 µs in half a minute, which all others follow. In
/// simulated Wi-Fi rooms that lose a coordinator every 46 s this halves how far the survivors
/// leave a straight line.
const NEW_TO_THE_TIME: i64 = -800;

/// Beyond this error of the rate it counts as new. On Wi-Fi a device claims 28 to 80 ppm after a
/// quarter of a minute and 5 to 22 ppm after a whole one; on a cable it is below from the start.
const NEW_FROM: Ppm = Ppm(20.0);

/// What is known of a device's fitness.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Fitness {
    /// What it may do at all.
    pub class: FitnessClass,
    /// Whether its link is a cable, if known.
    pub wired: Option<bool>,
    /// Whether it is fed from the mains, if known.
    pub mains: Option<bool>,
    /// Whether its radio sleeps between packets, if known.
    pub power_save: Option<bool>,
    /// Whether it is hot or busy, if known.
    pub hot: Option<bool>,
    /// Whether its wall clock follows a time server, if known.
    pub wall_clock_synced: Option<bool>,
    /// Whether it is connected to all devices of the room, if there are others.
    pub sees_all: Option<bool>,
    /// Since its start.
    pub uptime: Span,
    /// Median round trip to the others, if measured.
    pub rtt: Option<Span>,
    /// 99th percentile of the delay beyond its floor, if measured.
    pub jitter: Option<Span>,
    /// How well it knows how fast the room's time goes, if there is one: a standard deviation.
    pub drift_sigma: Option<Ppm>,
    /// How often it lost the lead in the last hour because it stalled.
    pub n_flaps: u32,
}

impl Fitness {
    /// The score: class first, then 0 to 4,095 points in steps of 64, so that noise does not
    /// reorder the succession.
    #[must_use]
    pub fn score(&self) -> u16 {
        let points = BASE
            + self.device_points()
            + self.uptime_points()
            + self.clock_points()
            + FLAP * i64::from(self.n_flaps.min(16))
            - penalty(self.rtt, 4, 600)
            - penalty(self.jitter, 3, 900);
        let points = u16::try_from(points.clamp(0, 4095)).expect("clamped") & !63;
        ((self.class as u16) << 12) | points
    }

    fn device_points(&self) -> i64 {
        let facts = [
            (self.wired, WIRED),
            (self.mains, MAINS),
            (self.power_save, POWER_SAVE),
            (self.hot, HOT),
            (self.wall_clock_synced, WALL_CLOCK),
            (self.sees_all, SEES_ALL),
        ];
        facts.into_iter().filter(|(is, _)| *is == Some(true)).map(|(_, points)| points).sum()
    }

    fn clock_points(&self) -> i64 {
        if self.drift_sigma.is_some_and(|sigma| sigma > NEW_FROM) { NEW_TO_THE_TIME } else { 0 }
    }

    /// 50 for every doubling of the minutes: what has run for long will run on.
    fn uptime_points(&self) -> i64 {
        let minutes = u64::try_from(self.uptime.as_millis() / 60_000).unwrap_or(0);
        i64::from(minutes.checked_ilog2().unwrap_or(0) * 50).min(400)
    }
}

/// The class in a score.
pub(super) fn class_of(score: u16) -> u16 {
    score >> 12
}

/// The points in a score.
pub(super) fn points_of(score: u16) -> u16 {
    score & 0x0fff
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
    fn a_cable_outweighs_what_uptime_can_earn_and_stalls_outweigh_a_cable() {
        let old = Fitness { uptime: Span::from_secs(400 * 24 * 3600), ..Fitness::default() };
        let cable = Fitness { wired: Some(true), ..Fitness::default() };
        let stalls = Fitness { n_flaps: 4, ..cable };
        assert!(cable.score() > old.score() && stalls.score() < Fitness::default().score());
    }

    #[test]
    fn a_battery_counts_only_without_the_mains_and_recovers_late() {
        let phone = |left, mains| DeviceFacts {
            battery_percent: Some(left),
            mains: Some(mains),
            ..DeviceFacts::default()
        };
        assert_eq!(phone(5, true).class(false), (FitnessClass::Normal, false));
        assert_eq!(phone(20, false).class(false), (FitnessClass::Fleeting, false));
        assert_eq!(phone(19, false).class(false), (FitnessClass::LastResort, true));
        assert_eq!(phone(24, false).class(true), (FitnessClass::LastResort, true));
        assert_eq!(phone(25, false).class(true), (FitnessClass::Fleeting, false));
        let chosen = DeviceFacts { coordinate: Coordinate::Prefer, ..phone(19, false) };
        assert_eq!(chosen.class(false).0, FitnessClass::LastResort, "it would soon be gone");
    }

    #[test]
    fn whoever_is_new_to_the_rooms_time_comes_after_those_who_know_it() {
        let knows = Fitness { drift_sigma: Some(Ppm(1.0)), ..Fitness::default() };
        let slow = Fitness { jitter: Some(Span::from_millis(100)), ..knows };
        let new = Fitness { drift_sigma: Some(Ppm(30.0)), ..knows };
        assert!(slow.score() > new.score());
    }

    #[test]
    fn heat_costs_and_a_view_of_all_earns() {
        let plain = Fitness::default();
        let hot = Fitness { hot: Some(true), ..plain };
        let seeing = Fitness { sees_all: Some(true), ..plain };
        let synced = Fitness { wall_clock_synced: Some(true), ..plain };
        assert!(hot.score() < plain.score());
        assert!(seeing.score() > plain.score() && synced.score() > plain.score());
        assert!(seeing.device_points() > synced.device_points());
        let all = Fitness {
            wired: Some(true),
            mains: Some(true),
            uptime: Span::from_secs(400 * 24 * 3600),
            ..Fitness { sees_all: Some(true), ..synced }
        };
        assert!(points_of(all.score()) < 4095 - 63, "nothing that a device has is cut off");
        // A cable is worth more than all of these together.
        let cable = Fitness { wired: Some(true), hot: Some(true), ..plain };
        assert!(cable.score() > Fitness { sees_all: Some(true), ..synced }.score());
    }

    #[test]
    fn a_device_is_hot_by_its_load_or_by_its_heat() {
        let facts = |busy_percent, throttled| DeviceFacts {
            busy_percent,
            throttled,
            ..DeviceFacts::default()
        };
        assert_eq!(facts(None, None).is_hot(), None);
        assert_eq!(facts(Some(70), None).is_hot(), Some(false));
        assert_eq!(facts(Some(71), None).is_hot(), Some(true));
        assert_eq!(facts(Some(10), Some(true)).is_hot(), Some(true));
        assert_eq!(facts(None, Some(false)).is_hot(), Some(false));
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
