//! `groovebox rooms`: the rooms in reach.

use serde_json::json;

use super::failure::Failure;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, table, word};
use super::text::plain;
use super::watch::{View, WatchArgs, watch};
use crate::engine::Status;
use crate::engine::status::RoomInReach;

pub(super) async fn run(args: &WatchArgs, session: &mut Session) -> Result<(), Failure> {
    if args.watch {
        let json = |status: &Status| json!(status.rooms);
        let lines = |status: &Status, look: Look| lines(&status.rooms, look);
        return watch(session, View { json, lines, brief }).await;
    }
    session.show("/rooms", |rooms: &Vec<RoomInReach>, look| lines(rooms, look)).await
}

/// `GROOVE-7KQ4 Kitchen party · GROOVE-M3XA Next door`
fn brief(status: &Status) -> String {
    let of = |room: &RoomInReach| format!("{} {}", room.code, room.name).trim().to_owned();
    let all = status.rooms.iter().map(of).collect::<Vec<_>>();
    if all.is_empty() { "no room is in reach".to_owned() } else { plain(&all.join(" · ")) }
}

pub(super) fn lines(rooms: &[RoomInReach], look: Look) -> Vec<String> {
    if rooms.is_empty() {
        return vec!["no room is in reach; `groovebox room create` makes one".to_owned()];
    }
    let columns = [
        Column::Left("CODE"),
        Column::Left("NAME"),
        Column::Right("DEVICES"),
        Column::Left("ACCESS"),
        Column::Left("PLAYING"),
        Column::Left(""),
    ];
    let row = |room: &RoomInReach| {
        // A locked room tells no more than that it is there.
        let told = |text: &str| word(if text.is_empty() { "–" } else { text });
        vec![
            told(&room.code),
            told(&room.name),
            told(&if room.devices == 0 { String::new() } else { room.devices.to_string() }),
            word(match (room.in_reach, room.locked) {
                (false, _) => "not here",
                (true, true) => "locked",
                (true, false) => "open",
            }),
            word(room.playing.as_deref().unwrap_or("–")),
            word(if room.joined { "joined" } else { "" }),
        ]
    };
    table(&columns, rooms.iter().map(row).collect(), look)
}
