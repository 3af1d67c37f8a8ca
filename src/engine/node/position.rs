//! Where the music stands, for a house that goes dark as a whole.
//!
//! The log says where the music stood when somebody last did something; that may be an hour
//! ago. While it plays every node therefore writes down where it stands. When a room comes back
//! from the disk with music in it, the music is *held* there: silent, and shown as paused.
//!
//! ```text
//!                  ┌─ the room's time was carried on by somebody ──► join in, as after any absence
//!  restored: held ─┤
//!                  └─ nobody carries it: a coordinator founds it anew, from where it was held,
//!                     and orders a pause there; then a resume, if somebody has asked for it
//!                     meanwhile, or if all were away for a moment only and the person who set it
//!                     up wants it so
//! ```

use super::{LocalTime, Node, Output, RoomTime, SegmentId, Span};
use crate::engine::room::{Phase, RoomState};
use crate::engine::status::{PlaybackState, PlaybackStatus};
use crate::wire::op::{Guard, Op, OpBody};

/// How often the position is written while it moves. After a power cut the music goes on from
/// at most this much before where it stopped.
const SAVE_EVERY: Span = Span::from_secs(5);

/// An outage up to this long is one that the music may survive by itself: the plug was moved.
const SHORT_OUTAGE: Span = Span::from_secs(60);

/// How long a member waits for the pause on a timeline that was founded anew: the coordinator
/// orders it first thing, and again after a restart of its own. One that has not by then has no
/// reason to: the music plays, and this device is silent for nothing.
const WAIT_FOR_PAUSE: Span = Span::from_secs(3);

/// Where the music stands at some instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// What sounds, waits or is paused.
    pub segment: SegmentId,
    /// How far into its track.
    pub position: Span,
    /// Whether it sounds.
    pub playing: bool,
    /// The timeline of `at`.
    pub clock_epoch: u32,
    /// When it stands there.
    pub at: RoomTime,
}

/// A position as the disk had it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestoredPosition {
    /// What was written last.
    pub position: Position,
    /// How long ago that was, by wall clocks; none where they are not to be trusted.
    pub outage: Option<Span>,
}

/// What this file remembers.
#[derive(Debug, Default)]
pub(super) struct Standing {
    saved: Option<(Position, LocalTime)>,
    held: Option<Held>,
    /// Somebody has said that the music shall go on, before it was paused: they saw it so.
    wanted: bool,
}

/// The room came from the disk with music in it, and nobody has brought its time yet.
#[derive(Debug)]
struct Held {
    /// What the room was about. Something else, or a pause, shows that somebody has acted.
    focus: SegmentId,
    /// Where the music stands.
    at: RoomTime,
    /// The timeline of `at`, where it is known.
    epoch: Option<u32>,
    /// How long the house was dark when this node started, if it sounded before.
    outage: Option<Span>,
    since: LocalTime,
    /// Since when the room has a time again.
    timed: Option<LocalTime>,
}

impl Node {
    /// The room came from the disk: what played is held until its time is known.
    pub(super) fn hold(&mut self, now: LocalTime, restored: Option<RestoredPosition>) {
        let Some(room) = &self.room else { return };
        let state = room.state();
        let Some(focus) = moving_focus(state) else { return };
        let last = room.log().last_at();
        // What was written of another branch says nothing of this one.
        let known = restored.filter(|restored| belongs(state, &restored.position));
        self.playback.standing.held = Some(Held {
            focus,
            at: known.map_or(last, |known| known.position.at.later(last)),
            epoch: known.map(|known| known.position.clock_epoch),
            outage: known.filter(|known| known.position.playing).and_then(|known| known.outage),
            since: now,
            timed: None,
        });
    }

    /// Where the music is held, while it is.
    pub(super) fn held_at(&self) -> Option<RoomTime> {
        self.playback.standing.held.as_ref().map(|held| held.at)
    }

    /// The last instant of the room's time on record.
    pub(super) fn recorded(&self) -> RoomTime {
        let last = self.room.as_ref().map_or(RoomTime(0), |room| room.log().last_at());
        self.held_at().map_or(last, |held| held.later(last))
    }

