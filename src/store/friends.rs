//! The friends' book in `node.db`: written as a whole whenever it changes, which is rarely.
//!
//! Rows that make no sense are left out: they cost a friend, not the identity. Certificates are
//! checked by whoever reads them.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::base::{NodeId, UserId};
use crate::engine::friends::{Discoverable, SavedFriends};
use crate::identity::Signature;
use crate::wire::op::Friendship;
use crate::wire::person::{Contact, FriendRequest, Kept};

/// Added to the schema of `node.db`.
pub(super) const SCHEMA: &str = "
    CREATE TABLE friend(
        user BLOB PRIMARY KEY, name TEXT NOT NULL, display TEXT NOT NULL, devices BLOB NOT NULL,
        first BLOB NOT NULL, second BLOB NOT NULL, since INTEGER NOT NULL,
        certificate BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE request(
        user BLOB NOT NULL, sent INTEGER NOT NULL, name TEXT NOT NULL, display TEXT NOT NULL,
        devices BLOB NOT NULL, since INTEGER NOT NULL, signature BLOB NOT NULL,
        delivered INTEGER NOT NULL, PRIMARY KEY(user, sent)) STRICT, WITHOUT ROWID;
    CREATE TABLE ended(
        user BLOB PRIMARY KEY, since INTEGER NOT NULL, untold BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE refused(user BLOB PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE device(node BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
";

/// The book, and whose it is; none where there is none.
pub(super) fn read(conn: &Connection) -> rusqlite::Result<Option<SavedFriends>> {
    let setting = |key: &str| -> rusqlite::Result<Option<String>> {
        conn.query_row("SELECT v FROM setting WHERE k = ?1", [key], |row| row.get(0)).optional()
    };
    let Some(of) = setting("friends of")?.and_then(|text| text.parse().ok()) else {
        return Ok(None);
    };
    let discoverable = setting("discoverable")?.and_then(|text| Discoverable::parse(&text));
    let mut statement = conn.prepare("SELECT node FROM device")?;
    let devices = statement.query_map([], |row| row.get(0).map(NodeId))?.flatten().collect();
    let mut kept = ended(conn)?;
    kept.extend(refused(conn)?);
    kept.extend(friends(conn)?);
    kept.extend(requests(conn)?);
    Ok(Some(SavedFriends { of, discoverable: discoverable.unwrap_or_default(), devices, kept }))
}

fn friends(conn: &Connection) -> rusqlite::Result<Vec<Kept>> {
    let mut statement = conn.prepare(
        "SELECT user, name, display, devices, first, second, since, certificate FROM friend",
    )?;
    let rows = statement.query_map([], |row| {
        let contact = contact(row.get(0)?, row.get(1)?, row.get(2)?, &row.get::<_, Vec<u8>>(3)?);
        let people = (UserId(row.get(4)?), UserId(row.get(5)?));
        let certificate: [u8; 128] = row.get(7)?;
        let half = |at: usize| signature(certificate[at..at + 64].try_into().expect("64 of 128"));
        let friendship =
            Friendship { people, since: number(row, 6)?, signatures: (half(0), half(64)) };
        Ok(Kept::Friend { contact, friendship })
    })?;
    Ok(rows.flatten().collect())
}

fn requests(conn: &Connection) -> rusqlite::Result<Vec<Kept>> {
    let mut statement = conn.prepare(
        "SELECT user, name, display, devices, since, signature, delivered, sent FROM request",
    )?;
    let rows = statement.query_map([], |row| {
        let contact = contact(row.get(0)?, row.get(1)?, row.get(2)?, &row.get::<_, Vec<u8>>(3)?);
        let (since, signed, delivered) = (number(row, 4)?, signature(row.get(5)?), row.get(6)?);
        let request = FriendRequest { contact, since, signature: signed, delivered };
        Ok(if row.get(7)? { Kept::Sent(request) } else { Kept::Received(request) })
    })?;
    Ok(rows.flatten().collect())
}

fn ended(conn: &Connection) -> rusqlite::Result<Vec<Kept>> {
    let mut statement = conn.prepare("SELECT user, since, untold FROM ended")?;
    let rows = statement.query_map([], |row| {
        let untold = nodes(&row.get::<_, Vec<u8>>(2)?);
        Ok(Kept::Ended { user: UserId(row.get(0)?), since: number(row, 1)?, untold })
    })?;
    Ok(rows.flatten().collect())
}

fn refused(conn: &Connection) -> rusqlite::Result<Vec<Kept>> {
    let mut statement = conn.prepare("SELECT user, until FROM refused")?;
    let rows = statement.query_map([], |row| {
        Ok(Kept::Refused { user: UserId(row.get(0)?), until: number(row, 1)? })
    })?;
    Ok(rows.flatten().collect())
}

/// In place of what was there, in one transaction.
pub(super) fn write(conn: &Connection, friends: Option<&SavedFriends>) -> rusqlite::Result<()> {
    let transaction = conn.unchecked_transaction()?;
    transaction.execute_batch(
        "DELETE FROM friend; DELETE FROM request; DELETE FROM ended; DELETE FROM refused;
         DELETE FROM device; DELETE FROM setting WHERE k IN ('friends of', 'discoverable');",
    )?;
    if let Some(friends) = friends {
        let set = "INSERT OR REPLACE INTO setting VALUES(?1, ?2)";
        transaction.execute(set, ["friends of", &friends.of.to_string()])?;
        transaction.execute(set, ["discoverable", friends.discoverable.as_str()])?;
        for device in &friends.devices {
            transaction.execute("INSERT OR REPLACE INTO device VALUES(?1)", [device.0])?;
        }
        for kept in &friends.kept {
            write_one(&transaction, kept)?;
        }
    }
    transaction.commit()
}

fn write_one(conn: &Connection, kept: &Kept) -> rusqlite::Result<()> {
    match kept {
        Kept::Friend { contact, friendship } => {
            let Friendship { people: (first, second), since, signatures } = friendship;
            let certificate = [joined(&signatures.0), joined(&signatures.1)].concat();
            let Contact { user, name, display, devices } = contact;
            conn.execute(
                "INSERT OR REPLACE INTO friend VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    user.0,
                    name,
                    display,
                    bytes(devices),
                    first.0,
                    second.0,
                    stored(*since),
                    certificate
                ],
            )
        }
        Kept::Sent(request) | Kept::Received(request) => {
            let FriendRequest { contact, since, signature, delivered } = request;
            let Contact { user, name, display, devices } = contact;
            let sent = matches!(kept, Kept::Sent(_));
            conn.execute(
                "INSERT OR REPLACE INTO request VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    user.0,
                    sent,
                    name,
                    display,
                    bytes(devices),
                    stored(*since),
                    joined(signature),
                    delivered
                ],
            )
        }
        Kept::Ended { user, since, untold } => conn.execute(
            "INSERT OR REPLACE INTO ended VALUES(?1, ?2, ?3)",
            params![user.0, stored(*since), bytes(untold)],
        ),
        Kept::Refused { user, until } => conn.execute(
            "INSERT OR REPLACE INTO refused VALUES(?1, ?2)",
            params![user.0, stored(*until)],
        ),
    }
    .map(drop)
}

/// `SQLite` knows signed numbers only; those here are far from the end of their range.
fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn contact(user: [u8; 32], name: String, display: String, devices: &[u8]) -> Contact {
    Contact { user: UserId(user), name, display, devices: nodes(devices) }
}

/// Ids behind each other.
fn nodes(bytes: &[u8]) -> Vec<NodeId> {
    bytes.as_chunks::<32>().0.iter().map(|id| NodeId(*id)).collect()
}

fn bytes(nodes: &[NodeId]) -> Vec<u8> {
    nodes.iter().flat_map(|node| node.0).collect()
}

fn signature(bytes: [u8; 64]) -> Signature {
    let half = |at: usize| bytes[at..at + 32].try_into().expect("32 of 64");
    (half(0), half(32))
}

fn joined(signature: &Signature) -> Vec<u8> {
    [signature.0, signature.1].concat()
}
