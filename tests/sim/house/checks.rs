//! What must hold after every event, and at the end.

use std::collections::BTreeMap;
use std::rc::Rc;

use groovebox::base::{OpId, RoomId, RoomTime, SegmentId, Span, Term};
use groovebox::engine::clock::ClockModel;
use groovebox::engine::election::{Election, Role};
use groovebox::engine::playout::PlayoutPlan;
use groovebox::engine::room::{Heard, Room, RoomState};
use groovebox::wire::message::{Level, Snapshot};
use groovebox::wire::op::Entry;

use super::ledger::{Acknowledged, Chain};
use super::{Clocks, Event, House, LOOK_EVERY};
use crate::world::{SEC, is_replay};

/// A larger step of room time is a discontinuity: the playout jumps.
const STEP: Span = Span::from_millis(5);

/// Messages and datagrams from one device to another in a second.
const BUSIEST: u32 = 600;

/// What a person asks of the moment: clear, shuffle, and pause to what the coordinator says. It
/// may be left out when halves meet.
fn is_of_the_moment(kind: u16) -> bool {
    matches!(kind, 3 | 12 | 14 | 20..=29 | 40..=44 | 50 | 51)
}

/// A row of the history is given out by then: whatever happens, a few seconds after its end.
const HEARD_BY: Span = Span::from_secs(12);

/// Kinds of operations: a device comes, or says anew whose it is; and it goes.
const JOIN: u16 = 1;
const LEAVE: u16 = 2;

/// What was seen of a node at the last look.
#[derive(Default)]
pub struct Looked {
    room: Option<RoomId>,
    term: Option<Term>,
    tip: Option<Chain>,
    led: Option<Term>,
    /// Since when it follows whom it follows.
    follows: Option<(Term, i64)>,
}

impl Looked {
    /// How long it has followed whom it follows.
    pub fn followed_for(&self, now: i64) -> i64 {
        self.follows.map_or(0, |(_, since)| now - since)
    }
}

impl House {
    /// After everything that a node does.
    pub fn check(&mut self, d: usize) {
        let Some(node) = &self.devices[d].node else { return };
        let (Some(room), Some(election)) = (node.room(), node.election()) else {
            self.devices[d].looked = Looked::default();
            return;
        };
        let (id, tip) = (room.id(), room.log().chain());
        let (term, role) = (election.term(), election.role());
        let looked = &self.devices[d].looked;
        let (same_room, same_tip) = (looked.room == Some(id), looked.tip == Some(tip));
        let (before, led) = (looked.term, looked.led);
        if same_room && before.is_some_and(|before| term < before) {
            return self.broke("a term never falls", |_| format!("{d}: {before:?} to {term:?}"));
        }
        let leads = role == Role::Coordinator;
        if leads != (election.coordinator() == Some(self.devices[d].id())) {
            return self.broke("one term at a time", |_| format!("{d} is {role:?} of {term:?}"));
        }
        if !self.plan.is_long && (!same_room || !same_tip) {
            let state = self.ledger.page(id, tip).map(|page| page.state.clone());
            if state.as_deref() != Some(room.state()) {
                let known = state.is_some();
                return self.broke("equal logs have equal states", |_| {
                    format!("{d} at {tip:02x?}, which is {}", if known { "known" } else { "new" })
                });
            }
        }
        if !same_room {
            self.devices[d].heard.clear();
        }
        let looked = &mut self.devices[d].looked;
        looked.room = Some(id);
        looked.term = Some(term);
        looked.tip = Some(tip);
        looked.led = leads.then_some(term);
        let since = looked.follows.filter(|(followed, _)| *followed == term);
        looked.follows = (role == Role::Follower).then(|| since.unwrap_or((term, self.now)));
        if leads && led != Some(term) && !self.plan.is_long {
            self.trace.add(term.n);
            let (me, boot) = (self.devices[d].id(), self.devices[d].boot);
            if let Err(what) = self.ledger.begin(id, term, me, boot) {
                self.broke("a term is begun once, by its owner", |_| format!("{d}: {what}"));
            }
        }
    }

