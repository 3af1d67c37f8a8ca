//! A disk with one writer, as `store` is: jobs in order, batches, a sync within half a second
//! of a write, which takes its time. What was written survives the death of the process; what
//! was synced survives a power cut; of what lies between, a cut leaves some prefix.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use groovebox::base::limits::MAX_DROPPED;
use groovebox::base::rng::Rng;
use groovebox::base::{NodeId, OpId, RoomId, Span};
use groovebox::engine::membership::Intent;
use groovebox::engine::node::{Position, RestoredPosition, RestoredRoom};
use groovebox::engine::room::Heard;
use groovebox::wire::codec;
use groovebox::wire::message::{DroppedOp, Snapshot};
use groovebox::wire::op::{Entry, Op};

use crate::world::{Chance, MS};

pub const SYNC_EVERY: i64 = 500 * MS;
const BATCH: usize = 64;

pub enum Job {
    Entries(RoomId, Vec<Rc<Entry>>),
    Replace(Rc<Snapshot>),
    Compact(Rc<Snapshot>),
    Rewind(RoomId, u64),
    Hold(RoomId, Vec<Op>),
    LetGo(RoomId, Vec<OpId>),
    Dropped(RoomId, DroppedOp),
    Position(RoomId, Position, i64),
    History(RoomId, Vec<Heard>),
    Intent(Intent),
    Peer(NodeId, String, SocketAddr),
}

/// A room's file: a state and the entries after it.
#[derive(Clone)]
pub struct RoomFile {
    pub snapshot: Rc<Snapshot>,
    pub entries: Vec<Rc<Entry>>,
    /// What waits for a coordinator's answer.
    pub outbox: Vec<Rc<Op>>,
    /// What merges left out.
    pub dropped: Vec<DroppedOp>,
    /// Where the music stood, and when that was.
    position: Option<(Position, i64)>,
    /// What was played: a segment that has a row keeps it.
    pub history: Vec<Heard>,
}

#[derive(Clone, Default)]
pub struct Files {
    pub boot: u32,
    pub intent: Intent,
    pub peers: BTreeMap<NodeId, (String, SocketAddr)>,
    pub rooms: BTreeMap<RoomId, RoomFile>,
}

/// What a finished batch has to tell.
pub enum Told {
    Written(RoomId, u64, [u8; 16]),
    NeedsRoom(RoomId),
}

pub struct Disk {
    pub written: Files,
    synced: Files,
    backup: Option<Files>,
    queue: VecDeque<Job>,
    pub is_busy: bool,
    sync_due: Option<i64>,
    pub is_full: bool,
    /// While it was full something was not written. Once it is not, the room is asked for.
    has_missed: bool,
    /// Writes take so long, and so does a sync.
    pub write: i64,
    pub fsync: i64,
    /// What they take when the disk is not slow.
    healthy: Option<(i64, i64)>,
}

/// What the writer does next.
pub enum Step {
    Write(Vec<Job>, i64),
    Sync(i64),
    WaitUntil(i64),
    Rest,
}

impl RoomFile {
    pub fn tip(&self) -> (u64, [u8; 16]) {
        let of_snapshot = (self.snapshot.idx, self.snapshot.chain);
        self.entries.last().map_or(of_snapshot, |entry| (entry.idx, entry.chain))
    }

    pub fn restored(&self, now: i64) -> RestoredRoom {
        let entries = self.entries.iter().map(|entry| (**entry).clone()).collect();
        let outbox = self.outbox.iter().map(|op| (**op).clone()).collect();
        let position = self.position.map(|(position, written_at)| RestoredPosition {
            position,
            outage: Some(Span(now - written_at)),
        });
        let dropped = self.dropped.clone();
        RestoredRoom { snapshot: (*self.snapshot).clone(), entries, outbox, dropped, position }
    }

    fn append(&mut self, entry: &Rc<Entry>) -> bool {
        let (idx, chain) = self.tip();
        if entry.idx > idx {
            let follows = entry.idx == idx + 1
                && codec::chain(&chain, &entry.term, entry.at, &entry.op) == entry.chain;
            if follows {
                self.entries.push(entry.clone());
            }
            return follows;
        }
        let held = self.entries.iter().find(|held| held.idx == entry.idx);
        held.is_none_or(|held| held.chain == entry.chain)
    }

    fn note(&mut self, rows: Vec<Heard>) {
        for row in rows {
            if self.history.iter().all(|held| held.segment != row.segment) {
                self.history.push(row);
            }
        }
    }

    fn rewind(&mut self, to_idx: u64) -> bool {
        self.entries.retain(|entry| entry.idx <= to_idx);
        self.snapshot.idx <= to_idx
    }

    fn compact(&mut self, snapshot: &Rc<Snapshot>) {
        self.entries.retain(|entry| entry.idx > snapshot.idx);
        self.snapshot = snapshot.clone();
    }
}

