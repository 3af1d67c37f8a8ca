//! How the disk is doing, to be asked at any moment: the answer never waits behind what the disk
//! is to write.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::ErrorCode;

use super::StoreError;
use crate::engine::status::DiskState;

/// A commit that takes longer is one of a disk that should not be waited for. Cards of small
/// computers stall for a second now and then; nobody hears that.
const SLOW_AFTER: Duration = Duration::from_secs(2);

const WELL: u8 = 0;
const FULL: u8 = 1;
const FAILED: u8 = 2;

/// Written by the thread and by whoever enqueues.
#[derive(Debug, Default)]
pub(super) struct Health {
    trouble: AtomicU8,
    /// Something found no place in the queue, and is missing in the file since.
    overrun: AtomicBool,
    /// Since when the thread waits for the disk.
    busy: Mutex<Option<Instant>>,
}

impl Health {
    pub fn state(&self) -> DiskState {
        match self.trouble.load(Ordering::Relaxed) {
            FULL => DiskState::Full,
            FAILED => DiskState::Failed,
            _ if self.is_overrun() || self.is_stuck() => DiskState::Slow,
            _ => DiskState::Ok,
        }
    }

    pub fn set_trouble(&self, state: DiskState) {
        let number = match state {
            DiskState::Full => FULL,
            DiskState::Failed => FAILED,
            DiskState::Ok | DiskState::Slow => WELL,
        };
        self.trouble.store(number, Ordering::Relaxed);
    }

    pub fn overran(&self) {
        self.overrun.store(true, Ordering::Relaxed);
    }

    pub fn is_overrun(&self) -> bool {
        self.overrun.load(Ordering::Relaxed)
    }

    /// Whether something was missing; from now on nothing is.
    pub fn caught_up(&self) -> bool {
        self.overrun.swap(false, Ordering::Relaxed)
    }

    pub fn begin(&self) {
        *self.busy() = Some(Instant::now());
    }

    pub fn end(&self) {
        *self.busy() = None;
    }

    fn is_stuck(&self) -> bool {
        self.busy().is_some_and(|since| since.elapsed() > SLOW_AFTER)
    }

    fn busy(&self) -> MutexGuard<'_, Option<Instant>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Space that the index of a journal needs, and some more.
const LITTLE: u64 = 64 * 1024;

/// Whether a full disk is behind an error, or something worse.
pub(super) fn diagnosis(error: &StoreError, dir: &Path) -> DiskState {
    let full = match error {
        StoreError::Sqlite { source, .. } => {
            source.sqlite_error_code() == Some(ErrorCode::DiskFull)
        }
        StoreError::Io { source, .. } => {
            matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        }
        _ => false,
    };
    // Where the journal's index finds no space, all that is said is "I/O error".
    if full || has_no_space(dir) { DiskState::Full } else { DiskState::Failed }
}

fn has_no_space(dir: &Path) -> bool {
    let left = |fs: &rustix::fs::StatVfs| fs.f_bavail.saturating_mul(fs.f_frsize);
    rustix::fs::statvfs(dir).is_ok_and(|fs| fs.f_blocks > 0 && left(&fs) < LITTLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let here = Path::new("/");
        let sqlite = |code| StoreError::Sqlite {
            path: here.into(),
            source: rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None),
        };
        let io = |kind: ErrorKind| StoreError::Io {
            doing: "write",
            path: here.into(),
            source: kind.into(),
        };
        assert_eq!(diagnosis(&sqlite(rusqlite::ffi::SQLITE_FULL), here), DiskState::Full);
        assert_eq!(diagnosis(&sqlite(rusqlite::ffi::SQLITE_IOERR), here), DiskState::Failed);
        assert_eq!(diagnosis(&io(ErrorKind::StorageFull), here), DiskState::Full);
        assert_eq!(diagnosis(&io(ErrorKind::PermissionDenied), here), DiskState::Failed);
    }

    #[test]
    fn trouble_outweighs_slowness_and_both_end() {
        let health = Health::default();
        assert_eq!(health.state(), DiskState::Ok);
        health.overran();
        assert_eq!(health.state(), DiskState::Slow);
        health.set_trouble(DiskState::Failed);
        assert_eq!(health.state(), DiskState::Failed);
        health.set_trouble(DiskState::Ok);
        assert!(health.caught_up() && !health.caught_up());
        *health.busy() = Instant::now().checked_sub(SLOW_AFTER + Duration::from_secs(1));
        assert_eq!(health.state(), DiskState::Slow);
        health.end();
        assert_eq!(health.state(), DiskState::Ok);
    }
}