    /// A restarted node is where its disk is.
    pub fn check_restart(&mut self, d: usize, tip: Option<Chain>) {
        let node = self.devices[d].node.as_ref();
        let now = node.and_then(|node| node.room()).map(|room| room.log().chain());
        if now != tip {
            self.broke("a restart gives what the disk has", |_| {
                format!("{d}: {now:?}, not {tip:?}")
            });
        }
    }

    // Logs.

    pub fn entries_taken(&mut self, d: usize, room: RoomId, entries: &[Rc<Entry>]) {
        self.devices[d].speaker.is_told = true;
        if self.plan.is_long {
            return;
        }
        let Some(first) = entries.first() else { return };
        let log = self.devices[d].node.as_ref().and_then(|node| node.room()).map(Room::log);
        let Some(mut parent) = log.and_then(|log| log.chain_at(first.idx - 1)) else { return };
        for entry in entries {
            self.trace.add(u64::from_le_bytes(entry.chain[..8].try_into().expect("eight")));
            if let Err(what) = self.ledger.take(self.now, room, entry, parent) {
                return self.broke("a log obeys the rules", |_| format!("{d}: {what}"));
            }
            parent = entry.chain;
        }
    }

    pub fn room_replaced(&mut self, d: usize, snapshot: &Snapshot) {
        let known = if self.plan.is_long {
            Ok(())
        } else {
            let id = self.ledger.open(&snapshot.genesis);
            self.ledger.compare(id, snapshot)
        };
        if let Err(what) = known {
            self.broke("a state has a history", |_| format!("{d}: {what}"));
        }
        // Another history may say something else of what sounds.
        if self.devices[d].looked.tip != Some(snapshot.chain) {
            self.devices[d].speaker.is_told = true;
        }
    }

    /// Whether a device's disk has an operation: in the log, or waiting to be offered.
    fn is_on_disk(&self, d: usize, room: RoomId, op: OpId) -> bool {
        self.devices[d].disk.written.rooms.get(&room).is_some_and(|file| {
            file.outbox.iter().any(|held| held.id == op)
                || self.ledger.contains(room, file.tip().1, op)
        })
    }

    /// Whether a disk has an operation in its state, and neither as an entry nor as waiting.
    fn is_in_state_only(&self, d: usize, room: RoomId, op: OpId) -> bool {
        self.devices[d].disk.written.rooms.get(&room).is_some_and(|file| {
            !file.outbox.iter().any(|held| held.id == op)
                && self.ledger.contains(room, file.snapshot.chain, op)
        })
    }

    /// A device keeps operations no longer: they have their places, or were left out.
    pub fn let_go(&mut self, d: usize, ids: &[OpId]) {
        let room = self.devices[d].node.as_ref().and_then(|node| node.room());
        let Some(room) = room.filter(|_| !self.plan.is_long) else { return };
        let (id, state) = (room.id(), room.state());
        let ledger = &mut self.ledger;
        for op in ids.iter().filter(|op| !state.has_seen(op)) {
            let kind = ledger.made(id, *op).map_or(0, |(_, kind)| kind);
            if is_of_the_moment(kind) {
                ledger.dropped.insert(*op);
            }
        }
    }

    pub fn acknowledged(&mut self, d: usize, op: OpId, level: Level) {
        let room = self.devices[d].node.as_ref().and_then(|node| node.room());
        let Some(room) = room.map(Room::id) else { return };
        if self.plan.is_long {
            self.counts.acknowledged += 1;
            return;
        }
        let holders: std::collections::BTreeSet<usize> =
            (0..self.devices.len()).filter(|&h| self.is_on_disk(h, room, op)).collect();
        self.counts.acknowledged += 1;
        self.counts.replicated += u64::from(level > Level::Local);
        let at = self.now;
        // Two at least, unless it was told that it is one.
        let promised = if level > Level::Local { 2 } else { 1 };
        let made_at = self.ledger.made(room, op).map_or(0, |(at, _)| at);
        // The answer may have been under way while another half's history took over and left it
        // out; its author is told that as well.
        let was_left_out = self.ledger.dropped.contains(&op);
        if holders.len() < promised && self.disks_lost_at < made_at && !was_left_out {
            return self.broke("what is acknowledged is written", |_| {
                format!("{d} tells that {op:?} is {level:?}; on disk at {holders:?}")
            });
        }
        let is_in_states_only = false;
        let acknowledged = Acknowledged { room, op, level, at, by: d, holders, is_in_states_only };
        self.ledger.acknowledged.push(acknowledged);
    }

