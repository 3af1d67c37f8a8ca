//! Operations that are to be offered to a coordinator: own ones that wait for an answer, and
//! those of a branch that was cut off.

use rusqlite::{Connection, params};

use super::room_file::{signed, unsigned};
use crate::base::limits::MAX_OUTBOX;
use crate::base::{NodeId, OpId};
use crate::wire::codec;
use crate::wire::op::Op;

/// [`MAX_OUTBOX`] as `SQLite` counts.
const KEPT: u32 = 4096;
const _: () = assert!(KEPT as usize == MAX_OUTBOX);

/// Adds operations behind those that are there. One that is there already keeps its place.
pub(super) fn save(conn: &Connection, ops: &[Op]) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO outbox(author, boot, seq, op) VALUES(?1, ?2, ?3, ?4)";
    let mut insert = conn.prepare_cached(sql)?;
    for op in ops {
        let bytes = codec::encode_op(op)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        insert.execute(params![op.id.author.0, op.id.boot, signed(op.id.seq), bytes])?;
    }
    // The oldest go: whoever asked for them has waited longest, and has given up.
    let sql = "DELETE FROM outbox WHERE n <=
               (SELECT n FROM outbox ORDER BY n DESC LIMIT 1 OFFSET ?1)";
    conn.prepare_cached(sql)?.execute([KEPT]).map(drop)
}

pub(super) fn remove(conn: &Connection, ids: &[OpId]) -> rusqlite::Result<()> {
    let sql = "DELETE FROM outbox WHERE author = ?1 AND boot = ?2 AND seq = ?3";
    let mut delete = conn.prepare_cached(sql)?;
    for id in ids {
        delete.execute(params![id.author.0, id.boot, signed(id.seq)])?;
    }
    Ok(())
}

/// In the order in which they were saved, as far as they can be read; then what cannot.
pub(super) fn read(conn: &Connection, ops: &mut Vec<Op>) -> Result<(), String> {
    let sql = "SELECT author, boot, seq, op FROM outbox ORDER BY n LIMIT ?1";
    let text = |error: rusqlite::Error| error.to_string();
    let mut statement = conn.prepare(sql).map_err(text)?;
    let mut rows = statement.query([KEPT]).map_err(text)?;
    while let Some(row) = rows.next().map_err(text)? {
        let (id, bytes) = id_and_bytes(row).map_err(text)?;
        let op =
            codec::decode_op(&bytes).map_err(|error| format!("a waiting operation {error}"))?;
        if op.id != id {
            return Err("a waiting operation stands under another one's name".into());
        }
        ops.push(op);
    }
    Ok(())
}

fn id_and_bytes(row: &rusqlite::Row<'_>) -> rusqlite::Result<(OpId, Vec<u8>)> {
    let id = OpId { author: NodeId(row.get(0)?), boot: row.get(1)?, seq: unsigned(row.get(2)?) };
    Ok((id, row.get(3)?))
}
