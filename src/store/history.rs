//! What was played in a room: one row for each segment, whoever notes it and how often.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, ToSql, params};

use super::room_file::{signed, unsigned};
use crate::base::limits::MAX_HISTORY;
use crate::base::{BlobHash, RoomTime, SegmentId};
use crate::engine::room::EndReason;

/// [`MAX_HISTORY`] as `SQLite` counts.
const KEPT: u32 = 10_000;
const _: () = assert!(KEPT as usize == MAX_HISTORY);

/// The schema version from which on files have a history.
const SINCE: i64 = 2;

const COLUMNS: &str = "segment, track, title, artists, album, source, dj, added_by, started, ended, \
                       ended_wall, reason, present";

/// One stretch of one track that was heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryRow {
    /// Its name, and that of the row: noted once, it stays as it is.
    pub segment: SegmentId,
    /// What.
    pub track: BlobHash,
    /// Its title.
    pub title: String,
    /// Who plays, in one line.
    pub artists: String,
    /// Its album.
    pub album: String,
    /// Where the sound came from: "file".
    pub source: String,
    /// The name of who was DJ then; none in a room without.
    pub dj: Option<String>,
    /// The name of who brought it.
    pub added_by: String,
    /// When it began to sound.
    pub started: RoomTime,
    /// When it stopped.
    pub ended: RoomTime,
    /// When it stopped by the wall clock, Unix milliseconds. May be wrong by years.
    pub ended_wall: i64,
    /// Why it stopped.
    pub reason: EndReason,
    /// How many people were present at its end.
    pub present: u32,
}

impl ToSql for EndReason {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        self.as_str().to_sql()
    }
}

impl FromSql for EndReason {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<EndReason> {
        let text = value.as_str()?;
        let reason = EndReason::ALL.into_iter().find(|reason| reason.as_str() == text);
        reason.ok_or(FromSqlError::InvalidType)
    }
}

/// Adds rows. A segment that has one keeps it.
pub(super) fn save(conn: &Connection, rows: &[HistoryRow]) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT OR IGNORE INTO history({COLUMNS})
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
    );
    let mut insert = conn.prepare_cached(&sql)?;
    for row in rows {
        insert.execute(params![
            signed(row.segment.0),
            row.track.0,
            row.title,
            row.artists,
            row.album,
            row.source,
            row.dj,
            row.added_by,
            row.started.0,
            row.ended.0,
            row.ended_wall,
            row.reason,
            row.present,
        ])?;
    }
    let sql = "DELETE FROM history WHERE n <=
               (SELECT n FROM history ORDER BY n DESC LIMIT 1 OFFSET ?1)";
    conn.prepare_cached(sql)?.execute([KEPT]).map(drop)
}

/// The last rows, the most recently saved first.
pub(super) fn read(conn: &Connection, at_most: usize) -> rusqlite::Result<Vec<HistoryRow>> {
    let at_most = u32::try_from(at_most).unwrap_or(KEPT).min(KEPT);
    let sql = format!("SELECT {COLUMNS} FROM history ORDER BY n DESC LIMIT ?1");
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map([at_most], |row| {
        Ok(HistoryRow {
            segment: SegmentId(unsigned(row.get(0)?)),
            track: BlobHash(row.get(1)?),
            title: row.get(2)?,
            artists: row.get(3)?,
            album: row.get(4)?,
            source: row.get(5)?,
            dj: row.get(6)?,
            added_by: row.get(7)?,
            started: RoomTime(row.get(8)?),
            ended: RoomTime(row.get(9)?),
            ended_wall: row.get(10)?,
            reason: row.get(11)?,
            present: row.get(12)?,
        })
    })?;
    rows.collect()
}

/// The same from a file that may be of an earlier version, which has none.
pub(super) fn read_any_version(
    conn: &Connection,
    at_most: usize,
) -> rusqlite::Result<Vec<HistoryRow>> {
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < SINCE { Ok(Vec::new()) } else { read(conn, at_most) }
}