    /// Whatever a disk had that it has no more is not held there any more, unless the node
    /// itself took it away: then it answers for it.
    pub fn disk_changed(&mut self, d: usize) {
        let runs = self.devices[d].node.is_some();
        let mut acknowledged = std::mem::take(&mut self.ledger.acknowledged);
        for held in acknowledged.iter_mut().filter(|held| held.holders.contains(&d)) {
            if !self.is_on_disk(d, held.room, held.op) {
                self.disks_lost_at = self.now;
                if !runs {
                    held.holders.remove(&d);
                    let mut left = held.holders.iter();
                    held.is_in_states_only =
                        left.all(|h| self.is_in_state_only(*h, held.room, held.op));
                }
            }
        }
        self.ledger.acknowledged = acknowledged;
    }

    // What was played.

    /// Once from each start, and the same from all who share a history.
    pub fn history_given(&mut self, d: usize, room: RoomId, rows: &[Heard]) {
        let node = self.devices[d].node.as_ref().and_then(|node| node.room());
        let Some(end) = node.map(|room| room.log().chain()) else { return };
        for row in rows {
            self.counts.heard += 1;
            self.trace.add(row.segment.0);
            if !self.devices[d].heard.insert(row.segment) {
                return self.broke("what was played is noted once", |_| format!("{d}: {row:?}"));
            }
            if let Err(what) = self.ledger.hear(room, end, row) {
                return self.broke("equal logs have equal histories", |_| format!("{d}: {what}"));
            }
        }
    }

    /// What the room remembers as played is on every disk that takes something.
    fn check_history(&mut self, d: usize) {
        let device = &self.devices[d];
        let Some(node) = device.node.as_ref().filter(|_| !device.disk.is_full) else { return };
        let (Some(room), Some(now)) = (node.room(), device.speaker.room(self.local(d))) else {
            return;
        };
        let Some(file) = device.disk.written.rooms.get(&room.id()) else { return };
        let kept = |row: &&Heard| file.history.iter().any(|held| held.segment == row.segment);
        let missing = room.state().heard().find(|row| row.ended + HEARD_BY < now && !kept(row));
        let missing = missing.map(|row| format!("{d} has no {row:?} at {now:?}"));
        if let Some(missing) = missing {
            self.broke("what was played is on every disk", |_| missing);
        }
    }

    /// An entry stands in one place: in the queue, or it has its turn.
    fn check_queue(&mut self, d: usize, state: &RoomState) {
        let queued = state.queue().iter().map(|entry| entry.key);
        let focus = state.focus().map(|focus| focus.entry.key);
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = queued.chain(focus).find(|key| !seen.insert(*key)) {
            self.broke("an entry has one place", |_| format!("{d}: {twice:?}"));
        }
    }

    // Time and sound.

    /// Whoever moves into another room hears something else.
    fn is_moving(&self, d: usize) -> bool {
        let room = self.devices[d].node.as_ref().and_then(|node| node.room());
        room.map(Room::id) != self.devices[d].looked.room
    }

    pub fn clock_set(&mut self, d: usize, model: Option<ClockModel>) {
        let local = self.local(d);
        let speaker = &mut self.devices[d].speaker;
        let before = std::mem::replace(&mut speaker.model, model);
        if before.is_none() {
            speaker.knows_since = self.now;
        }
        let (Some(before), Some(model)) = (before, model) else { return };
        let step = model.room(local) - before.room(local);
        // A few answers show little of it.
        let is_new = self.devices[d].looked.followed_for(self.now) < 5 * SEC;
        if model.rate.abs() > if is_new { 1e-3 } else { 450e-6 } {
            self.broke("a clock's rate is a crystal's", |_| format!("{d}: {}", model.rate));
        } else if step.abs() > STEP && model.generation == before.generation {
            self.broke("a clock does not step unsaid", |_| format!("{d}: {step:?}"));
        }
    }

