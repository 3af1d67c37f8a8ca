//! What becomes of an operation that is offered again: one that a change of coordinator cut off
//! the log, or that has waited for a coordinator.
//!
//! | operation | stands when | else |
//! |---|---|---|
//! | join | its author has not left since | dropped |
//! | leave | its author has not come back since | dropped |
//! | add | always, at the end of the queue | |
//! | remove | its entries wait in the queue | dropped |
//! | clear, shuffle | made not longer than 5 s ago | dropped |
//! | move | its entry and the one before it are there | dropped |
//! | repeat | nobody has set it later | dropped |
//! | pause, resume, stop, seek, next, previous | made not longer than 5 s ago, for what plays now | dropped |
//! | begin, fail, settle, availability | never: the present coordinator says so itself if it is so | dropped in silence |
//! | volume, mute | nobody has set it later | dropped |
//! | room volume | nobody has set any volume later | dropped |
//! | ban, kick, delete, ended friendships | always: what takes away wins | |
//! | unban, password, silence, setting | nobody has set it later | dropped |
//! | up-vote | its entry waits | dropped |
//! | take, give, drop, appoint, draw the DJ | never: the DJ of the half that goes on stands | dropped |
//! | call a vote | never: it was about people who are not the same any more | dropped |
//! | vote | its vote is open here as well | dropped |
//! | chat | always, with the time at which it was said | |
//! | presence | never: the present coordinator says who is here | dropped in silence |
//!
//! What stands must still pass the rules of the room like every other operation. What does not
//! is told to everybody, so that its author learns of it.

use crate::base::RoomTime;
use crate::base::limits::PLAY_STALE;
use crate::wire::op::{Op, OpBody};

use super::members::{Member, Stamp};
use super::state::RoomState;

/// How an operation comes to be offered again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// It had a place in a log that was cut off.
    CutOff,
    /// It never had one: nobody coordinated.
    Waiting,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is ordered, if the rules of the room let it through.
    Keep,
    /// It is not.
    Drop(Reason),
}

/// Why an operation does not stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Only a coordinator says so, of its own reign.
    Housekeeping,
    /// The moment it was meant for has passed.
    TooLate,
    /// The room is about other music now.
    MovedOn,
    /// The entries are not in the queue any more.
    Gone,
    /// The device has left the room since.
    LeftSince,
    /// The device has come back since.
    CameBack,
    /// Somebody has set it to something else since.
    SetSince,
    /// Who is DJ was decided in the half that went on.
    OtherDj,
    /// The vote is not open in the half that went on.
    OtherVotes,
}

impl Reason {
    /// Whether people want to know.
    #[must_use]
    pub fn is_told(self) -> bool {
        self != Reason::Housekeeping
    }

    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Reason::Housekeeping => "the room has another coordinator",
            Reason::TooLate => "it came too late: such a command counts for 5 seconds",
            Reason::MovedOn => "the room has moved on to something else",
            Reason::Gone => "the entry is no longer in the queue",
            Reason::LeftSince => "the device has left the room since",
            Reason::CameBack => "the device has come back since",
            Reason::SetSince => "it has been set to something else since",
            Reason::OtherDj => "the other half of the room has decided who is DJ",
            Reason::OtherVotes => "this vote is not open in the other half of the room",
        }
    }
}