impl Job {
    fn is_kept(&self) -> bool {
        !matches!(self, Job::Entries(..) | Job::Replace(_) | Job::Rewind(..) | Job::Compact(_))
    }
}

impl Disk {
    pub fn new(rng: &mut Rng) -> Disk {
        let write = rng.between(MS / 10, 4 * MS);
        let fsync = if rng.happens(0.3) { rng.between(100, 800) } else { rng.between(5, 60) };
        Disk {
            written: Files::default(),
            synced: Files::default(),
            backup: None,
            queue: VecDeque::new(),
            is_busy: false,
            sync_due: None,
            is_full: false,
            has_missed: false,
            write,
            fsync: fsync * MS,
            healthy: None,
        }
    }

    /// Raised and synced before the node speaks.
    pub fn next_boot(&mut self) -> u32 {
        self.written.boot += 1;
        self.synced.boot = self.written.boot;
        self.written.boot
    }

    pub fn enqueue(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    pub fn step(&mut self, now: i64) -> Step {
        if self.is_busy {
            return Step::Rest;
        }
        if self.sync_due.is_some_and(|due| due <= now) {
            self.is_busy = true;
            return Step::Sync(self.fsync);
        }
        if self.is_full && self.has_missed || self.queue.is_empty() && !self.has_missed {
            return self.sync_due.map_or(Step::Rest, Step::WaitUntil);
        }
        self.is_busy = true;
        let batch = self.queue.drain(..self.queue.len().min(BATCH)).collect();
        Step::Write(batch, self.write)
    }

    /// A batch is in the write-ahead log.
    pub fn finish_write(&mut self, now: i64, batch: Vec<Job>) -> Vec<Told> {
        self.is_busy = false;
        if self.is_full {
            self.has_missed = true;
            // What a whole room does not contain is kept.
            for job in batch.into_iter().filter(Job::is_kept).rev() {
                self.queue.push_front(job);
            }
            return Vec::new();
        }
        self.sync_due.get_or_insert(now + SYNC_EVERY);
        let mut touched: BTreeMap<RoomId, bool> = BTreeMap::new();
        for job in batch {
            if let Some((room, fits)) = self.written.take(job) {
                let so_far = touched.entry(room).or_insert(true);
                *so_far = fits.unwrap_or(*so_far);
            }
        }
        if let (true, Some((room, _))) = (self.has_missed, self.room_in_use()) {
            touched.insert(room, false);
        }
        self.has_missed = false;
        let told = |(room, fits): (RoomId, bool)| match self.written.rooms.get(&room) {
            Some(file) if fits => Told::Written(room, file.tip().0, file.tip().1),
            _ => Told::NeedsRoom(room),
        };
        touched.into_iter().map(told).collect()
    }

    pub fn finish_sync(&mut self) {
        self.is_busy = false;
        self.sync_due = None;
        self.synced = self.written.clone();
    }

    pub fn room_in_use(&self) -> Option<(RoomId, u64)> {
        let Intent::Room(room) = self.written.intent else { return None };
        Some((room, self.written.rooms.get(&room)?.tip().0))
    }

    /// The process is gone; what it had not handed over is lost.
    pub fn process_died(&mut self) {
        self.queue.clear();
        self.has_missed = false;
        self.is_busy = false;
        self.sync_due = None;
    }

    /// Ends in order: everything queued is written and synced.
    pub fn process_ended(&mut self) {
        for job in std::mem::take(&mut self.queue) {
            if !self.is_full {
                self.written.take(job);
            }
        }
        self.process_died();
        self.synced = self.written.clone();
    }

    /// Whether something was lost that had been written.
    pub fn power_cut(&mut self, rng: &mut Rng) -> bool {
        self.process_died();
        let before = self.written.ends();
        self.cut(rng);
        self.written.ends() != before
    }

    fn cut(&mut self, rng: &mut Rng) {
        let written = std::mem::take(&mut self.written);
        let rooms = written.rooms.into_iter().filter_map(|(room, written)| {
            let synced = self.synced.rooms.get(&room);
            Some((room, torn(synced, written, rng)?))
        });
        let rooms = rooms.collect();
        // What the node knows of itself is synced with every write.
        let Files { intent, peers, .. } = written;
        self.written = Files { rooms, boot: self.synced.boot, intent, peers };
        self.synced = self.written.clone();
    }

    /// Rooms' files vanish; the identity does not.
    pub fn lose_rooms(&mut self) {
        self.written.rooms.clear();
        self.synced.rooms.clear();
    }

    pub fn wipe(&mut self) {
        self.written = Files::default();
        self.synced = Files::default();
        self.backup = None;
    }

    pub fn back_up(&mut self) {
        self.backup = Some(self.written.clone());
    }

    /// Somebody puts an older copy of the rooms' files back.
    pub fn restore_older(&mut self) -> bool {
        let Some(backup) = self.backup.take() else { return false };
        self.written.rooms = backup.rooms;
        self.synced.rooms = self.written.rooms.clone();
        true
    }

    /// A card that clears its blocks, a disk that many want.
    pub fn slow_down(&mut self) {
        self.healthy.get_or_insert((self.write, self.fsync));
        (self.write, self.fsync) = (250 * MS, 800 * MS);
    }

    pub fn slow_down_ends(&mut self) {
        if let Some(healthy) = self.healthy.take() {
            (self.write, self.fsync) = healthy;
        }
    }
}

/// Of what was written since the last sync, some prefix is there.
fn torn(synced: Option<&RoomFile>, written: RoomFile, rng: &mut Rng) -> Option<RoomFile> {
    let Some(synced) = synced else { return rng.happens(0.5).then_some(written) };
    let grew = |(old, new): (&Rc<Entry>, &Rc<Entry>)| old.chain == new.chain;
    let same_log = Rc::ptr_eq(&synced.snapshot, &written.snapshot)
        && synced.entries.len() <= written.entries.len()
        && synced.entries.iter().zip(&written.entries).all(grew);
    // What waited is written in the order of everything else.
    if !same_log || synced.outbox.len() != written.outbox.len() {
        return Some(if rng.happens(0.5) { written } else { synced.clone() });
    }
    let (least, most) = (synced.entries.len(), written.entries.len());
    let kept = least + usize::try_from(rng.below((most - least + 1) as u64)).expect("a small log");
    let mut file = written;
    file.entries.truncate(kept);
    Some(file)
}

impl Files {
    /// Where each room's log ends, and what waits beside it.
    fn ends(&self) -> Vec<(RoomId, [u8; 16], Vec<OpId>)> {
        let waiting = |file: &RoomFile| file.outbox.iter().map(|op| op.id).collect();
        self.rooms.iter().map(|(room, file)| (*room, file.tip().1, waiting(file))).collect()
    }