    pub fn plan_set(&mut self, d: usize, plan: PlayoutPlan) {
        let local = self.local(d);
        let moves = self.is_moving(d);
        let speaker = &mut self.devices[d].speaker;
        let sounded = speaker.sound(local);
        let told = speaker.is_told || moves;
        let agrees = sounded.is_none_or(|sound| sound.is_in(&plan));
        speaker.plan = plan;
        if !agrees && told {
            self.counts.changes_heard += 1;
        } else if !agrees {
            self.broke("nobody hears a gap", |_| {
                format!("{d} changes its plan of itself, from {:?} to {:?}", sounded, plan.spans)
            });
        }
    }

    pub fn released(&mut self, d: usize, segment: SegmentId) {
        let local = self.local(d);
        let moves = self.is_moving(d);
        let speaker = &mut self.devices[d].speaker;
        let sounds = speaker.sound(local).is_some_and(|sound| sound.span.segment == segment);
        let told = speaker.is_told || moves;
        speaker.streams.remove(&segment);
        if sounds && !told {
            self.broke("nobody hears a gap", |_| format!("{d} lets go of what sounds"));
        }
    }

    /// Everybody at once, several times a second.
    pub fn look(&mut self) {
        self.add(LOOK_EVERY, Event::Look);
        self.check_answers();
        if self.devices.iter().all(|device| device.speaker.model.is_none()) {
            self.dark_at = self.now;
        }
        for d in 0..self.devices.len() {
            if self.devices[d].is_at_work() {
                self.listen(d);
            }
        }
        self.compare_clocks();
        if self.now % SEC < LOOK_EVERY {
            let busiest = self.net.take_busiest();
            self.counts.busiest = self.counts.busiest.max(busiest);
            if busiest > BUSIEST {
                self.broke("nobody floods", |_| format!("{busiest} messages in a second"));
            }
        }
    }

    /// What the state says should sound does sound, once it is decoded.
    fn listen(&mut self, d: usize) {
        let local = self.local(d);
        let device = &self.devices[d];
        // Just started or woken: it is not this device's turn to be exact.
        if self.now - device.at_work_since < 2 * SEC {
            return;
        }
        // Nobody carried the time on: the music waits where it stood until that is settled.
        let dark_at = self.dark_at.max(device.speaker.knows_since);
        if self.now - dark_at < 15 * SEC {
            return;
        }
        let Some(node) = &device.node else { return };
        let (Some(room), Some(at)) = (node.room(), device.speaker.room(local)) else { return };
        let state = room.state().settled(at).into_owned();
        let due = state.spans(at).into_iter().flatten().find(|span| span.covers(at));
        self.check_queue(d, &state);
        let device = &self.devices[d];
        let Some(due) = due.filter(|due| device.speaker.is_ready(due.segment)) else { return };
        self.counts.sounds += 1;
        let planned = device.speaker.planned(local).map(|sound| sound.span);
        let key = |span: &groovebox::engine::playout::PlannedSpan| (span.segment, span.start);
        if planned.as_ref().map(key) != Some(key(&due)) {
            self.broke("nobody hears a gap", |_| {
                format!("{d} should sound {due:?} and has planned {planned:?}")
            });
        }
    }

    /// Those who follow one coordinator agree with it on the time, within what they claim.
    fn compare_clocks(&mut self) {
        for leader in self.coordinators() {
            let device = &self.devices[leader];
            // Just woken, it may not know yet that time has passed.
            if self.now - device.at_work_since < 2 * SEC {
                continue;
            }
            let term = device.node.as_ref().and_then(|n| n.election()).map(Election::term);
            let Some(room) = device.speaker.room(self.local(leader)) else { continue };
            for d in 0..self.devices.len() {
                let follower = &self.devices[d];
                let election = follower.node.as_ref().and_then(|node| node.election());
                let follows =
                    election.is_some_and(|e| e.role() == Role::Follower && Some(e.term()) == term);
                if d == leader || !follower.is_at_work() || !follows {
                    continue;
                }
                self.compare_clock(d, room);
            }
        }
    }

