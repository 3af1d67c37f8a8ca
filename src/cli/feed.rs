//! `groovebox watch`: what happens in the room, line by line, until one has seen enough.
//!
//! The daemon tells what is different, not what happened; here two pictures that follow each
//! other become words. What the pictures cannot tell, how a vote ended and why a DJ went, is
//! asked for.

use serde_json::json;

use super::chat::spoken;
use super::dj::why;
use super::failure::Failure;
use super::live::coordinator_name;
use super::session::{Format, Session, print_json, print_lines, understand};
use super::text::plain;
use super::vote::{outcome, progress, standing};
use super::watch::Picture;
use crate::api::Event;
use crate::engine::Status;
use crate::engine::room::DjEnd;
use crate::engine::status::{
    DiskState, DjStatus, MemberStatus, PastVoteStatus, PersonStatus, PlaybackState, RoomStatus,
};
use crate::wire::message::{OutputState, SyncState};

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Happening {
    /// For programs.
    pub(super) kind: &'static str,
    /// For people.
    pub(super) text: String,
}

/// What has to be asked to tell the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// How the vote of this id ended.
    Vote(String),
    /// Why this person is DJ no longer.
    Dj(String),
}

fn happened(kind: &'static str, text: impl Into<String>) -> Happening {
    Happening { kind, text: text.into() }
}

pub(super) async fn run(session: &mut Session) -> Result<(), Failure> {
    let mut follower = session.client.follow().await?;
    let mut picture = Picture::default();
    let mut before: Option<Status> = None;
    loop {
        let event = follower.next().await?;
        if let Event::Chat { line, .. } = &event {
            match session.format {
                Format::Json => print_json(&json!({ "kind": "chat", "line": line }))?,
                Format::Text => print_lines(&spoken(line))?,
            }
            continue;
        }
        let status = picture.apply(event)?;
        let told = match &before {
            None => as_it_is(&status),
            Some(before) => {
                let mut told = differences(before, &status);
                for question in questions(before, &status) {
                    told.extend(ask(session, question).await?);
                }
                told
            }
        };
        for happening in told {
            tell(session.format, &happening)?;
        }
        before = Some(status);
    }
}

fn tell(format: Format, happening: &Happening) -> Result<(), Failure> {
    match format {
        Format::Json => print_json(&json!({ "kind": happening.kind, "text": happening.text })),
        Format::Text => print_lines(&[plain(&happening.text)]),
    }
}

async fn ask(session: &Session, question: Question) -> Result<Option<Happening>, Failure> {
    match question {
        Question::Vote(id) => {
            let past: Vec<PastVoteStatus> = understand(session.get("/votes/history").await?)?;
            let ended = past.iter().find(|past| past.id == id);
            Ok(ended.map(|past| happened("vote", outcome(past))))
        }
        Question::Dj(name) => {
            let dj: DjStatus = understand(session.get("/dj").await?)?;
            let past = dj.history.first().filter(|past| past.name == name);
            Ok(past.map(|past| happened("dj", no_longer(&name, past.reason))))
        }
    }
}

fn no_longer(name: &str, reason: DjEnd) -> String {
    format!("{name} is DJ no longer: {}", why(reason))
}

/// Where one comes in.
fn as_it_is(status: &Status) -> Vec<Happening> {
    let Some(room) = &status.room else {
        return vec![happened("room", format!("{} is in no room", status.node.name))];
    };
    let mut told = vec![happened("room", format!("in {} ({})", room.name, room.code))];
    let here = status.people.iter().filter(|person| person.here);
    let here = here.map(|person| person.name.as_str()).collect::<Vec<_>>();
    if !here.is_empty() {
        told.push(happened("person", format!("here: {}", here.join(", "))));
    }
    told.extend(room.dj.as_ref().map(|dj| happened("dj", format!("{dj} is DJ"))));
    told.extend(playback(None, status));
    told.extend(status.votes.iter().map(|vote| happened("vote", progress(vote))));
    told
}

/// What the pictures do not tell.
pub(super) fn questions(old: &Status, new: &Status) -> Vec<Question> {
    if room_id(old) != room_id(new) {
        return Vec::new();
    }
    let is_open = |id: &str| new.votes.iter().any(|vote| vote.id == id);
    let ended = old.votes.iter().filter(|vote| !is_open(&vote.id));
    let mut all = ended.map(|vote| Question::Vote(vote.id.clone())).collect::<Vec<_>>();
    let dj = |status: &Status| status.room.as_ref().and_then(|room| room.dj.clone());
    let removed = dj(old).filter(|old| Some(old) != dj(new).as_ref());
    all.extend(removed.map(Question::Dj));
    all
}

