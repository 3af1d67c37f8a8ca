//! The coordinator's life as far as it is more than the election: starts and hand-overs are
//! signed and checked here, a device that stood still is found out, and a program that ends
//! lets somebody else take over first.

use std::collections::VecDeque;

use super::{Departure, LocalTime, Message, Node, NodeId, RoomTime, Span};
use crate::engine::election::{DeviceFacts, Election, Fitness, FitnessClass};
use crate::engine::status::PowerSave;
use crate::wire::Heartbeat;
use crate::wire::message::{Handoff, Start};

/// A node that was not run for so long stood still: others may have elected somebody. Longer
/// than a busy machine keeps it waiting, shorter than a suspend that matters.
const STOOD_STILL: Span = Span::from_secs(1);

/// Between a hand-over and the goodbye: whoever hears the goodbye before the successor's start
/// would take the coordinator for lost.
const FAREWELL: Span = Span::from_millis(50);

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
    /// Somebody takes over before this node says goodbye; when it may, once that is done.
    pub(super) farewell_at: Option<LocalTime>,
    /// Goodbye has been said.
    finished: bool,
}

impl Condition {
    /// When the lead was lost although this device wanted to keep it.
    #[cfg(test)]
    pub(super) fn flaps(&self) -> &VecDeque<LocalTime> {
        &self.flaps
    }

