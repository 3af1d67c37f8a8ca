//! `node.db`: who this device is and whom it knows. Written rarely, synced at every commit.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use tracing::warn;

use super::identity_text::{IdentityText, unhex};
use super::schema::{self, Migrations, dir_of, of};
use super::{Intent, KnownRoom, SavedUser, StoreError, boot_file, corrupt, friends};
use crate::base::ids::hex;
use crate::base::limits::{MAX_ADDRESSES, MAX_KNOWN_PEERS, MAX_KNOWN_ROOMS};
use crate::base::{NodeId, RoomId};
use crate::engine::friends::SavedFriends;
use crate::identity::IdentityError;
use crate::wire::message::PeerAddress;

const MIGRATIONS: Migrations = &[
    "
    CREATE TABLE ident(
        one INTEGER PRIMARY KEY CHECK(one = 1), key BLOB NOT NULL, boot INTEGER NOT NULL) STRICT;
    CREATE TABLE peer(
        node BLOB PRIMARY KEY, name TEXT NOT NULL, addresses TEXT NOT NULL, saved INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE setting(k TEXT PRIMARY KEY, v TEXT NOT NULL) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE known_room(
        room BLOB PRIMARY KEY, name TEXT NOT NULL, code TEXT NOT NULL, saved INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    friends::SCHEMA,
    "ALTER TABLE known_room ADD COLUMN left_last INTEGER NOT NULL DEFAULT 0;",
];

/// [`MAX_KNOWN_PEERS`] as `SQLite` counts.
const KEPT: u32 = 256;
const _: () = assert!(KEPT as usize == MAX_KNOWN_PEERS);

/// [`MAX_KNOWN_ROOMS`] as `SQLite` counts.
const ROOMS_KEPT: u32 = 64;
const _: () = assert!(ROOMS_KEPT as usize == MAX_KNOWN_ROOMS);

/// Key and start counter, and what happened to the file they were in.
pub(super) struct Ident {
    pub key: Vec<u8>,
    pub boot: u32,
    /// For people, where something did.
    pub notice: Option<String>,
    /// Why the counter is noted in the file `boots` alone: the disk takes nothing new.
    pub trouble: Option<StoreError>,
}

/// The open file.
pub(super) struct NodeFile {
    path: PathBuf,
    conn: Connection,
    /// What `identity.txt` says.
    text: RefCell<IdentityText>,
}

impl NodeFile {
    /// Opens it, makes the key where there is none, and raises the start counter. Where the disk is
    /// full, the file `boots` alone has the counter.
    ///
    /// A damaged file is set aside. The key and the counter are then taken from
    /// `identity.txt`; without it the device goes on as a new one, because a counter that is
    /// too low would name two operations with one number.
    pub fn open(
        path: &Path,
        make_key: impl FnOnce() -> Result<Vec<u8>, IdentityError>,
    ) -> Result<(NodeFile, Ident), StoreError> {
        let mut make_key = Some(make_key);
        match NodeFile::start(path, &mut make_key) {
            Err(error) => {
                let Some(why) = schema::is_lost(&error) else { return Err(error) };
                let is_damaged = matches!(error, StoreError::Corrupt { .. });
                // What the medium does not give back now it may give back later: only where the
                // identity is not lost with it.
                if !is_damaged && IdentityText::read(dir_of(path)).is_none() {
                    return Err(error);
                }
                let aside = schema::set_aside(path)?;
                let (file, mut ident) = NodeFile::start(path, &mut make_key)?;
                let became = ident.notice.unwrap_or_else(|| {
                    "identity.txt could not be used either: this is a new device now".into()
                });
                ident.notice = Some(format!(
                    "node.db was damaged ({why}) and set aside as {}; {became}",
                    aside.display()
                ));
                Ok((file, ident))
            }
            Ok(opened) => Ok(opened),
        }
    }

    fn start(
        path: &Path,
        make_key: &mut Option<impl FnOnce() -> Result<Vec<u8>, IdentityError>>,
    ) -> Result<(NodeFile, Ident), StoreError> {
        let conn = schema::open_even_full(path, MIGRATIONS)?;
        let known: Option<(Vec<u8>, u32)> = conn
            .query_row("SELECT key, boot FROM ident", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(of(path))?;
        let state_dir = dir_of(path);
        let kept = IdentityText::read(state_dir);
        let mut notice = None;
        let (key, boot) = match (known, kept) {
            // The database may be an older one that somebody has put back.
            (Some((key, boot)), Some(kept)) if kept.key == key => (key, boot.max(kept.boot)),
            (Some(known), _) => known,
            (None, Some(kept)) => {
                notice = Some("the identity was restored from identity.txt".into());
                write_intent(&conn, &kept.intent).map_err(of(path))?;
                write_user(&conn, kept.user.as_ref()).map_err(of(path))?;
                (kept.key, kept.boot)
            }
            (None, None) => match make_key.take() {
                Some(make) => (make()?, 0),
                None => return Err(corrupt(path, "its identity could not be made again")),
            },
        };
        let boot = boot.max(boot_file::read(state_dir, &key).unwrap_or(0));
        let boot = boot.checked_add(1).ok_or_else(|| StoreError::NoMoreBoots(path.into()))?;
        let noted = boot_file::write(state_dir, &key, boot);
        // The connection syncs every commit: when this returns, the number is on the disk. One of
        // the two is enough.
        let trouble = write_ident(&conn, &key, boot).map_err(of(path)).err();
        let trouble = match (trouble, noted) {
            (None, Ok(())) => None,
            (None, Err(error)) => {
                warn!(%error, "a start from a full disk would fail");
                None
            }
            (Some(trouble), _) if schema::is_lost(&trouble).is_some() => {
                return Err(trouble);
            }
            (Some(trouble), Ok(())) => Some(trouble),
            (Some(trouble), Err(_)) => return Err(trouble),
        };
        let intent = read_intent(&conn).map_err(of(path))?.unwrap_or_default();
        let user = read_user(&conn).map_err(of(path))?;
        let text = IdentityText { key: key.clone(), boot, intent, user };
        if let Err(error) = text.write(state_dir) {
            warn!(%error, "there is no second copy of this device's identity");
        }
        let file = NodeFile { path: path.into(), conn, text: RefCell::new(text) };
        Ok((file, Ident { key, boot, notice, trouble }))
    }

    /// Writes the start counter once more and waits until the disk has it.
    pub fn probe(&self) -> Result<(), StoreError> {
        let text = self.text.borrow();
        write_ident(&self.conn, &text.key, text.boot).map_err(of(&self.path))
    }

    pub fn peers(&self) -> Result<Vec<PeerAddress>, StoreError> {
        let read = || {
            let sql = "SELECT node, name, addresses FROM peer ORDER BY saved DESC LIMIT ?1";
            let mut statement = self.conn.prepare(sql)?;
            let rows = statement.query_map([KEPT], |row| {
                let addresses: String = row.get(2)?;
                Ok(PeerAddress {
                    node: NodeId(row.get(0)?),
                    name: row.get(1)?,
                    addresses: addresses.split(' ').filter_map(|a| a.parse().ok()).collect(),
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(of(&self.path))
    }

    pub fn save_peer(&self, peer: &PeerAddress) -> Result<(), StoreError> {
        let addresses: Vec<String> =
            peer.addresses.iter().take(MAX_ADDRESSES).map(ToString::to_string).collect();
        let columns = ["node", "name", "addresses"];
        self.put_latest("peer", columns, (&peer.node.0, &peer.name, &addresses.join(" ")), KEPT)
    }

    /// Puts a row into a table of a key, two texts, and when it was saved, and keeps the latest
    /// ones.
    fn put_latest(
        &self,
        table: &str,
        [key, first, second]: [&str; 3],
        row: (&[u8; 32], &str, &str),
        kept: u32,
    ) -> Result<(), StoreError> {
        let write = || {
            let transaction = self.conn.unchecked_transaction()?;
            let insert = format!(
                "INSERT OR REPLACE INTO {table}({key}, {first}, {second}, saved)
                 SELECT ?1, ?2, ?3, coalesce(max(saved), 0) + 1 FROM {table}"
            );
            transaction.execute(&insert, row)?;
            let trim = format!(
                "DELETE FROM {table} WHERE {key} NOT IN
                 (SELECT {key} FROM {table} ORDER BY saved DESC LIMIT ?1)"
            );
            transaction.execute(&trim, [kept])?;
            transaction.commit()
        };
        write().map_err(of(&self.path))
    }

    pub fn intent(&self) -> Result<Intent, StoreError> {
        let text = read_intent(&self.conn).map_err(of(&self.path))?;
        // What is not understood is as good as nothing said.
        Ok(match text.as_deref() {
            Some("alone") => Intent::Alone,
            Some(room) => room.parse().map_or(Intent::Any, Intent::Room),
            None => Intent::Any,
        })
    }

    /// Rooms that the device was in, the latest first.
    pub fn rooms(&self) -> Result<Vec<KnownRoom>, StoreError> {
        let read = || {
            let sql = "SELECT room, name, code, left_last FROM known_room
                       ORDER BY saved DESC LIMIT ?1";
            let mut statement = self.conn.prepare(sql)?;
            let rows = statement.query_map([ROOMS_KEPT], |row| {
                Ok(KnownRoom {
                    id: RoomId(row.get(0)?),
                    name: row.get(1)?,
                    code: row.get(2)?,
                    left_last: row.get(3)?,
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(of(&self.path))
    }

    pub fn save_room(&self, room: &KnownRoom) -> Result<(), StoreError> {
        let columns = ["room", "name", "code"];
        self.put_latest("known_room", columns, (&room.id.0, &room.name, &room.code), ROOMS_KEPT)?;
        // A row that was replaced says no; so does one that a crash leaves here.
        let sql = "UPDATE known_room SET left_last = ?2 WHERE room = ?1";
        self.conn.execute(sql, params![room.id.0, room.left_last]).map(drop).map_err(of(&self.path))
    }

    pub fn forget_room(&self, room: RoomId) -> Result<(), StoreError> {
        let sql = "DELETE FROM known_room WHERE room = ?1";
        self.conn.execute(sql, [room.0]).map(drop).map_err(of(&self.path))
    }

    pub fn user(&self) -> Result<Option<SavedUser>, StoreError> {
        read_user(&self.conn).map_err(of(&self.path))
    }

    pub fn save_user(&self, user: Option<&SavedUser>) -> Result<(), StoreError> {
        write_user(&self.conn, user).map_err(of(&self.path))?;
        let mut kept = self.text.borrow_mut();
        kept.user = user.cloned();
        kept.write(dir_of(&self.path))
    }

    pub fn friends(&self) -> Result<Option<SavedFriends>, StoreError> {
        friends::read(&self.conn).map_err(of(&self.path))
    }

    pub fn save_friends(&self, friends: Option<&SavedFriends>) -> Result<(), StoreError> {
        friends::write(&self.conn, friends).map_err(of(&self.path))
    }

    pub fn save_intent(&self, intent: Intent) -> Result<(), StoreError> {
        let text = match intent {
            Intent::Any => "any".into(),
            Intent::Alone => "alone".into(),
            Intent::Room(room) => room.to_string(),
        };
        write_intent(&self.conn, &text).map_err(of(&self.path))?;
        let mut kept = self.text.borrow_mut();
        kept.intent = text;
        kept.write(dir_of(&self.path))
    }
}

fn write_ident(conn: &Connection, key: &[u8], boot: u32) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO ident VALUES(1, ?1, ?2)";
    conn.execute(sql, params![key, boot]).map(drop)
}

/// The key in hexadecimal, name and display name, a line each.
fn read_user(conn: &Connection) -> rusqlite::Result<Option<SavedUser>> {
    let sql = "SELECT v FROM setting WHERE k = 'user'";
    let text: Option<String> = conn.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(text.and_then(|text| {
        let mut lines = text.lines();
        let key = unhex(lines.next()?)?;
        let (name, display) = (lines.next()?.to_owned(), lines.next().unwrap_or("").to_owned());
        Some(SavedUser { key, name, display })
    }))
}

fn write_user(conn: &Connection, user: Option<&SavedUser>) -> rusqlite::Result<()> {
    let Some(user) = user else {
        return conn.execute("DELETE FROM setting WHERE k = 'user'", []).map(drop);
    };
    let text = format!("{}\n{}\n{}", hex(&user.key), user.name, user.display);
    conn.execute("INSERT OR REPLACE INTO setting VALUES('user', ?1)", [text]).map(drop)
}

fn read_intent(conn: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT v FROM setting WHERE k = 'intent'";
    conn.query_row(sql, [], |row| row.get(0)).optional()
}

fn write_intent(conn: &Connection, intent: &str) -> rusqlite::Result<()> {
    conn.execute("INSERT OR REPLACE INTO setting VALUES('intent', ?1)", [intent]).map(drop)
}