    /// Lets the music go once its time is known to be carried on, or somebody has acted.
    pub(super) fn look_after_hold(&mut self, now: LocalTime) {
        let Some(held) = &mut self.playback.standing.held else { return };
        let timed = self.clock.model().map(|_| *held.timed.get_or_insert(now));
        let waited = timed.is_some_and(|since| now - since > WAIT_FOR_PAUSE);
        let focus = self.room.as_ref().and_then(|room| moving_focus(room.state()));
        let carried =
            timed.is_some() && held.epoch.is_none_or(|epoch| self.clock.epoch() == Some(epoch));
        if focus != Some(held.focus) || carried || waited {
            self.playback.standing.held = None;
            self.refresh_segments(now);
        }
    }

    /// The coordinator, after nobody carried the room's time: pauses what would sound. Nobody
    /// knows for how long all were away; a person says when to go on, unless it was a moment.
    ///
    /// Whether there was something to pause.
    pub(super) fn pause_after_outage(&mut self, now: LocalTime) -> bool {
        // A reign begins a moment before its clock does.
        if self.clock.model().is_none() {
            return self.held_at().is_some();
        }
        let lost = std::mem::take(&mut self.replication.clock_was_lost);
        let wanted = std::mem::take(&mut self.playback.standing.wanted);
        let held = self.held_at().is_some();
        let sounds = held || lost && self.phase(now) == PlaybackState::Playing;
        if !sounds {
            return false;
        }
        let goes_on = wanted || self.goes_on_by_itself(now);
        let guard = self.guard(now);
        let paused = self.propose_own(now, None, &OpBody::Pause(guard));
        self.playback.standing.held = None;
        if paused.is_ok() && goes_on {
            // It is the operation that a person would have sent, and it is in the log as that
            // of this device.
            let guard = self.guard(now);
            let _ = self.propose_own(now, None, &OpBody::Resume(guard));
        }
        self.refresh_segments(now);
        true
    }

    /// As coordinator: an operation has its place. To the log the music plays until the pause has
    /// its own, so that a resume before it changes nothing.
    pub(super) fn note_wanted(&mut self, op: &Op) {
        let is_before_pause = self.held_at().is_some() || self.replication.clock_was_lost;
        if is_before_pause && op.kind == OpBody::Resume(Guard::default()).kind() {
            self.playback.standing.wanted = true;
        }
    }

    fn goes_on_by_itself(&self, now: LocalTime) -> bool {
        let Some(held) = &self.playback.standing.held else { return false };
        let short = |outage: Span| outage + (now - held.since) < SHORT_OUTAGE;
        self.resume && held.outage.is_some_and(short)
    }

    /// Gives the position out: at once when another segment begins or the music stops, else
    /// every few seconds while it moves.
    pub(super) fn save_position(&mut self, now: LocalTime) {
        let Some(position) = self.position_to_save(now) else { return };
        let last = self.playback.standing.saved;
        let due = last.is_none_or(|(last, at)| {
            last.segment != position.segment
                || last.playing != position.playing
                || position.playing && now - at >= SAVE_EVERY
        });
        if due {
            self.give_position_out(now, position);
        }
    }

    /// The program ends: the position is exact once more.
    pub(super) fn save_last_position(&mut self, now: LocalTime) {
        if let Some(position) = self.position_to_save(now) {
            self.give_position_out(now, position);
        }
    }

    fn give_position_out(&mut self, now: LocalTime, position: Position) {
        let Some(room) = self.room_id() else { return };
        self.playback.standing.saved = Some((position, now));
        self.outputs.push_back(Output::SavePosition { room, position });
    }

    fn position_to_save(&self, now: LocalTime) -> Option<Position> {
        // What is held has been written already.
        if self.held_at().is_some() {
            return None;
        }
        let clock_epoch = self.clock.model().and(self.clock.epoch())?;
        let at = self.room_now(now);
        let state = self.room.as_ref()?.state().settled(at);
        let focus = state.focus()?;
        Some(Position {
            segment: focus.id,
            position: focus.position(at),
            playing: matches!(state.phase(), Phase::Playing { .. }),
            clock_epoch,
            at,
        })
    }

    /// Playback as people see it.
    pub(super) fn playback_status(&self, now: LocalTime) -> PlaybackStatus {
        let Some((state, at)) = self.settled(now) else { return PlaybackStatus::default() };
        let status = state.playback_status(at);
        match status.state {
            PlaybackState::Playing | PlaybackState::Buffering if self.held_at().is_some() => {
                PlaybackStatus { state: PlaybackState::Paused, ..status }
            }
            _ => status,
        }
    }
}