    fn compare_clock(&mut self, d: usize, room: RoomTime) {
        let local = self.local(d);
        let Some(model) = self.devices[d].speaker.model else { return };
        let apart = (model.room(local) - room).as_secs_f64().abs();
        let age = (local - model.local0).as_secs_f64().abs();
        // Of normal errors one in 400 is beyond three standard deviations: no bug by itself.
        // The rate of a clock that is new to it may be wrong by what two crystals are.
        let claimed = 4.0 * model.sigma + model.asymmetry + 200e-6 + age * 80e-6;
        let device = &self.devices[d];
        // A half that has just come back still has a time of its own.
        let for_so_long = device.looked.followed_for(self.now);
        if for_so_long.min(self.now - device.at_work_since) < 3 * SEC {
            return;
        }
        // Few probes make bold claims.
        let allowed = match self.plan.clocks {
            Clocks::Rough => (3.0 * claimed).max(20e-3),
            Clocks::Exact => claimed.max(1e-3),
        };
        if apart > allowed {
            self.broke("clocks agree as far as they claim", |_| {
                format!("{d} is {apart:.6} s off and claims {claimed:.6} s")
            });
        }
    }

    // For measurements.

    /// The coordinator that everybody at work follows, if there is one.
    pub fn agreed(&self) -> Option<usize> {
        let at_work = || self.devices.iter().filter(|device| device.is_at_work());
        let view = |device: &super::Device| {
            let election = device.node.as_ref()?.election()?;
            Some((election.coordinator()?, election.term()))
        };
        let first = view(at_work().next()?)?;
        let all = at_work().all(|device| view(device) == Some(first));
        self.device_of(first.0).filter(|_| all)
    }

    /// Whether all logs end alike.
    pub fn is_one_history(&self) -> bool {
        let nodes = self.devices.iter().filter_map(|device| device.node.as_ref());
        let mut tips = nodes.map(|node| node.room().map(|room| room.log().chain()));
        let first = tips.next();
        tips.all(|tip| Some(tip) == first)
    }

    /// Whether the logs of those who share a room end alike.
    pub fn is_one_history_in_each_room(&self) -> bool {
        let nodes = self.devices.iter().filter_map(|device| device.node.as_ref());
        let mut tips: BTreeMap<RoomId, Chain> = BTreeMap::new();
        nodes.filter_map(|node| node.room()).all(|room| {
            let tip = room.log().chain();
            *tips.entry(room.id()).or_insert(tip) == tip
        })
    }

    /// The largest difference of what two devices take for the room's time, seconds.
    pub fn apart(&self) -> f64 {
        let at_work = self.devices.iter().filter(|device| device.is_at_work());
        let times = at_work.filter_map(|d| d.speaker.room(d.watch.local(self.now)));
        let times: Vec<RoomTime> = times.collect();
        let (first, last) = (times.iter().min(), times.iter().max());
        first.zip(last).map_or(0.0, |(first, last)| (*last - *first).as_secs_f64())
    }

    // The end.