    /// The room concerned, and whether the job fits its file; none where that stays as it was.
    fn take(&mut self, job: Job) -> Option<(RoomId, Option<bool>)> {
        match job {
            Job::Replace(snapshot) => {
                let room = codec::room_id(&snapshot.genesis);
                let before = self.rooms.remove(&room);
                let (outbox, dropped, position, history) = before
                    .map(|file| (file.outbox, file.dropped, file.position, file.history))
                    .unwrap_or_default();
                let entries = Vec::new();
                let file = RoomFile { snapshot, entries, outbox, dropped, position, history };
                self.rooms.insert(room, file);
                Some((room, Some(true)))
            }
            Job::Rewind(room, to_idx) => {
                let fits = self.rooms.get_mut(&room).is_some_and(|file| file.rewind(to_idx));
                Some((room, if fits { None } else { Some(false) }))
            }
            Job::Hold(room, ops) => {
                if let Some(file) = self.rooms.get_mut(&room) {
                    file.outbox.extend(ops.into_iter().map(Rc::new));
                }
                None
            }
            Job::LetGo(room, ids) => {
                if let Some(file) = self.rooms.get_mut(&room) {
                    file.outbox.retain(|op| !ids.contains(&op.id));
                }
                None
            }
            Job::Dropped(room, op) => {
                if let Some(file) = self.rooms.get_mut(&room) {
                    file.dropped.push(op);
                    let beyond = file.dropped.len().saturating_sub(MAX_DROPPED);
                    file.dropped.drain(..beyond);
                }
                None
            }
            Job::Position(room, position, at) => {
                if let Some(file) = self.rooms.get_mut(&room) {
                    file.position = Some((position, at));
                }
                None
            }
            Job::History(room, rows) => {
                if let Some(file) = self.rooms.get_mut(&room) {
                    file.note(rows);
                }
                None
            }
            Job::Compact(snapshot) => {
                let room = codec::room_id(&snapshot.genesis);
                if let Some(file) = self.rooms.get_mut(&room) {
                    file.compact(&snapshot);
                } else {
                    let (entries, outbox, dropped, history) = Default::default();
                    let position = None;
                    let file = RoomFile { snapshot, entries, outbox, dropped, position, history };
                    self.rooms.insert(room, file);
                }
                Some((room, Some(true)))
            }
            Job::Entries(room, entries) => {
                let Some(file) = self.rooms.get_mut(&room) else {
                    return Some((room, Some(false)));
                };
                let fits = entries.iter().all(|entry| file.append(entry));
                Some((room, if fits { None } else { Some(false) }))
            }
            Job::Intent(intent) => {
                self.intent = intent;
                None
            }
            Job::Peer(node, name, address) => {
                self.peers.insert(node, (name, address));
                None
            }
        }
    }
}
