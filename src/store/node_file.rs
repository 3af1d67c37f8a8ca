//! `node.db`: who this device is and whom it knows. Written rarely, synced at every commit.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use tracing::error;

use super::schema::{self, Migrations, of};
use super::{Intent, StoreError, corrupt};
use crate::base::NodeId;
use crate::base::limits::{MAX_ADDRESSES, MAX_KNOWN_PEERS};
use crate::identity::IdentityError;
use crate::wire::message::PeerAddress;

const MIGRATIONS: Migrations = &["
    CREATE TABLE ident(
        one INTEGER PRIMARY KEY CHECK(one = 1), key BLOB NOT NULL, boot INTEGER NOT NULL) STRICT;
    CREATE TABLE peer(
        node BLOB PRIMARY KEY, name TEXT NOT NULL, addresses TEXT NOT NULL, saved INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE setting(k TEXT PRIMARY KEY, v TEXT NOT NULL) STRICT, WITHOUT ROWID;
"];

/// [`MAX_KNOWN_PEERS`] as `SQLite` counts.
const KEPT: u32 = 256;
const _: () = assert!(KEPT as usize == MAX_KNOWN_PEERS);

/// Key and start counter.
pub(super) struct Ident {
    pub key: Vec<u8>,
    pub boot: u32,
}

/// The open file.
pub(super) struct NodeFile {
    path: PathBuf,
    conn: Connection,
}

impl NodeFile {
    /// Opens it, makes the key where there is none, and raises the start counter.
    ///
    /// A damaged file is set aside. The key in it is not used again: its start counter may
    /// be too low, and a number used twice would name two operations.
    pub fn open(
        path: &Path,
        make_key: impl FnOnce() -> Result<Vec<u8>, IdentityError>,
    ) -> Result<(NodeFile, Ident), StoreError> {
        let mut make_key = Some(make_key);
        match NodeFile::start(path, &mut make_key) {
            Err(StoreError::Corrupt { why, .. }) => {
                let aside = schema::set_aside(path)?;
                error!(%why, aside = %aside.display(),
                    "the file of this device's identity is damaged and was set aside; \
                     it goes on as a new device");
                NodeFile::start(path, &mut make_key)
            }
            other => other,
        }
    }

    fn start(
        path: &Path,
        make_key: &mut Option<impl FnOnce() -> Result<Vec<u8>, IdentityError>>,
    ) -> Result<(NodeFile, Ident), StoreError> {
        let conn = schema::open(path, MIGRATIONS)?;
        let file = NodeFile { path: path.into(), conn };
        let known = file
            .conn
            .query_row("SELECT key, boot FROM ident", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(of(path))?;
        let (key, boot): (Vec<u8>, u32) = match (known, make_key.take()) {
            (Some(known), unused) => {
                *make_key = unused;
                known
            }
            (None, Some(make)) => (make()?, 0),
            (None, None) => return Err(corrupt(path, "its identity could not be made again")),
        };
        let boot = boot.checked_add(1).ok_or_else(|| StoreError::NoMoreBoots(path.into()))?;
        // The connection syncs every commit: when this returns, the number is on the disk.
        file.conn
            .execute("INSERT OR REPLACE INTO ident VALUES(1, ?1, ?2)", params![key, boot])
            .map_err(of(path))?;
        Ok((file, Ident { key, boot }))
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
        let write = || {
            let transaction = self.conn.unchecked_transaction()?;
            transaction.execute(
                "INSERT OR REPLACE INTO peer
                 SELECT ?1, ?2, ?3, coalesce(max(saved), 0) + 1 FROM peer",
                params![peer.node.0, peer.name, addresses.join(" ")],
            )?;
            transaction.execute(
                "DELETE FROM peer WHERE node NOT IN
                 (SELECT node FROM peer ORDER BY saved DESC LIMIT ?1)",
                [KEPT],
            )?;
            transaction.commit()
        };
        write().map_err(of(&self.path))
    }

    pub fn intent(&self) -> Result<Intent, StoreError> {
        let text: Option<String> = self
            .conn
            .query_row("SELECT v FROM setting WHERE k = 'intent'", [], |row| row.get(0))
            .optional()
            .map_err(of(&self.path))?;
        // What is not understood is as good as nothing said.
        Ok(match text.as_deref() {
            Some("alone") => Intent::Alone,
            Some(room) => room.parse().map_or(Intent::Any, Intent::Room),
            None => Intent::Any,
        })
    }

    pub fn save_intent(&self, intent: Intent) -> Result<(), StoreError> {
        let text = match intent {
            Intent::Any => "any".into(),
            Intent::Alone => "alone".into(),
            Intent::Room(room) => room.to_string(),
        };
        let saved =
            self.conn.execute("INSERT OR REPLACE INTO setting VALUES('intent', ?1)", [text]);
        saved.map(drop).map_err(of(&self.path))
    }
}
