//! Which operation is let through. The same rules hold where an operation is ordered and again
//! where it is applied; they look at nothing but the settled state, the operation, the owner
//! of the term and the instant.

use crate::base::limits::{
    MAX_ARTISTS, MAX_BLOB, MAX_MEMBERS, MAX_NAME, MAX_QUEUE, MAX_REASON, MAX_TAG,
    MAX_TRACK_CHANNELS, MAX_TRACK_FRAMES, MAX_TRACK_TEXT, MAX_TRACKS_PER_ADD, SAMPLE_RATES,
};
use crate::base::{EntryKey, NodeId, RoomTime, SegmentId, Span, UserId};
use crate::wire::Track;
use crate::wire::op::{AddMode, Guard, Op, OpBody, Refusal, RefusalCode};

use super::members::{MAX_VOLUME, is_name};
use super::playback::{Phase, Playback, id_after};
use super::rights::{self, Asker};
use super::state::RoomState;

/// Whether a settled `state` lets `op` through.
pub(super) fn check(
    state: &RoomState,
    op: &Op,
    body: &OpBody,
    term_owner: NodeId,
    at: RoomTime,
) -> Result<(), Refusal> {
    check_envelope(state, op, body, term_owner)?;
    let asker = Asker::of(state, op, at);
    check_right(asker, body)?;
    check_sense(state, body)?;
    check_person(asker, body)
}

/// Whether whoever is at a device may add these tracks, in however many operations.
pub(super) fn check_adding(
    state: &RoomState,
    node: NodeId,
    tracks: &[Track],
    plays: bool,
    at: RoomTime,
) -> Result<(), Refusal> {
    rights::check_adding(Asker::on(state, node, at), tracks, plays)
}

/// Whether the music is in the hand of whoever wants to change it.
fn check_right(asker: Asker<'_>, body: &OpBody) -> Result<(), Refusal> {
    match body {
        OpBody::Add { tracks, mode } => {
            rights::check_adding(asker, tracks, *mode != AddMode::Append)
        }
        OpBody::Remove { entries } => rights::check_removing(asker, entries),
        OpBody::Move { entry, behind } => rights::check_moving(asker, *entry, *behind),
        OpBody::Volume { member, .. } | OpBody::Mute { member, .. } => {
            asker.may_set_volume_of(member)
        }
        OpBody::Clear
        | OpBody::Shuffle { .. }
        | OpBody::Repeat { .. }
        | OpBody::RoomVolume { .. }
        | OpBody::Pause(_)
        | OpBody::Resume(_)
        | OpBody::Stop(_)
        | OpBody::Seek { .. }
        | OpBody::Next(_)
        | OpBody::Prev(_) => asker.controls(),
        _ => Ok(()),
    }
}

/// What people do to each other.
fn check_person(asker: Asker<'_>, body: &OpBody) -> Result<(), Refusal> {
    match body {
        OpBody::Join { name, person, admission, friendship } => {
            check_device_name(name)?;
            let (person, admission) = (person.as_ref(), admission.as_ref());
            let card = rights::Card { person, admission, friendship: friendship.as_ref() };
            rights::check_join(asker, &card)
        }
        OpBody::Presence { here, away } => check_presence(here, away),
        OpBody::Kick { subject } => rights::check_kick(asker, *subject),
        OpBody::Ban { subject } => rights::check_ban(asker, *subject),
        OpBody::Unban { subject } => rights::check_unban(asker, *subject),
        OpBody::Silence { user, silenced } => rights::check_silence(asker, user, *silenced),
        OpBody::Delete => rights::check_delete(asker),
        OpBody::UpVote { entry, .. } => rights::check_up_vote(asker, *entry),
        OpBody::DjTake => rights::check_dj_take(asker),
        OpBody::DjGive { to } => rights::check_dj_give(asker, to),
        OpBody::DjDrop => rights::is_dj(asker),
        OpBody::DjAppoint { to } => rights::check_dj_appoint(asker, to),
        OpBody::DjRandom => rights::check_dj_random(asker),
        OpBody::CallVote(call) => rights::check_call(asker, call),
        OpBody::Vote { session, choice } => rights::check_vote(asker, *session, *choice),
        OpBody::Chat { text } => rights::check_chat(asker, text),
        OpBody::Set(setting) => rights::check_set(asker, setting),
        OpBody::Lock { .. } => rights::check_lock(asker),
        OpBody::EndFriendships { ended } => rights::check_end_friendships(asker, ended),
        _ => Ok(()),
    }
}

