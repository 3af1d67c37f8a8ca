//! `groovebox status`: the room, what plays, the devices, what comes next.

use serde_json::Value;

use super::failure::Failure;
use super::live::{coordinator, coordinator_name, headline, playing, starred, state};
use super::queue;
use super::screen::Look;
use super::session::Session;
use super::table::{Column, Tone, cell, clip, table, word};
use super::text::{clock, plain, with_error};
use super::vote::progress;
use super::watch::{View, WatchArgs, watch};
use crate::engine::Status;
use crate::engine::status::{DiskState, MemberStatus, PlaybackState, PlaybackStatus};
use crate::wire::message::OutputState;

/// Entries of the queue that are shown; `groovebox queue` shows all.
const NEXT_SHOWN: usize = 5;

pub(super) async fn run(args: &WatchArgs, session: &mut Session) -> Result<(), Failure> {
    if !args.watch {
        return session.show("/status", lines).await;
    }
    let json = |status: &Status| serde_json::to_value(status).unwrap_or(Value::Null);
    watch(session, View { json, lines, brief }).await
}

pub(super) fn lines(status: &Status, look: Look) -> Vec<String> {
    let mut lines = vec![clip(&room_line(status), look)];
    lines.extend(people_line(status).map(|line| clip(&line, look)));
    lines.extend(status.votes.iter().map(|vote| clip(&progress(vote), look)));
    lines.extend(disk_lines(status, look));
    lines.push(String::new());
    lines.extend(playback_lines(status, look));
    lines.push(String::new());
    lines.extend(member_lines(status, look));
    lines.extend(twin_lines(status));
    if !status.queue.is_empty() {
        lines.push(String::new());
        let shown = status.queue.len().min(NEXT_SHOWN);
        lines.extend(queue::lines(&status.queue[..shown], &status.fetching, look));
        if shown < status.queue.len() {
            lines.push(format!("and {} more: `groovebox queue`", status.queue.len() - shown));
        }
    }
    lines
}

/// That another device uses this one's identity, if one does.
fn twin_lines(status: &Status) -> Vec<String> {
    let twin = status.node.twin.as_ref().map(|address| {
        format!(
            "{address} uses this device's identity: remove the state directory of the one that is \
             the copy, and start it again"
        )
    });
    twin.into_iter().flat_map(|text| [String::new(), plain(&text)]).collect()
}

fn room_line(status: &Status) -> String {
    let Some(room) = &status.room else {
        return format!(
            "{} is in no room; `groovebox rooms` lists those in reach",
            status.node.name
        );
    };
    let here = status.members.iter().filter(|member| member.online).count();
    let devices = match (here, status.members.len()) {
        (1, 1) => "1 device".to_owned(),
        (here, all) if here == all => format!("{all} devices"),
        (here, all) => format!("{here} of {all} devices"),
    };
    let locked = if room.locked { " · locked" } else { "" };
    let coordinator = coordinator_name(status).unwrap_or("none");
    format!("{} · {}{locked} · {devices} · coordinator {coordinator}", room.name, room.code)
}

/// Who is DJ, and who is here; nothing in a room of speakers.
fn people_line(status: &Status) -> Option<String> {
    let room = status.room.as_ref()?;
    let here = status.people.iter().filter(|person| person.here);
    let here = here.map(|person| person.name.as_str()).collect::<Vec<_>>();
    let dj = room.dj.as_deref().unwrap_or("nobody");
    let here = if here.is_empty() { "nobody".to_owned() } else { here.join(", ") };
    (!status.people.is_empty()).then(|| format!("DJ {dj} · here: {here}"))
}

/// What a person should know of this device's disk and version, if anything.
fn disk_lines(status: &Status, look: Look) -> Vec<String> {
    let trouble = match status.node.disk {
        DiskState::Ok => None,
        DiskState::Slow => Some("too slow"),
        DiskState::Full => Some("full: make space"),
        DiskState::Failed => Some("failing: the log says why"),
    };
    let name = &status.node.name;
    let trouble = trouble.map(|what| {
        format!("the disk of {name} is {what}; what happens is in memory and with the others")
    });
    let all = trouble.into_iter().chain(status.node.disk_notice.clone());
    let all = all.chain(status.node.outdated.clone());
    all.map(|line| clip(&line, look)).collect()
}

