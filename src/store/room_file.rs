//! `rooms/<id>.db`: a state at one index, the log after it, and for people what came before it.
//! The file has no holes: what does not follow its last entry is not written. Beside it, what is of this node alone: the
//! outbox, what merges left out, the position of the music, the history, the chat.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tracing::warn;

use super::schema::{self, Migrations, Synchronous, of};
use super::{
    ChatRow, HistoryRow, LoadedRoom, SavedPosition, StoreError, chat, corrupt, dropped, history,
    log, outbox, position, room_path,
};
use crate::base::limits::MAX_HISTORY;
use crate::base::{NodeId, OpId, RoomId, Term};
use crate::wire::codec;
use crate::wire::message::{DroppedOp, Snapshot};
use crate::wire::op::{Entry, Op};

pub(super) const MIGRATIONS: Migrations = &[
    "
    CREATE TABLE room(
        one INTEGER PRIMARY KEY CHECK(one = 1), genesis BLOB NOT NULL, idx INTEGER NOT NULL,
        term_n INTEGER NOT NULL, term_node BLOB NOT NULL, term_boot INTEGER NOT NULL,
        chain BLOB NOT NULL, state BLOB NOT NULL) STRICT;
    CREATE TABLE log(idx INTEGER PRIMARY KEY, chain BLOB NOT NULL, entry BLOB NOT NULL) STRICT;
    CREATE TABLE synced(one INTEGER PRIMARY KEY CHECK(one = 1), idx INTEGER NOT NULL) STRICT;
",
    "
    CREATE TABLE outbox(
        n INTEGER PRIMARY KEY AUTOINCREMENT, author BLOB NOT NULL, boot INTEGER NOT NULL,
        seq INTEGER NOT NULL, op BLOB NOT NULL, UNIQUE(author, boot, seq)) STRICT;
    CREATE TABLE position(
        one INTEGER PRIMARY KEY CHECK(one = 1), segment INTEGER NOT NULL,
        position INTEGER NOT NULL, playing INTEGER NOT NULL, clock_epoch INTEGER NOT NULL,
        room INTEGER NOT NULL, wall INTEGER NOT NULL) STRICT;
    CREATE TABLE history(
        n INTEGER PRIMARY KEY AUTOINCREMENT, segment INTEGER NOT NULL UNIQUE,
        track BLOB NOT NULL, title TEXT NOT NULL, artists TEXT NOT NULL, album TEXT NOT NULL,
        source TEXT NOT NULL, dj TEXT, added_by TEXT NOT NULL, started INTEGER NOT NULL,
        ended INTEGER NOT NULL, ended_wall INTEGER NOT NULL, reason TEXT NOT NULL,
        present INTEGER NOT NULL) STRICT;
",
    "
    CREATE TABLE dropped(
        n INTEGER PRIMARY KEY AUTOINCREMENT, author BLOB NOT NULL, boot INTEGER NOT NULL,
        seq INTEGER NOT NULL, created INTEGER NOT NULL, what TEXT NOT NULL, why TEXT NOT NULL,
        UNIQUE(author, boot, seq)) STRICT;
",
    "
    CREATE TABLE chat(
        n INTEGER PRIMARY KEY AUTOINCREMENT, author BLOB NOT NULL, boot INTEGER NOT NULL,
        seq INTEGER NOT NULL, user BLOB NOT NULL, name TEXT NOT NULL, wall INTEGER NOT NULL,
        text TEXT NOT NULL, UNIQUE(author, boot, seq)) STRICT;
",
];

/// The last entry in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tip {
    pub idx: u64,
    pub chain: [u8; 16],
}

/// Whether something continued the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    /// It is in the file now.
    Follows,
    /// The file lacks what comes before it, or is another branch.
    Hole,
}

/// An open file.
pub(super) struct RoomFile {
    pub room: RoomId,
    path: PathBuf,
    conn: Connection,
    /// None while the file knows no room.
    tip: Option<Tip>,
}