/// Decides by the table above. `state` is settled to `now`, the room's time.
#[must_use]
pub fn merge(op: &Op, body: &OpBody, came: Came, state: &RoomState, now: RoomTime) -> Verdict {
    let author = &op.id.author;
    let acted_since =
        state.latest_of(author).is_some_and(|latest| latest > (op.id.boot, op.id.seq));
    let is_here = state.member(author).is_some();
    match body {
        OpBody::Join { .. } => drop_if(acted_since && !is_here, Reason::LeftSince),
        OpBody::Leave => drop_if(acted_since && is_here, Reason::CameBack),
        OpBody::Add { .. }
        | OpBody::Kick { .. }
        | OpBody::Ban { .. }
        | OpBody::Delete
        | OpBody::Chat { .. }
        | OpBody::EndFriendships { .. } => Verdict::Keep,
        OpBody::Remove { entries } => {
            let waits = |key| state.queue().iter().any(|entry| entry.key == key);
            drop_if(!entries.iter().all(|key| waits(*key)), Reason::Gone)
        }
        OpBody::Clear | OpBody::Shuffle { .. } => drop_if(is_stale(op, came, now), Reason::TooLate),
        OpBody::Move { entry, behind } => drop_if(!state.can_move(*entry, *behind), Reason::Gone),
        OpBody::Repeat { .. } => {
            drop_if(is_older(op, came, state.playback.repeat_by), Reason::SetSince)
        }
        OpBody::Pause(_)
        | OpBody::Resume(_)
        | OpBody::Stop(_)
        | OpBody::Seek { .. }
        | OpBody::Next(_)
        | OpBody::Prev(_) => playback(op, body, came, state, now),
        OpBody::Begin { .. }
        | OpBody::Fail { .. }
        | OpBody::Settle
        | OpBody::Availability { .. }
        | OpBody::Presence { .. } => Verdict::Drop(Reason::Housekeeping),
        OpBody::Unban { subject } => {
            drop_if(is_older(op, came, state.government.banned_by(*subject)), Reason::SetSince)
        }
        // Those waiting for a coordinator have not missed anything.
        OpBody::DjTake
        | OpBody::DjGive { .. }
        | OpBody::DjDrop
        | OpBody::DjAppoint { .. }
        | OpBody::DjRandom => {
            drop_if(is_stale(op, came, now) || came == Came::CutOff, Reason::OtherDj)
        }
        OpBody::CallVote(_) => {
            drop_if(is_stale(op, came, now) || came == Came::CutOff, Reason::OtherVotes)
        }
        OpBody::Vote { session, .. } => {
            drop_if(state.government.votes.session(*session).is_none(), Reason::OtherVotes)
        }
        OpBody::UpVote { entry, .. } => {
            let waits = state.queue().iter().any(|waiting| waiting.key == *entry);
            drop_if(!waits, Reason::Gone)
        }
        OpBody::Lock { .. } => {
            drop_if(is_older(op, came, state.government.lock_by), Reason::SetSince)
        }
        OpBody::Silence { user, .. } => {
            drop_if(is_older(op, came, state.government.silenced_by(user)), Reason::SetSince)
        }
        OpBody::Set(setting) => {
            let set = state.government.set_by(super::settings::key_of(setting));
            drop_if(is_older(op, came, set), Reason::SetSince)
        }
        OpBody::Volume { member, .. } => {
            let set = state.member(member).and_then(|member| member.volume_by);
            drop_if(is_older(op, came, set), Reason::SetSince)
        }
        OpBody::Mute { member, .. } => {
            let set = state.member(member).and_then(|member| member.muted_by);
            drop_if(is_older(op, came, set), Reason::SetSince)
        }
        OpBody::RoomVolume { .. } => {
            let later = |member: &Member| is_older(op, came, member.volume_by);
            drop_if(state.members().values().any(later), Reason::SetSince)
        }
    }
}

fn playback(op: &Op, body: &OpBody, came: Came, state: &RoomState, now: RoomTime) -> Verdict {
    if is_stale(op, came, now) {
        return Verdict::Drop(Reason::TooLate);
    }
    drop_if(body.guard() != Some(&state.guard()), Reason::MovedOn)
}

/// Whether the moment that it was meant for has passed. An author that did not know the time
/// cannot tell; what was in a log is then taken to be old.
fn is_stale(op: &Op, came: Came, now: RoomTime) -> bool {
    op.age(now).map_or(came == Came::CutOff, |age| age > PLAY_STALE)
}

/// Whether what it sets has been set later. An author that does not know the time yet has just
/// started, and so has whoever asked it for something.
fn is_older(op: &Op, came: Came, set: Option<Stamp>) -> bool {
    let is_new = op.created == Op::NO_TIME && came == Came::Waiting;
    !is_new && set > Some(Stamp::of(op))
}

fn drop_if(dropped: bool, reason: Reason) -> Verdict {
    if dropped { Verdict::Drop(reason) } else { Verdict::Keep }
}

/// Whether only the moment gives it a sense: waiting longer than a person does is of no use.
#[must_use]
pub fn is_of_the_moment(body: &OpBody) -> bool {
    let moment = matches!(
        body,
        OpBody::Clear
            | OpBody::Shuffle { .. }
            | OpBody::DjTake
            | OpBody::DjGive { .. }
            | OpBody::DjDrop
            | OpBody::DjAppoint { .. }
            | OpBody::DjRandom
            | OpBody::CallVote(_)
            | OpBody::Vote { .. }
    );
    moment || body.guard().is_some()
}