/// What happened between two pictures of one room.
pub(super) fn differences(old: &Status, new: &Status) -> Vec<Happening> {
    if room_id(old) != room_id(new) {
        return as_it_is(new);
    }
    let mut told = Vec::new();
    if let (Some(before), Some(room)) = (&old.room, &new.room) {
        told.extend(about_room(before, room));
        told.extend(about_coordinator(old, new));
    }
    told.extend(about_people(&old.people, &new.people));
    told.extend(about_members(&old.members, &new.members));
    told.extend(about_votes(old, new));
    told.extend(about_queue(old, new));
    told.extend(playback(Some(old), new));
    told.extend(about_this_device(old, new));
    told
}

fn room_id(status: &Status) -> Option<&str> {
    status.room.as_ref().map(|room| room.id.as_str())
}

fn about_room(old: &RoomStatus, new: &RoomStatus) -> Vec<Happening> {
    let mut told = Vec::new();
    let nobody = "nobody".to_owned();
    if old.name != new.name {
        told.push(happened("room", format!("the room is called {} now", new.name)));
    }
    if old.locked != new.locked {
        let text =
            if new.locked { "the room is locked now" } else { "the room is open to all now" };
        told.push(happened("room", text));
    }
    if old.owner != new.owner {
        let owner = new.owner.as_ref().unwrap_or(&nobody);
        told.push(happened("owner", format!("{owner} owns the room now")));
    }
    if let (None, Some(acting)) = (&old.acting_owner, &new.acting_owner) {
        told.push(happened("owner", format!("{acting} acts for the owner, who is away")));
    }
    if old.dj != new.dj {
        told.extend(new.dj.as_ref().map(|dj| happened("dj", format!("{dj} is DJ now"))));
    }
    for (key, value) in
        new.settings.iter().filter(|(key, value)| old.settings.get(*key) != Some(*value))
    {
        told.push(happened("setting", format!("{key} is {value} now")));
    }
    let banned = new.banned.iter().filter(|name| !old.banned.contains(name));
    told.extend(banned.map(|name| happened("ban", format!("{name} is banned"))));
    let back = old.banned.iter().filter(|name| !new.banned.contains(name));
    told.extend(back.map(|name| happened("ban", format!("{name} may come back"))));
    told
}

fn about_coordinator(old: &Status, new: &Status) -> Option<Happening> {
    let (before, now) = (coordinator_name(old), coordinator_name(new));
    if before == now {
        return None;
    }
    Some(match now {
        Some(name) => happened("coordinator", format!("{name} coordinates now")),
        None => happened("coordinator", "nobody coordinates; the music plays on"),
    })
}

fn about_people(old: &[PersonStatus], new: &[PersonStatus]) -> Vec<Happening> {
    let mut told = Vec::new();
    for person in new {
        let name = &person.name;
        let Some(before) = old.iter().find(|before| before.id == person.id) else {
            told.push(happened("person", format!("{name} joined")));
            continue;
        };
        if before.name != *name {
            told.push(happened("person", format!("{} is called {name} now", before.name)));
        }
        match (before.here, person.here) {
            (false, true) => told.push(happened("person", format!("{name} came back"))),
            (true, false) => told.push(happened("person", format!("{name} went away"))),
            _ => {}
        }
        match (before.muted, person.muted) {
            (false, true) => told.push(happened("person", format!("{name} was muted in the chat"))),
            (true, false) => told.push(happened("person", format!("{name} may chat again"))),
            _ => {}
        }
        if before.cooldown_ms.is_some() && person.cooldown_ms.is_none() {
            told.push(happened("person", format!("{name} can be DJ again")));
        }
    }
    let gone = old.iter().filter(|before| !new.iter().any(|person| person.id == before.id));
    told.extend(gone.map(|person| happened("person", format!("{} left the room", person.name))));
    told
}

fn about_members(old: &[MemberStatus], new: &[MemberStatus]) -> Vec<Happening> {
    let mut told = Vec::new();
    for member in new {
        let name = &member.name;
        let Some(before) = old.iter().find(|before| before.id == member.id) else {
            told.push(happened("device", format!("device {name} joined")));
            continue;
        };
        match (before.online, member.online) {
            (false, true) => told.push(happened("device", format!("device {name} is back"))),
            (true, false) => told.push(happened("device", format!("device {name} was lost"))),
            _ => {}
        }
        if member.online {
            told.extend(about_device(before, member));
        }
    }
    let gone = old.iter().filter(|before| !new.iter().any(|member| member.id == before.id));
    told.extend(gone.map(|member| happened("device", format!("device {} left", member.name))));
    told
}