/// What the file of a room has; none if there is no file or it cannot be used.
///
/// A damaged file is set aside. Where only the end of its log is damaged, what comes before is
/// written to a new file and returned, together with what else can be read.
pub(super) fn load(
    rooms: &Path,
    room: RoomId,
) -> Result<(Option<LoadedRoom>, Option<String>), StoreError> {
    let path = room_path(rooms, room);
    if !path.exists() {
        return Ok((None, None));
    }
    match read(&path, room) {
        Ok(None) => Ok((None, None)),
        Ok(Some(Contents { room: loaded, damage: None, .. })) => Ok((Some(loaded), None)),
        Ok(Some(Contents { room: loaded, history, damage: Some(why) })) => {
            let notice = set_aside(&path, &why)?;
            // Where that fails, the writer asks for the room later.
            if let Err(error) = rescue(rooms, room, &loaded, &history) {
                warn!(%error, "what could be read of the room's file is in memory only");
            }
            Ok((Some(loaded), Some(notice)))
        }
        Err(error) => match schema::is_lost(&error) {
            Some(why) => Ok((None, Some(set_aside(&path, &why)?))),
            None => Err(error),
        },
    }
}

/// What the file of a room has, left as it is.
pub(super) fn look(rooms: &Path, room: RoomId) -> Result<Option<LoadedRoom>, StoreError> {
    let path = room_path(rooms, room);
    if !path.exists() {
        return Ok(None);
    }
    Ok(read(&path, room)?.map(|contents| contents.room))
}

/// Writes to a new file what could be read of a damaged one.
fn rescue(
    rooms: &Path,
    room: RoomId,
    loaded: &LoadedRoom,
    history: &[HistoryRow],
) -> Result<(), StoreError> {
    let (mut file, _) = RoomFile::open(rooms, room)?;
    file.transact(|write| {
        write.replace(&loaded.snapshot)?;
        loaded.entries.iter().try_for_each(|entry| write.append(entry).map(drop))?;
        write.save_outbox(&loaded.outbox)?;
        loaded.dropped.iter().try_for_each(|op| write.save_dropped(op))?;
        write.save_history(history)?;
        loaded.position.iter().try_for_each(|position| write.save_position(position))
    })
}

/// How long the file of a room is kept that the device is in no longer.
const KEPT_AFTER: Duration = Duration::from_hours(24);

/// Deletes the files of rooms that the device is in no longer and has not used for a day.
pub(super) fn clean_up(rooms: &Path, keep: Option<RoomId>, now: SystemTime) {
    let Ok(files) = std::fs::read_dir(rooms) else { return };
    for file in files.flatten() {
        let name = file.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".db")?.parse::<RoomId>().ok());
        let Some(room) = id.filter(|room| Some(*room) != keep) else { continue };
        let path = file.path();
        let wal = path.with_extension("db-wal");
        let changed =
            [path, wal].iter().filter_map(|path| path.metadata().ok()?.modified().ok()).max();
        let unused = changed.and_then(|changed| now.duration_since(changed).ok());
        if unused.is_some_and(|unused| unused > KEPT_AFTER)
            && let Err(error) = forget(rooms, room)
        {
            tracing::warn!(%error, "the file of a room that was left long ago cannot be deleted");
        }
    }
}

/// What happened, for people.
fn set_aside(path: &Path, why: &str) -> Result<String, StoreError> {
    let aside = schema::set_aside(path)?;
    let notice = format!(
        "the file of the room was damaged ({why}) and set aside as {}; what is missing comes \
         from the other devices",
        aside.display()
    );
    Ok(notice)
}

/// What could be read.
struct Contents {
    room: LoadedRoom,
    /// In the order in which it was noted. Read only where the file is to be written anew.
    history: Vec<HistoryRow>,
    /// What is wrong with the file.
    damage: Option<String>,
}

