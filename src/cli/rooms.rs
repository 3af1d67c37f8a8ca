//! `groovebox rooms`: the rooms in reach.

use super::failure::Failure;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, table, word};
use crate::engine::status::RoomInReach;

pub(super) async fn run(session: &mut Session) -> Result<(), Failure> {
    session.show("/rooms", |rooms: &Vec<RoomInReach>, look| lines(rooms, look)).await
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
