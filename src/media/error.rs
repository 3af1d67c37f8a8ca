//! What goes wrong with files and blobs, by what the caller can do about it.

use std::io;
use std::path::Path;

use crate::base::BlobHash;
use crate::base::limits::MAX_BLOB;
use crate::wire::{Refusal, RefusalCode};

/// What to do about a path at which there is nothing.
pub const CHECK_THE_PATH: &str = "check the spelling of the path";

/// Why a file cannot be taken in, or a blob not be read, written or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// There is nothing at this path.
    #[error("there is no file or folder {0:?}")]
    NotFound(String),
    /// The daemon may not read it.
    #[error("no permission to read {0:?}")]
    Denied(String),
    /// A folder in which nothing can be played.
    #[error("{0:?} contains no file that can be played")]
    NothingToPlay(String),
    /// A file of another kind; `found` says which.
    #[error("{name:?} cannot be played: it is {found}")]
    Unsupported {
        /// The file.
        name: String,
        /// What it is, with its article.
        found: String,
    },
    /// A file of a right kind that does not decode.
    #[error("{name:?} is damaged: {why}")]
    Broken {
        /// The file.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// More bytes than a blob may have.
    #[error("{name:?} has {size} bytes, more than the {MAX_BLOB} that are allowed")]
    TooLarge {
        /// The file or blob.
        name: String,
        /// Its bytes.
        size: u64,
    },
    /// The disk of the cache has no room.
    #[error("the disk that holds the music cache is full")]
    DiskFull,
    /// Bytes that do not belong to the blob they were sent for.
    #[error("piece {piece} of {hash:?} does not match its hash")]
    Corrupt {
        /// The blob.
        hash: BlobHash,
        /// The piece.
        piece: u32,
    },
    /// A file is not as it was when it was read.
    #[error("{0:?} has changed since it was read")]
    Changed(String),
    /// A blob or a piece of it that is not here.
    #[error("piece {piece} of {hash:?} is not here")]
    Missing {
        /// The blob.
        hash: BlobHash,
        /// The piece.
        piece: u32,
    },
    /// The reader was told to stop.
    #[error("stopped")]
    Stopped,
    /// The operating system refuses for another reason.
    #[error("{what}: {why}")]
    Io {
        /// What was being done.
        what: String,
        /// What it said.
        why: String,
    },
}

impl MediaError {
    /// What to answer to whoever asked for it.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        use RefusalCode as Code;
        let (code, hint) = match self {
            MediaError::NotFound(_) => (Code::NotFound, CHECK_THE_PATH),
            MediaError::Denied(_) => (
                Code::NotAllowed,
                "the daemon reads files as its own user: give it the right to, or put the music \
                 where everybody may read it, in /srv/music for example",
            ),
            MediaError::NothingToPlay(_) => {
                (Code::NotFound, "name a folder with FLAC, WAV, AIFF, MP3, M4A, Ogg or Opus files")
            }
            MediaError::Unsupported { .. } => (
                Code::UnsupportedMedia,
                "FLAC, WAV, AIFF, MP3, M4A, Ogg and Opus are played; other music can be converted, for \
                 example with ffmpeg",
            ),
            MediaError::Broken { .. } => {
                (Code::UnsupportedMedia, "try it in another player, or get another copy")
            }
            MediaError::TooLarge { .. } => {
                (Code::UnsupportedMedia, "split it into tracks, or encode it as FLAC")
            }
            MediaError::DiskFull => {
                (Code::UpdateFailed, "free some space, or move the cache with --cache-dir")
            }
            MediaError::Changed(_) => (Code::NotFound, "add it again"),
            MediaError::Corrupt { .. } | MediaError::Missing { .. } => {
                (Code::NotFound, "add the track again from a device that has the file")
            }
            MediaError::Stopped => (Code::UpdateFailed, "try again"),
            MediaError::Io { .. } => (Code::Internal, "check the path, and the disk that it is on"),
        };
        Refusal::new(code, self.to_string(), hint)
    }

    /// An error of the operating system about `path`.
    pub(super) fn at(path: &Path, error: &io::Error) -> MediaError {
        let name = path.display().to_string();
        match error.kind() {
            io::ErrorKind::NotFound => MediaError::NotFound(name),
            io::ErrorKind::PermissionDenied => MediaError::Denied(name),
            _ => MediaError::doing(&name, error),
        }
    }

    /// An error of the operating system while doing `what`.
    pub(super) fn doing(what: &str, error: &io::Error) -> MediaError {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => MediaError::DiskFull,
            _ => MediaError::Io { what: what.to_owned(), why: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_happened_and_what_to_do() {
        let error =
            MediaError::Unsupported { name: "a.wma".into(), found: "a Windows Media file".into() };
        let refusal = error.refusal();
        assert_eq!(refusal.code, RefusalCode::UnsupportedMedia);
        assert!(refusal.message.contains("a.wma") && refusal.message.contains("Windows"));
        assert!(!refusal.hint.is_empty());
    }

    #[test]
    fn a_full_disk_is_told_from_other_trouble() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(MediaError::doing("write", &full), MediaError::DiskFull);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(MediaError::at(Path::new("/x"), &denied), MediaError::Denied("/x".into()));
    }
}