fn read(path: &Path, room: RoomId) -> Result<Option<Contents>, StoreError> {
    let conn = schema::open_even_full(path, MIGRATIONS)?;
    let Some(snapshot) = read_snapshot(&conn, path)? else { return Ok(None) };
    if codec::room_id(&snapshot.genesis) != room {
        return Err(corrupt(path, "it holds another room than its name says"));
    }
    let (mut entries, mut outbox, mut saved) = (Vec::new(), Vec::new(), None);
    let log = read_log(&conn, &snapshot, &mut entries);
    let waiting = outbox::read(&conn, &mut outbox);
    let position = position::read(&conn).map(|position| saved = position);
    let left_out = dropped::read(&conn).map_err(|error| error.to_string());
    let position = position.map_err(|error| error.to_string());
    let (dropped, unread) = match left_out {
        Ok(dropped) => (dropped, Ok(())),
        Err(why) => (Vec::new(), Err(why)),
    };
    let damage = log.and(waiting).and(unread).and(position).err();
    let history = match damage {
        Some(_) => history::read(&conn, MAX_HISTORY).unwrap_or_default(),
        None => Vec::new(),
    };
    let history = history.into_iter().rev().collect();
    let room = LoadedRoom { snapshot, entries, outbox, dropped, position: saved };
    Ok(Some(Contents { room, history, damage }))
}

fn read_snapshot(conn: &Connection, path: &Path) -> Result<Option<Snapshot>, StoreError> {
    let sql = "SELECT genesis, idx, term_n, term_node, term_boot, chain, state FROM room";
    let row = conn
        .query_row(sql, [], |row| {
            let term =
                Term { n: unsigned(row.get(2)?), node: NodeId(row.get(3)?), boot: row.get(4)? };
            let genesis: Vec<u8> = row.get(0)?;
            Ok((genesis, unsigned(row.get(1)?), term, row.get(5)?, row.get(6)?))
        })
        .optional()
        .map_err(|error| corrupt(path, error.to_string()))?;
    let Some((genesis, idx, term, chain, state)) = row else { return Ok(None) };
    let genesis =
        codec::decode_genesis(&genesis).map_err(|error| corrupt(path, error.to_string()))?;
    Ok(Some(Snapshot { genesis, term, idx, last_term: term, chain, state }))
}

/// Reads as far as the log is sound; then says what is not.
fn read_log(conn: &Connection, base: &Snapshot, entries: &mut Vec<Entry>) -> Result<(), String> {
    let sql = "SELECT idx, entry FROM log WHERE idx > ?1 ORDER BY idx";
    let mut statement = conn.prepare(sql).map_err(|error| error.to_string())?;
    let mut rows = statement.query([signed(base.idx)]).map_err(|error| error.to_string())?;
    let mut tip = Tip { idx: base.idx, chain: base.chain };
    while let Some(row) = rows.next().map_err(|error| error.to_string())? {
        let bytes: Vec<u8> = row.get(1).map_err(|error| error.to_string())?;
        let entry = codec::decode_entry(&bytes)
            .map_err(|error| format!("entry {} {error}", tip.idx + 1))?;
        if !follows(&tip, &entry) {
            return Err(format!("entry {} does not follow the one before", entry.idx));
        }
        tip = Tip { idx: entry.idx, chain: entry.chain };
        entries.push(entry);
    }
    Ok(())
}

fn follows(tip: &Tip, entry: &Entry) -> bool {
    tip.idx.checked_add(1) == Some(entry.idx)
        && codec::chain(&tip.chain, &entry.term, entry.at, &entry.op) == entry.chain
}

impl RoomFile {
    /// Opens it, makes it where it is missing, and sets it aside where it is damaged; then it
    /// comes with a sentence about that.
    pub fn open(rooms: &Path, room: RoomId) -> Result<(RoomFile, Option<String>), StoreError> {
        let path = room_path(rooms, room);
        let mut notice = None;
        let conn = match schema::open(&path, MIGRATIONS) {
            Err(error) => {
                let Some(why) = schema::is_lost(&error) else { return Err(error) };
                notice = Some(set_aside(&path, &why)?);
                schema::open(&path, MIGRATIONS)?
            }
            Ok(conn) => conn,
        };
        schema::set_synchronous(&conn, Synchronous::Normal).map_err(of(&path))?;
        let tip = read_tip(&conn).map_err(of(&path))?;
        Ok((RoomFile { room, path, conn, tip }, notice))
    }

    /// The last entry in the file.
    pub fn tip(&self) -> Option<Tip> {
        self.tip
    }

