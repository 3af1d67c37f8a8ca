//! The handle that enqueues and the thread that writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::health::{self, Health};
use super::room_file::{self, Fit, RoomFile, RoomWrite, Tip};
use super::{
    ChatRow, DirLock, HistoryRow, Intent, KnownRoom, NodeFile, RoomReader, SavedPosition,
    SavedUser, StoreError, StoreEvent,
};
use crate::base::limits::{STORE_QUEUE, STORE_QUEUE_BYTES};
use crate::base::{OpId, RoomId};
use crate::engine::friends::SavedFriends;
use crate::engine::status::DiskState;
use crate::wire::codec;
use crate::wire::message::{DroppedOp, PeerAddress, Snapshot};
use crate::wire::op::{Entry, Op};
use crate::wire::person::Kept;

/// How long what has been written may wait for its sync. A power cut loses no more than this.
const SYNC_EVERY: Duration = Duration::from_millis(500);

/// How often it is looked whether a disk that refused takes something again.
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// Jobs written in one go. While one commit runs the next ones gather, so that a busy room
/// costs fewer commits and a quiet one no delay.
const BATCH: usize = 64;

/// Receives what the thread reports, on the thread.
pub type Notify = Box<dyn FnMut(StoreEvent) + Send>;

/// The disk is far behind: this was not enqueued. For entries, save the whole room later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the disk cannot keep up; this was not written")]
pub struct Slow;

/// The way to the writer thread. Dropping it writes what is enqueued, syncs and ends the
/// thread.
#[derive(Debug)]
pub struct Store {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    queued_bytes: Arc<AtomicUsize>,
    health: Arc<Health>,
    rooms: PathBuf,
}

#[derive(Clone, Debug)]
enum Job {
    Entries { room: RoomId, entries: Vec<Entry>, ticket: u64 },
    Rewind { room: RoomId, to_idx: u64 },
    Outbox { room: RoomId, ops: Vec<Op> },
    Offered { room: RoomId, ids: Vec<OpId> },
    Dropped { room: RoomId, op: Box<DroppedOp> },
    Position { room: RoomId, position: SavedPosition },
    History { room: RoomId, rows: Vec<HistoryRow> },
    Chat { room: RoomId, rows: Vec<ChatRow> },
    Replace { room: RoomId, snapshot: Box<Snapshot>, ticket: u64 },
    Compact { room: RoomId, snapshot: Box<Snapshot> },
    Forget(RoomId),
    Peer(PeerAddress),
    Intent(Intent),
    User(Option<SavedUser>),
    Known(KnownRoom),
    Friends(Option<Box<SavedFriends>>),
}

/// Where a job goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Room(RoomId),
    Files(RoomId),
    Node,
}

impl Job {
    fn target(&self) -> Target {
        match self {
            Job::Entries { room, .. }
            | Job::Rewind { room, .. }
            | Job::Outbox { room, .. }
            | Job::Offered { room, .. }
            | Job::Dropped { room, .. }
            | Job::Position { room, .. }
            | Job::History { room, .. }
            | Job::Chat { room, .. }
            | Job::Replace { room, .. }
            | Job::Compact { room, .. } => Target::Room(*room),
            Job::Forget(room) => Target::Files(*room),
            Job::Peer(_) | Job::Intent(_) | Job::User(_) | Job::Known(_) | Job::Friends(_) => {
                Target::Node
            }
        }
    }