    /// Long after the last fault: who shares a room agrees on everything.
    pub fn check_end(&mut self) {
        let mut rooms: BTreeMap<RoomId, Vec<usize>> = BTreeMap::new();
        for device in &self.devices {
            let room = device.node.as_ref().and_then(|node| node.room());
            if let Some(room) = room {
                rooms.entry(room.id()).or_default().push(device.number);
            }
        }
        for (room, members) in &rooms {
            let view = |d: &usize| {
                let node = self.devices[*d].node.as_ref()?;
                let (room, election) = (node.room()?, node.election()?);
                Some((election.coordinator()?, election.term(), room.log().chain()))
            };
            let first = members.first().and_then(view);
            if first.is_none() || members.iter().any(|d| view(d) != first) {
                let links = |d: &usize| {
                    let shown = is_replay().then(|| format!(" ({})", self.net.describe(*d)));
                    shown.unwrap_or_default()
                };
                let views = members.iter().map(|d| format!("{d}: {}{}", self.view(*d), links(d)));
                let views = views.collect::<Vec<_>>().join(", ");
                return self.broke("in the end everybody agrees", |_| views);
            }
            for d in members {
                self.check_history(*d);
            }
            let (_, _, tip) = first.expect("just seen");
            self.check_kept(*room, tip);
        }
        let homeless = self.devices.iter().find(|device| {
            let is_homeless = device.node.as_ref().is_some_and(|node| node.room().is_none());
            is_homeless && !device.is_sent_out
        });
        if let Some(d) = homeless.map(|device| device.number) {
            self.broke("in the end everybody is somewhere", |_| format!("{d} is in no room"));
        }
    }

    fn sent_out(&self) -> impl Iterator<Item = groovebox::base::NodeId> {
        self.devices.iter().filter(|device| device.is_sent_out).map(super::Device::id)
    }

    fn view(&self, d: usize) -> String {
        let node = self.devices[d].node.as_ref();
        let election = node.and_then(|node| node.election());
        let idx = node.and_then(|node| node.room()).map(|room| room.log().last_idx());
        let of = |e: &Election| {
            let owner = self.device_of(e.term().node);
            format!("{:?} of {}/{owner:?}", e.role(), e.term().n)
        };
        format!("{} at {idx:?}", election.map_or_else(String::new, of))
    }

    /// That a device is here, and whose it is, concerns a room only while it is in there: it carries
    /// both along, and a room in which nothing else was done dissolves into another. Once it is back
    /// it has said both again.
    fn is_moot(&self, room: RoomId, tip: Chain, op: OpId) -> bool {
        let kind = self.ledger.made(room, op).map(|(_, kind)| kind);
        let is_said_again = self.ledger.history(room, tip).any(|page| {
            let later = |id: OpId| id.author == op.author && (id.boot, id.seq) > (op.boot, op.seq);
            page.kind == JOIN && page.op.is_some_and(later)
        });
        let mut nodes = self.devices.iter().filter_map(|device| device.node.as_ref());
        let is_there =
            nodes.any(|node| node.id() == op.author && node.room().map(Room::id) == Some(room));
        matches!(kind, Some(JOIN | LEAVE)) && (!is_there || is_said_again)
    }

    /// What was acknowledged is in the log while somebody who had it kept its disk.
    fn check_kept(&mut self, room: RoomId, tip: Chain) {
        let held: std::collections::BTreeSet<OpId> =
            self.ledger.history(room, tip).filter_map(|page| page.op).collect();
        let mut lost = None;
        for done in self.ledger.acknowledged.iter().filter(|done| done.room == room) {
            if held.contains(&done.op) {
                continue;
            }
            if self.ledger.dropped.contains(&done.op) {
                self.counts.forgotten_by_policy += 1;
            } else if self.sent_out().any(|node| node == done.op.author) {
                // Whoever was sent out in the other half has no say in what is kept.
                self.counts.forgotten_by_policy += 1;
            } else if self.is_moot(room, tip, done.op) {
                self.counts.forgotten_by_policy += 1;
            } else if done.holders.iter().all(|d| self.devices[*d].is_sent_out) {
                // Whoever is out keeps what it has and is not asked for it. Or nobody has it.
                let nobody = done.holders.is_empty();
                self.counts.lost_with_all_disks += u64::from(nobody);
                self.counts.forgotten_by_policy += u64::from(!nobody);
            } else if done.is_in_states_only {
                self.counts.lost_within_states += 1;
            } else {
                lost = Some((done.by, done.op, done.level, done.at, done.holders.clone()));
            }
        }
        if let Some((by, op, level, at, holders)) = lost {
            self.broke("what was acknowledged is kept", |_| {
                format!("{by} told at {at} that {op:?} is {level:?}; {holders:?} have it on disk")
            });
        }
    }
}
