//! The Unix socket: mode 0660, in a directory that is made with mode 0700 if it is missing.
//!
//! A socket file outlives a daemon that was killed. A lock beside it tells the two cases
//! apart without a race: who holds the lock owns the socket, and the kernel lets go of a lock
//! when its process dies.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// What keeps the interface from being offered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The socket is in use.
    #[error(
        "another daemon answers on {}; stop it, or give this one a place of its own with --socket",
        .0.display()
    )]
    Taken(PathBuf),
    /// Something else lies where the socket should be.
    #[error("{} is there and is no socket; remove it, or choose another place with --socket", .0.display())]
    NoSocket(PathBuf),
    /// The system does not let us.
    #[error("cannot listen on {}: {error}; choose another place with --socket", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// The system ended it.
    #[error("cannot answer requests any more: {0}")]
    Serve(io::Error),
}

/// A socket that this process owns. Dropping it removes the socket.
#[derive(Debug)]
pub struct Listening {
    socket: UnixListener,
    path: PathBuf,
    /// Held as long as the socket is ours.
    _lock: File,
}

impl Listening {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn socket(&self) -> &UnixListener {
        &self.socket
    }

    pub(super) fn socket_mut(&mut self) -> &mut UnixListener {
        &mut self.socket
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket was gone already");
        }
    }
}

/// Takes the socket at `path`, replacing one that a dead daemon left.
///
/// # Errors
///
/// [`ApiError::Taken`] if a living daemon has it; otherwise what the system says.
pub async fn listen(path: &Path) -> Result<Listening, ApiError> {
    let fail = |error| ApiError::Listen { path: path.to_owned(), error };
    make_directory(path).map_err(fail)?;
    // Before the lock, so that what is refused gets no file of ours beside it.
    look(path).await?;
    let lock = take_lock(path)?;
    if look(path).await? == There::Stale {
        tracing::info!(path = %path.display(), "replacing the socket of a dead daemon");
        std::fs::remove_file(path).map_err(fail)?;
    }
    let socket = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(fail)?;
    tracing::debug!(path = %path.display(), "listening for people and programs");
    Ok(Listening { socket, path: path.to_owned(), _lock: lock })
}

fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() && !directory.exists() => {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)
        }
        _ => Ok(()),
    }
}

fn take_lock(path: &Path) -> Result<File, ApiError> {
    let fail = |error| ApiError::Listen { path: path.to_owned(), error };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let lock = File::options().create(true).append(true).open(beside).map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ApiError::Taken(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// What is where the socket should be, if nothing forbids to put it there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum There {
    /// Nothing.
    Free,
    /// A socket at which nobody answers: left over, once the lock is ours.
    Stale,
}

async fn look(path: &Path) -> Result<There, ApiError> {
    let fail = |error| ApiError::Listen { path: path.to_owned(), error };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(There::Free),
        Err(error) => return Err(fail(error)),
        Ok(entry) if !entry.file_type().is_socket() => {
            return Err(ApiError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Ok(There::Stale),
            // Its daemon has just stopped.
            io::ErrorKind::NotFound => Ok(There::Free),
            _ => Err(fail(error)),
        },
        Ok(_) => Err(ApiError::Taken(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_living_daemon_is_named_and_a_dead_one_replaced() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("deep/er/groovebox.sock");
        let first = listen(&path).await.expect("free");
        let refused = listen(&path).await.expect_err("taken").to_string();
        assert!(refused.starts_with("another daemon answers on "), "{refused}");
        drop(first);
        assert!(!path.exists(), "a daemon that stops takes its socket along");

        drop(std::os::unix::net::UnixListener::bind(&path).expect("free"));
        assert!(path.exists(), "a daemon that is killed leaves it");
        listen(&path).await.expect("replaced");
    }

    #[tokio::test]
    async fn only_the_owner_and_the_group_may_connect() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("own/groovebox.sock");
        let _listening = listen(&path).await.expect("free");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o660);
        assert_eq!(mode(path.parent().expect("a parent")), 0o700);
    }

    #[tokio::test]
    async fn what_is_not_ours_is_left_alone_and_gets_nothing_beside_it() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("notes.txt");
        std::fs::write(&path, "keep me").expect("writable");
        let refused = listen(&path).await.expect_err("no socket");
        assert!(matches!(refused, ApiError::NoSocket(_)), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "keep me");

        let socket = place.path().join("other.sock");
        let _other = std::os::unix::net::UnixListener::bind(&socket).expect("free");
        let refused = listen(&socket).await.expect_err("somebody answers");
        assert!(matches!(refused, ApiError::Taken(_)), "{refused}");
        let left = place.path().read_dir().expect("readable").count();
        assert_eq!(left, 2, "what is refused leaves nothing beside what was there");
    }
}