/// Whether what is asked of the music can be done.
fn check_sense(state: &RoomState, body: &OpBody) -> Result<(), Refusal> {
    match body {
        OpBody::Add { tracks, .. } => check_add(state, tracks),
        OpBody::Remove { entries } => check_remove(&state.playback, entries),
        OpBody::Pause(guard) => check_pause(state, guard),
        OpBody::Resume(guard) => check_resume(state, guard),
        OpBody::Stop(guard) => check_stop(state, guard),
        OpBody::Seek { position, guard } => check_seek(state, *position, guard),
        OpBody::Next(guard) => check_next(state, guard),
        OpBody::Prev(guard) => check_prev(state, guard),
        OpBody::Begin { segment } => check_pending(&state.playback, *segment),
        OpBody::Fail { segment, reason } => {
            check_pending(&state.playback, *segment)?;
            check_reason(reason)
        }
        OpBody::Volume { member, volume } => {
            check_member(state, member)?;
            check_volume(*volume)
        }
        OpBody::Mute { member, .. } => check_member(state, member),
        OpBody::RoomVolume { volume } => check_volume(*volume),
        OpBody::Move { entry, behind } => check_move(&state.playback, *entry, *behind),
        OpBody::Availability { gone, back } => check_availability(gone, back),
        _ => Ok(()),
    }
}

fn check_envelope(
    state: &RoomState,
    op: &Op,
    body: &OpBody,
    term_owner: NodeId,
) -> Result<(), Refusal> {
    if op.room != state.id() {
        return Err(Refusal::new(
            RefusalCode::InvalidRequest,
            "this was meant for another room",
            "look at `groovebox room show` and try again",
        ));
    }
    if op.kind != body.kind() {
        return Err(Refusal::new(
            RefusalCode::InvalidRequest,
            "the operation is not of the kind it says it is",
            "update GrooveBox on the device that sent it",
        ));
    }
    if state.has_seen(&op.id) {
        return Err(done_already());
    }
    let joins = matches!(body, OpBody::Join { .. });
    if !joins && state.member(&op.id.author).is_none() {
        return Err(Refusal::new(
            RefusalCode::NotInRoom,
            "the device that asked is not in this room",
            "join the room first: `groovebox room join CODE`",
        ));
    }
    if is_coordinators(body) && op.id.author != term_owner {
        return Err(Refusal::new(
            RefusalCode::AuthRequired,
            "only the coordinator may say so",
            "nothing needs to be done: the room has another coordinator now",
        ));
    }
    Ok(())
}

/// It has had its place in the log.
/// What has had its place is not ordered again.
#[must_use]
pub fn done_already() -> Refusal {
    Refusal::new(
        RefusalCode::UpdateFailed,
        "this has been done already",
        "nothing needs to be done",
    )
}

/// Whether only the coordinator may author it.
pub(super) fn is_coordinators(body: &OpBody) -> bool {
    matches!(
        body,
        OpBody::Begin { .. }
            | OpBody::Fail { .. }
            | OpBody::Settle
            | OpBody::Availability { .. }
            | OpBody::Presence { .. }
    )
}

/// Whether it shows that a person cares for the room.
pub(super) fn is_a_persons(body: &OpBody) -> bool {
    !is_coordinators(body) && !matches!(body, OpBody::Join { .. } | OpBody::Leave)
}

fn check_device_name(name: &str) -> Result<(), Refusal> {
    if is_name(name) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::JoinFailed,
        format!("a device's name has 1 to {MAX_NAME} printable characters"),
        "choose another with `--name`",
    ))
}

fn check_presence(here: &[UserId], away: &[UserId]) -> Result<(), Refusal> {
    if (1..=MAX_MEMBERS).contains(&(here.len() + away.len())) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::InvalidRequest,
        format!("1 to {MAX_MEMBERS} people can be named"),
        "update GrooveBox on the coordinator",
    ))
}

fn check_add(state: &RoomState, tracks: &[Track]) -> Result<(), Refusal> {
    if tracks.is_empty() || tracks.len() > MAX_TRACKS_PER_ADD {
        return Err(Refusal::new(
            RefusalCode::InvalidRequest,
            format!("{} tracks at once; 1 to {MAX_TRACKS_PER_ADD} can be added", tracks.len()),
            "add fewer at a time",
        ));
    }
    let queued = state.queue().len();
    let max = usize::from(state.settings().queue_max);
    if queued + tracks.len() > max {
        return Err(Refusal::new(
            RefusalCode::QueueFull,
            format!("the queue holds {queued} of at most {max} tracks; nothing was added"),
            "wait until some have been played, or `groovebox queue clear`",
        ));
    }
    match tracks.iter().find_map(|track| check_track(track).err().map(|why| (track, why))) {
        None => Ok(()),
        Some((track, why)) => Err(Refusal::new(
            RefusalCode::UnsupportedMedia,
            format!("\"{}\" cannot be played: {why}", shown(&track.title)),
            "leave this file out, or convert it",
        )),
    }
}