fn playback_lines(status: &Status, look: Look) -> Vec<String> {
    let playback = &status.playback;
    let Some(track) = &playback.track else {
        let hint = if status.room.is_some() { "; `groovebox play FILE` begins" } else { "" };
        let mut lines = vec![format!("nothing plays{hint}")];
        lines.extend(about_queue(playback, look));
        return lines;
    };
    let word = match playback.state {
        PlaybackState::Stopped => "stopped",
        PlaybackState::Buffering => "buffering",
        PlaybackState::Playing => "playing",
        PlaybackState::Paused => "paused",
    };
    let parts = [track.title.clone(), track.artists.join(", "), track.album.clone()];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let times = format!("{} / {}", clock(playback.position_ms), clock(playback.duration_ms));
    let room = usize::from(look.width).saturating_sub(times.chars().count() + 2);
    let bar = bar(playback.position_ms, playback.duration_ms, room);
    let here = queue::fetched(track, &status.fetching);
    let here = here.map(|here| format!(" ({here})")).unwrap_or_default();
    let first = clip(&format!("{word}  {}{here}", parts.join(" · ")), look);
    let mut lines = vec![first, format!("{bar}  {times}")];
    lines.extend(about_queue(playback, look));
    lines
}

/// What comes again, and what was left out.
fn about_queue(playback: &PlaybackStatus, look: Look) -> Vec<String> {
    let repeat = queue::repeat_line(playback.repeat).map(str::to_owned);
    let notice = playback.notice.as_ref().map(|notice| clip(&plain(notice), look));
    repeat.into_iter().chain(notice).collect()
}

/// A line that is heavy as far as the music has come.
pub(super) fn bar(position: i64, duration: i64, width: usize) -> String {
    let length = i64::try_from(width).unwrap_or(0);
    let played = position.clamp(0, duration.max(0)).saturating_mul(length) / duration.max(1);
    let played = usize::try_from(played).unwrap_or(0).min(width);
    format!("{}{}", "━".repeat(played), "─".repeat(width - played))
}

fn member_lines(status: &Status, look: Look) -> Vec<String> {
    let columns = [
        Column::Left("DEVICE"),
        Column::Left("STATE"),
        Column::Right("OFFSET"),
        Column::Right("VOLUME"),
        Column::Left("OUTPUT"),
        Column::Left("NETWORK"),
    ];
    let coordinator = coordinator(status);
    let row = |member: &MemberStatus| {
        let (state, tone) = state(member);
        let (output, output_tone) = output(member);
        let quality = if member.quality == "good" { Tone::Plain } else { Tone::Weak };
        vec![
            word(starred(member, coordinator)),
            cell(state, tone),
            word(offset(member)),
            word(volume(member)),
            cell(output, output_tone),
            cell(&member.quality, quality),
        ]
    };
    table(&columns, status.members.iter().map(row).collect(), look)
}

fn offset(member: &MemberStatus) -> String {
    match &member.sync {
        Some(sync) if member.online => {
            with_error(sync.offset_us, sync.error_us + sync.asymmetry_us)
        }
        _ => "–".to_owned(),
    }
}

pub(super) fn volume(member: &MemberStatus) -> String {
    if member.muted { "muted".to_owned() } else { member.volume.to_string() }
}

fn output(member: &MemberStatus) -> (String, Tone) {
    match &member.output {
        OutputState::Ok => ("ok".to_owned(), Tone::Plain),
        OutputState::None => ("none".to_owned(), Tone::Weak),
        OutputState::Busy => ("busy".to_owned(), Tone::Bad),
        OutputState::Failed(why) => (format!("failed: {why}"), Tone::Bad),
    }
}

fn brief(status: &Status) -> String {
    let synced = status.members.iter().filter(|member| state(member).0 == "synced").count();
    let text = match status.room {
        Some(_) => format!("{} · {synced}/{} synced", headline(status), status.members.len()),
        None => format!("in no room · {}", playing(status)),
    };
    plain(&text)
}
