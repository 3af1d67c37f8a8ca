//! What a person's request means as an operation, and who waits for which answer.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::{Command, LocalTime, Node, OpId, Output, RequestId, RoomCard, RoomId, Span, Track};
use crate::engine::command::{CommandReply, Done, SeekTo, VolumeChange};
use crate::engine::membership::Intent;
use crate::engine::status::PlaybackState;
use crate::wire::message::Level;
use crate::wire::op::{AddMode, OpBody};
use crate::wire::{Refusal, RefusalCode, codec};

/// How long a command may take until its person is told that nobody coordinates.
const PATIENCE: Span = Span::from_secs(5);

/// How long entering a room may take.
const JOIN_PATIENCE: Span = Span::from_secs(8);

/// Commands that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    ops: BTreeMap<OpId, (RequestId, LocalTime)>,
    room: Option<RoomRequest>,
}

/// A person waits to be in a room.
#[derive(Debug)]
struct RoomRequest {
    id: RequestId,
    /// Which; none until whoever lives at `address` has told.
    room: Option<RoomId>,
    address: Option<SocketAddr>,
    until: LocalTime,
}

impl Requests {
    pub(super) fn wait(&mut self, now: LocalTime, request: RequestId, op: OpId) {
        self.ops.insert(op, (request, now + PATIENCE));
    }

    pub(super) fn is_waiting(&self, op: OpId) -> bool {
        self.ops.contains_key(&op)
    }