    /// Several writes as one: all of them or none.
    pub fn transact(
        &mut self,
        write: impl FnOnce(&mut RoomWrite<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let transact = || {
            let transaction = self.conn.unchecked_transaction()?;
            let mut open = RoomWrite { transaction, tip: self.tip };
            write(&mut open)?;
            let tip = open.tip;
            open.transaction.commit()?;
            Ok(tip)
        };
        self.tip = transact().map_err(of(&self.path))?;
        Ok(())
    }

    /// After a sync has failed nobody knows which parts of the journal the disk has, and it may
    /// take what comes behind a part that it lacks: carries the journal over into the file and
    /// begins it anew.
    pub fn begin_journal_anew(&self) -> Result<(), StoreError> {
        let carry = || {
            schema::set_synchronous(&self.conn, Synchronous::Full)?;
            let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
            let is_busy: bool = self.conn.query_row(sql, [], |row| row.get(0))?;
            schema::set_synchronous(&self.conn, Synchronous::Normal)?;
            Ok(is_busy)
        };
        if carry().map_err(of(&self.path))? {
            let (doing, path) = ("begin the journal anew of", self.path.clone());
            let source = std::io::ErrorKind::ResourceBusy.into();
            return Err(StoreError::Io { doing, path, source });
        }
        Ok(())
    }

    /// When this returns, everything written survives a power cut: a commit under `FULL`
    /// syncs the whole write-ahead log.
    pub fn sync(&self) -> Result<(), StoreError> {
        let idx = signed(self.tip.map_or(0, |tip| tip.idx));
        let sync = || {
            schema::set_synchronous(&self.conn, Synchronous::Full)?;
            self.conn.execute("INSERT OR REPLACE INTO synced VALUES(1, ?1)", [idx])?;
            schema::set_synchronous(&self.conn, Synchronous::Normal)
        };
        sync().map_err(of(&self.path))
    }
}

/// Deletes the file of a room.
pub(super) fn forget(rooms: &Path, room: RoomId) -> Result<(), StoreError> {
    let path = room_path(rooms, room);
    for journal in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(journal);
        // Usually gone with the last connection.
        let _ = std::fs::remove_file(name);
    }
    for version in (1..).take(MIGRATIONS.len()) {
        let _ = std::fs::remove_file(schema::backup_path(&path, version));
    }
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::Io { doing: "remove", path, source })
        }
        _ => Ok(()),
    }
}

/// A transaction on a room's file.
pub(super) struct RoomWrite<'a> {
    transaction: Transaction<'a>,
    tip: Option<Tip>,
}

