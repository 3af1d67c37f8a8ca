//! How good a member's network is, by its own probes, and what follows.
//!
//! ```text
//!            RTT > 500 ms or jitter > 200 ms          RTT > 1 s for 10 s
//!  good ◄──────────────────────────────────► weak ──────────────────────► excluded
//!    ▲                                                                        │
//!    └──────────────────────────── 10 s of good ──────────────────────────────┘
//! ```
//!
//! Nobody waits for an excluded member, neither with a start nor with a command. It goes on
//! sounding as long as it knows the room's time to 20 ms; beyond, it falls silent by itself.

use super::{LocalTime, Node, Notice, Span};
use crate::engine::clock::{ClockStats, LOST_ERROR, MAX_RTT};

/// Mean round trip beyond which a network is weak, and the spread of round trips.
const WEAK_RTT: Span = Span::from_millis(500);
const WEAK_JITTER: Span = Span::from_millis(200);

/// Mean round trip beyond which nobody waits for it, once it has lasted.
const EXCLUDED_RTT: Span = Span::from_secs(1);

/// How long it must be so bad, and then so good.
const LASTING: Span = Span::from_secs(10);

/// A network, as the room takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Quality {
    /// Nothing to say.
    #[default]
    Good,
    /// It may miss a beat.
    Weak,
    /// Nobody waits for it.
    Excluded,
}

impl Quality {
    /// One word, for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Quality::Good => "good",
            Quality::Weak => "weak",
            Quality::Excluded => "excluded",
        }
    }
}

/// Follows the network of one member.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Gauge {
    quality: Quality,
    /// Since when the round trip is such that it would be excluded; or, when it is, since when
    /// it is good again.
    since: Option<LocalTime>,
}

impl Gauge {
    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// Takes a second's figures in; the quality if it is another one than before.
    pub fn measure(&mut self, now: LocalTime, rtt: Span, jitter: Span) -> Option<Quality> {
        let before = self.quality;
        let looks =
            if rtt > WEAK_RTT || jitter > WEAK_JITTER { Quality::Weak } else { Quality::Good };
        let was_excluded = before == Quality::Excluded;
        let would_change = if was_excluded { looks == Quality::Good } else { rtt > EXCLUDED_RTT };
        self.since = would_change.then(|| self.since.unwrap_or(now));
        let has_lasted = self.since.is_some_and(|since| now - since >= LASTING);
        let is_excluded = was_excluded != has_lasted;
        self.quality = if is_excluded { Quality::Excluded } else { looks };
        if has_lasted {
            self.since = None;
        }
        (self.quality != before).then_some(self.quality)
    }
}

/// Whether an excluded member would be heard as an echo.
fn is_lost(quality: Quality, error: Span) -> bool {
    quality == Quality::Excluded && error > LOST_ERROR
}

impl super::Peer {
    /// Whether starts and commands wait for it.
    pub(super) fn is_waited_for(&self) -> bool {
        self.gauge.quality() != Quality::Excluded
    }
}

impl Node {
    /// How good this device's own network is: said to its people, too.
    pub(super) fn gauge_own_network(&mut self, now: LocalTime) {
        let clock = self.clock.stats(now);
        let change = self.gauge.measure(now, self.mean_rtt(&clock), clock.jitter);
        if let Some(quality) = change {
            self.tell(Notice::Network { name: self.name.clone(), here: true, quality });
        }
        self.fall_silent(now, is_lost(self.gauge.quality(), clock.error));
    }

    /// The mean round trip to the coordinator. Answers that take longer than they are waited for
    /// are not in any mean: then the silence counts.
    pub(super) fn mean_rtt(&self, clock: &ClockStats) -> Span {
        let follows = self.clock.source().is_some() && !self.clock.is_leading();
        let silence = clock.silence.filter(|silence| follows && *silence > MAX_RTT);
        silence.map_or(clock.rtt_avg, |silence| clock.rtt_avg.max(silence))
    }

    pub(super) fn fall_silent(&mut self, now: LocalTime, is_lost: bool) {
        if is_lost != self.playback.is_lost {
            self.playback.is_lost = is_lost;
            self.playback.plan_due = Some(now);
        }
    }

    /// A member has said what its probes show.
    pub(super) fn gauge_network_of(&mut self, now: LocalTime, from: super::NodeId) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let Some((report, _)) = &peer.report else { return };
        let micros = |us: f32| Span::from_secs_f64(f64::from(us) * 1e-6);
        let figures = (micros(report.rtt_avg_us), micros(report.jitter_us));
        let change = peer.gauge.measure(now, figures.0, figures.1);
        let name = peer.name.clone();
        if let Some(quality) = change.filter(|_| self.is_member(from)) {
            self.tell(Notice::Network { name, here: false, quality });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gauge that has seen a second's figures for so many seconds, each with a round trip and a
    /// jitter in milliseconds; what it made of them.
    fn seen(gauge: &mut Gauge, from: i64, seconds: i64, rtt: i64, jitter: i64) -> Quality {
        for second in from..from + seconds {
            let now = LocalTime(second * 1_000_000_000);
            gauge.measure(now, Span::from_millis(rtt), Span::from_millis(jitter));
        }
        gauge.quality()
    }

    #[test]
    fn slow_or_restless_is_weak_at_once_and_good_again_at_once() {
        let mut gauge = Gauge::default();
        assert_eq!(seen(&mut gauge, 0, 1, 500, 200), Quality::Good, "not beyond");
        assert_eq!(seen(&mut gauge, 1, 1, 501, 0), Quality::Weak);
        assert_eq!(seen(&mut gauge, 2, 1, 20, 5), Quality::Good);
        assert_eq!(seen(&mut gauge, 3, 1, 20, 201), Quality::Weak);
    }

    #[test]
    fn ten_seconds_beyond_one_second_exclude_and_ten_of_good_bring_back() {
        let mut gauge = Gauge::default();
        assert_eq!(seen(&mut gauge, 0, 10, 1001, 0), Quality::Weak, "nine seconds long");
        assert_eq!(seen(&mut gauge, 10, 1, 900, 0), Quality::Weak, "which is no longer so");
        assert_eq!(seen(&mut gauge, 11, 11, 1001, 0), Quality::Excluded);
        assert_eq!(seen(&mut gauge, 22, 60, 600, 0), Quality::Excluded, "weak is not good");
        assert_eq!(seen(&mut gauge, 82, 10, 20, 0), Quality::Excluded);
        assert_eq!(seen(&mut gauge, 92, 1, 20, 0), Quality::Good);
        assert_eq!(seen(&mut gauge, 93, 10, 1001, 0), Quality::Weak, "it begins anew");
        assert_eq!(seen(&mut gauge, 103, 1, 1001, 0), Quality::Excluded, "from the first on");
    }

    #[test]
    fn only_who_is_excluded_and_does_not_know_the_time_is_silent() {
        let (known, unknown) = (Span::from_millis(20), Span::from_millis(21));
        assert!(is_lost(Quality::Excluded, unknown));
        assert!(!is_lost(Quality::Excluded, known));
        assert!(!is_lost(Quality::Weak, unknown));
    }

    #[test]
    fn what_is_no_number_is_no_reason_to_panic() {
        let mut gauge = Gauge::default();
        for bad in [f64::NAN, f64::INFINITY, f64::MIN, -1.0] {
            let span = Span::from_secs_f64(bad);
            gauge.measure(LocalTime(0), span, span);
        }
    }
}