/// Whether every node could place and play it.
pub(super) fn check_track(track: &Track) -> Result<(), &'static str> {
    let texts = || track.artists.iter().chain([&track.title, &track.album]);
    if !SAMPLE_RATES.contains(&track.rate) {
        return Err("its sample rate is not between 8 and 192 kHz");
    }
    if !(1..=MAX_TRACK_CHANNELS).contains(&track.channels) {
        return Err("it has no channel, or more than eight");
    }
    if track.frames == 0 || track.size == 0 {
        return Err("it is empty");
    }
    if track.size > MAX_BLOB {
        return Err("the file is larger than 2 GiB");
    }
    if track.frames > MAX_TRACK_FRAMES {
        return Err("it is longer than a day");
    }
    if track.artists.len() > MAX_ARTISTS
        || texts().any(|text| text.chars().count() > MAX_TAG)
        || texts().map(String::len).sum::<usize>() > MAX_TRACK_TEXT
    {
        return Err("its tags are too long");
    }
    Ok(())
}

fn check_remove(playback: &Playback, entries: &[EntryKey]) -> Result<(), Refusal> {
    if entries.is_empty() || entries.len() > MAX_QUEUE {
        return Err(Refusal::new(
            RefusalCode::InvalidRequest,
            "name the entries to take out of the queue",
            "`groovebox queue` lists them with their numbers",
        ));
    }
    let queued = |key: &EntryKey| playback.queue.iter().any(|entry| entry.key == *key);
    let missing = entries.iter().find(|key| !queued(key));
    missing.map_or(Ok(()), |missing| Err(not_waiting(playback, *missing)))
}

fn not_waiting(playback: &Playback, missing: EntryKey) -> Refusal {
    match playback.focus().filter(|focus| focus.entry.key == missing) {
        Some(focus) => Refusal::new(
            RefusalCode::NotFound,
            format!("entry {} is no longer waiting: it is its turn", focus.entry.id.0),
            "`groovebox next` skips it; nothing was changed",
        ),
        None => Refusal::new(
            RefusalCode::NotFound,
            "an entry that was named is no longer in the queue; nothing was changed",
            "`groovebox queue` lists the entries with their numbers",
        ),
    }
}

fn check_move(
    playback: &Playback,
    entry: EntryKey,
    behind: Option<EntryKey>,
) -> Result<(), Refusal> {
    if behind == Some(entry) {
        return Err(Refusal::new(
            RefusalCode::InvalidRequest,
            "an entry cannot be moved behind itself",
            "name another place",
        ));
    }
    if playback.place_of(entry).is_none() {
        return Err(not_waiting(playback, entry));
    }
    let gone = behind.filter(|_| playback.place_behind(behind).is_none());
    gone.map_or(Ok(()), |gone| Err(not_waiting(playback, gone)))
}

fn check_availability(gone: &[EntryKey], back: &[EntryKey]) -> Result<(), Refusal> {
    if (1..=MAX_QUEUE).contains(&(gone.len() + back.len())) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::InvalidRequest,
        format!("1 to {MAX_QUEUE} entries can be named"),
        "update GrooveBox on the coordinator",
    ))
}

fn check_something(playback: &Playback) -> Result<(), Refusal> {
    if playback.focus().is_some() {
        return Ok(());
    }
    let hint = if playback.queue.is_empty() {
        "play something first: `groovebox play FILE`"
    } else {
        "`groovebox resume` plays the queue"
    };
    Err(Refusal::new(RefusalCode::UpdateFailed, "nothing is playing", hint))
}

/// The stretch of music that a command was meant for must be the one that the room is about:
/// a skip that comes late would else skip the next song.
fn check_guard(state: &RoomState, guard: &Guard) -> Result<(), Refusal> {
    if guard.dj_epoch != state.dj_epoch() {
        return Err(Refusal::new(
            RefusalCode::UpdateFailed,
            "the room has another DJ now",
            "nothing was changed; look at `groovebox status`",
        ));
    }
    if guard.segment == state.playback.focus().map(|focus| focus.id) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::UpdateFailed,
        "the room has moved on to something else meanwhile; nothing was changed",
        "look at `groovebox status` and try again if it is still what you want",
    ))
}