    pub(super) fn finish(&mut self, outputs: &mut VecDeque<Output>, op: OpId, reply: CommandReply) {
        if let Some((id, _)) = self.ops.remove(&op) {
            outputs.push_back(Output::Reply { id, reply });
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<LocalTime> {
        let ops = self.ops.values().map(|(_, until)| *until).min();
        let room = self.room.as_ref().map(|request| request.until);
        ops.into_iter().chain(room).min()
    }

    /// Tells everybody whose patience is over that nothing came of it.
    pub(super) fn expire(&mut self, now: LocalTime, outputs: &mut VecDeque<Output>) {
        let late = self.ops.iter().filter(|(_, (_, until))| *until <= now);
        for op in late.map(|(op, _)| *op).collect::<Vec<_>>() {
            self.finish(outputs, op, Err(no_coordinator()));
        }
        if self.room.as_ref().is_some_and(|request| request.until <= now) {
            let request = self.room.take().expect("just seen");
            let refusal = Refusal::new(
                RefusalCode::JoinFailed,
                "the room did not answer in time",
                "is a device of it still on? `groovebox rooms` lists the rooms in reach",
            );
            outputs.push_back(Output::Reply { id: request.id, reply: Err(refusal) });
        }
    }

    pub(super) fn room_entered(
        &mut self,
        outputs: &mut VecDeque<Output>,
        room: RoomId,
        name: &str,
        code: &str,
    ) {
        let Some(request) = self.room.take_if(|r| r.room.is_none_or(|wanted| wanted == room))
        else {
            return;
        };
        let message = format!("now in {name} ({code})");
        outputs.push_back(Output::Reply { id: request.id, reply: Ok(done(message)) });
    }

    pub(super) fn room_failed(
        &mut self,
        outputs: &mut VecDeque<Output>,
        room: RoomId,
        reason: &str,
    ) {
        let Some(request) = self.room.take_if(|r| r.room == Some(room)) else { return };
        let refusal = Refusal::new(
            RefusalCode::JoinFailed,
            format!("the room could not be entered: {reason}"),
            "try again; `groovebox rooms` lists the rooms in reach",
        );
        outputs.push_back(Output::Reply { id: request.id, reply: Err(refusal) });
    }
}

/// Something that needed no operation.
fn done(message: String) -> Done {
    Done { op: None, idx: None, level: Level::Local, effective_at: None, message: Some(message) }
}

fn no_coordinator() -> Refusal {
    Refusal {
        retry_after_ms: Some(1000),
        ..Refusal::new(
            RefusalCode::NoCoordinator,
            "no coordinator answered in time; the music is not affected",
            "try again in a moment; `groovebox status` shows who coordinates",
        )
    }
}

impl Node {
    pub(super) fn command_received(&mut self, now: LocalTime, id: RequestId, command: Command) {
        if let Err(refusal) = self.carry_out(now, id, command) {
            self.outputs.push_back(Output::Reply { id, reply: Err(refusal) });
        }
    }

    fn carry_out(
        &mut self,
        now: LocalTime,
        id: RequestId,
        command: Command,
    ) -> Result<(), Refusal> {
        let body = match command {
            Command::CreateRoom { name } => return self.carry_out_create(now, id, name),
            Command::JoinRoom { room } => return self.carry_out_join(now, id, &room),
            Command::LeaveRoom => {
                self.leave_room(now)?;
                self.reply_done(id, "left; this device is in no room now".into());
                return Ok(());
            }
            Command::Play { tracks } => return self.add(now, id, tracks, AddMode::Play),
            Command::Add { tracks } => return self.add(now, id, tracks, AddMode::Append),
            Command::Remove { entries } => OpBody::Remove { entries },
            Command::Clear => OpBody::Clear,
            Command::Pause => OpBody::Pause,
            Command::Resume => OpBody::Resume,
            Command::Toggle => self.toggle(now),
            Command::Stop => OpBody::Stop,
            Command::Seek { to } => OpBody::Seek { position: self.seek_target(now, to)? },
            Command::Next => OpBody::Next,
            Command::Prev => OpBody::Prev,
            Command::Volume { member, change } => self.volume(member.as_deref(), change)?,
            Command::RoomVolume { change } => {
                let state = self.room.as_ref().ok_or_else(super::rooms::not_in_room)?.state();
                OpBody::RoomVolume { volume: changed(state.room_volume(), change)? }
            }
            Command::Mute { member, muted } => self.mute(member.as_deref(), muted)?,
        };
        self.propose_own(now, Some(id), &body).map(drop)
    }

    fn toggle(&self, now: LocalTime) -> OpBody {
        let sounding = matches!(self.phase(now), PlaybackState::Playing | PlaybackState::Buffering);
        if sounding { OpBody::Pause } else { OpBody::Resume }
    }

    fn volume(&self, member: Option<&str>, change: VolumeChange) -> Result<OpBody, Refusal> {
        let room = self.room.as_ref().ok_or_else(super::rooms::not_in_room)?;
        let node = self.member_named(member)?;
        let old = room.state().member(&node).map_or(100, |member| member.volume);
        Ok(OpBody::Volume { member: node, volume: changed(old, change)? })
    }

    fn mute(&self, member: Option<&str>, muted: Option<bool>) -> Result<OpBody, Refusal> {
        let room = self.room.as_ref().ok_or_else(super::rooms::not_in_room)?;
        let node = self.member_named(member)?;
        let old = room.state().member(&node).is_some_and(|member| member.muted);
        Ok(OpBody::Mute { member: node, muted: muted.unwrap_or(!old) })
    }

    fn member_named(&self, name: Option<&str>) -> Result<super::NodeId, Refusal> {
        let Some(name) = name else { return Ok(self.me) };
        let room = self.room.as_ref().ok_or_else(super::rooms::not_in_room)?;
        room.state().find_member(name)
    }

    fn seek_target(&self, now: LocalTime, to: SeekTo) -> Result<Span, Refusal> {
        let room = self.room.as_ref().ok_or_else(super::rooms::not_in_room)?;
        let playback = room.state().playback_status(self.room_now(now));
        let target = match to {
            SeekTo::Absolute(position) => position,
            SeekTo::Relative(by) => (Span::from_millis(playback.position_ms) + by).max(Span::ZERO),
        };
        if target < Span::ZERO {
            return Err(Refusal::new(
                RefusalCode::InvalidRequest,
                "a position before the beginning",
                "positions count from 0:00",
            ));
        }
        Ok(target)
    }

    /// Tracks into the queue: one operation, unless their names are so long that it takes more.
    fn add(
        &mut self,
        now: LocalTime,
        id: RequestId,
        tracks: Vec<Track>,
        mode: AddMode,
    ) -> Result<(), Refusal> {
        if tracks.is_empty() {
            return Err(Refusal::new(
                RefusalCode::InvalidRequest,
                "no tracks were named",
                "name files or a folder: `groovebox play FILE...`",
            ));
        }
        let mut parts = batches(tracks).into_iter().peekable();
        let mut mode = mode;
        while let Some(tracks) = parts.next() {
            let request = if parts.peek().is_none() { Some(id) } else { None };
            let part = self.propose_own(now, request, &OpBody::Add { tracks, mode })?;
            if mode == AddMode::Play {
                mode = AddMode::Continue(part);
            }
        }
        Ok(())
    }

    fn carry_out_create(
        &mut self,
        now: LocalTime,
        id: RequestId,
        name: Option<String>,
    ) -> Result<(), Refusal> {
        let name = name.map(|name| name.trim().to_owned());
        let max = crate::base::limits::MAX_NAME;
        if name.as_ref().is_some_and(|n| n.is_empty() || n.chars().count() > max) {
            return Err(Refusal::new(
                RefusalCode::InvalidRequest,
                format!("a room's name has 1 to {max} characters"),
                "choose another name",
            ));
        }
        self.create_room(now, name);
        let state = self.room.as_ref().ok_or_else(super::rooms::not_in_room)?.state();
        let message = format!("made {} ({})", state.name(), state.code());
        self.reply_done(id, message);
        Ok(())
    }

    fn carry_out_join(&mut self, now: LocalTime, id: RequestId, text: &str) -> Result<(), Refusal> {
        let until = now + JOIN_PATIENCE;
        // `host:port` is resolved by the front end into an address; who lives there is known
        // once it has answered.
        if let Ok(address) = text.parse() {
            self.requests.room =
                Some(RoomRequest { id, room: None, address: Some(address), until });
            self.outputs.push_back(Output::Dial { address, node: None });
            let reached = self.membership.peers().find(|peer| peer.address == Some(address));
            let card = reached.and_then(|peer| peer.room.cloned());
            self.note_reached(now, address, card.as_ref());
            return Ok(());
        }
        let card = self.find_room(text)?;
        if self.room_id() == Some(card.id) {
            self.reply_done(id, format!("already in {} ({})", card.name, card.code));
            return Ok(());
        }
        self.requests.room = Some(RoomRequest { id, room: Some(card.id), address: None, until });
        self.membership.set_intent(now, Intent::Room(card.id));
        Ok(())
    }

    /// Somebody answers at an address: if a person wants into the room there, now it is known
    /// which one that is.
    pub(super) fn note_reached(
        &mut self,
        now: LocalTime,
        address: SocketAddr,
        card: Option<&RoomCard>,
    ) {
        let Some(request) = &mut self.requests.room else { return };
        let (Some(card), None, true) = (card, request.room, request.address == Some(address))
        else {
            return;
        };
        request.room = Some(card.id);
        if self.room_id() == Some(card.id) {
            let room = card.id;
            self.requests.room_entered(&mut self.outputs, room, &card.name, &card.code);
        } else {
            self.membership.set_intent(now, Intent::Room(card.id));
        }
    }

    fn reply_done(&mut self, id: RequestId, message: String) {
        self.outputs.push_back(Output::Reply { id, reply: Ok(done(message)) });
    }
}

/// A volume after a change; an absolute one beyond 100 is refused, a relative one stops at the
/// ends.
fn changed(old: u8, change: VolumeChange) -> Result<u8, Refusal> {
    match change {
        VolumeChange::To(volume) if volume <= 100 => Ok(volume),
        VolumeChange::To(volume) => Err(Refusal::new(
            RefusalCode::InvalidRequest,
            format!("{volume} is no volume"),
            "a volume is 0 to 100, or a change like +5 or -5",
        )),
        VolumeChange::By(by) => {
            let new = (i16::from(old) + i16::from(by)).clamp(0, 100);
            Ok(u8::try_from(new).expect("clamped to a volume"))
        }
    }
}

/// Splits tracks so that each part fits into one operation.
fn batches(tracks: Vec<Track>) -> Vec<Vec<Track>> {
    let fits = |tracks: &[Track]| {
        let body = OpBody::Add { tracks: tracks.to_vec(), mode: AddMode::Append };
        codec::encode_body(&body).is_ok()
    };
    if tracks.len() <= 1 || fits(&tracks) {
        return vec![tracks];
    }
    let mut first = tracks;
    let second = first.split_off(first.len() / 2);
    let mut parts = batches(first);
    parts.extend(batches(second));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BlobHash;
    use crate::wire::Codec;

    #[test]
    fn volumes_stop_at_the_ends() {
        assert_eq!(changed(95, VolumeChange::By(10)), Ok(100));
        assert_eq!(changed(5, VolumeChange::By(-10)), Ok(0));
        assert!(changed(5, VolumeChange::To(101)).is_err());
    }

    #[test]
    fn a_folder_with_long_names_is_added_in_parts_that_fit() {
        let track = Track {
            hash: BlobHash([1; 32]),
            size: 1,
            codec: Codec::Flac,
            rate: 48_000,
            channels: 2,
            frames: 1,
            delay: 0,
            title: "t".repeat(1000),
            artists: vec![],
            album: String::new(),
        };
        let parts = batches(vec![track; 500]);
        assert!(parts.len() > 1);
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 500);
        for tracks in parts {
            assert!(codec::encode_body(&OpBody::Add { tracks, mode: AddMode::Play }).is_ok());
        }
    }
}
