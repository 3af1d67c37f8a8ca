//! `groovebox peers`: the devices this one knows, in whatever room.

use serde_json::json;

use super::failure::Failure;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, Tone, cell, table, word};
use super::text::{bytes, plain};
use super::watch::{View, WatchArgs, watch};
use crate::engine::Status;
use crate::engine::status::PeerStatus;

pub(super) async fn run(args: &WatchArgs, session: &mut Session) -> Result<(), Failure> {
    if args.watch {
        let json = |status: &Status| json!(status.peers);
        let lines = |status: &Status, look: Look| lines(&status.peers, look);
        return watch(session, View { json, lines, brief }).await;
    }
    session.show("/peers", |peers: &Vec<PeerStatus>, look| lines(peers, look)).await
}

/// `hall connected · porch away`
fn brief(status: &Status) -> String {
    let of = |peer: &PeerStatus| {
        format!("{} {}", peer.name, if peer.connected { "connected" } else { "away" })
    };
    let all = status.peers.iter().map(of).collect::<Vec<_>>();
    if all.is_empty() { "no other device is known".to_owned() } else { plain(&all.join(" · ")) }
}

pub(super) fn lines(peers: &[PeerStatus], look: Look) -> Vec<String> {
    if peers.is_empty() {
        return vec![
            "no other device is known; start `groovebox daemon` on another one".to_owned(),
        ];
    }
    let columns = [
        Column::Left("DEVICE"),
        Column::Left("STATE"),
        Column::Left("ADDRESS"),
        Column::Left("ROOM"),
        Column::Right("SENT"),
        Column::Right("RECEIVED"),
    ];
    let row = |peer: &PeerStatus| {
        let (state, tone) =
            if peer.connected { ("connected", Tone::Good) } else { ("away", Tone::Weak) };
        vec![
            word(&peer.name),
            cell(state, tone),
            word(peer.address.as_deref().unwrap_or("–")),
            word(peer.room.as_deref().unwrap_or("–")),
            word(bytes(peer.sent_bytes)),
            word(bytes(peer.received_bytes)),
        ]
    };
    table(&columns, peers.iter().map(row).collect(), look)
}