fn about_device(old: &MemberStatus, new: &MemberStatus) -> Vec<Happening> {
    let mut told = Vec::new();
    let name = &new.name;
    if old.quality != new.quality {
        told.push(happened(
            "network",
            match new.quality.as_str() {
                "good" => format!("the network of {name} is good again"),
                "weak" => format!("the network of {name} is weak: it may miss a beat"),
                _ => format!("the network of {name} is so slow that nobody waits for it"),
            },
        ));
    }
    if old.output != new.output {
        told.extend(match &new.output {
            OutputState::Ok => Some(happened("output", format!("{name} sounds again"))),
            OutputState::Busy => {
                Some(happened("output", format!("another program has the output of {name}")))
            }
            OutputState::Failed(why) => {
                Some(happened("output", format!("the output of {name} failed: {why}")))
            }
            OutputState::None => None,
        });
    }
    let state = |member: &MemberStatus| member.sync.as_ref().map(|sync| sync.state);
    match (state(old), state(new)) {
        (Some(SyncState::Synced), Some(SyncState::OutOfSync)) => {
            told.push(happened("sync", format!("{name} is out of sync")));
        }
        (Some(SyncState::OutOfSync), Some(SyncState::Synced)) => {
            told.push(happened("sync", format!("{name} is in sync again")));
        }
        _ => {}
    }
    told
}

/// Calls, and each vote; how they end is asked for.
fn about_votes(old: &Status, new: &Status) -> Vec<Happening> {
    let mut told = Vec::new();
    for vote in &new.votes {
        match old.votes.iter().find(|before| before.id == vote.id) {
            None => {
                let caller = vote.caller.as_deref().unwrap_or("the room");
                told.push(happened("vote", format!("{caller} calls: {}", progress(vote))));
            }
            Some(before) if standing(before) != standing(vote) => {
                told.push(happened("vote", progress(vote)));
            }
            Some(_) => {}
        }
    }
    told
}

fn about_queue(old: &Status, new: &Status) -> Option<Happening> {
    let known = |id: u64| old.queue.iter().any(|entry| entry.id == id);
    let added = new.queue.iter().filter(|entry| !known(entry.id)).collect::<Vec<_>>();
    let first = added.first()?;
    let (title, from) = (&first.track.title, &first.track.added_by);
    Some(match added.len() {
        1 => happened("queue", format!("{from} queued {title}")),
        n => happened("queue", format!("{from} queued {title} and {} more", n - 1)),
    })
}

/// What plays, where that is news.
fn playback(old: Option<&Status>, new: &Status) -> Option<Happening> {
    let track = |status: &Status| status.playback.track.as_ref().map(|track| track.id.clone());
    let begun = |status: &Status| (track(status), status.playback.state);
    if old.is_some_and(|old| begun(old) == begun(new)) {
        return None;
    }
    let same = old.is_some_and(|old| track(old) == track(new));
    let what = new.playback.track.as_ref().map(|track| {
        let artists = track.artists.join(", ");
        let by = if artists.is_empty() { String::new() } else { format!(" · {artists}") };
        format!("{}{by}", track.title)
    });
    let was = old.map(|old| old.playback.state);
    match (new.playback.state, what) {
        (PlaybackState::Playing, Some(_)) if same && was == Some(PlaybackState::Paused) => {
            Some(happened("track", "the music goes on"))
        }
        (PlaybackState::Playing, Some(what)) => Some(happened("track", format!("playing {what}"))),
        (PlaybackState::Paused, Some(what)) => Some(happened("track", format!("paused: {what}"))),
        (PlaybackState::Stopped, _) if was.is_some() => {
            Some(happened("track", "the music stopped"))
        }
        _ => None,
    }
}

