//! Operations in words, for people who read the log.

use crate::base::{NodeId, UserId};
use crate::wire::codec;
use crate::wire::op::{AddMode, Choice, Op, OpBody, Repeat, Subject, VoteCall};

use super::state::RoomState;

/// Characters of a title in a sentence.
const SHOWN: usize = 60;

/// What an operation does, as a part of a sentence that begins with its author.
#[must_use]
pub fn describe(op: &Op, state: &RoomState) -> String {
    match codec::decode_body(op) {
        Ok(body) => describe_body(&body, state),
        Err(_) => "did something that this version does not understand".into(),
    }
}

fn describe_body(body: &OpBody, state: &RoomState) -> String {
    match body {
        OpBody::Join { name, person: None, .. } => format!("joined as {}", short(name)),
        OpBody::Join { name, person: Some(person), .. } => {
            format!("joined as {}, a device of {}", short(name), short(&person.name))
        }
        OpBody::Leave => "left the room".into(),
        OpBody::Add { tracks, mode } => {
            let first = tracks.first().map_or("", |track| track.title.as_str());
            let what = match tracks.len() {
                1 => format!("\"{}\"", short(first)),
                n => format!("{n} tracks, \"{}\" first", short(first)),
            };
            match mode {
                AddMode::Append | AddMode::Continue(_) => format!("queued {what}"),
                AddMode::Play => format!("played {what}"),
            }
        }
        OpBody::Remove { entries } if entries.len() == 1 => "took an entry out of the queue".into(),
        OpBody::Remove { entries } => format!("took {} entries out of the queue", entries.len()),
        OpBody::Clear => "emptied the queue".into(),
        OpBody::Pause(_) => "paused".into(),
        OpBody::Resume(_) => "resumed".into(),
        OpBody::Stop(_) => "stopped".into(),
        OpBody::Seek { position, .. } => {
            let seconds = position.as_millis() / 1000;
            format!("went to {}:{:02}", seconds / 60, seconds % 60)
        }
        OpBody::Next(_) => "skipped to the next track".into(),
        OpBody::Prev(_) => "went back".into(),
        OpBody::Begin { .. } => "let the track begin".into(),
        OpBody::Fail { reason, .. } => format!("left a track out: {}", short(reason)),
        OpBody::Settle => "noted that the music moved on".into(),
        OpBody::Volume { member, volume } => {
            format!("set {} to volume {volume}", name_of(member, state))
        }
        OpBody::Mute { member, muted: true } => format!("muted {}", name_of(member, state)),
        OpBody::Mute { member, muted: false } => {
            format!("let {} sound again", name_of(member, state))
        }
        OpBody::RoomVolume { volume } => format!("set the room to volume {volume}"),
        OpBody::Move { .. } => "moved an entry of the queue".into(),
        OpBody::Shuffle { .. } => "shuffled the queue".into(),
        OpBody::Repeat { mode: Repeat::Off } => "set repeat off".into(),
        OpBody::Repeat { mode: Repeat::One } => "set repeat to the track that plays".into(),
        OpBody::Repeat { mode: Repeat::All } => "set repeat to the whole queue".into(),
        OpBody::Availability { gone, back } => match (gone.len(), back.len()) {
            (gone, 0) => format!("noted that nobody here has {gone} of the queue"),
            (0, back) => format!("noted that {back} of the queue can be played again"),
            (gone, back) => format!("noted that {gone} of the queue are gone and {back} are back"),
        },
        other => describe_government(other, state),
    }
}

fn describe_government(body: &OpBody, state: &RoomState) -> String {
    let person = |user: &UserId| state.person_name(user);
    let subject = |subject: &Subject| match subject {
        Subject::Person(user) => state.person_name(user),
        Subject::Device(node) => name_of(node, state),
    };
    match body {
        OpBody::Presence { here, away } => {
            let names = |users: &[UserId]| users.iter().map(person).collect::<Vec<_>>().join(", ");
            match (here.is_empty(), away.is_empty()) {
                (false, true) => format!("noted that {} came", names(here)),
                (true, _) => format!("noted that {} went away", names(away)),
                (false, false) => {
                    format!("noted that {} came and {} went away", names(here), names(away))
                }
            }
        }
        OpBody::Kick { subject: whom } => format!("sent {} out", subject(whom)),
        OpBody::Ban { subject: whom } => format!("banned {}", subject(whom)),
        OpBody::Unban { subject: whom } => format!("let {} come back", subject(whom)),
        OpBody::Silence { user, silenced: true } => format!("muted {} in the chat", person(user)),
        OpBody::Silence { user, silenced: false } => {
            format!("let {} speak in the chat again", person(user))
        }
        OpBody::Delete => "deleted the room".into(),
        OpBody::UpVote { up: true, .. } => "voted an entry of the queue up".into(),
        OpBody::UpVote { up: false, .. } => "took back a vote for an entry of the queue".into(),
        OpBody::DjTake => "became DJ".into(),
        OpBody::DjGive { to } => format!("made {} DJ in their place", person(to)),
        OpBody::DjDrop => "stepped down as DJ".into(),
        OpBody::DjAppoint { to } => format!("appointed {} DJ", person(to)),
        OpBody::DjRandom => "had a DJ drawn by lot".into(),
        OpBody::CallVote(VoteCall::Election) => "called an election".into(),
        OpBody::CallVote(VoteCall::Mutiny { .. }) => "called a mutiny".into(),
        OpBody::CallVote(VoteCall::Skip { .. }) => "called a vote to skip what plays".into(),
        OpBody::CallVote(VoteCall::Kick { user }) => {
            format!("called a vote to send {} out", person(user))
        }
        OpBody::Vote { choice: Choice::Yes, .. } => "voted yes".into(),
        OpBody::Vote { choice: Choice::No, .. } => "voted no".into(),
        OpBody::Vote { choice: Choice::For(user), .. } => format!("voted for {}", person(user)),
        OpBody::Chat { text } => format!("said \"{}\"", short(text)),
        OpBody::Set(setting) => format!("changed {}", super::settings::key_of(setting)),
        OpBody::Lock { secret: Some(_) } => "locked the room with a password".into(),
        OpBody::Lock { secret: None } => "opened the room to all".into(),
        OpBody::EndFriendships { .. } => "ended a friendship".into(),
        _ => "did something".into(),
    }
}

/// The kind of an operation for programs.
#[must_use]
pub fn kind_name(kind: u16) -> &'static str {
    match kind {
        1 => "join",
        2 => "leave",
        10 => "add",
        11 => "remove",
        12 => "clear",
        13 => "move",
        14 => "shuffle",
        15 => "repeat",
        20 => "pause",
        21 => "resume",
        22 => "stop",
        23 => "seek",
        24 => "next",
        25 => "prev",
        26 => "begin",
        27 => "fail",
        28 => "settle",
        29 => "availability",
        30 => "volume",
        31 => "mute",
        32 => "room_volume",
        3 => "presence",
        4 => "kick",
        5 => "ban",
        6 => "unban",
        7 => "silence",
        8 => "delete",
        16 => "up_vote",
        40 => "dj_take",
        41 => "dj_give",
        42 => "dj_drop",
        43 => "dj_appoint",
        44 => "dj_random",
        50 => "call_vote",
        51 => "vote",
        60 => "chat",
        70 => "set",
        71 => "lock",
        _ => "unknown",
    }
}

fn name_of(node: &NodeId, state: &RoomState) -> String {
    state.member(node).map_or_else(|| node.short(), |member| member.name.clone())
}

fn short(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.into();
    }
    text.chars().take(SHOWN - 1).chain(['…']).collect()
}
