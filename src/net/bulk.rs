//! Pieces of files on a connection of their own, so that a FLAC never queues in front of a
//! clock probe. One stream per piece; who asks dials, on demand, and the connection falls
//! asleep by itself.
//!
//! Pieces are given only to nodes that are up and, of a locked room, inside. What the bytes are, and whether they are what
//! was asked for, is not judged here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tokio::time::timeout;

use super::close::CloseCode;
use super::links::Link;
use super::peer::Shared;
use super::{NetError, tls};
use crate::base::NodeId;
use crate::base::limits::{HELLO_TIMEOUT, MAX_BULK_HEADER, MAX_PIECE};
use crate::wire::codec;
use crate::wire::{BulkReply, BulkRequest};

/// How long a peer may be silent on its bulk connection before a piece is given up. Not how
/// long a piece may take: several are asked for at once and come one after the other, and on a
/// weak link each takes its time.
const SILENCE: Duration = Duration::from_secs(2);

/// How long a bulk connection waits for its control connection to come up: the two travel
/// apart and may overtake each other.
const UP_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes between two looks at the pacer: 5 ms of a 25 Mbit/s Wi-Fi link.
const CHUNK: usize = 16 * 1024;

/// Characters of a refusal's reason; each has at most four bytes, and the header some more.
const MAX_REASON: usize = 100;

/// Asks `peer` for a piece and waits for all of it.
pub(super) async fn fetch(
    shared: &Shared,
    peer: NodeId,
    request: BulkRequest,
) -> Result<Bytes, NetError> {
    let link = shared.link(peer).ok_or(NetError::NotConnected { node: peer })?;
    let piece = async {
        let connecting = timeout(SILENCE, connection_to(shared, &link));
        let connection = connecting.await.unwrap_or(Err(NetError::FetchTimeout))?;
        ask(&connection, &link, &request).await
    };
    tokio::select! {
        outcome = piece => outcome,
        () = link.ended() => Err(NetError::NotConnected { node: peer }),
    }
}

/// The bulk connection to a peer, dialled if there is none or it is closed.
async fn connection_to(shared: &Shared, link: &Link) -> Result<Connection, NetError> {
    let mut place = link.bulk_out.lock().await;
    if let Some(connection) = place.as_ref().filter(|c| c.close_reason().is_none()) {
        return Ok(connection.clone());
    }
    let connecting = shared.connect_bulk(link.address())?;
    let connection = connecting.await.map_err(|e| broken(&e))?;
    if tls::peer_of(&connection) != Some(link.peer) {
        CloseCode::Identity.close(&connection, "another node was meant");
        return Err(NetError::Fetch { reason: "another node answers there".into() });
    }
    *place = Some(connection.clone());
    Ok(connection)
}

async fn ask(
    connection: &Connection,
    link: &Link,
    request: &BulkRequest,
) -> Result<Bytes, NetError> {
    let request = codec::encode_bulk_request(request).map_err(|e| broken(&e))?;
    let (mut send, mut recv) = connection.open_bi().await.map_err(|e| broken(&e))?;
    send.write_all(&request).await.map_err(|e| broken(&e))?;
    // A stream that is just opened and not stopped can always be finished.
    let _ = send.finish();
    link.counters.sent.fetch_add(request.len() as u64, Ordering::Relaxed);
    let reply = read_reply(&mut recv, link).await?;
    match codec::decode_bulk_reply(&reply).map_err(|e| broken(&e))? {
        (BulkReply::Piece { .. }, used) => Ok(Bytes::from(reply).slice(used..)),
        (BulkReply::Refused { reason }, _) => Err(NetError::PieceRefused { reason }),
    }
}

/// All of a reply. Whether the peer is silent is judged by its whole connection: while it sends
/// another piece, this one's turn has not come.
async fn read_reply(recv: &mut RecvStream, link: &Link) -> Result<Vec<u8>, NetError> {
    const MAX: usize = MAX_PIECE + MAX_BULK_HEADER;
    let mut reply = Vec::new();
    let mut received = link.counters.received.load(Ordering::Relaxed);
    loop {
        match timeout(SILENCE, recv.read_chunk(MAX, true)).await {
            Ok(Ok(Some(chunk))) => {
                let len = chunk.bytes.len();
                let len_u64 = len as u64;
                received = link.counters.received.fetch_add(len_u64, Ordering::Relaxed) + len_u64;
                if reply.len() + len > MAX {
                    return Err(NetError::Fetch { reason: "the reply is too long".into() });
                }
                reply.extend_from_slice(&chunk.bytes);
            }
            Ok(Ok(None)) => return Ok(reply),
            Ok(Err(error)) => return Err(broken(&error)),
            Err(_) => {
                let before = received;
                received = link.counters.received.load(Ordering::Relaxed);
                if received == before {
                    return Err(NetError::FetchTimeout);
                }
            }
        }
    }
}

