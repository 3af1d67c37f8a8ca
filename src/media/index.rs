//! `media.db` in the cache directory: which files were read, and what was found in them, so that
//! a file is not read and hashed again after a restart.
//!
//! Nothing depends on it: what it does not know is read again, and a file that cannot be used,
//! or is of another version, is removed and begun anew.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::library::FileMark;
use crate::wire::Track;

/// Files that are known again; a few hundred bytes each.
const MAX_KNOWN_FILES: u32 = 4096;

const VERSION: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE file(
        n INTEGER PRIMARY KEY AUTOINCREMENT, mark BLOB NOT NULL UNIQUE, track TEXT NOT NULL) STRICT;
    PRAGMA user_version = 2;
";

/// The open file. Without one nothing is remembered.
#[derive(Debug)]
pub(super) struct Index {
    conn: Option<Mutex<Connection>>,
}

impl Index {
    pub fn open(cache_dir: &Path) -> Index {
        let path = cache_dir.join("media.db");
        let conn = open(&path).or_else(|error| {
            tracing::info!(%error, "the index of the music cache cannot be used; beginning anew");
            for ending in ["db", "db-wal", "db-shm"] {
                let _ = std::fs::remove_file(path.with_extension(ending));
            }
            open(&path)
        });
        let conn = conn.inspect_err(|error| {
            tracing::warn!(%error, "files will be read again after a restart");
        });
        Index { conn: conn.ok().map(Mutex::new) }
    }

    /// The track that was found in a file with this mark.
    pub fn recall(&self, mark: &FileMark) -> Option<Track> {
        let conn = self.conn.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let sql = "SELECT track FROM file WHERE mark = ?1";
        let found = conn.query_row(sql, [mark.bytes()], |row| row.get::<_, String>(0)).optional();
        serde_json::from_str(&found.ok()??).ok()
    }

    pub fn remember(&self, mark: &FileMark, track: &Track) {
        let Some(conn) = &self.conn else { return };
        let conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
        let write = || {
            let text = serde_json::to_string(track)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            let transaction = conn.unchecked_transaction()?;
            transaction.execute(
                "INSERT OR REPLACE INTO file(mark, track) VALUES(?1, ?2)",
                params![mark.bytes(), text],
            )?;
            transaction.execute(
                "DELETE FROM file WHERE n <= (SELECT n FROM file ORDER BY n DESC LIMIT 1 OFFSET ?1)",
                [MAX_KNOWN_FILES],
            )?;
            transaction.commit()
        };
        if let Err(error) = write() {
            tracing::debug!(%error, "a file is not remembered");
        }
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(Duration::from_secs(2))?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // What a power cut takes is read again.
    conn.pragma_update(None, "synchronous", "NORMAL")?;
    // An error of the medium must be an error, not a signal: no memory mapping.
    conn.pragma_update(None, "mmap_size", 0)?;
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match (verdict.as_str(), version) {
        ("ok", 0) => conn.execute_batch(SCHEMA)?,
        ("ok", VERSION) => {}
        _ => return Err(rusqlite::Error::InvalidQuery),
    }
    Ok(conn)
}