/// What the room is about, if it sounds or is to sound without anybody doing more.
fn moving_focus(state: &RoomState) -> Option<SegmentId> {
    match state.phase() {
        Phase::Playing { .. } | Phase::Buffering { .. } => state.focus().map(|focus| focus.id),
        Phase::Stopped | Phase::Paused { .. } => None,
    }
}

/// Whether this state is at that position at its instant.
fn belongs(state: &RoomState, position: &Position) -> bool {
    let then = state.settled(position.at);
    then.focus().is_some_and(|focus| focus.id == position.segment)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{BlobHash, NodeId};
    use crate::engine::command::{Command, RequestId, VolumeChange};
    use crate::engine::node::{Input, NodeConfig, RestoredRoom};
    use crate::engine::status::{DiskState, Status};
    use crate::identity::NodeKey;
    use crate::wire::Track;
    use crate::wire::message::{Level, Snapshot};
    use crate::wire::op::Entry;
    use crate::wire::track::Codec;

    const STEP: Span = Span::from_millis(50);

    /// A device alone in its house, and what its disk has.
    struct House {
        key: Arc<NodeKey>,
        boot: u32,
        now: LocalTime,
        node: Node,
        room: Option<(Snapshot, Vec<Entry>)>,
        position: Option<Position>,
        n_saved: usize,
        /// Its disk takes nothing.
        full: bool,
        reply: Option<crate::engine::command::CommandReply>,
    }

    impl House {
        fn new() -> House {
            let random = ring::rand::SystemRandom::new();
            let key = Arc::new(NodeKey::generate(&random).expect("random numbers"));
            let now = LocalTime(1_000_000_000_000);
            let node = Node::new(config(&key, 1, None, false), now);
            House {
                key,
                boot: 1,
                now,
                node,
                room: None,
                position: None,
                n_saved: 0,
                full: false,
                reply: None,
            }
        }

        /// The daemon's part: time passes, the disk takes what it is given, decoders are quick.
        fn run(&mut self, span: Span) {
            let end = self.now + span;
            while self.now < end {
                self.now += STEP;
                self.node.handle_timeout(self.now);
                self.drain();
            }
        }

        fn drain(&mut self) {
            while let Some(output) = self.node.poll_output() {
                match output {
                    Output::Reply { reply, .. } => self.reply = Some(reply),
                    Output::SaveEntries { .. } | Output::SavePosition { .. } if self.full => {}
                    Output::SaveRoom(snapshot) => self.room = Some((*snapshot, Vec::new())),
                    Output::SaveEntries { room, entries } => {
                        let last = entries.last().expect("no write of nothing");
                        let (idx, chain) = (last.idx, last.chain);
                        self.room.as_mut().expect("a room first").1.extend(entries);
                        self.node.handle_input(self.now, Input::Written { room, idx, chain });
                    }
                    Output::SavePosition { position, .. } => {
                        self.position = Some(position);
                        self.n_saved += 1;
                    }
                    Output::Prepare { segment, .. } => {
                        self.node.handle_input(self.now, Input::SegmentPrimed { segment });
                    }
                    _ => {}
                }
            }
        }

        fn order(&mut self, command: Command) {
            self.node.handle_input(self.now, Input::CommandReceived { id: RequestId(1), command });
            self.drain();
        }

        /// Everything goes dark and comes back after a while.
        fn restart(&mut self, outage: Option<Span>, resume: bool) {
            self.boot += 1;
            let (snapshot, entries) = self.room.clone().expect("a room");
            let position = self.position.map(|position| RestoredPosition { position, outage });
            let room =
                RestoredRoom { snapshot, entries, outbox: vec![], dropped: vec![], position };
            // The device was switched on anew: its clock begins anywhere.
            self.now = LocalTime(7_000_000_000);
            self.node = Node::new(config(&self.key, self.boot, Some(room), resume), self.now);
            self.drain();
        }

        fn status(&self) -> Status {
            self.node.status(self.now)
        }

        /// Playing for that long.
        fn playing(span: Span) -> House {
            let mut house = House::new();
            house.run(Span::from_secs(8));
            house.order(Command::Play { tracks: vec![track(1, 60), track(2, 60)] });
            house.run(span);
            assert_eq!(house.status().playback.state, PlaybackState::Playing);
            house
        }
    }

    fn config(
        key: &Arc<NodeKey>,
        boot: u32,
        room: Option<RestoredRoom>,
        resume: bool,
    ) -> NodeConfig {
        NodeConfig {
            key: Arc::clone(key),
            boot,
            name: "kitchen".into(),
            user: None,
            friends: None,
            version: "0".into(),
            seed: u64::from(boot),
            secret: [7; 32],
            trim: Span::ZERO,
            peers: Vec::new(),
            remembered: Vec::<(NodeId, String, Vec<std::net::SocketAddr>)>::new(),
            known_rooms: Vec::new(),
            alone: false,
            resume,
            room,
        }
    }

    fn track(n: u8, seconds: u64) -> Track {
        Track {
            hash: BlobHash([n; 32]),
            size: 1_000_000,
            codec: Codec::Flac,
            rate: 48_000,
            channels: 2,
            frames: 48_000 * seconds,
            delay: 0,
            title: format!("song {n}"),
            artists: Vec::new(),
            album: String::new(),
        }
    }

    #[test]
    fn the_position_is_written_every_five_seconds_and_when_the_music_stops() {
        let mut house = House::playing(Span::from_secs(21));
        // Waiting, begun, and then every five seconds.
        assert!((5..=7).contains(&house.n_saved), "{}", house.n_saved);
        let before = house.n_saved;
        house.order(Command::Pause);
        house.run(Span::from_secs(30));
        assert_eq!(house.n_saved, before + 1, "a position that does not move is written once");
        let saved = house.position.expect("saved");
        assert!(!saved.playing);
        assert_eq!(saved.position.as_millis(), house.status().playback.position_ms);
    }

    #[test]
    fn after_a_dark_house_the_room_is_paused_where_the_music_stopped() {
        let mut house = House::playing(Span::from_secs(23));
        let stopped = house.status().playback.position_ms;
        house.restart(Some(Span::from_secs(5)), false);
        for _ in 0..200 {
            let playback = house.status().playback;
            assert_eq!(playback.state, PlaybackState::Paused, "from the start on");
            let short = stopped - playback.position_ms;
            assert!((-1000..=5000).contains(&short), "{short} ms before where it stopped");
            house.run(STEP);
        }
        assert!(house.status().room.expect("a room").coordinator.is_some());
        let entries = &house.room.as_ref().expect("a room").1;
        assert!(entries.iter().any(|entry| entry.op.kind == 20), "by the log");
        house.order(Command::Resume);
        house.run(Span::from_secs(2));
        let playback = house.status().playback;
        assert_eq!(playback.state, PlaybackState::Playing);
        assert!((playback.position_ms - stopped).abs() < 5000, "{}", playback.position_ms);
    }

    #[test]
    fn a_resume_counts_that_is_said_before_anybody_coordinates_the_dark_house_again() {
        for pause in [Span::ZERO, Span::from_secs(1), Span::from_secs(2)] {
            let mut house = House::playing(Span::from_secs(23));
            let stopped = house.status().playback.position_ms;
            house.restart(Some(Span::from_secs(5)), false);
            house.run(pause);
            assert_eq!(house.status().room.expect("a room").coordinator, None);
            house.reply = None;
            house.order(Command::Resume);
            house.run(Span::from_secs(8) - pause);
            assert!(matches!(house.reply, Some(Ok(_))), "{:?}", house.reply);
            let playback = house.status().playback;
            assert_eq!(playback.state, PlaybackState::Playing, "after {pause:?}");
            assert!((-5_000..6_000).contains(&(playback.position_ms - stopped)));
        }
    }

    #[test]
    fn the_position_may_lie_in_a_track_that_the_log_does_not_speak_of() {
        let mut house = House::playing(Span::from_secs(75));
        // As if the note that the timeline moved on had not been written.
        let log = &mut house.room.as_mut().expect("a room").1;
        log.retain(|entry| entry.op.kind != OpBody::Settle.kind());
        house.restart(None, false);
        let playback = house.status().playback;
        assert_eq!(playback.track.expect("a track").title, "song 2");
        assert!((9_000..=16_000).contains(&playback.position_ms), "{}", playback.position_ms);
        house.run(Span::from_secs(10));
        let playback = house.status().playback;
        assert_eq!(playback.state, PlaybackState::Paused);
        assert_eq!(playback.track.expect("a track").title, "song 2");
    }

    #[test]
    fn without_a_position_the_last_entry_has_to_do() {
        let mut house = House::playing(Span::from_secs(23));
        house.position = None;
        house.restart(None, true);
        assert_eq!(house.status().playback.state, PlaybackState::Paused);
        house.run(Span::from_secs(10));
        let playback = house.status().playback;
        assert_eq!(playback.state, PlaybackState::Paused);
        assert!(playback.position_ms < 1000, "{}", playback.position_ms);
    }

    #[test]
    fn a_position_of_another_branch_is_not_believed() {
        let mut house = House::playing(Span::from_secs(23));
        let saved = house.position.as_mut().expect("saved");
        saved.segment = SegmentId(saved.segment.0 ^ 1);
        saved.at = RoomTime(i64::MAX);
        house.restart(Some(Span::from_secs(5)), true);
        house.run(Span::from_secs(10));
        let playback = house.status().playback;
        assert_eq!(playback.state, PlaybackState::Paused);
        assert!(playback.position_ms < 1000, "{}", playback.position_ms);
    }

    #[test]
    fn the_music_goes_on_by_itself_only_after_a_short_outage_and_when_told_to() {
        let minute = Span::from_secs(60);
        for (outage, resume, wanted) in [
            (Some(Span::from_secs(20)), true, PlaybackState::Playing),
            (Some(Span::from_secs(20)), false, PlaybackState::Paused),
            (Some(minute), true, PlaybackState::Paused),
            (None, true, PlaybackState::Paused),
        ] {
            let mut house = House::playing(Span::from_secs(23));
            let stopped = house.status().playback.position_ms;
            house.restart(outage, resume);
            house.run(Span::from_secs(12));
            let playback = house.status().playback;
            assert_eq!(playback.state, wanted, "{outage:?} {resume}");
            let moved = playback.position_ms - stopped;
            assert!((-5_000..12_000).contains(&moved), "{moved}");
        }
    }

    #[test]
    fn a_room_with_nobody_else_goes_on_in_memory_while_its_disk_is_full() {
        let mut house = House::playing(Span::from_secs(3));
        house.full = true;
        house.reply = None;
        house.order(Command::Volume { member: None, change: VolumeChange::To(30) });
        assert_eq!(house.reply, None, "as long as the disk may still take it");
        for (disk, answered) in [(DiskState::Slow, false), (DiskState::Full, true)] {
            house.node.handle_input(house.now, Input::DiskReported(disk));
            house.drain();
            assert_eq!(house.reply.is_some(), answered, "{disk:?}");
            assert_eq!(house.status().node.disk, disk);
        }
        let done = house.reply.take().expect("a reply").expect("accepted");
        assert_eq!(done.level, Level::Local);
        house.order(Command::Pause);
        house.run(Span::from_secs(1));
        assert_eq!(house.status().playback.state, PlaybackState::Paused);
        assert!(house.reply.take().expect("a reply").is_ok());
        // Once it is well again, only what it has counts.
        house.node.handle_input(house.now, Input::DiskReported(DiskState::Ok));
        house.order(Command::Resume);
        house.run(Span::from_secs(1));
        assert_eq!(house.reply, None);
        let room = house.node.room_id().expect("a room");
        let log = house.node.room.as_ref().expect("a room").log();
        let (idx, chain) = (log.last_idx(), log.chain());
        house.node.handle_input(house.now, Input::Written { room, idx, chain });
        house.drain();
        assert!(house.reply.take().expect("a reply").is_ok());
    }

    #[test]
    fn what_was_paused_by_a_person_stays_paused() {
        let mut house = House::playing(Span::from_secs(23));
        house.order(Command::Pause);
        house.run(Span::from_secs(1));
        let stopped = house.status().playback.position_ms;
        house.restart(Some(Span::from_secs(1)), true);
        house.run(Span::from_secs(12));
        let playback = house.status().playback;
        assert_eq!((playback.state, playback.position_ms), (PlaybackState::Paused, stopped));
    }
}