    /// How often that happened, as far back as it is kept.
    pub(super) fn n_flaps(&self) -> usize {
        self.flaps.len()
    }
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
            // Who cannot keep what it orders should order only if there is nobody else.
            class: if self.twin(now).is_some() || !self.writes() {
                FitnessClass::LastResort
            } else {
                facts.class(*nearly_empty).0
            },
            wired: facts.wired,
            mains: facts.mains,
            power_save: facts.power_save,
            hot: facts.is_hot(),
            wall_clock_synced: facts.wall_clock_synced,
            sees_all: self.sees_all(),
            uptime: now - self.started,
            rtt: following.then_some(clock.rtt_avg),
            jitter: following.then_some(clock.lateness_q999),
            drift_sigma: self.clock.model().map(|_| clock.drift_sigma),
            n_flaps: u32::try_from(recent).unwrap_or(u32::MAX),
        }
    }

    /// This node leads no more. Unless it wanted that, it had stalled.
    pub(super) fn note_lost_lead(&mut self, now: LocalTime) {
        let leaves = self.shutting_down || self.leaving || self.departure.is_some();
        let wanted = std::mem::take(&mut self.condition.gave_lead) || leaves;
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
        self.condition.finished
    }

    pub(super) fn shutdown(&mut self, now: LocalTime) {
        self.shutting_down = true;
        // A move into another room would only be begun; the next start looks for one anyway.
        self.departure.take_if(|departure| matches!(departure, Departure::Arrive { .. }));
        self.save_last_position(now);
        if let Some(election) = &mut self.election {
            election.retire(now);
            self.condition.farewell_at = election.is_retiring().then_some(LocalTime::FAR);
        }
    }

    /// Says goodbye once nobody depends on this node any more.
    pub(super) fn finish(&mut self, now: LocalTime) {
        let retiring = self.election.as_ref().is_some_and(Election::is_retiring);
        if !self.shutting_down || self.condition.finished || retiring {
            return;
        }
        let farewell_at = self.condition.farewell_at.map(|at| at.min(now + FAREWELL));
        self.condition.farewell_at = farewell_at;
        if farewell_at.is_some_and(|at| now < at) {
            return;
        }
        self.condition.finished = true;
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

    /// Something came from that peer.
    pub(super) fn note_contact(&mut self, now: LocalTime, from: NodeId) {
        if self.is_member(from)
            && let Some(election) = &mut self.election
        {
            election.contact(now);
        }
    }

    /// Whether this node is connected to as many devices of the room as anybody else; unknown
    /// while it is alone.
    fn sees_all(&self) -> Option<bool> {
        let cards = self.peers.values().filter_map(|peer| peer.room.as_ref());
        let ours = cards.filter(|card| Some(card.id) == self.room_id());
        let most = ours.map(|card| card.devices).max()?;
        Some(self.shown_card.as_ref().is_some_and(|own| own.devices >= most))
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
        let is_next = self.election.as_ref().is_some_and(|e| start.term >= e.term());
        let of_this_room = self.room_id() == Some(start.room) && self.is_member(from);
        if of_this_room && start.term.node == from && is_next {
            self.clock.handle_start(now, start.term, start.line);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::node::{Input, NodeConfig, Notice, Output};
    use crate::identity::NodeKey;
    use crate::wire::{Datagram, Hello, RoomCard};

    const STEP: Span = Span::from_millis(1);

    #[derive(Debug)]
    #[expect(clippy::large_enum_variant, reason = "a few of a test")]
    enum Mail {
        Message(Message),
        Datagram(Datagram),
    }

    /// Devices on one cable: everything takes a millisecond, every disk is quick.
    struct House {
        now: LocalTime,
        nodes: Vec<Node>,
        cards: Vec<Option<RoomCard>>,
        mail: VecDeque<(LocalTime, usize, usize, Mail)>,
        notices: Vec<(usize, Notice)>,
    }

    impl House {
        /// The first makes a room, the others join it.
        fn of(n: u64) -> House {
            let now = LocalTime(1_000_000_000_000);
            let nodes: Vec<Node> = (0..n).map(|seed| Node::new(config(seed), now)).collect();
            let cards = vec![None; nodes.len()];
            let (mail, notices) = (VecDeque::new(), Vec::new());
            let mut house = House { now, nodes, cards, mail, notices };
            house.run(Span::from_secs(5));
            for newcomer in 1..house.nodes.len() {
                for other in 0..newcomer {
                    house.connect(newcomer, other);
                    house.connect(other, newcomer);
                }
                house.run(Span::from_secs(2));
            }
            house
        }

        fn connect(&mut self, node: usize, other: usize) {
            let hello = Hello {
                node: self.nodes[other].id(),
                boot: 1,
                name: format!("box-{other}"),
                version: String::new(),
                port: 4766,
                room: self.cards[other].clone(),
            };
            let address = ([192, 0, 2, u8::try_from(other).expect("few")], 4766).into();
            let peer = hello.node;
            self.nodes[node].handle_input(
                self.now,
                Input::PeerConnected { peer, address, hello, channel: [0; 32] },
            );
        }

        fn run(&mut self, span: Span) {
            let end = self.now + span;
            while self.now < end {
                self.now += STEP;
                self.deliver();
                for node in 0..self.nodes.len() {
                    if self.now >= self.nodes[node].poll_timeout() {
                        self.nodes[node].handle_timeout(self.now);
                    }
                    self.drain(node);
                }
            }
        }

        fn deliver(&mut self) {
            while self.mail.front().is_some_and(|(at, ..)| *at <= self.now) {
                let Some((at, from, to, mail)) = self.mail.pop_front() else { return };
                let from = self.nodes[from].id();
                let input = match mail {
                    Mail::Message(message) => Input::MessageReceived { from, message },
                    Mail::Datagram(datagram) => Input::DatagramReceived { from, datagram, at },
                };
                self.nodes[to].handle_input(self.now, input);
            }
        }

        fn drain(&mut self, node: usize) {
            while let Some(output) = self.nodes[node].poll_output() {
                let post = |to: NodeId, mail| {
                    let to = self.nodes.iter().position(|other| other.id() == to)?;
                    Some((self.now + STEP, node, to, mail))
                };
                match output {
                    Output::Send { to, message } => {
                        self.mail.extend(post(to, Mail::Message(message)));
                    }
                    Output::SendDatagram { to, datagram } => {
                        self.mail.extend(post(to, Mail::Datagram(datagram)));
                    }
                    Output::ShowRoom(card) => self.cards[node] = card,
                    Output::SaveEntries { room, entries } => {
                        let last = entries.last().expect("never none");
                        let (idx, chain) = (last.idx, last.chain);
                        let written = Input::Written { room, idx, chain };
                        self.nodes[node].handle_input(self.now, written);
                    }
                    Output::Tell(notice) => self.notices.push((node, notice)),
                    _ => {}
                }
            }
        }

        /// Whom all follow, and the others.
        fn leader_and_others(&self) -> (usize, Vec<usize>) {
            let leader = self.coordinator(0).expect("somebody leads");
            let all = 0..self.nodes.len();
            assert!(all.clone().all(|node| self.coordinator(node) == Some(leader)));
            (leader, all.filter(|&node| node != leader).collect())
        }

        /// Whom a device follows.
        fn coordinator(&self, node: usize) -> Option<usize> {
            let named = self.nodes[node].coordinator()?;
            self.nodes.iter().position(|other| other.id() == named)
        }
    }

    fn config(seed: u64) -> NodeConfig {
        let random = ring::rand::SystemRandom::new();
        NodeConfig {
            key: Arc::new(NodeKey::generate(&random).expect("random numbers")),
            boot: 1,
            name: format!("box-{seed}"),
            user: None,
            friends: None,
            version: String::new(),
            seed,
            secret: [7; 32],
            trim: Span::ZERO,
            peers: Vec::new(),
            remembered: Vec::new(),
            known_rooms: Vec::new(),
            alone: false,
            resume: false,
            room: None,
        }
    }

    #[test]
    fn whoever_stops_lets_another_lead_first_and_nobody_misses_a_coordinator() {
        let mut house = House::of(3);
        let (old, others) = house.leader_and_others();
        house.notices.clear();
        let now = house.now;
        house.nodes[old].handle_input(now, Input::ShutdownRequested);
        house.drain(old);
        assert!(!house.nodes[old].is_finished());
        house.run(Span::from_millis(10));
        let next = house.coordinator(others[0]).expect("somebody leads");
        assert_ne!(next, old);
        assert_eq!(house.coordinator(others[1]), Some(next));
        assert!(!house.nodes[old].is_finished(), "its goodbye waits for the start of the other");
        house.run(Span::from_millis(100));
        assert!(house.nodes[old].is_finished());
        assert!(others.iter().all(|&node| house.coordinator(node) == Some(next)));
        let missed = |(_, notice): &(usize, Notice)| matches!(notice, Notice::Leaderless);
        assert!(!house.notices.iter().any(missed), "{:?}", house.notices);
    }

    #[test]
    fn whoever_is_nearly_empty_gives_the_lead_away_and_stays() {
        let mut house = House::of(2);
        let (old, others) = house.leader_and_others();
        let empty =
            DeviceFacts { mains: Some(false), battery_percent: Some(12), ..DeviceFacts::default() };
        let now = house.now;
        house.nodes[old].handle_input(now, Input::FitnessKnown(empty));
        house.run(Span::from_secs(1));
        assert_eq!([0, 1].map(|node| house.coordinator(node)), [Some(others[0]); 2]);
        assert_eq!(house.nodes[old].fitness(house.now).n_flaps, 0, "it wanted that");
    }

    #[test]
    fn whoever_follows_says_goodbye_at_once() {
        let mut house = House::of(2);
        let (_, others) = house.leader_and_others();
        let now = house.now;
        house.nodes[others[0]].handle_input(now, Input::ShutdownRequested);
        assert!(house.nodes[others[0]].is_finished());
    }

    #[test]
    fn whoever_stood_still_follows_the_one_that_leads_meanwhile() {
        let mut house = House::of(3);
        let (old, _) = house.leader_and_others();
        // It is stopped: its mail is lost, its clock goes on.
        let stopped = house.nodes.remove(old);
        house.cards.remove(old);
        house.mail.clear();
        house.run(Span::from_secs(3));
        let leader = house.coordinator(0).expect("somebody leads");
        house.nodes.push(stopped);
        house.cards.push(None);
        let now = house.now;
        house.nodes[2].handle_timeout(now);
        assert_eq!(house.nodes[2].coordinator(), None, "it listens first");
        house.run(Span::from_secs(2));
        assert_eq!(house.coordinator(2), Some(leader));
        assert_eq!(house.coordinator(leader), Some(leader));
    }
}
