//! What was said in a room: one row for each word, whoever notes it and how often.

use rusqlite::{Connection, params};

use crate::base::limits::MAX_CHAT_ON_DISK;
use crate::base::{NodeId, OpId, UserId};

/// [`MAX_CHAT_ON_DISK`] as `SQLite` counts.
const KEPT: u32 = 10_000;
const _: () = assert!(KEPT as usize == MAX_CHAT_ON_DISK);

/// Milliseconds for which a word is kept.
const KEPT_FOR: i64 = 30 * 24 * 3600 * 1000;

/// The schema version from which on files have a chat.
const SINCE: i64 = 4;

/// Something that was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChatRow {
    /// Its name: noted once, it stays as it is.
    pub op: OpId,
    /// Who.
    pub user: UserId,
    /// What they were called.
    pub name: String,
    /// When by this device's wall clock, Unix milliseconds. May be wrong by years.
    pub wall: i64,
    /// What.
    pub text: String,
}

/// Adds rows; what is too old or too much makes way.
pub(super) fn save(conn: &Connection, rows: &[ChatRow]) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO chat(author, boot, seq, user, name, wall, text)
               VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let mut insert = conn.prepare_cached(sql)?;
    for row in rows {
        let seq = i64::try_from(row.op.seq).unwrap_or(i64::MAX);
        let (author, boot, user) = (row.op.author.0, row.op.boot, row.user.0);
        insert.execute(params![author, boot, seq, user, row.name, row.wall, row.text])?;
    }
    let oldest = rows.iter().map(|row| row.wall).max().unwrap_or(i64::MIN).saturating_sub(KEPT_FOR);
    let sql = "DELETE FROM chat WHERE wall < ?2 OR n <=
               (SELECT n FROM chat ORDER BY n DESC LIMIT 1 OFFSET ?1)";
    conn.prepare_cached(sql)?.execute(params![KEPT, oldest]).map(drop)
}

/// The last rows, oldest first. None in a file of an earlier version.
pub(super) fn read(conn: &Connection, at_most: usize) -> rusqlite::Result<Vec<ChatRow>> {
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < SINCE {
        return Ok(Vec::new());
    }
    let at_most = u32::try_from(at_most).unwrap_or(KEPT).min(KEPT);
    let sql = "SELECT author, boot, seq, user, name, wall, text FROM chat
               ORDER BY wall DESC, n DESC LIMIT ?1";
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([at_most], |row| {
        let seq: i64 = row.get(2)?;
        Ok(ChatRow {
            op: OpId {
                author: NodeId(row.get(0)?),
                boot: row.get(1)?,
                seq: u64::try_from(seq).unwrap_or(0),
            },
            user: UserId(row.get(3)?),
            name: row.get(4)?,
            wall: row.get(5)?,
            text: row.get(6)?,
        })
    })?;
    let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.reverse();
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: u64, wall: i64) -> ChatRow {
        let op = OpId { author: NodeId([1; 32]), boot: 1, seq };
        let (name, text) = ("anna".to_owned(), format!("word {seq}"));
        ChatRow { op, user: UserId([2; 32]), name, wall, text }
    }

    #[test]
    fn each_word_is_kept_once_for_thirty_days_and_not_without_bound() {
        let conn = Connection::open_in_memory().expect("memory");
        let tables = super::super::room_file::MIGRATIONS.concat();
        conn.execute_batch(&format!("{tables} PRAGMA user_version = {SINCE};")).expect("tables");
        let day = 24 * 3600 * 1000;
        save(&conn, &[row(1, 0), row(2, day)]).expect("saved");
        save(&conn, &[row(2, day), row(3, 2 * day)]).expect("saved");
        assert_eq!(read(&conn, 10).expect("read").len(), 3);
        save(&conn, &[row(4, 30 * day + 1)]).expect("saved");
        let kept = read(&conn, 10).expect("read");
        assert_eq!(kept.iter().map(|row| row.op.seq).collect::<Vec<_>>(), [2, 3, 4]);
        let many = (5..10_100).map(|seq| row(seq, 31 * day)).collect::<Vec<_>>();
        save(&conn, &many).expect("saved");
        assert_eq!(read(&conn, usize::MAX).expect("read").len(), MAX_CHAT_ON_DISK);
        assert_eq!(read(&conn, 2).expect("read")[1].op.seq, 10_099);
    }
}