/// Whether only a coordinator says so, of its own reign.
#[must_use]
pub fn is_housekeeping(body: &OpBody) -> bool {
    super::rules::is_coordinators(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{EntryKey, NodeId, OpId, RoomId, SegmentId, Span, Term};
    use crate::wire::codec;
    use crate::wire::op::{AddMode, Entry, Genesis, Guard};

    const ANNA: NodeId = NodeId([1; 32]);
    const BEN: NodeId = NodeId([2; 32]);

    fn genesis() -> Genesis {
        Genesis {
            founder: ANNA,
            nonce: [7; 16],
            name: "Home".into(),
            code: "GROOVE-7KQ4".into(),
            unattended: true,
            signature: ([0; 32], [0; 32]),
        }
    }

    fn room() -> RoomId {
        codec::room_id(&genesis())
    }

    fn op(author: NodeId, seq: u64, created: RoomTime, body: &OpBody) -> Op {
        Op {
            room: room(),
            id: OpId { author, boot: 1, seq },
            created,
            kind: body.kind(),
            body: codec::encode_body(body).expect("short"),
            signature: ([0; 32], [0; 32]),
        }
    }

    fn at(seconds: i64) -> RoomTime {
        RoomTime(0) + Span::from_secs(seconds)
    }

    /// The half that goes on.
    struct Half {
        state: RoomState,
        idx: u64,
    }

    impl Half {
        fn of(authors: &[NodeId]) -> Half {
            let mut half = Half { state: RoomState::new(&genesis()), idx: 0 };
            for author in authors {
                half.does(*author, 1, at(1), &join());
            }
            half
        }

        fn does(&mut self, author: NodeId, seq: u64, now: RoomTime, body: &OpBody) {
            self.idx += 1;
            let term = Term { n: 1, node: ANNA, boot: 1 };
            let op = op(author, seq, now, body);
            let entry = Entry { idx: self.idx, term, at: now, op, chain: [0; 16] };
            self.state.apply(&entry).expect("it stands");
        }

        /// What becomes of an operation that Ben made in the other half.
        fn offered(&self, seq: u64, created: RoomTime, body: &OpBody, now: RoomTime) -> Verdict {
            let op = op(BEN, seq, created, body);
            merge(&op, body, Came::CutOff, &self.state.settled(now), now)
        }
    }

    fn join() -> OpBody {
        OpBody::Join { name: "Hall".into(), person: None, admission: None, friendship: None }
    }

    fn volume(volume: u8) -> OpBody {
        OpBody::Volume { member: ANNA, volume }
    }

    #[test]
    fn who_left_stays_left_and_who_came_back_stays() {
        let half = Half::of(&[ANNA]);
        assert_eq!(half.offered(1, at(2), &join(), at(9)), Verdict::Keep);
        let mut half = Half::of(&[ANNA, BEN]);
        assert_eq!(half.offered(5, at(2), &OpBody::Leave, at(9)), Verdict::Keep);
        half.does(BEN, 6, at(3), &join());
        let back = Verdict::Drop(Reason::CameBack);
        assert_eq!(half.offered(5, at(2), &OpBody::Leave, at(9)), back);
        half.does(BEN, 8, at(4), &OpBody::Leave);
        assert_eq!(half.offered(7, at(3), &join(), at(9)), Verdict::Drop(Reason::LeftSince));
    }

    #[test]
    fn additions_always_stand_and_removals_while_there_is_something_to_remove() {
        let mut half = Half::of(&[ANNA, BEN]);
        let tracks = vec![crate::wire::Track {
            hash: crate::base::BlobHash([3; 32]),
            size: 1,
            codec: crate::wire::Codec::Flac,
            rate: 48_000,
            channels: 2,
            frames: 480_000,
            delay: 0,
            title: "t".into(),
            artists: vec![],
            album: String::new(),
        }];
        let add = OpBody::Add { tracks, mode: AddMode::Append };
        assert_eq!(half.offered(5, at(2), &add, at(99_999)), Verdict::Keep);
        half.does(ANNA, 2, at(2), &add);
        let key = half.state.queue()[0].key;
        let remove = |keys: &[EntryKey]| OpBody::Remove { entries: keys.to_vec() };
        assert_eq!(half.offered(5, at(2), &remove(&[key]), at(99)), Verdict::Keep);
        let gone = Verdict::Drop(Reason::Gone);
        assert_eq!(half.offered(5, at(2), &remove(&[key, EntryKey(5)]), at(99)), gone);
    }

    #[test]
    fn what_a_coordinator_says_dies_with_its_reign_in_silence() {
        let half = Half::of(&[ANNA, BEN]);
        let segment = SegmentId(1);
        let begin = OpBody::Begin { segment };
        let fail = OpBody::Fail { segment, reason: String::new() };
        for body in [begin, fail, OpBody::Settle] {
            let verdict = half.offered(5, at(2), &body, at(2));
            assert_eq!(verdict, Verdict::Drop(Reason::Housekeeping));
        }
        assert!(!Reason::Housekeeping.is_told());
    }

    #[test]
    fn an_author_without_the_time_is_believed_only_if_it_never_had_a_place() {
        let half = Half::of(&[ANNA, BEN]);
        let body = OpBody::Stop(Guard::default());
        let op = op(BEN, 5, Op::NO_TIME, &body);
        let verdict = |came| merge(&op, &body, came, &half.state, at(9));
        assert_eq!(verdict(Came::Waiting), Verdict::Keep);
        assert_eq!(verdict(Came::CutOff), Verdict::Drop(Reason::TooLate));
    }

    #[test]
    fn a_volume_asked_of_a_device_that_has_just_started_is_set() {
        let mut half = Half::of(&[ANNA, BEN]);
        half.does(ANNA, 2, at(3), &volume(30));
        let op = op(BEN, 5, Op::NO_TIME, &volume(60));
        let verdict = |came| merge(&op, &volume(60), came, &half.state, at(9));
        assert_eq!(verdict(Came::Waiting), Verdict::Keep);
        assert_eq!(verdict(Came::CutOff), Verdict::Drop(Reason::SetSince));
    }

    proptest! {
        /// Of commands to the playback only the fresh ones stand that are meant for what plays.
        #[test]
        fn commands_of_the_moment_die_with_it(
            age_ms in 0_i64..20_000, fits in any::<bool>(), which in 0_usize..7,
        ) {
            let half = Half::of(&[ANNA, BEN]);
            let segment = if fits { None } else { Some(SegmentId(9)) };
            let guard = Guard { segment, dj_epoch: 0 };
            let body = [
                OpBody::Pause(guard), OpBody::Resume(guard), OpBody::Stop(guard),
                OpBody::Next(guard), OpBody::Prev(guard),
                OpBody::Seek { position: Span::ZERO, guard }, OpBody::Clear,
            ][which].clone();
            let expected = match (age_ms > 5_000, fits || which == 6) {
                (true, _) => Verdict::Drop(Reason::TooLate),
                (false, false) => Verdict::Drop(Reason::MovedOn),
                (false, true) => Verdict::Keep,
            };
            let created = at(100);
            let verdict = half.offered(5, created, &body, created + Span::from_millis(age_ms));
            prop_assert_eq!(verdict, expected);
        }

        /// Settings made in both halves end at the latest one, in whatever order the halves
        /// learn of them.
        #[test]
        fn the_latest_volume_stands(
            here in prop::collection::vec((1_i64..50, 0_u8..=100), 0..4),
            there in prop::collection::vec((1_i64..50, 0_u8..=100), 0..4),
        ) {
            let mut half = Half::of(&[ANNA, BEN]);
            let mut here = here;
            here.sort_unstable();
            // The model: by time, and between equal times by author and number.
            let mut latest = None;
            for (seq, (when, value)) in (2..).zip(here) {
                half.does(ANNA, seq, at(when), &volume(value));
                latest = latest.max(Some((when, ANNA, seq, value)));
            }
            let now = at(60);
            for (seq, (when, value)) in (2..).zip(there) {
                let body = volume(value);
                let verdict = half.offered(seq, at(when), &body, now);
                let later = Some((when, BEN, seq, value)) > latest;
                prop_assert_eq!(verdict == Verdict::Keep, later);
                if later {
                    latest = Some((when, BEN, seq, value));
                    half.idx += 1;
                    let term = Term { n: 2, node: ANNA, boot: 1 };
                    let op = op(BEN, seq, at(when), &body);
                    let entry = Entry { idx: half.idx, term, at: now, op, chain: [0; 16] };
                    half.state.apply(&entry).expect("it stands");
                }
            }
            if let Some((_, _, _, value)) = latest {
                prop_assert_eq!(half.state.member(&ANNA).map(|member| member.volume), Some(value));
            }
        }
    }
}
