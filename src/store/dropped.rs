//! What merges have left out, so that `groovebox log` still tells it after a restart, and what was
//! dropped once stays dropped however late it is offered again.

use rusqlite::{Connection, params};

use super::room_file::{signed, unsigned};
use crate::base::limits::MAX_DROPPED;
use crate::base::{NodeId, OpId, RoomTime};
use crate::wire::message::DroppedOp;

/// [`MAX_DROPPED`] as `SQLite` counts.
const KEPT: u32 = 64;
const _: () = assert!(KEPT as usize == MAX_DROPPED);

/// Adds one behind those that are there, unless it is one of them. The oldest go.
pub(super) fn save(conn: &Connection, op: &DroppedOp) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO dropped(author, boot, seq, created, what, why)
               VALUES(?1, ?2, ?3, ?4, ?5, ?6)";
    conn.prepare_cached(sql)?.execute(params![
        op.id.author.0,
        op.id.boot,
        signed(op.id.seq),
        op.created.0,
        op.what,
        op.why,
    ])?;
    let sql = "DELETE FROM dropped WHERE n <=
               (SELECT n FROM dropped ORDER BY n DESC LIMIT 1 OFFSET ?1)";
    conn.prepare_cached(sql)?.execute([KEPT]).map(drop)
}

/// In the order in which they were saved.
pub(super) fn read(conn: &Connection) -> rusqlite::Result<Vec<DroppedOp>> {
    let sql = "SELECT author, boot, seq, created, what, why FROM dropped ORDER BY n LIMIT ?1";
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([KEPT], |row| {
        let author = NodeId(row.get(0)?);
        Ok(DroppedOp {
            id: OpId { author, boot: row.get(1)?, seq: unsigned(row.get(2)?) },
            created: RoomTime(row.get(3)?),
            what: row.get(4)?,
            why: row.get(5)?,
        })
    })?;
    rows.collect()
}
