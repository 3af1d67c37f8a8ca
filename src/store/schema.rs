//! How every file is opened: permissions, pragmas, schema version, damage.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tracing::info;

use super::{StoreError, corrupt, health};
use crate::engine::status::DiskState;

/// Damaged files of one name that are kept; further ones replace the last.
const MAX_ASIDE: u32 = 10;

/// Larger files are migrated without a backup beside them.
const BACKED_UP_BELOW: i64 = 64 * 1024 * 1024;

/// How long a reader and the writer wait for each other.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// When a commit is synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Synchronous {
    /// At checkpoints only.
    Normal,
    /// At once.
    Full,
}

/// Each step raises `user_version` by one, in a transaction of its own. Steps are only ever
/// added at the end.
pub(super) type Migrations = &'static [&'static str];

/// Opens a file, makes it where it is missing, and brings it to the latest schema.
pub(super) fn open(path: &Path, migrations: Migrations) -> Result<Connection, StoreError> {
    make_private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(of(path))?;
    // Before anything that writes: a later version's file stays as it is.
    let version = version(&conn, path)?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if version > known {
        return Err(StoreError::Newer { path: path.into(), found: version, known });
    }
    set_pragmas(&conn).map_err(of(path))?;
    check(&conn, path)?;
    if version > 0 && version < known {
        back_up(&conn, path, version)?;
    }
    for (step, sql) in (1_i64..).zip(migrations).filter(|(step, _)| *step > version) {
        let sql = format!("BEGIN; {sql} PRAGMA user_version = {step}; COMMIT;");
        conn.execute_batch(&sql).map_err(of(path))?;
    }
    Ok(conn)
}

/// As [`open`], and where that needs space that a full disk does not have, without: what is in the
/// file can be read then. Nobody else can open it at the same time.
pub(super) fn open_even_full(
    path: &Path,
    migrations: Migrations,
) -> Result<Connection, StoreError> {
    match open(path, migrations) {
        Err(error)
            if path.exists() && health::diagnosis(&error, dir_of(path)) == DiskState::Full =>
        {
            // A file of an earlier version cannot be brought up to date now.
            open_alone(path, migrations).or(Err(error))
        }
        other => other,
    }
}

/// The index of the journal is kept in memory where no other process has to see it.
fn open_alone(path: &Path, migrations: Migrations) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(of(path))?;
    conn.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(of(path))?;
    let version = version(&conn, path)?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if version != known {
        return Err(StoreError::Newer { path: path.into(), found: version, known });
    }
    set_pragmas(&conn).map_err(of(path))?;
    check(&conn, path)?;
    Ok(conn)
}

/// Keeps the file as it was before its schema changes: whoever goes back to an earlier version
/// of the program puts it in its place. A file that is too large for a card is changed without.
fn back_up(conn: &Connection, path: &Path, version: i64) -> Result<(), StoreError> {
    let number = |pragma| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (pages, page) = (number("page_count"), number("page_size"));
    let bytes = pages.map_err(of(path))?.saturating_mul(page.map_err(of(path))?);
    if bytes >= BACKED_UP_BELOW {
        return Ok(());
    }
    let backup = backup_path(path, version);
    // One left by an attempt that was cut off may be cut off itself.
    let _ = std::fs::remove_file(&backup);
    make_private(&backup)?;
    let to = backup.to_string_lossy();
    conn.execute("VACUUM INTO ?1", [&to]).map_err(of(path))?;
    let synced = File::open(&backup).and_then(|file| file.sync_all());
    synced.map_err(|source| StoreError::Io { doing: "sync", path: backup.clone(), source })?;
    info!(backup = %backup.display(), "a file of an earlier version is brought up to date");
    Ok(())
}

/// The file as an earlier version of the program left it.
pub(super) fn backup_path(path: &Path, version: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{version}"));
    PathBuf::from(name)
}

/// Turns `SQLite`'s error into ours.
pub(super) fn of(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            corrupt(path, source.to_string())
        }
        _ => StoreError::Sqlite { path: path.into(), source },
    }
}

/// What the medium does not give back. A refused write is another thing: what is there is sound.
const UNREADABLE: [i32; 4] = [
    rusqlite::ffi::SQLITE_IOERR_READ,
    rusqlite::ffi::SQLITE_IOERR_SHORT_READ,
    rusqlite::ffi::SQLITE_IOERR_CORRUPTFS,
    rusqlite::ffi::SQLITE_IOERR_DATA,
];

/// Why a file cannot be used, where that is the file's own fault: it is damaged, or the medium
/// does not give it back.
pub(super) fn is_lost(error: &StoreError) -> Option<String> {
    match error {
        StoreError::Corrupt { why, .. } => Some(why.clone()),
        StoreError::Sqlite { source, .. } => {
            let code = source.sqlite_error()?.extended_code;
            UNREADABLE.contains(&code).then(|| source.to_string())
        }
        _ => None,
    }
}

pub(super) fn set_synchronous(conn: &Connection, how: Synchronous) -> rusqlite::Result<()> {
    let value = match how {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    conn.pragma_update(None, "synchronous", value)
}

/// The journal files that `SQLite` makes beside the file inherit its permissions.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let io = |doing| move |source| StoreError::Io { doing, path: path.into(), source };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(io("open"))?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(io("protect"))?;
    // The name of a new file survives a power cut once its directory is synced.
    let dir = dir_of(path);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync the directory of"))
}

pub(super) fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn version(conn: &Connection, path: &Path) -> Result<i64, StoreError> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(of(path))
}

fn set_pragmas(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // An error of the medium must be an error, not a signal: no memory mapping.
    conn.pragma_update(None, "mmap_size", 0)?;
    // In KiB. The whole of a room's file is a few MiB.
    conn.pragma_update(None, "cache_size", -2048)?;
    conn.pragma_update(None, "wal_autocheckpoint", 512)?;
    conn.pragma_update(None, "journal_size_limit", 4 * 1024 * 1024)?;
    set_synchronous(conn, Synchronous::Full)
}

fn check(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let verdict: String =
        conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(of(path))?;
    if verdict == "ok" { Ok(()) } else { Err(corrupt(path, verdict)) }
}

/// Renames a damaged file and its journals, so that somebody can look at them, and returns
/// the new name.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let named = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let numbered = |n: u32| named(format!(".corrupt-{n}"));
    let aside = (1..MAX_ASIDE).map(numbered).find(|aside| !aside.exists());
    let aside = aside.unwrap_or_else(|| numbered(MAX_ASIDE));
    for journal in ["-wal", "-shm"] {
        let mut to = aside.as_os_str().to_owned();
        to.push(journal);
        // Not every file has them.
        let _ = std::fs::rename(named(journal.into()), to);
    }
    std::fs::rename(path, &aside).map_err(|source| StoreError::Io {
        doing: "set aside",
        path: path.into(),
        source,
    })?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_lost_and_what_cannot_be_written_is_not() {
        let failed = |code| StoreError::Sqlite {
            path: "/".into(),
            source: rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None),
        };
        assert!(is_lost(&corrupt(Path::new("/"), "torn")).is_some());
        assert!(is_lost(&failed(rusqlite::ffi::SQLITE_IOERR_READ)).is_some());
        for code in [
            rusqlite::ffi::SQLITE_IOERR_WRITE,
            rusqlite::ffi::SQLITE_IOERR_FSYNC,
            rusqlite::ffi::SQLITE_IOERR_SHMSIZE,
            rusqlite::ffi::SQLITE_FULL,
            rusqlite::ffi::SQLITE_CANTOPEN,
        ] {
            assert!(is_lost(&failed(code)).is_none(), "{code}");
        }
    }
}
