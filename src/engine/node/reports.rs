//! Who hears how this device is doing, and when.
//!
//! If everybody told everybody every second, a room of fifty would carry 2,450 messages a
//! second that nobody looks at. The coordinator decides by these figures and hears them every
//! second; the others only show them and are told in turn, a few each second.

use super::{LocalTime, Message, Node, NodeId, Output, PlayoutFacts, Report, Span};
use crate::wire::message::SyncState;

/// How often this device looks how it is doing, and tells the coordinator.
const EVERY: Span = Span::from_secs(1);

/// How many of the other members hear of it then, while something sounds: up to nine devices
/// all know of each other every second.
const TOLD_PLAYING: usize = 8;

/// And while nothing does.
const TOLD_IDLE: usize = 3;

/// Reports that are later than this beyond their turn say nothing.
const LATE: Span = Span::from_secs(3);

/// Probes delayed by this much beyond their floor: bulk is in the way.
const BULK_IN_THE_WAY_US: f32 = 30_000.0;

impl Node {
    pub(super) fn playout_reported(&mut self, now: LocalTime, facts: PlayoutFacts) {
        let told_at_once = |facts: &PlayoutFacts| (facts.underruns, facts.locked);
        let changed =
            facts.output != self.facts.output || told_at_once(&facts) != told_at_once(&self.facts);
        self.facts = facts;
        if changed {
            self.report = self.make_report(now);
            for peer in self.member_peers() {
                self.tell_report(now, peer);
            }
        }
    }

    /// Once a second, tells the coordinator and those others who have waited longest.
    pub(super) fn look_at_reports(&mut self, now: LocalTime) {
        if now < self.next_report {
            return;
        }
        self.next_report = now + EVERY;
        self.gauge_own_network(now);
        self.report = self.make_report(now);
        let coordinator = self.coordinator();
        let mut others = Vec::new();
        for peer in self.member_peers() {
            if Some(peer) == coordinator {
                self.tell_report(now, peer);
            } else {
                others.push((self.peers.get(&peer).and_then(|known| known.told), peer));
            }
        }
        others.sort_unstable();
        for (_, peer) in others.into_iter().take(self.told_each_time()) {
            self.tell_report(now, peer);
        }
        self.slow_bulk_down(now);
    }

    fn tell_report(&mut self, now: LocalTime, peer: NodeId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.told = Some(now);
        }
        self.send(peer, Message::Report(self.report.clone()));
    }

    fn told_each_time(&self) -> usize {
        let plan = self.playback.plan;
        let sounds = plan.is_some_and(|plan| plan.spans.iter().any(Option::is_some));
        if sounds { TOLD_PLAYING } else { TOLD_IDLE }
    }

    /// Where probes of any member are delayed, this one sends bulk more slowly. A stranger's
    /// troubles are not ours.
    fn slow_bulk_down(&mut self, now: LocalTime) {
        let delayed = |report: &Report| report.rtt_avg_us - report.rtt_us > BULK_IN_THE_WAY_US;
        let members = self.member_peers();
        let turns = members.len().div_ceil(self.told_each_time());
        let fresh = LATE + Span(EVERY.0.saturating_mul(i64::try_from(turns).unwrap_or(i64::MAX)));
        let reports = members.iter().filter_map(|peer| self.peers.get(peer)?.report.as_ref());
        let theirs = reports.filter(|(_, at)| now - *at < fresh).any(|(report, _)| delayed(report));
        if theirs || delayed(&self.report) {
            self.outputs.push_back(Output::ThrottleBulk { span: EVERY });
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "reports are for people: f32 is plenty")]
    fn make_report(&self, now: LocalTime) -> Report {
        let clock = self.clock.stats(now);
        let facts = &self.facts;
        let statistical = clock.error.as_secs_f64().hypot(3.0 * facts.dac_sigma_s);
        Report {
            state: self.sync_state(now),
            offset_us: (facts.error_s * 1e6) as f32,
            error_us: (statistical * 1e6) as f32,
            asymmetry_us: clock.asymmetry.as_micros_f64() as f32,
            rtt_us: clock.rtt_min.as_micros_f64() as f32,
            rtt_avg_us: self.mean_rtt(&clock).as_micros_f64() as f32,
            jitter_us: clock.jitter.as_micros_f64() as f32,
            drift_ppm: clock.drift.0 as f32,
            dac_ppm: facts.dac_ppm as f32,
            correction_ppm: facts.correction_ppm as f32,
            buffer_ms: facts.buffer_ms as f32,
            underruns: facts.underruns,
            depth_ms: facts.depth.as_millis_f64() as f32,
            late_ms: clock.lateness_q999.as_millis_f64() as f32,
            output: facts.output.clone(),
        }
    }

    fn sync_state(&self, now: LocalTime) -> SyncState {
        let sounding = self.playback.plan.is_some_and(|plan| {
            self.clock.model().is_some_and(|model| plan.at(model.room(now)).is_some())
        });
        match self.clock.stats(now).state {
            SyncState::Synced if sounding && !self.facts.locked => SyncState::Syncing,
            state => state,
        }
    }
}
