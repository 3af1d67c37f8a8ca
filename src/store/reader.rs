//! Reads rooms' files beside the writer, from any thread. Waits for the disk.

use std::path::PathBuf;

use rusqlite::{Connection, OpenFlags};

use super::schema::{self, of};
use super::{
    ChatRow, HistoryRow, LoadedRoom, StoreError, chat, history, log, room_file, room_path,
};
use crate::base::RoomId;
use crate::wire::op::Entry;

/// Reads what the writer has written.
#[derive(Clone, Debug)]
pub struct RoomReader {
    pub(super) rooms: PathBuf,
}

impl RoomReader {
    /// The last `at_most` entries before index `before` that the file has, oldest first.
    ///
    /// # Errors
    ///
    /// When the room's file cannot be read.
    pub fn log(&self, room: RoomId, before: u64, at_most: usize) -> Result<Vec<Entry>, StoreError> {
        self.read(room, |conn| log::read(conn, before, at_most))
    }

    /// As [`Store::history`](super::Store::history).
    ///
    /// # Errors
    ///
    /// When the room's file cannot be read.
    pub fn history(&self, room: RoomId, at_most: usize) -> Result<Vec<HistoryRow>, StoreError> {
        self.read(room, |conn| history::read_any_version(conn, at_most))
    }

    /// What was said in a room, oldest first.
    ///
    /// # Errors
    ///
    /// When the room's file cannot be read.
    pub fn chat(&self, room: RoomId, at_most: usize) -> Result<Vec<ChatRow>, StoreError> {
        self.read(room, |conn| chat::read(conn, at_most))
    }

    /// What there is of a room that the device is in no longer; nothing, if it was never written
    /// or was left too long ago. Of a damaged file what can be read: the writer sets it aside when
    /// it comes to it.
    ///
    /// # Errors
    ///
    /// When the room's file cannot be read.
    pub fn room(&self, room: RoomId) -> Result<Option<LoadedRoom>, StoreError> {
        room_file::look(&self.rooms, room)
    }

    /// Nothing is there of a room that was never written.
    fn read<T>(
        &self,
        room: RoomId,
        read: impl FnOnce(&Connection) -> rusqlite::Result<Vec<T>>,
    ) -> Result<Vec<T>, StoreError> {
        let path = room_path(&self.rooms, room);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = || {
            let conn = Connection::open_with_flags(&path, flags)?;
            conn.busy_timeout(schema::BUSY)?;
            read(&conn)
        };
        opened().map_err(of(&path))
    }
}
