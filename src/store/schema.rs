//! How every file is opened: permissions, pragmas, schema version, damage.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{StoreError, corrupt};

/// Damaged files of one name that are kept; further ones replace the last.
const MAX_ASIDE: u32 = 10;

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
    for (step, sql) in (1_i64..).zip(migrations).filter(|(step, _)| *step > version) {
        let sql = format!("BEGIN; {sql} PRAGMA user_version = {step}; COMMIT;");
        conn.execute_batch(&sql).map_err(of(path))?;
    }
    Ok(conn)
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
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync the directory of"))
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