fn about_this_device(old: &Status, new: &Status) -> Vec<Happening> {
    let mut told = Vec::new();
    if old.node.disk != new.node.disk {
        told.push(happened(
            "disk",
            match new.node.disk {
                DiskState::Ok => "the disk of this device is well again",
                DiskState::Slow => "the disk of this device is too slow; the music plays on",
                DiskState::Full => "the disk of this device is full; the music plays on",
                DiskState::Failed => "the disk of this device is failing; the music plays on",
            },
        ));
    }
    let news = |old: &Option<String>, new: &Option<String>| new.clone().filter(|_| old != new);
    told.extend(news(&old.node.outdated, &new.node.outdated).map(|text| happened("version", text)));
    let notice = news(&old.playback.notice, &new.playback.notice);
    told.extend(notice.map(|text| happened("queue", text)));
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    fn texts(old: &Status, new: &Status) -> Vec<String> {
        differences(old, new).into_iter().map(|happening| happening.text).collect()
    }

    fn lively() -> Status {
        let mut status = sample::status();
        status.people = sample::people();
        status.room.as_mut().expect("one").dj = Some("anna".to_owned());
        status
    }

    #[test]
    fn whoever_comes_in_is_told_how_it_stands() {
        let status = Status { votes: sample::votes(), ..lively() };
        let told = as_it_is(&status).into_iter().map(|h| h.text).collect::<Vec<_>>();
        assert_eq!(
            told,
            [
                "in Kitchen party (GROOVE-7KQ4)",
                "here: anna, ben",
                "anna is DJ",
                "playing So What · Miles Davis",
                "election of the DJ  ██░░░ 2 of 5, carla 2, ben 1, 41 s left",
                "mutiny against anna  ███░░ 3 of 5, 1 against, 41 s left",
            ]
        );
    }

    #[test]
    fn time_that_passes_is_no_news() {
        let old = Status { votes: sample::votes(), ..lively() };
        let mut new = old.clone();
        new.playback.position_ms += 250;
        new.votes[0].closes_in_ms -= 250;
        new.people[1].cooldown_ms = Some(153_000);
        new.node.uptime_s += 1;
        new.members[0].sync.as_mut().expect("known").offset_us += 3.0;
        assert_eq!(texts(&old, &new), Vec::<String>::new());
        assert_eq!(questions(&old, &new), []);
    }

    #[test]
    fn people_and_devices_come_and_go() {
        let (old, mut new) = (lively(), lively());
        new.people[0].here = false;
        new.people[1].cooldown_ms = None;
        new.people[2].id = "64".repeat(32);
        new.people[2].name = "dora".to_owned();
        new.members[1].online = false;
        new.members[0].quality = "weak".to_owned();
        assert_eq!(
            texts(&old, &new),
            [
                "anna went away",
                "ben can be DJ again",
                "dora joined",
                "carla left the room",
                "the network of kitchen is weak: it may miss a beat",
                "device living-room-left was lost",
            ]
        );
    }

    #[test]
    fn votes_are_told_as_they_are_cast_and_their_end_is_asked_for() {
        let old = lively();
        let mut open = lively();
        open.votes = vec![sample::votes().remove(1)];
        assert_eq!(
            texts(&old, &open),
            ["ben calls: mutiny against anna  ███░░ 3 of 5, 1 against, 41 s left"]
        );
        let mut more = open.clone();
        more.votes[0].votes_for = 4;
        assert_eq!(
            texts(&open, &more),
            ["mutiny against anna  ████░ 4 of 5, 1 against, 41 s left"]
        );
        let mut over = lively();
        over.room.as_mut().expect("one").dj = None;
        assert_eq!(texts(&more, &over), Vec::<String>::new());
        let asked = questions(&more, &over);
        let expected =
            [Question::Vote("00000000000000b2".to_owned()), Question::Dj("anna".to_owned())];
        assert_eq!(asked, expected);
        assert_eq!(no_longer("anna", DjEnd::Mutiny), "anna is DJ no longer: a mutiny");
    }

    #[test]
    fn music_settings_and_the_coordinator() {
        let (old, mut new) = (lively(), lively());
        let room = new.room.as_mut().expect("one");
        room.coordinator = Some("b2".repeat(32));
        room.settings.insert("queue_limit".to_owned(), "7".to_owned());
        room.banned.push("eve".to_owned());
        new.playback.state = PlaybackState::Paused;
        let mut entry = new.queue[0].clone();
        entry.id = 12;
        new.queue.push(entry);
        assert_eq!(
            texts(&old, &new),
            [
                "queue_limit is 7 now",
                "eve is banned",
                "living-room-left coordinates now",
                "kitchen queued Freddie Freeloader",
                "paused: So What · Miles Davis",
            ]
        );
        let mut gone = old.clone();
        gone.room = None;
        assert_eq!(texts(&old, &gone), ["kitchen is in no room"]);
    }
}