    /// Bytes that it holds, give or take.
    fn bytes(&self) -> usize {
        match self {
            Job::Entries { entries, .. } => {
                entries.iter().map(|entry| size_of::<Entry>() + entry.op.body.len()).sum()
            }
            Job::Outbox { ops, .. } => ops.iter().map(|op| size_of::<Op>() + op.body.len()).sum(),
            Job::Offered { ids, .. } => ids.len() * size_of::<OpId>(),
            Job::History { rows, .. } => rows.len() * 2 * size_of::<HistoryRow>(),
            Job::Chat { rows, .. } => {
                rows.iter().map(|row| size_of::<ChatRow>() + row.text.len()).sum()
            }
            Job::Replace { snapshot, .. } | Job::Compact { snapshot, .. } => snapshot.state.len(),
            Job::Friends(friends) => {
                friends.as_ref().map_or(0, |friends| friends.kept.len() * size_of::<Kept>())
            }
            Job::Dropped { op, .. } => size_of::<DroppedOp>() + op.what.len() + op.why.len(),
            Job::Rewind { .. }
            | Job::Position { .. }
            | Job::Forget(_)
            | Job::Peer(_)
            | Job::Intent(_)
            | Job::User(_)
            | Job::Known(_) => 0,
        }
    }
}

/// Nothing here waits but [`history`](Store::history). Every other method fails with [`Slow`]
/// when the queue is full.
impl Store {
    pub(super) fn start(
        lock: DirLock,
        node: NodeFile,
        trouble: Option<&StoreError>,
        rooms: PathBuf,
        notify: Notify,
    ) -> Result<Store, StoreError> {
        let (sender, receiver) = sync_channel(STORE_QUEUE);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let health = Arc::new(Health::default());
        if let Some(error) = trouble {
            health.set_trouble(health::diagnosis(error, &rooms));
        }
        let at_start =
            |_: &StoreError| Trouble { room: None, next_try: Instant::now(), hopeful: false };
        let writer = Writer {
            health: Arc::clone(&health),
            trouble: trouble.map(at_start),
            kept: Vec::new(),
            last_room: None,
            node,
            rooms: rooms.clone(),
            open: None,
            unsynced: None,
            notify,
            queued_bytes: Arc::clone(&queued_bytes),
            _lock: lock,
        };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(&receiver))
            .map_err(|source| StoreError::Io {
                doing: "start the writer of",
                path: rooms.clone(),
                source,
            })?;
        Ok(Store { jobs: Some(sender), thread: Some(thread), queued_bytes, health, rooms })
    }

    /// Adds entries to a room's log. `ticket` comes back with the reports. What does not
    /// follow the entries in the file is answered with [`StoreEvent::NeedsRoom`].
    pub fn save_entries(&self, room: RoomId, entries: Vec<Entry>, ticket: u64) -> Result<(), Slow> {
        self.enqueue(Job::Entries { room, entries, ticket })
    }

    /// Cuts a room's log: the entries behind `to_idx` go, in one transaction. The report that
    /// follows names the entry that is the last one then. Where the file begins behind
    /// `to_idx` nothing is cut, and [`StoreEvent::NeedsRoom`] is the answer.
    ///
    /// Save operations that are to be offered again *before* this: a power cut between the two
    /// then leaves one too many, which its name gives away, and never one too few.
    pub fn rewind(&self, room: RoomId, to_idx: u64) -> Result<(), Slow> {
        self.enqueue(Job::Rewind { room, to_idx })
    }

    /// Keeps operations that wait to be offered to a coordinator, behind those kept already.
    pub fn save_outbox(&self, room: RoomId, ops: Vec<Op>) -> Result<(), Slow> {
        self.enqueue(Job::Outbox { room, ops })
    }

    /// Forgets kept operations: they have a place in the log, or were refused for good.
    pub fn drop_outbox(&self, room: RoomId, ids: Vec<OpId>) -> Result<(), Slow> {
        self.enqueue(Job::Offered { room, ids })
    }

    /// Keeps what a merge left out.
    pub fn save_dropped(&self, room: RoomId, op: DroppedOp) -> Result<(), Slow> {
        self.enqueue(Job::Dropped { room, op: Box::new(op) })
    }

    /// Remembers where the music stands. Worth it every 5 s while it plays.
    pub fn save_position(&self, room: RoomId, position: SavedPosition) -> Result<(), Slow> {
        self.enqueue(Job::Position { room, position })
    }

    /// Notes what has been played. A segment that is noted already stays as it is.
    pub fn save_history(&self, room: RoomId, rows: Vec<HistoryRow>) -> Result<(), Slow> {
        self.enqueue(Job::History { room, rows })
    }

    /// Notes what was said. A word that is noted already stays as it is.
    pub fn save_chat(&self, room: RoomId, rows: Vec<ChatRow>) -> Result<(), Slow> {
        self.enqueue(Job::Chat { room, rows })
    }

    /// What has been played in a room, the most recently noted first. The one method that
    /// waits for the disk; what is still in the queue is not in the answer.
    ///
    /// # Errors
    ///
    /// When the room's file cannot be read.
    pub fn history(&self, room: RoomId, at_most: usize) -> Result<Vec<HistoryRow>, StoreError> {
        self.reader().history(room, at_most)
    }

    /// The way to read rooms' files without the store.
    #[must_use]
    pub fn reader(&self) -> RoomReader {
        RoomReader { rooms: self.rooms.clone() }
    }

    /// Writes a whole room in place of whatever its file has: a new room, or one whose log
    /// was replaced by another branch.
    pub fn save_room(&self, snapshot: Snapshot, ticket: u64) -> Result<(), Slow> {
        let room = codec::room_id(&snapshot.genesis);
        self.enqueue(Job::Replace { room, snapshot: Box::new(snapshot), ticket })
    }

    /// Moves a room's state up to an index: a start has less to apply then. The entries up to
    /// there stay for `groovebox log` until they are too many or too old. Worth it every 1,000
    /// entries.
    pub fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), Slow> {
        let room = codec::room_id(&snapshot.genesis);
        self.enqueue(Job::Compact { room, snapshot: Box::new(snapshot) })
    }

    /// Deletes a room's file.
    pub fn forget_room(&self, room: RoomId) -> Result<(), Slow> {
        self.enqueue(Job::Forget(room))
    }

    /// Remembers where a peer was reached.
    pub fn save_peer(&self, peer: PeerAddress) -> Result<(), Slow> {
        self.enqueue(Job::Peer(peer))
    }

    /// Remembers what the node was told to do about rooms.
    pub fn save_intent(&self, intent: Intent) -> Result<(), Slow> {
        self.enqueue(Job::Intent(intent))
    }

    /// Remembers a room that the device is in.
    pub fn save_known_room(&self, room: KnownRoom) -> Result<(), Slow> {
        self.enqueue(Job::Known(room))
    }

    /// Remembers whose device this is.
    pub fn save_user(&self, user: Option<SavedUser>) -> Result<(), Slow> {
        self.enqueue(Job::User(user))
    }

    /// Keeps what the person's devices know of their friends, in place of what was kept.
    pub fn save_friends(&self, friends: Option<Box<SavedFriends>>) -> Result<(), Slow> {
        self.enqueue(Job::Friends(friends))
    }

    /// How the disk is doing. While it is not well, what happens is in memory only, and the
    /// node should not count for acknowledgements; once it is well again and something is
    /// missing in a room's file, [`StoreEvent::NeedsRoom`] asks for it.
    #[must_use]
    pub fn disk(&self) -> DiskState {
        self.health.state()
    }

    fn enqueue(&self, job: Job) -> Result<(), Slow> {
        let bytes = job.bytes();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let jobs = self.jobs.as_ref().expect("taken only when dropped");
        // One job that is larger than the whole allowance still passes an empty queue.
        let fits = queued == 0 || queued.saturating_add(bytes) <= STORE_QUEUE_BYTES;
        let sent = fits && jobs.try_send(job).is_ok();
        if !sent {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        if sent {
            return Ok(());
        }
        self.health.overran();
        Err(Slow)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

/// What has been written and not yet synced.
#[derive(Clone, Copy, Debug)]
struct Unsynced {
    ticket: u64,
    due: Instant,
}

/// The disk has refused something.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    /// The room that its file lacks something of.
    room: Option<RoomId>,
    next_try: Instant,
    /// The last look went well: what comes is written again, and the first success ends it.
    hopeful: bool,
}

enum Wake {
    Job(Job),
    SyncDue,
    RetryDue,
    Closed,
}

struct Writer {
    health: Arc<Health>,
    trouble: Option<Trouble>,
    /// What a whole room does not contain and must not be lost while the disk refuses.
    kept: Vec<Job>,
    last_room: Option<RoomId>,
    node: NodeFile,
    rooms: PathBuf,
    /// The room written last. A node is in one room at a time.
    open: Option<RoomFile>,
    unsynced: Option<Unsynced>,
    notify: Notify,
    queued_bytes: Arc<AtomicUsize>,
    /// Unlocks the directory when the thread has ended.
    _lock: DirLock,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let wake = self.wait(jobs);
            self.health.begin();
            match wake {
                Wake::Job(job) => self.take(&gather(job, jobs)),
                Wake::SyncDue => self.sync(),
                Wake::RetryDue => self.retry(),
                Wake::Closed => break,
            }
            self.health.end();
        }
        if self.trouble.is_some() {
            self.retry();
        }
        self.sync();
    }

    fn wait(&self, jobs: &Receiver<Job>) -> Wake {
        let sync = self.unsynced.map(|unsynced| unsynced.due);
        let retry = self.trouble.map(|trouble| trouble.next_try);
        let Some(due) = sync.into_iter().chain(retry).min() else {
            return jobs.recv().map_or(Wake::Closed, Wake::Job);
        };
        let what_is_due = if sync == Some(due) { Wake::SyncDue } else { Wake::RetryDue };
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return what_is_due;
        }
        match jobs.recv_timeout(left) {
            Ok(job) => Wake::Job(job),
            Err(RecvTimeoutError::Timeout) => what_is_due,
            Err(RecvTimeoutError::Disconnected) => Wake::Closed,
        }
    }

    fn take(&mut self, batch: &[Job]) {
        self.write(batch);
        let bytes = batch.iter().map(Job::bytes).sum();
        let queued = self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        // The queue was too long for a while; now it is empty, and its end is in the file.
        let caught_up = queued == bytes && self.trouble.is_none() && self.health.caught_up();
        if let Some(room) = self.last_room.filter(|_| caught_up) {
            (self.notify)(StoreEvent::NeedsRoom { room });
        }
    }

    fn write(&mut self, batch: &[Job]) {
        for jobs in batch.chunk_by(|a, b| a.target() == b.target()) {
            let target = jobs[0].target();
            if let Target::Room(room) = target {
                self.last_room = Some(room);
            }
            if self.trouble.is_some_and(|trouble| !trouble.hopeful) {
                self.keep(jobs);
                continue;
            }
            let written = match target {
                Target::Room(room) => self.write_room(room, jobs),
                Target::Files(room) => self.forget(room),
                Target::Node => jobs.iter().try_for_each(|job| self.write_node(job)),
            };
            match written {
                // The room that lacks something, or all there was: it is over.
                Ok(()) if self.ends_trouble(target) => self.recovered(),
                Ok(()) => {}
                Err(error) => {
                    self.failed(target, &error);
                    self.keep(jobs);
                }
            }
        }
    }

    /// Holds on to what is to be written once the disk takes something again. Of a room's log
    /// nothing: it comes as a whole then.
    fn keep(&mut self, jobs: &[Job]) {
        for job in jobs {
            match job {
                Job::Entries { room, .. }
                | Job::Rewind { room, .. }
                | Job::Replace { room, .. }
                | Job::Compact { room, .. } => {
                    if let Some(trouble) = &mut self.trouble {
                        trouble.room = Some(*room);
                    }
                    continue;
                }
                Job::Position { .. } => {
                    self.kept.retain(|old| !matches!(old, Job::Position { .. }));
                }
                Job::Intent(_) => self.kept.retain(|old| !matches!(old, Job::Intent(_))),
                Job::User(_) => self.kept.retain(|old| !matches!(old, Job::User(_))),
                Job::Friends(_) => self.kept.retain(|old| !matches!(old, Job::Friends(_))),
                _ => {}
            }
            // History and the like for days may be too much; there is one of each of the others.
            let is_one = matches!(
                job,
                Job::Position { .. } | Job::Intent(_) | Job::User(_) | Job::Friends(_)
            );
            if is_one || self.kept.len() < STORE_QUEUE {
                self.kept.push(job.clone());
            }
        }
    }

    /// Looks whether the disk takes something again; then asks for what it lacks.
    fn retry(&mut self) {
        let Some(trouble) = self.trouble else { return };
        let looked = self.probe(trouble.room);
        let kept = match looked {
            Ok(()) => std::mem::take(&mut self.kept),
            Err(_) => Vec::new(),
        };
        self.trouble = Some(Trouble {
            next_try: Instant::now() + RETRY_EVERY,
            hopeful: looked.is_ok(),
            ..trouble
        });
        if looked.is_err() {
            return;
        }
        // Two looks in a row, and nothing that was to be written.
        let idle = trouble.hopeful && kept.is_empty();
        match trouble.room {
            Some(room) if !trouble.hopeful => (self.notify)(StoreEvent::NeedsRoom { room }),
            _ => {}
        }
        self.write(&kept);
        if idle || trouble.room.is_none() && self.trouble.is_some_and(|trouble| trouble.hopeful) {
            self.recovered();
        }
    }

    /// A small write that reaches the disk.
    fn probe(&mut self, room: Option<RoomId>) -> Result<(), StoreError> {
        self.node.probe()?;
        match room {
            Some(room) => {
                let file = self.room_file(room)?;
                file.begin_journal_anew()?;
                file.sync()
            }
            None => Ok(()),
        }
    }

    fn ends_trouble(&self, target: Target) -> bool {
        self.trouble.is_some_and(|trouble| match (trouble.room, target) {
            (Some(_), Target::Room(_)) | (None, _) => true,
            (Some(_), Target::Files(_) | Target::Node) => false,
        })
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            self.health.set_trouble(DiskState::Ok);
        }
    }

    fn write_room(&mut self, room: RoomId, jobs: &[Job]) -> Result<(), StoreError> {
        let mut fit = Fit::Follows;
        let file = self.room_file(room)?;
        file.transact(|write| {
            for job in jobs {
                fit = write_job(write, job, fit)?;
            }
            Ok(())
        })?;
        let tip = file.tip();
        if let Some(tip) = tip.filter(|_| fit == Fit::Follows) {
            let ticket = jobs.iter().filter_map(Job::ticket).max();
            self.written(room, tip, ticket);
        } else {
            (self.notify)(StoreEvent::NeedsRoom { room });
        }
        Ok(())
    }

    fn written(&mut self, room: RoomId, tip: Tip, ticket: Option<u64>) {
        let before = self.unsynced;
        let due = before.map_or_else(|| Instant::now() + SYNC_EVERY, |unsynced| unsynced.due);
        let ticket = ticket.into_iter().chain(before.map(|unsynced| unsynced.ticket)).max();
        let ticket = ticket.unwrap_or(0);
        self.unsynced = Some(Unsynced { ticket, due });
        let Tip { idx, chain } = tip;
        (self.notify)(StoreEvent::Written { room, idx, chain, ticket });
    }

    fn room_file(&mut self, room: RoomId) -> Result<&mut RoomFile, StoreError> {
        if self.open.as_ref().is_some_and(|file| file.room != room) {
            self.sync();
            self.open = None;
        }
        let file = if let Some(file) = self.open.take() {
            file
        } else {
            let (file, notice) = RoomFile::open(&self.rooms, room)?;
            if let Some(notice) = notice {
                (self.notify)(StoreEvent::Damaged { notice });
            }
            file
        };
        Ok(self.open.insert(file))
    }

    fn sync(&mut self) {
        let Some((file, unsynced)) = self.open.as_ref().zip(self.unsynced.take()) else { return };
        let (room, idx) = (file.room, file.tip().map_or(0, |tip| tip.idx));
        match file.sync() {
            Ok(()) => (self.notify)(StoreEvent::Synced { room, idx, ticket: unsynced.ticket }),
            Err(error) => self.failed(Target::Room(room), &error),
        }
    }

    fn forget(&mut self, room: RoomId) -> Result<(), StoreError> {
        if self.open.as_ref().is_some_and(|file| file.room == room) {
            self.open = None;
            self.unsynced = None;
        }
        self.node.forget_room(room)?;
        room_file::forget(&self.rooms, room)
    }

    fn write_node(&self, job: &Job) -> Result<(), StoreError> {
        match job {
            Job::Peer(peer) => self.node.save_peer(peer),
            Job::Intent(intent) => {
                let keep = match intent {
                    Intent::Room(room) => Some(*room),
                    Intent::Any | Intent::Alone => None,
                };
                room_file::clean_up(&self.rooms, keep, SystemTime::now());
                self.node.save_intent(*intent)
            }
            Job::User(user) => self.node.save_user(user.as_ref()),
            Job::Known(room) => self.node.save_room(room),
            Job::Friends(friends) => self.node.save_friends(friends.as_deref()),
            _ => Ok(()),
        }
    }

    fn failed(&mut self, target: Target, error: &StoreError) {
        let room = match target {
            Target::Room(room) | Target::Files(room) => {
                // Opened anew next time: a damaged file is then noticed and set aside.
                self.open = None;
                self.unsynced = None;
                Some(room)
            }
            Target::Node => None,
        };
        let state = health::diagnosis(error, &self.rooms);
        self.health.set_trouble(state);
        let before = self.trouble;
        self.trouble = Some(Trouble {
            room: room.or(before.and_then(|before| before.room)),
            next_try: Instant::now() + RETRY_EVERY,
            hopeful: false,
        });
        if before.is_none() {
            let reason = error.to_string();
            (self.notify)(StoreEvent::Failed { room, reason });
        }
    }
}

