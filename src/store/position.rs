//! Where the music stood, for a house that went dark as a whole: the log says only where it
//! stood when somebody last did something.

use rusqlite::{Connection, OptionalExtension, params};

use super::room_file::{signed, unsigned};
use crate::base::{RoomTime, SegmentId, Span};

/// Where the music stood at some instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SavedPosition {
    /// What sounded, or was paused.
    pub segment: SegmentId,
    /// How far into its track.
    pub position: Span,
    /// Whether it sounded.
    pub playing: bool,
    /// The timeline on which `room` is an instant.
    pub clock_epoch: u32,
    /// When it stood there.
    pub room: RoomTime,
    /// The same instant by the wall clock, Unix milliseconds. May be wrong by years.
    pub wall: i64,
}

pub(super) fn save(conn: &Connection, saved: &SavedPosition) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO position VALUES(1, ?1, ?2, ?3, ?4, ?5, ?6)";
    conn.prepare_cached(sql)?
        .execute(params![
            signed(saved.segment.0),
            saved.position.0,
            saved.playing,
            saved.clock_epoch,
            saved.room.0,
            saved.wall,
        ])
        .map(drop)
}

pub(super) fn read(conn: &Connection) -> rusqlite::Result<Option<SavedPosition>> {
    let sql = "SELECT segment, position, playing, clock_epoch, room, wall FROM position";
    conn.query_row(sql, [], |row| {
        Ok(SavedPosition {
            segment: SegmentId(unsigned(row.get(0)?)),
            position: Span(row.get(1)?),
            playing: row.get(2)?,
            clock_epoch: row.get(3)?,
            room: RoomTime(row.get(4)?),
            wall: row.get(5)?,
        })
    })
    .optional()
}
