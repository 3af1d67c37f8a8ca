//! What the local interface asks for: commands into the loop, pictures out of it, files into
//! the cache.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::READER_THREADS;
use super::clock;
use super::event_loop::{Event, EventSender};
use super::health;
use crate::api::{Backend, ChatLog, Health, ImportProgress, Imported, OutputInfo, UserWish};
use crate::audio::devices::{self, DeviceInfo};
use crate::audio::output::OutputChoice;
use crate::base::RoomId;
use crate::base::limits::{LOG_WORDED, MAX_TRACKS_PER_ADD};
use crate::config::Settings;
use crate::engine::command::CommandReply;
use crate::engine::node::Input;
use crate::engine::status::{
    ChatStatus, DjStatus, FriendsStatus, HeardTrack, HistoryStatus, LogStatus, OperationStatus,
    PastVoteStatus,
};
use crate::engine::transfer::Have;
use crate::engine::{Command, Status};
use crate::media::{self, Library};
use crate::store::{ChatRow, HistoryRow, RoomReader, StoreError};
use crate::wire::message::Level;
use crate::wire::{Refusal, RefusalCode};

/// How long somebody may wait until an operation is durable: a sync every half second, a card
/// that stalls for one, and the way to the coordinator and back.
const DURABLE_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is looked meanwhile.
const DURABLE_LOOK: Duration = Duration::from_millis(50);

/// The daemon as the local interface sees it.
pub struct Front {
    events: EventSender,
    status: watch::Receiver<Arc<Status>>,
    chat: watch::Receiver<Arc<ChatLog>>,
    library: Library,
    rooms: RoomReader,
    settings: Settings,
    reading: Arc<Reading>,
}

/// Files that orders have found and read. Counted together: two people who add folders at once
/// both wait for one disk.
#[derive(Default)]
struct Reading {
    files: AtomicU64,
    done: AtomicU64,
}

/// One order's share in it, taken back when the order ends, however it ends.
struct Share<'a> {
    reading: &'a Reading,
    files: u64,
    done: u64,
}

impl Share<'_> {
    fn found(&mut self, files: usize) {
        let files = u64::try_from(files).unwrap_or(u64::MAX);
        self.files += files;
        self.reading.files.fetch_add(files, Ordering::Relaxed);
    }

    fn has_read(&mut self) {
        self.done += 1;
        self.reading.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.reading.files.fetch_sub(self.files, Ordering::Relaxed);
        self.reading.done.fetch_sub(self.done, Ordering::Relaxed);
    }
}

impl Front {
    /// A front of a loop.
    #[must_use]
    pub fn new(
        events: EventSender,
        (status, chat): (watch::Receiver<Arc<Status>>, watch::Receiver<Arc<ChatLog>>),
        library: Library,
        rooms: RoomReader,
        settings: Settings,
    ) -> Front {
        Front { events, status, chat, library, rooms, settings, reading: Arc::default() }
    }

    /// What memory has of the log, and before it as much as is wanted of what the disk has.
    async fn read_log(&self, at_most: usize) -> Result<LogStatus, Refusal> {
        let (room, mut log) = self.ask(|reply| Event::Log(at_most, reply)).await?;
        let first = log.entries.first().map_or(log.last_idx + 1, |entry| entry.idx);
        let missing = at_most.saturating_sub(log.entries.len());
        let Some(room) = room.filter(|_| missing > 0 && first > 1) else { return Ok(log) };
        let reader = self.rooms.clone();
        let reading = tokio::task::spawn_blocking(move || reader.log(room, first, missing));
        let earlier = match reading.await {
            Ok(Ok(earlier)) => earlier,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the log on disk cannot be read");
                return Ok(log);
            }
            Err(_) => return Err(internal("reading the log failed")),
        };
        let mut worded = Vec::with_capacity(earlier.len() + log.entries.len());
        for some in earlier.chunks(LOG_WORDED) {
            worded.extend(self.ask(|reply| Event::Worded(some.to_vec(), reply)).await?);
        }
        worded.append(&mut log.entries);
        Ok(LogStatus { entries: worded, ..log })
    }

    /// What the disk has of the room that this device is in.
    async fn read_room<T: Send + 'static>(
        &self,
        read: impl FnOnce(&RoomReader, RoomId) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let room = self.status.borrow().room.as_ref().and_then(|room| room.id.parse().ok());
        let room = room.ok_or_else(Refusal::not_in_room)?;
        let reader = self.rooms.clone();
        tokio::task::spawn_blocking(move || read(&reader, room))
            .await
            .map_err(|_| internal("reading the room's file failed"))?
            .map_err(|error| internal(&error.to_string()))
    }

    /// What became of an operation, once it is as safe as wanted or patience is over.
    async fn follow(&self, boot: u32, seq: u64, wanted: Level) -> Result<OperationStatus, Refusal> {
        let patience = tokio::time::Instant::now() + DURABLE_PATIENCE;
        loop {
            let operation = self.ask(|reply| Event::Operation(boot, seq, reply)).await?;
            let operation = operation.ok_or_else(|| no_such_operation(boot, seq))?;
            if operation.level >= wanted || tokio::time::Instant::now() >= patience {
                return Ok(operation);
            }
            tokio::time::sleep(DURABLE_LOOK).await;
        }
    }

    /// Asks the loop.
    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Result<T, Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.events.send(event(sender)).await.map_err(|_| stopping())?;
        receiver.await.map_err(|_| stopping())
    }
}