/// As [`check_guard`], for what silences: whoever wants silence means the track as well that has
/// followed by itself just now.
fn check_guard_or_follower(state: &RoomState, guard: &Guard) -> Result<(), Refusal> {
    let follows = guard
        .segment
        .zip(state.playback.focus())
        .is_some_and(|(before, focus)| focus.id == id_after(before, focus.entry.key));
    if follows && guard.dj_epoch == state.dj_epoch() { Ok(()) } else { check_guard(state, guard) }
}

/// Pausing what is paused is no mistake.
fn check_pause(state: &RoomState, guard: &Guard) -> Result<(), Refusal> {
    check_something(&state.playback)?;
    match state.phase() {
        Phase::Paused { .. } => Ok(()),
        _ => check_guard_or_follower(state, guard),
    }
}

/// Nor is stopping what has stopped.
fn check_stop(state: &RoomState, guard: &Guard) -> Result<(), Refusal> {
    match state.phase() {
        Phase::Stopped => Ok(()),
        _ => check_guard_or_follower(state, guard),
    }
}

fn check_next(state: &RoomState, guard: &Guard) -> Result<(), Refusal> {
    check_something(&state.playback)?;
    check_guard(state, guard)
}

/// Going on with what goes on is no mistake.
fn check_resume(state: &RoomState, guard: &Guard) -> Result<(), Refusal> {
    match state.phase() {
        Phase::Playing { .. } | Phase::Buffering { .. } => return Ok(()),
        Phase::Paused { .. } => return check_guard(state, guard),
        Phase::Stopped if state.playback.has_playable() => return check_guard(state, guard),
        Phase::Stopped if !state.queue().is_empty() => return Err(nobody_has_any()),
        Phase::Stopped => {}
    }
    Err(Refusal::new(
        RefusalCode::UpdateFailed,
        "nothing is paused and the queue is empty",
        "play something first: `groovebox play FILE`",
    ))
}

fn nobody_has_any() -> Refusal {
    Refusal::new(
        RefusalCode::UpdateFailed,
        "no device that has any track of the queue is here",
        "switch on the devices that brought them, or play something else",
    )
}

fn check_prev(state: &RoomState, guard: &Guard) -> Result<(), Refusal> {
    if state.playback.can_go_back() {
        return check_guard(state, guard);
    }
    Err(Refusal::new(
        RefusalCode::UpdateFailed,
        "nothing has been played yet",
        "play something first: `groovebox play FILE`",
    ))
}

fn check_seek(state: &RoomState, position: Span, guard: &Guard) -> Result<(), Refusal> {
    check_something(&state.playback)?;
    check_guard(state, guard)?;
    let Some(focus) = state.playback.focus() else { return Ok(()) };
    let length = focus.entry.track.duration();
    if position >= Span::ZERO && position < length {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::InvalidRequest,
        format!("the track has no such position: it is {} long", clock_face(length)),
        "name a position between its beginning and its end",
    ))
}

fn clock_face(length: Span) -> String {
    let seconds = length.as_millis() / 1000;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn check_pending(playback: &Playback, segment: SegmentId) -> Result<(), Refusal> {
    match &playback.phase {
        Phase::Buffering { pending, .. } if pending.id == segment => Ok(()),
        _ => Err(Refusal::new(
            RefusalCode::UpdateFailed,
            "this stretch of music is no longer waiting to begin",
            "nothing needs to be done: something else was asked for meanwhile",
        )),
    }
}

fn check_reason(reason: &str) -> Result<(), Refusal> {
    if reason.chars().count() <= MAX_REASON && !reason.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::InvalidRequest,
        format!("a reason has at most {MAX_REASON} printable characters"),
        "update GrooveBox on the coordinator",
    ))
}

fn check_member(state: &RoomState, member: &NodeId) -> Result<(), Refusal> {
    if state.member(member).is_some() {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::NotFound,
        format!("device {} is not in this room", member.short()),
        "`groovebox room show` lists the devices",
    ))
}

fn check_volume(volume: u8) -> Result<(), Refusal> {
    if volume <= MAX_VOLUME {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::InvalidRequest,
        format!("a volume goes from 0 to {MAX_VOLUME}, not to {volume}"),
        "choose one in that range",
    ))
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_TAG).collect()
}
