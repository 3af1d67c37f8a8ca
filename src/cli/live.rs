//! How well everybody follows: one line about the room and a table of its devices. Used by
//! `sync`, by `sync --watch` and by the demonstration.

use comfy_table::Cell;

use super::screen::Look;
use super::table::{Column, Tone, cell, clip, table, word};
use super::text::{clock, ppm, short_time, with_error};
use crate::engine::Status;
use crate::engine::status::{MemberStatus, PlaybackState, SyncStatus};
use crate::wire::message::SyncState;

const COLUMNS: [Column; 11] = [
    Column::Left("DEVICE"),
    Column::Left("STATE"),
    Column::Right("OFFSET\n±3σ"),
    Column::Right("ASYM\nmax"),
    Column::Right("RTT\nmin"),
    Column::Right("JITTER"),
    Column::Right("DRIFT\nppm"),
    Column::Right("DAC\nppm"),
    Column::Right("CORR\nppm"),
    Column::Right("BUF\ns"),
    Column::Right("DRY"),
];

/// The room in one line and its devices in a table, none wider than `look` allows.
#[must_use]
pub fn live_lines(status: &Status, look: Look) -> Vec<String> {
    let mut lines = vec![clip(&headline(status), look), String::new()];
    let coordinator = coordinator(status);
    let rows = status.members.iter().map(|member| row(member, coordinator)).collect();
    lines.extend(table(&COLUMNS, rows, look));
    lines
}

/// `Kitchen party · GROOVE-7KQ4 · coordinator kitchen · playing 1:23/9:22 So What`
pub(super) fn headline(status: &Status) -> String {
    let mut parts = Vec::new();
    match &status.room {
        Some(room) => {
            parts.extend([room.name.clone(), room.code.clone()]);
            parts.push(match coordinator_name(status) {
                Some(name) => format!("coordinator {name}"),
                None => "no coordinator".to_owned(),
            });
        }
        None => parts.push("in no room".to_owned()),
    }
    parts.push(playing(status));
    parts.join(" · ")
}

/// `playing 1:23/9:22 So What`
pub(super) fn playing(status: &Status) -> String {
    let playback = &status.playback;
    let (at, of) = (clock(playback.position_ms), clock(playback.duration_ms));
    let title = playback.track.as_ref().map_or("", |track| &track.title);
    match playback.state {
        PlaybackState::Stopped => "stopped".to_owned(),
        PlaybackState::Buffering => format!("buffering {title}"),
        PlaybackState::Playing => format!("playing {at}/{of} {title}"),
        PlaybackState::Paused => format!("paused {at}/{of} {title}"),
    }
}

/// What a member's state is called, and how good that is.
pub(super) fn state(member: &MemberStatus) -> (&'static str, Tone) {
    match member.sync.as_ref().map(|sync| sync.state) {
        _ if !member.online => ("away", Tone::Weak),
        None => ("–", Tone::Plain),
        Some(SyncState::Synced) => ("synced", Tone::Good),
        Some(SyncState::Syncing) => ("syncing", Tone::Weak),
        Some(SyncState::OutOfSync) => ("out", Tone::Bad),
    }
}

/// The name of a member; a star marks the coordinator.
pub(super) fn starred(member: &MemberStatus, coordinator: Option<&str>) -> String {
    let star = if coordinator == Some(&member.id) { "*" } else { "" };
    format!("{star}{}", member.name)
}

pub(super) fn coordinator(status: &Status) -> Option<&str> {
    status.room.as_ref()?.coordinator.as_deref()
}

pub(super) fn coordinator_name(status: &Status) -> Option<&str> {
    let id = coordinator(status)?;
    status.members.iter().find(|member| member.id == id).map(|member| &*member.name)
}

fn row(member: &MemberStatus, coordinator: Option<&str>) -> Vec<Cell> {
    let (state, tone) = state(member);
    let mut cells = vec![word(starred(member, coordinator)), cell(state, tone)];
    match &member.sync {
        Some(sync) if member.online => cells.extend(figures(sync)),
        _ => cells.extend((2..COLUMNS.len()).map(|_| word("–"))),
    }
    cells
}

fn figures(sync: &SyncStatus) -> [Cell; 9] {
    let dry = if sync.underruns == 0 { Tone::Plain } else { Tone::Weak };
    [
        word(with_error(sync.offset_us, sync.error_us)),
        word(short_time(sync.asymmetry_us)),
        word(short_time(sync.rtt_us)),
        word(short_time(sync.jitter_us)),
        word(ppm(sync.drift_ppm)),
        word(ppm(sync.dac_ppm)),
        word(ppm(sync.correction_ppm)),
        word(format!("{:.1}", sync.buffer_ms / 1000.0)),
        cell(sync.underruns.to_string(), dry),
    ]
}
