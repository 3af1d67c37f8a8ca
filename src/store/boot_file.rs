//! `boots`: the start counter once more, in a file that never needs space. It has its blocks from
//! the first start on and is overwritten in place, so that a device whose disk is full can still
//! note that a number is used before it speaks.
//!
//! ```text
//!  0     "boot 0000000016 of 9f86d081884c7d65 check 2c26b46b68ffc68f\n"     even numbers
//!  512   "boot 0000000017 of 9f86d081884c7d65 check fcde2b2edba56bf4\n"     odd numbers
//! ```
//!
//! Of the two a power cut can tear only the one that was being written: its number has not been
//! used yet. On a file system that never writes in place, and is full, the write fails; then this
//! file promises nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::ids::hex;

/// A sector, which a disk writes as a whole.
const SLOT: u64 = 512;

/// Bytes of a line.
const LINE: usize = 59;

/// Both slots, in one block of the file system.
const LEN: usize = 4096;

/// The highest number noted of that key; none where there is none.
pub(super) fn read(state_dir: &Path, key: &[u8]) -> Option<u32> {
    let file = File::open(path(state_dir)).ok()?;
    let noted = [0, SLOT].into_iter().filter_map(|at| {
        let mut line = [0; LINE];
        file.read_exact_at(&mut line, at).ok()?;
        let boot: u32 = std::str::from_utf8(&line).ok()?.get(5..15)?.parse().ok()?;
        (line_of(boot, key).as_bytes() == line).then_some(boot)
    });
    noted.max()
}

/// Notes that a number is used from now on. When this returns, the disk has it.
pub(super) fn write(state_dir: &Path, key: &[u8], boot: u32) -> io::Result<()> {
    let file = open(state_dir)?;
    file.write_all_at(line_of(boot, key).as_bytes(), SLOT * u64::from(boot % 2))?;
    file.sync_all()
}

fn open(state_dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.open(path(state_dir)) {
        Ok(file) if file.metadata()?.len() == LEN as u64 => return Ok(file),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = options.create(true).truncate(true).mode(0o600).open(path(state_dir))?;
    file.write_all_at(&[b'\n'; LEN], 0)?;
    file.sync_all()?;
    File::open(state_dir)?.sync_all()?;
    Ok(file)
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("boots")
}

/// Of one key, so that a device with a new one does not go on from an old number.
fn line_of(boot: u32, key: &[u8]) -> String {
    let digits = |bytes: &[u8]| hex(&blake3::hash(bytes).as_bytes()[..8]);
    let body = format!("boot {boot:010} of {}", digits(key));
    format!("{body} check {}\n", digits(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_number_leaves_the_one_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        assert_eq!(line_of(u32::MAX, b"key").len(), LINE);
        assert_eq!(read(dir, b"key"), None);
        for boot in 1..5 {
            write(dir, b"key", boot).expect("written");
            assert_eq!((read(dir, b"key"), read(dir, b"other")), (Some(boot), None));
        }
        let whole = std::fs::read(path(dir)).expect("there");
        write(dir, b"key", 5).expect("written");
        let new = std::fs::read(path(dir)).expect("there");
        for cut in 0..whole.len() {
            let torn = [&new[..cut], &whole[cut..]].concat();
            std::fs::write(path(dir), torn).expect("written");
            let found = read(dir, b"key");
            assert!(found == Some(4) || (found == Some(5) && cut >= 512), "{cut}: {found:?}");
        }
        std::fs::write(path(dir), "cut short").expect("written");
        assert_eq!(read(dir, b"key"), None);
        write(dir, b"key", 9).expect("made anew");
        assert_eq!(read(dir, b"key"), Some(9));
    }
}
