//! The coordinator's life as far as it is more than the election: starts and hand-overs are
//! signed and checked here, a device that stood still is found out, and a program that ends
//! lets somebody else take over first.

use std::collections::VecDeque;

use super::{LocalTime, Message, Node, NodeId, RoomTime, Span};
use crate::engine::election::{DeviceFacts, Election, Fitness, FitnessClass};
use crate::engine::status::PowerSave;
use crate::wire::Heartbeat;
use crate::wire::message::{Handoff, Start};

/// A node that was not run for so long stood still: others may have elected somebody. Longer
/// than a busy machine keeps it waiting, shorter than a suspend that matters.
const STOOD_STILL: Span = Span::from_secs(1);

/// The lead does not move so close to the beginning or the end of a track.
const BOUNDARY: Span = Span::from_secs(2);

/// How long a lost lead is held against a device.
const FLAP_MEMORY: Span = Span::from_secs(3600);

/// Lost leads remembered; more cost no more.
const MAX_FLAPS: usize = 16;

/// What is known of this device's fitness beside its clock's figures.
#[derive(Debug, Default)]
pub(super) struct Condition {
    facts: DeviceFacts,
    nearly_empty: bool,
    /// The lead was given away on purpose.
    gave_lead: bool,
    /// When the lead was lost otherwise.
    flaps: VecDeque<LocalTime>,
}

impl Node {
    pub(super) fn fitness_known(&mut self, now: LocalTime, facts: DeviceFacts) {
        self.condition.facts = facts;
        self.condition.nearly_empty = facts.class(self.condition.nearly_empty).1;
        self.refresh_election(now);
    }

    /// Whether this device's radio sleeps between packets; nothing if it has none.
    pub(super) fn wifi_power_save(&self) -> Option<PowerSave> {
        let DeviceFacts { wired, power_save, .. } = self.condition.facts;
        (wired == Some(false)).then_some(match power_save {
            Some(true) => PowerSave::On,
            Some(false) => PowerSave::Off,
            None => PowerSave::Unknown,
        })
    }

    /// How fit this device is to coordinate.
    pub(super) fn fitness(&self, now: LocalTime) -> Fitness {
        let clock = self.clock.stats(now);
        let following = !self.clock.is_leading() && clock.samples > 0;
        let Condition { facts, nearly_empty, flaps, .. } = &self.condition;
        let recent = flaps.iter().filter(|at| now - **at < FLAP_MEMORY).count();
        Fitness {
            class: if self.twin(now).is_some() {
                FitnessClass::LastResort
            } else {
                facts.class(*nearly_empty).0
            },
            wired: facts.wired,
            mains: facts.mains,
            power_save: facts.power_save,
            uptime: now - self.started,
            rtt: following.then_some(clock.rtt_avg),
            jitter: following.then_some(clock.lateness_q999),
            n_flaps: u32::try_from(recent).unwrap_or(u32::MAX),
        }
    }

    /// This node leads no more. Unless it wanted that, it had stalled.
    pub(super) fn note_lost_lead(&mut self, now: LocalTime) {
        let wanted = std::mem::take(&mut self.condition.gave_lead) || self.shutting_down;
        if !self.clock.is_leading() || wanted {
            return;
        }
        let flaps = &mut self.condition.flaps;
        if flaps.len() == MAX_FLAPS {
            flaps.pop_front();
        }
        flaps.push_back(now);
    }

    /// Whether the shutdown that was asked for may be completed: somebody else leads, or
    /// nobody could.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn shutdown(&mut self, now: LocalTime) {
        self.shutting_down = true;
        self.save_last_position(now);
        if let Some(election) = &mut self.election {
            election.retire(now);
        }
    }

    /// Says goodbye once nobody depends on this node any more.
    pub(super) fn finish(&mut self) {
        let retiring = self.election.as_ref().is_some_and(Election::is_retiring);
        if !self.shutting_down || self.finished || retiring {
            return;
        }
        self.finished = true;
        let peers = self.peers.keys().copied().collect::<Vec<_>>();
        for peer in peers {
            self.send(peer, Message::Bye);
        }
    }

    /// This node was not run for a while although its clock went on: stopped by a signal, or
    /// on a machine that was frozen. Whatever waits to be read is from before.
    pub(super) fn notice_standstill(&mut self, now: LocalTime) {
        let before = std::mem::replace(&mut self.last_run, now);
        if now - before < STOOD_STILL {
            return;
        }
        tracing::debug!(seconds = (now - before).as_secs_f64(), "stood still; listening first");
        if let Some(election) = &mut self.election {
            election.resumed(now);
        }
    }

    pub(super) fn send_handoff(&mut self, to: NodeId, at_idx: u64) {
        let (Some(room), Some(election)) = (self.room_id(), &self.election) else { return };
        let signature = ([0; 32], [0; 32]);
        let handoff = Handoff { room, term: election.term(), to, at_idx, signature };
        tracing::info!(name = %self.name_of(to), "asking another device to coordinate");
        self.condition.gave_lead = true;
        self.send(to, Message::Handoff(handoff.signed(&self.key)));
    }

    pub(super) fn handoff_received(&mut self, now: LocalTime, from: NodeId, handoff: &Handoff) {
        if let Err(error) = handoff.verify() {
            tracing::warn!(peer = %from.short(), %error, "a hand-over that nobody signed");
            return;
        }
        if let Some(election) = self.election_of(handoff.room) {
            election.handoff_received(now, from, handoff);
        }
    }

    pub(super) fn start_received(&mut self, now: LocalTime, from: NodeId, start: &Start) {
        if let Err(error) = start.verify() {
            tracing::warn!(peer = %from.short(), %error, "a start that its owner did not sign");
            return;
        }
        if let Some(election) = self.election_of(start.room) {
            election.start_received(now, from, start);
        }
    }

    /// The coordinator says who would take over from it.
    pub(super) fn watch_deputy(&mut self, now: LocalTime, from: NodeId, heartbeat: &Heartbeat) {
        if self.coordinator() != Some(from) || self.room_id() != Some(heartbeat.room) {
            return;
        }
        let first = heartbeat.successors.first().filter(|node| **node != self.me);
        let deputy = first.and_then(|node| Some((*node, self.peers.get(node)?.boot)));
        self.clock.watch_deputy(now, deputy);
    }

    /// Tells the election what sounds, and keeps the lead where it is near a change of tracks.
    pub(super) fn refresh_reign(&mut self, now: LocalTime) {
        let playing = self.is_sounding(now);
        let busy = self.is_near_boundary(self.room_now(now));
        let Some(election) = &mut self.election else { return };
        election.set_playing(playing);
        if busy {
            election.keep_lead_until(now + BOUNDARY);
        }
    }

    pub(super) fn is_sounding(&self, now: LocalTime) -> bool {
        self.phase(now) == crate::engine::status::PlaybackState::Playing
    }

    fn is_near_boundary(&self, at: RoomTime) -> bool {
        let Some(room) = &self.room else { return false };
        let near = |instant: Option<RoomTime>| instant.is_some_and(|i| (i - at).abs() < BOUNDARY);
        room.state().segments().any(|segment| near(segment.start) || near(segment.end()))
    }
}