impl Job {
    fn ticket(&self) -> Option<u64> {
        match self {
            Job::Entries { ticket, .. } | Job::Replace { ticket, .. } => Some(*ticket),
            _ => None,
        }
    }
}

/// After a hole only a whole room helps.
fn write_job(write: &mut RoomWrite<'_>, job: &Job, so_far: Fit) -> rusqlite::Result<Fit> {
    match job {
        Job::Outbox { ops, .. } => write.save_outbox(ops).map(|()| so_far),
        Job::Offered { ids, .. } => write.drop_outbox(ids).map(|()| so_far),
        Job::Dropped { op, .. } => write.save_dropped(op).map(|()| so_far),
        Job::Position { position, .. } => write.save_position(position).map(|()| so_far),
        Job::History { rows, .. } => write.save_history(rows).map(|()| so_far),
        Job::Chat { rows, .. } => write.save_chat(rows).map(|()| so_far),
        Job::Rewind { to_idx, .. } => match write.rewind(*to_idx)? {
            Fit::Follows => Ok(so_far),
            Fit::Hole => Ok(Fit::Hole),
        },
        Job::Replace { snapshot, .. } => write.replace(snapshot).map(|()| Fit::Follows),
        Job::Compact { snapshot, .. } => write.compact(snapshot).map(|()| Fit::Follows),
        Job::Entries { entries, .. } => {
            for entry in entries {
                if write.append(entry)? == Fit::Hole {
                    return Ok(Fit::Hole);
                }
            }
            Ok(so_far)
        }
        _ => Ok(so_far),
    }
}

fn gather(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
    std::iter::once(first).chain(jobs.try_iter().take(BATCH - 1)).collect()
}
