//! Where a file of this device's owner has the bytes of a blob.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::MediaError;

/// Longest text of a reference that is read: a path has 4,096 bytes at most.
const MAX_TEXT: u64 = 8192;

/// A file, and how it was when it was read. Device and inode are left out: they may be others
/// after a disk was mounted again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// From the root on.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Time of its last change: seconds and ns.
    modified: (i64, i64),
}

/// What became of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// It is as it was.
    There,
    /// It is another one, or was removed.
    Changed,
    /// It cannot be reached, and may be again.
    Away,
}

impl Reference {
    /// To the file as it is now. The path is made absolute.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn to(path: &Path) -> io::Result<Reference> {
        let path = path.canonicalize()?;
        let about = fs::metadata(&path)?;
        Ok(Reference { path, size: about.size(), modified: modified(&about) })
    }

    /// Whether the file is there and has not changed.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.look() == Found::There
    }

    /// Looks for the file. That may take long where it lies on another machine.
    #[must_use]
    pub fn look(&self) -> Found {
        match fs::metadata(&self.path) {
            Ok(about) if self.is_of(&about) => Found::There,
            Ok(_) => Found::Changed,
            // Beside others that are there it has been removed. Where its folder is missing or empty,
            // or nothing can be read, a disk may not be mounted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut beside = self.path.parent().and_then(|folder| fs::read_dir(folder).ok());
                match beside.as_mut().and_then(Iterator::next) {
                    Some(_) => Found::Changed,
                    None => Found::Away,
                }
            }
            Err(_) => Found::Away,
        }
    }

    /// Opens the file, if it has not changed.
    ///
    /// # Errors
    ///
    /// When it has changed, is gone or cannot be read.
    pub fn open(&self) -> Result<File, MediaError> {
        let file = File::open(&self.path).map_err(|e| MediaError::at(&self.path, &e))?;
        match file.metadata() {
            Ok(about) if self.is_of(&about) => Ok(file),
            _ => Err(MediaError::Changed(self.path.display().to_string())),
        }
    }

    fn is_of(&self, about: &Metadata) -> bool {
        about.is_file() && about.size() == self.size && modified(about) == self.modified
    }

    /// A line of numbers, then the path as the system has it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, to: &Path) -> io::Result<()> {
        let (seconds, ns) = self.modified;
        let line = format!("{} {seconds} {ns}\n", self.size);
        fs::write(to, [line.as_bytes(), self.path.as_os_str().as_bytes()].concat())
    }

    /// What [`Reference::write`] has written; none if it is anything else.
    #[must_use]
    pub fn read(from: &Path) -> Option<Reference> {
        if fs::metadata(from).ok()?.len() > MAX_TEXT {
            return None;
        }
        let text = fs::read(from).ok()?;
        let end = text.iter().position(|byte| *byte == b'\n')?;
        let mut numbers = std::str::from_utf8(&text[..end]).ok()?.split(' ');
        let size = numbers.next()?.parse().ok()?;
        let modified = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        let path = PathBuf::from(OsString::from_vec(text[end + 1..].to_vec()));
        path.is_absolute().then_some(Reference { path, size, modified })
    }
}

fn modified(about: &Metadata) -> (i64, i64) {
    (about.mtime(), about.mtime_nsec())
}