fn broken(error: &dyn std::fmt::Display) -> NetError {
    NetError::Fetch { reason: error.to_string() }
}

/// Answers the requests of one incoming bulk connection until it ends.
pub(super) async fn serve(shared: Arc<Shared>, connection: Connection, peer: NodeId) {
    let Some(link) = shared.until_up(peer, UP_TIMEOUT).await else {
        CloseCode::NotUp.close(&connection, "say hello first");
        return;
    };
    // Streams are limited per connection, so connections are limited, too.
    if let Some(old) = link.replace_bulk_in(connection.clone()) {
        CloseCode::Duplicate.close(&old, "replaced by another");
    }
    let requests = async {
        while let Ok((send, recv)) = connection.accept_bi().await {
            tokio::spawn(answer(shared.clone(), link.clone(), send, recv));
        }
    };
    tokio::select! {
        () = requests => {}
        () = link.ended() => CloseCode::NotUp.close(&connection, "control connection ended"),
    }
}

/// Pieces are asked for in the order in which they are needed, and are sent in that order:
/// side by side, the first would arrive no sooner than the last.
async fn answer(shared: Arc<Shared>, link: Arc<Link>, mut send: SendStream, mut recv: RecvStream) {
    let place = i32::try_from(send.id().index()).unwrap_or(i32::MAX);
    // Only a stream that has ended already cannot be given one.
    let _ = send.set_priority(-place);
    let request = timeout(HELLO_TIMEOUT.to_std(), recv.read_to_end(MAX_BULK_HEADER));
    let Ok(Ok(request)) = request.await else { return };
    link.counters.received.fetch_add(request.len() as u64, Ordering::Relaxed);
    let piece = match codec::decode_bulk_request(&request) {
        // Strangers to a locked room are not even told what there is.
        Ok(_) if !shared.admits(link.peer) => Err("not here".into()),
        Ok(request) => piece_of(&shared, request).await,
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = give(&shared, &link, &mut send, piece).await {
        tracing::debug!(peer = %link.peer.short(), %error, "piece not given");
    }
}

/// Reads a piece where blocking does no harm.
async fn piece_of(shared: &Shared, request: BulkRequest) -> Result<Vec<u8>, String> {
    let provider = shared.provider.clone();
    let reading = tokio::task::spawn_blocking(move || provider.piece(request.hash, request.piece));
    match reading.await {
        Ok(Ok(piece)) if piece.len() > MAX_PIECE => Err("the piece is too long".into()),
        Ok(outcome) => outcome,
        Err(_) => Err("reading the piece failed".into()),
    }
}

async fn give(
    shared: &Shared,
    link: &Link,
    send: &mut SendStream,
    piece: Result<Vec<u8>, String>,
) -> Result<(), quinn::WriteError> {
    let (reply, bytes) = match piece {
        Ok(bytes) => {
            let len = u32::try_from(bytes.len()).expect("checked against the limit");
            (BulkReply::Piece { len }, Bytes::from(bytes))
        }
        Err(reason) => {
            let reason = reason.chars().take(MAX_REASON).collect();
            (BulkReply::Refused { reason }, Bytes::new())
        }
    };
    let header = codec::encode_bulk_reply(&reply).expect("the reason was cut to fit");
    link.counters.sent.fetch_add(header.len() as u64, Ordering::Relaxed);
    send.write_all(&header).await?;
    for start in (0..bytes.len()).step_by(CHUNK) {
        let chunk = bytes.slice(start..bytes.len().min(start + CHUNK));
        shared.pacer.take(chunk.len()).await;
        link.counters.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        send.write_chunk(chunk).await?;
    }
    let _ = send.finish();
    Ok(())
}