impl RoomWrite<'_> {
    /// Adds one entry. One that is there already is left.
    pub fn append(&mut self, entry: &Entry) -> rusqlite::Result<Fit> {
        let Some(tip) = self.tip else { return Ok(Fit::Hole) };
        if entry.idx <= tip.idx {
            return self.compare(entry);
        }
        let Some(bytes) = codec::encode_entry(entry).ok().filter(|_| follows(&tip, entry)) else {
            return Ok(Fit::Hole);
        };
        self.transaction.prepare_cached("INSERT INTO log VALUES(?1, ?2, ?3)")?.execute(params![
            signed(entry.idx),
            entry.chain,
            bytes
        ])?;
        self.tip = Some(Tip { idx: entry.idx, chain: entry.chain });
        Ok(Fit::Follows)
    }

    fn compare(&self, entry: &Entry) -> rusqlite::Result<Fit> {
        // What is not kept any more cannot be compared.
        let chain = self.chain_at(entry.idx)?;
        Ok(if chain.is_none_or(|ours| ours == entry.chain) { Fit::Follows } else { Fit::Hole })
    }

    fn chain_at(&self, idx: u64) -> rusqlite::Result<Option<[u8; 16]>> {
        let sql = "SELECT chain FROM log WHERE idx = ?1";
        self.transaction.query_row(sql, [signed(idx)], |row| row.get(0)).optional()
    }

    /// Everything anew from a snapshot. What is held of another branch goes, and so does what the
    /// snapshot does not join; of its own log what led to it stays.
    pub fn replace(&mut self, snapshot: &Snapshot) -> rusqlite::Result<()> {
        let is_known = self.chain_at(snapshot.idx)? == Some(snapshot.chain);
        let from = if is_known { signed(snapshot.idx) } else { -1 };
        self.transaction.execute("DELETE FROM log WHERE idx > ?1", [from])?;
        self.put(snapshot)?;
        self.tip = Some(Tip { idx: snapshot.idx, chain: snapshot.chain });
        Ok(())
    }

    /// The same log in a shorter form: the entries up to the snapshot are needed no more, and go
    /// in time. A snapshot that is not of this log, or ahead of it, replaces everything; one from
    /// before is of no use.
    pub fn compact(&mut self, snapshot: &Snapshot) -> rusqlite::Result<()> {
        let base = read_base(&self.transaction)?;
        let ours = match base {
            Some(base) if snapshot.idx < base.idx => return Ok(()),
            Some(base) if snapshot.idx == base.idx => Some(base.chain),
            _ => self.chain_at(snapshot.idx)?,
        };
        if ours != Some(snapshot.chain) {
            return self.replace(snapshot);
        }
        self.put(snapshot)?;
        log::retain(&self.transaction, snapshot.idx)
    }

    /// The entries behind `to_idx` go. [`Fit::Hole`] if the file begins behind it.
    pub fn rewind(&mut self, to_idx: u64) -> rusqlite::Result<Fit> {
        let base = read_base(&self.transaction)?;
        if base.is_none_or(|base| base.idx > to_idx) {
            return Ok(Fit::Hole);
        }
        self.transaction.execute("DELETE FROM log WHERE idx > ?1", [signed(to_idx)])?;
        self.tip = read_tip(&self.transaction)?;
        Ok(Fit::Follows)
    }

    pub fn save_outbox(&self, ops: &[Op]) -> rusqlite::Result<()> {
        outbox::save(&self.transaction, ops)
    }

    pub fn drop_outbox(&self, ids: &[OpId]) -> rusqlite::Result<()> {
        outbox::remove(&self.transaction, ids)
    }

    pub fn save_dropped(&self, op: &DroppedOp) -> rusqlite::Result<()> {
        dropped::save(&self.transaction, op)
    }

    pub fn save_position(&self, position: &SavedPosition) -> rusqlite::Result<()> {
        position::save(&self.transaction, position)
    }

    pub fn save_history(&self, rows: &[HistoryRow]) -> rusqlite::Result<()> {
        history::save(&self.transaction, rows)
    }

    pub fn save_chat(&self, rows: &[ChatRow]) -> rusqlite::Result<()> {
        chat::save(&self.transaction, rows)
    }

    fn put(&self, snapshot: &Snapshot) -> rusqlite::Result<()> {
        let genesis = codec::encode_genesis(&snapshot.genesis)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let term = &snapshot.last_term;
        let sql = "INSERT OR REPLACE INTO room VALUES(1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.transaction.execute(
            sql,
            params![
                genesis,
                signed(snapshot.idx),
                signed(term.n),
                term.node.0,
                term.boot,
                snapshot.chain,
                snapshot.state,
            ],
        )?;
        Ok(())
    }
}

fn read_base(conn: &Connection) -> rusqlite::Result<Option<Tip>> {
    conn.query_row("SELECT idx, chain FROM room", [], tip_of).optional()
}

fn read_tip(conn: &Connection) -> rusqlite::Result<Option<Tip>> {
    let sql = "SELECT idx, chain FROM log ORDER BY idx DESC LIMIT 1";
    let last = conn.query_row(sql, [], tip_of).optional()?;
    let base = read_base(conn)?;
    Ok(base.map(|base| last.filter(|last| last.idx > base.idx).unwrap_or(base)))
}

fn tip_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Tip> {
    Ok(Tip { idx: unsigned(row.get(0)?), chain: row.get(1)? })
}

/// `SQLite`'s integers are signed. The bits are kept, so that nothing that came from outside
/// fails here; the numbers in use are small.
pub(super) fn signed(number: u64) -> i64 {
    number.cast_signed()
}

pub(super) fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}
