//! How much of a room's log stays on disk once the state has swallowed it, and how it is read
//! again. Nothing but people's questions needs it: memory holds what members that lag are sent,
//! and who lags more gets a state.

use rusqlite::{Connection, OptionalExtension, params};

use super::room_file::{signed, unsigned};
use crate::base::limits::{LOG_KEPT, LOG_KEPT_BYTES, LOG_KEPT_FOR};
use crate::base::{RoomTime, Span};
use crate::wire::codec;
use crate::wire::op::Entry;

/// Takes away what is in the state and beyond what is kept: too many entries, too many bytes, or
/// too long ago. What comes after the state stays whatever happens.
pub(super) fn retain(conn: &Connection, state_idx: u64) -> rusqlite::Result<()> {
    let Some((first, last)) = ends(conn)? else { return Ok(()) };
    let by_number = last.saturating_sub(LOG_KEPT);
    let by_bytes = beyond_bytes(conn)?.unwrap_or(0);
    let by_age = long_ago(conn, first, last)?;
    let gone = by_number.max(by_bytes).max(by_age).min(state_idx);
    conn.prepare_cached("DELETE FROM log WHERE idx <= ?1")?.execute([signed(gone)]).map(drop)
}

fn ends(conn: &Connection) -> rusqlite::Result<Option<(u64, u64)>> {
    let ends: (Option<i64>, Option<i64>) =
        conn.query_row("SELECT min(idx), max(idx) FROM log", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    Ok(ends.0.zip(ends.1).map(|(first, last)| (unsigned(first), unsigned(last))))
}

/// The last entry that does not fit any more, counted from the end.
fn beyond_bytes(conn: &Connection) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT idx FROM (SELECT idx, sum(length(entry)) OVER (ORDER BY idx DESC) AS bytes
               FROM log) WHERE bytes > ?1 ORDER BY idx DESC LIMIT 1";
    let mut query = conn.prepare_cached(sql)?;
    let idx: Option<i64> =
        query.query_row([signed(LOG_KEPT_BYTES)], |row| row.get(0)).optional()?;
    Ok(idx.map(unsigned))
}

/// The last entry that took effect too long before the end of the log, by the room's own clock:
/// instants never fall along a log, so halving finds it.
fn long_ago(conn: &Connection, first: u64, last: u64) -> rusqlite::Result<u64> {
    let Some(end) = instant(conn, last)? else { return Ok(0) };
    let (mut old, mut young) = (first.saturating_sub(1), last);
    while young - old > 1 {
        let middle = old + (young - old) / 2;
        match instant(conn, middle)? {
            Some(at) if age(at, end) <= LOG_KEPT_FOR => young = middle,
            _ => old = middle,
        }
    }
    Ok(old)
}

fn age(at: RoomTime, end: RoomTime) -> Span {
    Span(end.0.saturating_sub(at.0))
}

/// None where it cannot be read.
fn instant(conn: &Connection, idx: u64) -> rusqlite::Result<Option<RoomTime>> {
    let mut query = conn.prepare_cached("SELECT entry FROM log WHERE idx = ?1")?;
    let bytes: Option<Vec<u8>> = query.query_row([signed(idx)], |row| row.get(0)).optional()?;
    Ok(bytes.and_then(|bytes| codec::decode_entry(&bytes).ok()).map(|entry| entry.at))
}

/// The last `at_most` entries before `before`, oldest first. Ends where an entry cannot be read.
pub(super) fn read(conn: &Connection, before: u64, at_most: usize) -> rusqlite::Result<Vec<Entry>> {
    let at_most = u64::try_from(at_most).unwrap_or(LOG_KEPT).min(LOG_KEPT);
    let sql = "SELECT entry FROM log WHERE idx < ?1 ORDER BY idx DESC LIMIT ?2";
    let mut query = conn.prepare(sql)?;
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    let rows = query.query_map(params![before, signed(at_most)], |row| row.get(0))?;
    let mut entries = Vec::new();
    for bytes in rows {
        let bytes: Vec<u8> = bytes?;
        let Ok(entry) = codec::decode_entry(&bytes) else { break };
        entries.push(entry);
    }
    entries.reverse();
    Ok(entries)
}
