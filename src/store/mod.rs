//! What survives a restart, in `SQLite` files written by one thread.
//!
//! ```text
//!  state directory (0700)
//!  ├── lock              held by the daemon that uses the directory
//!  ├── node.db           identity key, start counter, the person's key and friends, known peers,
//!  │                     what the node was told to do
//!  ├── identity.txt      the first two and the person's key once more, should it be damaged
//!  ├── boots             the start counter once more, should the disk be full
//!  └── rooms/<id>.db     genesis, a snapshot of the state, the log entries after it and those
//!                        of some days before it; outbox, what merges left out,
//!                        position of the music, history, chat
//! ```
//!
//! Damage to a room's file never touches the identity, and deleting the file forgets the room. The
//! file of a room that was left is deleted a day later, at the next start or change of room.
//!
//! Nothing on the way of a command or of sound waits for the disk: every method of [`Store`]
//! only enqueues. Entries are written to the write-ahead log as soon as the thread gets to
//! them ([`StoreEvent::Written`]: they survive a crash of the program) and synced in groups
//! ([`StoreEvent::Synced`]: they survive a power cut). `SQLite` in WAL mode with
//! `synchronous=NORMAL` syncs at checkpoints only, which in a quiet room are hours apart;
//! therefore the group ends with a small commit under `FULL`.
//!
//! The store understands places and chain values, not what the entries mean.

mod boot_file;
mod chat;
mod dropped;
mod friends;
mod health;
mod history;
mod identity_text;
mod log;
mod node_file;
mod outbox;
mod position;
mod reader;
mod room_file;
mod schema;
mod writer;

#[cfg(test)]
mod power_cuts;
#[cfg(test)]
mod tests;

pub use chat::ChatRow;
pub use history::HistoryRow;
pub use position::SavedPosition;
pub use reader::RoomReader;
pub use writer::{Notify, Slow, Store};

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::base::RoomId;
use crate::engine::friends::SavedFriends;
use crate::identity::IdentityError;
use crate::wire::message::{DroppedOp, PeerAddress, Snapshot};
use crate::wire::op::{Entry, Op};
use node_file::NodeFile;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another daemon uses it.
    #[error(
        "{dir} is in use by another GrooveBox daemon{by}; stop that one, or give this one a \
         directory of its own with --state-dir"
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// " (process 123)", where it is known.
        by: String,
    },
    /// Written by a later version.
    #[error(
        "{path} was written by a later version of GrooveBox (schema {found}, this one knows \
         {known}); nothing was changed, update GrooveBox or use another --state-dir"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The latest that is known here.
        known: i64,
    },
    /// The file system does not let us.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is damaged.
    #[error("{path} is damaged: {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// `SQLite` failed for another reason: a full disk, a file that may not be written.
    #[error("cannot use {path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// No key could be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The start counter is at its end.
    #[error("{0} has counted all starts there can be; remove it and identity.txt to begin anew")]
    NoMoreBoots(PathBuf),
}

/// What the node was told to do about rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Intent {
    /// Nothing: join what is found, or found a room.
    #[default]
    Any,
    /// Be in this room.
    Room(RoomId),
    /// Be in none until told otherwise.
    Alone,
}

/// What was there at the start.
#[derive(Debug)]
pub struct Loaded {
    /// The node's key as PKCS#8. A secret.
    pub key: Vec<u8>,
    /// The start counter, raised and synced: no earlier start had this number.
    pub boot: u32,
    /// Known peers, the most recently saved first.
    pub peers: Vec<PeerAddress>,
    /// What the node was told to do about rooms.
    pub intent: Intent,
    /// The person whose device it is.
    pub user: Option<SavedUser>,
    /// Rooms that it was in, the latest first.
    pub rooms: Vec<KnownRoom>,
    /// What that person's devices know of their friends.
    pub friends: Option<SavedFriends>,
    /// The room of that intent, unless its file is missing or damaged.
    pub last_room: Option<LoadedRoom>,
    /// What was found damaged and what became of it: sentences for people.
    pub notices: Vec<String>,
}

/// A room that the device was in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownRoom {
    /// Its identity.
    pub id: RoomId,
    /// Its name.
    pub name: String,
    /// Its code.
    pub code: String,
    /// The device left it as the last one: nobody else has what happened there in the end.
    pub left_last: bool,
}

/// A person as the disk has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedUser {
    /// Their key as PKCS#8. A secret.
    pub key: Vec<u8>,
    /// What they are called.
    pub name: String,
    /// As they want to be called.
    pub display: String,
}