impl Backend for Front {
    fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    fn command(&self, command: Command) -> BoxFuture<'_, CommandReply> {
        async move { self.ask(|reply| Event::Command(command, reply)).await? }.boxed()
    }

    fn become_user(&self, wish: UserWish) -> BoxFuture<'_, CommandReply> {
        async move { self.ask(|reply| Event::BecomeUser(wish, reply)).await? }.boxed()
    }

    fn dj(&self) -> BoxFuture<'_, Result<DjStatus, Refusal>> {
        async move { self.ask(Event::Dj).await? }.boxed()
    }

    fn friends(&self) -> BoxFuture<'_, Result<FriendsStatus, Refusal>> {
        async move { self.ask(Event::Friends).await }.boxed()
    }

    fn past_votes(&self) -> BoxFuture<'_, Result<Vec<PastVoteStatus>, Refusal>> {
        async move { self.ask(Event::PastVotes).await? }.boxed()
    }

    fn chat(&self) -> watch::Receiver<Arc<ChatLog>> {
        self.chat.clone()
    }

    fn operation(
        &self,
        boot: u32,
        seq: u64,
        wanted: Level,
    ) -> BoxFuture<'_, Result<OperationStatus, Refusal>> {
        self.follow(boot, seq, wanted).boxed()
    }

    fn log(&self, at_most: usize) -> BoxFuture<'_, Result<LogStatus, Refusal>> {
        self.read_log(at_most).boxed()
    }

    fn history(&self, at_most: usize) -> BoxFuture<'_, Result<Vec<HistoryStatus>, Refusal>> {
        async move {
            let rows = self.read_room(move |file, room| file.history(room, at_most)).await?;
            Ok(rows.into_iter().map(history_status).collect())
        }
        .boxed()
    }

    fn kept_chat(&self, at_most: usize) -> BoxFuture<'_, Result<Vec<ChatStatus>, Refusal>> {
        async move {
            let rows = self.read_room(move |file, room| file.chat(room, at_most)).await?;
            Ok(rows.into_iter().map(chat_status).collect())
        }
        .boxed()
    }

    fn import(&self, paths: Vec<PathBuf>) -> BoxFuture<'_, Result<Imported, Refusal>> {
        let (library, reading) = (self.library.clone(), Arc::clone(&self.reading));
        let events = self.events.clone();
        async move {
            let (sender, receiver) = oneshot::channel();
            let work = move || {
                let share = Share { reading: &reading, files: 0, done: 0 };
                let imported = import(&library, &paths, share);
                // One that was waited for in vain may have been given again.
                for track in imported.iter().flat_map(|imported| &imported.tracks) {
                    let input = Input::BlobOpened { hash: track.hash, have: Have::Complete };
                    let _ = events.blocking_send(input.into());
                }
                let _ = sender.send(imported);
            };
            // A thread of its own, because a decoder's panic on it must not end the daemon.
            let name = format!("{READER_THREADS}-import");
            std::thread::Builder::new()
                .name(name)
                .spawn(work)
                .map_err(|_| internal("the system gives no thread to read the files"))?;
            receiver.await.map_err(|_| internal("reading the files failed"))?
        }
        .boxed()
    }

    fn importing(&self) -> ImportProgress {
        // Read one after the other; a file may be done in between.
        let done = self.reading.done.load(Ordering::Relaxed);
        ImportProgress { files: self.reading.files.load(Ordering::Relaxed).max(done), done }
    }

    fn outputs(&self) -> BoxFuture<'_, Result<Vec<OutputInfo>, Refusal>> {
        let choice = self.settings.output.clone();
        async move {
            tokio::task::spawn_blocking(move || outputs(Some(&choice)))
                .await
                .map_err(|_| internal("listing the outputs failed"))?
        }
        .boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, Refusal>> {
        let settings = self.settings.clone();
        async move {
            tokio::task::spawn_blocking(move || health::look(&settings))
                .await
                .map_err(|_| internal("looking at the machine failed"))
        }
        .boxed()
    }
}

/// Reads every file that the paths name. One that cannot be played is left out and named,
/// unless it was the only one; so is the first of those beyond what one order takes.
fn import(library: &Library, paths: &[PathBuf], mut share: Share<'_>) -> Result<Imported, Refusal> {
    let mut imported = Imported { tracks: Vec::new(), skipped: Vec::new() };
    let mut beyond = Vec::new();
    for path in paths {
        let files = media::scan(path).map_err(|error| error.refusal())?;
        share.found(files.len());
        for file in files {
            if imported.tracks.len() == MAX_TRACKS_PER_ADD {
                beyond.push(file);
                continue;
            }
            match library.import(&file, &mut |_, _| {}) {
                Ok(track) => imported.tracks.push(track),
                Err(error) => imported.skipped.push((file, error.refusal())),
            }
            share.has_read();
        }
    }
    let left_out = too_many(beyond.len());
    imported.skipped.extend(beyond.into_iter().next().map(|first| (first, left_out)));
    match (imported.tracks.is_empty(), imported.skipped.len()) {
        (true, 1) => Err(imported.skipped.remove(0).1),
        (true, n) => Err(Refusal::new(
            RefusalCode::UnsupportedMedia,
            format!("none of the {n} files can be played"),
            "FLAC, WAV, AIFF, MP3, AAC, Apple Lossless, Vorbis and Opus can; `file NAME` tells what a file is",
        )),
        (false, _) => Ok(imported),
    }
}

fn history_status(row: HistoryRow) -> HistoryStatus {
    let lasted_ms = (row.ended - row.started).as_millis();
    HistoryStatus {
        id: format!("{:016x}", row.segment.0),
        track: HeardTrack {
            id: row.track.to_string(),
            title: row.title,
            artists: row.artists,
            album: row.album,
            source: row.source,
            added_by: row.added_by,
        },
        dj: row.dj,
        started_at: row.ended_wall - lasted_ms,
        ended_at: row.ended_wall,
        lasted_ms,
        reason: row.reason,
        present: row.present,
    }
}

fn chat_status(row: ChatRow) -> ChatStatus {
    ChatStatus {
        id: ChatStatus::id(&row.op),
        name: row.name,
        user: row.user.to_string(),
        text: row.text,
        said_at: Some(row.wall),
        ago_ms: (clock::wall() - row.wall).max(0),
    }
}

fn too_many(left_out: usize) -> Refusal {
    Refusal::new(
        RefusalCode::QueueFull,
        format!(
            "one order takes {MAX_TRACKS_PER_ADD} tracks; {left_out} files, this one the first of \
             them, were left out"
        ),
        "add the rest with `groovebox queue add`, a folder at a time",
    )
}

/// Where the sound of this machine can go, whether a daemon runs or not; `choice` is what one that
/// runs has in its settings.
///
/// # Errors
///
/// When the sound system does not tell.
pub fn outputs(choice: Option<&str>) -> Result<Vec<OutputInfo>, Refusal> {
    let devices = devices::list().map_err(|error| {
        Refusal::new(
            RefusalCode::UpdateFailed,
            format!("the outputs cannot be listed: {error}"),
            "`null` and `file:PATH` work without a sound card",
        )
    })?;
    let chosen = match choice.and_then(|choice| choice.parse().ok()) {
        Some(OutputChoice::Default) => devices::id_of(None),
        Some(OutputChoice::Device(name)) => devices::id_of(Some(&name)),
        _ => None,
    };
    let info = |device: DeviceInfo| OutputInfo {
        chosen: chosen.as_ref() == Some(&device.id),
        id: device.id,
        name: device.description,
        default: device.is_default,
    };
    Ok(devices.into_iter().map(info).collect())
}

fn no_such_operation(boot: u32, seq: u64) -> Refusal {
    Refusal::new(
        RefusalCode::NotFound,
        format!("this device knows no operation {seq} of its start {boot} in this room"),
        "it was refused, or is too long ago; `groovebox log` shows what was done",
    )
}

fn stopping() -> Refusal {
    Refusal::new(
        RefusalCode::Internal,
        "the daemon is stopping",
        "start it again once it has: `groovebox daemon`",
    )
}

fn internal(message: &str) -> Refusal {
    Refusal::new(RefusalCode::Internal, message, "the daemon's log may say more")
}