/// A room as the disk has it.
#[derive(Clone, PartialEq, Debug)]
pub struct LoadedRoom {
    /// The state at one index. Its `term` is that of the last entry in it.
    pub snapshot: Snapshot,
    /// The entries after it, in order, their chain values checked.
    pub entries: Vec<Entry>,
    /// Operations that wait to be offered, in the order in which they were saved. Some may be
    /// in the log already.
    pub outbox: Vec<Op>,
    /// What merges have left out, oldest first.
    pub dropped: Vec<DroppedOp>,
    /// Where the music stood.
    pub position: Option<SavedPosition>,
}

/// What the thread reports. Called on the thread: hand it on quickly.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreEvent {
    /// Entries up to `idx` survive a crash of the program.
    Written {
        /// The room.
        room: RoomId,
        /// The last entry in the file. May be lower than in an earlier report: after a rewind.
        idx: u64,
        /// Its chain value. A report that was under way when the log was rewound tells of
        /// entries that are gone; its chain value is not that of the log any more.
        chain: [u8; 16],
        /// The highest ticket of what has been written.
        ticket: u64,
    },
    /// Entries up to `idx` survive a power cut.
    Synced {
        /// The room.
        room: RoomId,
        /// The last entry in the file.
        idx: u64,
        /// The highest ticket of what has been synced.
        ticket: u64,
    },
    /// Entries came that do not follow what the file has: they were not written. Save the
    /// whole room.
    NeedsRoom {
        /// The room.
        room: RoomId,
    },
    /// A file was found damaged, and was set aside. What it had is asked for where it matters.
    Damaged {
        /// A sentence for people.
        notice: String,
    },
    /// Something could not be written. It is tried again; once it works, the whole room is
    /// asked for. Told once, however long that takes.
    Failed {
        /// The room, if it was one's.
        room: Option<RoomId>,
        /// Why, for people.
        reason: String,
    },
}

/// Opens a state directory, makes it where it is missing, and starts the writer.
///
/// `make_key` makes the node's key (PKCS#8) at the first start. The start counter is raised
/// and synced before this returns. A damaged file is set aside under another name.
///
/// # Errors
///
/// When another daemon uses the directory, a later version has written it, or the file system
/// refuses.
pub fn open(
    state_dir: &Path,
    make_key: impl FnOnce() -> Result<Vec<u8>, IdentityError>,
    notify: Notify,
) -> Result<(Store, Loaded), StoreError> {
    let rooms = state_dir.join("rooms");
    // One after the other, so that an error names the directory that the person has chosen.
    make_dir(state_dir)?;
    make_dir(&rooms)?;
    let lock = lock(state_dir)?;
    let (node, ident) = NodeFile::open(&state_dir.join("node.db"), make_key)?;
    let intent = node.intent()?;
    let current = if let Intent::Room(room) = intent { Some(room) } else { None };
    room_file::clean_up(&rooms, current, SystemTime::now());
    let (last_room, damage) = match intent {
        Intent::Room(room) => room_file::load(&rooms, room)?,
        Intent::Any | Intent::Alone => (None, None),
    };
    let loaded = Loaded {
        key: ident.key,
        boot: ident.boot,
        peers: node.peers()?,
        intent,
        user: node.user()?,
        rooms: node.rooms()?,
        friends: node.friends()?,
        last_room,
        notices: ident.notice.into_iter().chain(damage).collect(),
    };
    Ok((Store::start(lock, node, ident.trouble.as_ref(), rooms, notify)?, loaded))
}

fn make_dir(dir: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| StoreError::Io { doing: "make the directory", path: dir.into(), source })
}

/// A directory that no other daemon uses, until this is dropped or the process is no more.
#[derive(Debug)]
struct DirLock(File);

impl Drop for DirLock {
    /// Closing would do, were it not for a child process just being started elsewhere in this
    /// program: until it becomes another program it has the file open as well.
    fn drop(&mut self) {
        let _closing_does_it_then = self.0.unlock();
    }
}

fn lock(dir: &Path) -> Result<DirLock, StoreError> {
    let path = dir.join("lock");
    let io = |doing| {
        let path = path.clone();
        move |source| StoreError::Io { doing, path, source }
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(io("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::InUse { dir: dir.into(), by: holder(&mut file) });
        }
        Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
    }
    // For people only: the lock itself is the kernel's, and a full disk takes it as well.
    let pid = std::process::id().to_string();
    let _nobody_needs_it = file.set_len(0).and_then(|()| file.write_all(pid.as_bytes()));
    Ok(DirLock(file))
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(16).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!(" (process {pid})"),
        _ => String::new(),
    }
}

/// For what cannot be wrong unless the file is damaged.
fn corrupt(path: &Path, why: impl Into<String>) -> StoreError {
    StoreError::Corrupt { path: path.into(), why: why.into() }
}

fn room_path(rooms: &Path, room: RoomId) -> PathBuf {
    rooms.join(format!("{room}.db"))
}
