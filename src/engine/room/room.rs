//! A room as one node holds it: genesis, state and the tail of the log, kept in step.

use std::collections::VecDeque;

use crate::base::limits::{CHECKPOINT_EVERY, CHECKPOINTS, MAX_LOG_IDX};
use crate::base::{OpId, RoomId, RoomTime, Term};
use crate::wire::codec;
use crate::wire::message::Snapshot;
use crate::wire::op::{Entry, Genesis, Op, OpBody, Refusal, RefusalCode};

use super::{Log, RoomError, RoomState, rules};

/// What became of an operation that was to be ordered.
#[derive(Clone, PartialEq, Debug)]
pub enum Ordered {
    /// It has a place now, and is applied here: write it and send it on.
    New(Box<Entry>),
    /// It had one already: only its author has not heard.
    Known {
        /// Its index.
        idx: u64,
        /// When it takes effect.
        at: RoomTime,
    },
}

/// What became of a coordinator's entries.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Taken {
    /// Those that were new, all applied: write them.
    pub entries: Vec<Entry>,
    /// Those among them whose operation the rules refused, by index. They keep their place
    /// in the log and change nothing.
    pub refused: Vec<(u64, Refusal)>,
    /// Entries of another history that had to make way, oldest first.
    pub cut: Vec<Entry>,
    /// The log ends before this entry, which is of a later version: nobody can tell what it does
    /// to the state, so nothing behind it can be applied either.
    pub unknown: Option<Unknown>,
}

/// An entry of a kind that this version does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unknown {
    /// Its place.
    pub idx: u64,
    /// Its number.
    pub kind: u16,
}

/// Genesis, state and log.
#[derive(Clone, PartialEq, Debug)]
pub struct Room {
    genesis: Genesis,
    state: RoomState,
    log: Log,
    /// States at earlier entries, oldest first; never empty.
    checkpoints: VecDeque<Checkpoint>,
}

/// The state after entry `idx`, to which the log can be wound back.
#[derive(Clone, PartialEq, Debug)]
struct Checkpoint {
    idx: u64,
    term: Term,
    chain: [u8; 16],
    state: RoomState,
}

impl Room {
    /// An empty room.
    ///
    /// # Errors
    ///
    /// When the genesis was not signed by its founder, or names more than a room may be called.
    pub fn new(genesis: Genesis) -> Result<Room, RoomError> {
        genesis.verify()?;
        let state = RoomState::new(&genesis);
        state.check(&genesis).map_err(RoomError::BadSnapshot)?;
        Ok(Room::at(genesis, state, Log::default()))
    }

    fn at(genesis: Genesis, state: RoomState, log: Log) -> Room {
        let mut room = Room { genesis, state, log, checkpoints: VecDeque::new() };
        room.keep_checkpoint();
        room
    }

    /// The room at a snapshot. Its log goes on from there.
    ///
    /// # Errors
    ///
    /// When the genesis is not signed, or the state is not one of that room.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Room, RoomError> {
        snapshot.genesis.verify()?;
        if snapshot.idx > MAX_LOG_IDX {
            return Err(RoomError::BadSnapshot("an index that no log reaches"));
        }
        let state: RoomState = codec::decode_state(&snapshot.state)?;
        state.check(&snapshot.genesis).map_err(RoomError::BadSnapshot)?;
        let log =
            Log::resumed(snapshot.idx, snapshot.last_term, state.applied_at(), snapshot.chain);
        Ok(Room::at(snapshot.genesis.clone(), state, log))
    }

    /// The room as the disk has it: a snapshot and the entries after it.
    ///
    /// # Errors
    ///
    /// As [`from_snapshot`](Self::from_snapshot) and [`accept`](Self::accept).
    pub fn restore(snapshot: &Snapshot, entries: &[Entry]) -> Result<Room, RoomError> {
        let mut room = Room::from_snapshot(snapshot)?;
        room.accept(snapshot.idx, snapshot.chain, entries)?;
        Ok(room)
    }

    /// The room's identity.
    #[must_use]
    pub fn id(&self) -> RoomId {
        self.state.id()
    }

    /// What the room is made of.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The state after the last entry.
    #[must_use]
    pub fn state(&self) -> &RoomState {
        &self.state
    }

    /// How many earlier states are held.
    #[must_use]
    pub fn n_checkpoints(&self) -> usize {
        self.checkpoints.len()
    }

    /// The tail of the log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Gives an operation its place, as the owner of `term`, to take effect at `at` or, if
    /// that is later, with the entry before it.
    ///
    /// # Errors
    ///
    /// The refusal, for its author. Nothing has changed then.
    pub fn order(&mut self, term: Term, at: RoomTime, op: Op) -> Result<Ordered, Refusal> {
        op.verify().map_err(|error| forged(&op.id, &error))?;
        if let Some((idx, at)) = self.state.known(&op.id) {
            return Ok(Ordered::Known { idx, at });
        }
        if self.state.has_seen(&op.id) {
            return Err(rules::done_already());
        }
        if !OpBody::is_known(op.kind) {
            return Err(of_a_later_version());
        }
        let body = codec::decode_body(&op).map_err(|error| unreadable(&error))?;
        let at = self.log.effective(at);
        self.state.validate(&op, &body, term.node, at)?;
        let entry = self.log.append_local(term, at, op);
        self.state.apply(&entry).expect("the same rules let it through just now");
        self.checkpoint_if_due();
        Ok(Ordered::New(Box::new(entry)))
    }

    /// Takes a coordinator's entries that follow `prev_idx`. Those held already are skipped.
    ///
    /// # Errors
    ///
    /// When they do not continue this log or are not acceptable; then none of them is taken.
    pub fn accept(
        &mut self,
        prev_idx: u64,
        prev_chain: [u8; 16],
        entries: &[Entry],
    ) -> Result<Taken, RoomError> {
        let fresh = self.log.fresh(prev_idx, prev_chain, entries)?;
        self.verify(fresh)?;
        Ok(self.take(fresh))
    }

    /// As [`accept`](Self::accept), but what this log has in place of the coordinator's entries
    /// makes way.
    ///
    /// # Errors
    ///
    /// As there, and when the two logs part before anything that this one can be wound back to.
    pub fn follow(
        &mut self,
        prev_idx: u64,
        prev_chain: [u8; 16],
        entries: &[Entry],
    ) -> Result<Taken, RoomError> {
        let Some(conflict) = self.log.conflict(prev_idx, prev_chain, entries)? else {
            return self.accept(prev_idx, prev_chain, entries);
        };
        let keep = conflict - 1;
        let fresh = usize::try_from(keep - prev_idx).ok().and_then(|known| entries.get(known..));
        let fresh = fresh.unwrap_or_default();
        self.verify(fresh)?;
        let cut = self.rewind(keep)?;
        Ok(Taken { cut, ..self.take(fresh) })
    }

    fn verify(&self, entries: &[Entry]) -> Result<(), RoomError> {
        for entry in entries {
            if entry.op.room != self.id() {
                return Err(RoomError::OtherRoom(entry.op.id));
            }
            entry.op.verify()?;
        }
        Ok(())
    }

    /// Everything up to the first entry that this version does not know.
    fn take(&mut self, fresh: &[Entry]) -> Taken {
        let first = fresh.iter().position(|entry| !OpBody::is_known(entry.op.kind));
        let unknown = first.map(|at| Unknown { idx: fresh[at].idx, kind: fresh[at].op.kind });
        let fresh = &fresh[..first.unwrap_or(fresh.len())];
        let mut taken = Taken { entries: fresh.to_vec(), unknown, ..Taken::default() };
        for entry in fresh {
            self.log.push(entry.clone());
            if let Err(refusal) = self.state.apply(entry) {
                taken.refused.push((entry.idx, refusal));
            }
            self.checkpoint_if_due();
        }
        taken
    }

    /// Winds the room back to what it was after entry `idx`. The entries after it come back,
    /// oldest first.
    ///
    /// # Errors
    ///
    /// When no state so old is kept; see [`oldest`](Self::oldest).
    pub fn rewind(&mut self, idx: u64) -> Result<Vec<Entry>, RoomError> {
        if idx >= self.log.last_idx() {
            return Ok(Vec::new());
        }
        if idx < self.oldest() {
            return Err(RoomError::Fork { idx });
        }
        let cut = self.log.truncate(idx);
        while self.checkpoints.back().is_some_and(|checkpoint| checkpoint.idx > idx) {
            self.checkpoints.pop_back();
        }
        let base = self.checkpoints.back().expect("one at or before every index from the oldest");
        let mut state = base.state.clone();
        for entry in self.log.entries().filter(|entry| entry.idx > base.idx) {
            // What was refused then is refused again.
            let _ = state.apply(entry);
        }
        self.state = state;
        Ok(cut)
    }

    /// The earliest entry that [`rewind`](Self::rewind) can go back to.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        let kept = self.checkpoints.iter().map(|checkpoint| checkpoint.idx);
        // The tail is bounded in bytes as well and may have moved past a state.
        let mut kept = kept.filter(|idx| *idx >= self.log.base_idx());
        kept.next().unwrap_or(self.log.last_idx())
    }

    fn checkpoint_if_due(&mut self) {
        if self.log.last_idx().is_multiple_of(CHECKPOINT_EVERY) {
            self.keep_checkpoint();
        }
    }

    fn keep_checkpoint(&mut self) {
        self.checkpoints.push_back(Checkpoint {
            idx: self.log.last_idx(),
            term: self.log.last_term(),
            chain: self.log.chain(),
            state: self.state.clone(),
        });
        while self.checkpoints.len() > CHECKPOINTS {
            self.checkpoints.pop_front();
        }
    }

    /// The room at the oldest state kept, for the disk: what comes after it may still have to be
    /// taken back.
    ///
    /// # Errors
    ///
    /// When the state is longer than a snapshot may be.
    pub fn base_snapshot(&self) -> Result<Snapshot, RoomError> {
        let oldest = self.oldest();
        let base = self.checkpoints.iter().find(|checkpoint| checkpoint.idx >= oldest);
        let Some(base) = base else { return self.snapshot(self.log.last_term()) };
        Ok(Snapshot {
            genesis: self.genesis.clone(),
            term: base.term,
            idx: base.idx,
            last_term: base.term,
            chain: base.chain,
            state: codec::encode_state(&base.state)?,
        })
    }

    /// The whole room at its last entry, for a member that lags or for the disk.
    ///
    /// # Errors
    ///
    /// When the state is longer than a snapshot may be.
    pub fn snapshot(&self, term: Term) -> Result<Snapshot, RoomError> {
        Ok(Snapshot {
            genesis: self.genesis.clone(),
            term,
            idx: self.log.last_idx(),
            last_term: self.log.last_term(),
            chain: self.log.chain(),
            state: codec::encode_state(&self.state)?,
        })
    }
}

fn forged(id: &OpId, error: &crate::identity::IdentityError) -> Refusal {
    Refusal::new(
        RefusalCode::AuthRequired,
        format!("operation {} of {} was refused: {error}", id.seq, id.author.short()),
        "update GrooveBox on the device that sent it",
    )
}

fn of_a_later_version() -> Refusal {
    Refusal::new(
        RefusalCode::InvalidRequest,
        "the coordinator runs an earlier version, which does not know this command",
        "update GrooveBox on the coordinator; `groovebox status` shows which device that is",
    )
}

fn unreadable(error: &codec::WireError) -> Refusal {
    Refusal::new(
        RefusalCode::InvalidRequest,
        format!("the operation cannot be read ({error})"),
        "update GrooveBox on all devices to the same version",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Notice;
    use super::*;
    use crate::base::{NodeId, Span};
    use crate::identity::NodeKey;
    use crate::wire::op::Guard;

    /// A node with a key that orders its own operations.
    struct Author {
        key: NodeKey,
        seq: u64,
    }

    impl Author {
        fn new() -> Author {
            let random = ring::rand::SystemRandom::new();
            Author { key: NodeKey::generate(&random).expect("random numbers"), seq: 0 }
        }

        fn found(&self) -> Room {
            let genesis = Genesis {
                founder: NodeId([0; 32]),
                nonce: [3; 16],
                name: "Home".into(),
                code: "GROOVE-7KQ4".into(),
                unattended: true,
                signature: ([0; 32], [0; 32]),
            };
            Room::new(genesis.signed(&self.key)).expect("signed")
        }

        fn term(&self) -> Term {
            Term { n: 1, node: self.key.node_id(), boot: 1 }
        }

        fn op(&mut self, room: &Room, body: &OpBody) -> Op {
            self.seq += 1;
            let id = OpId { author: self.key.node_id(), boot: 1, seq: self.seq };
            Op::signed(&self.key, room.id(), id, RoomTime(0), body).expect("short")
        }

        fn join(&mut self, room: &Room) -> Op {
            let name = "Kitchen".into();
            self.op(room, &OpBody::Join { name, person: None, admission: None, friendship: None })
        }

        fn order(&mut self, room: &mut Room, at: i64, body: &OpBody) -> Entry {
            let op = self.op(room, body);
            new(room.order(self.term(), RoomTime(at), op))
        }
    }

    fn new(ordered: Result<Ordered, Refusal>) -> Entry {
        match ordered {
            Ok(Ordered::New(entry)) => *entry,
            other => panic!("{other:?}"),
        }
    }

    /// A room with one member and the entries of its log.
    fn room_of(author: &mut Author, volumes: &[u8]) -> (Room, Vec<Entry>) {
        let mut room = author.found();
        let op = author.join(&room);
        let mut entries = vec![new(room.order(author.term(), RoomTime(10), op))];
        let member = author.key.node_id();
        for volume in volumes {
            let body = OpBody::Volume { member, volume: *volume };
            entries.push(author.order(&mut room, 20, &body));
        }
        (room, entries)
    }

    #[test]
    fn replicas_of_one_log_agree_however_it_reached_them() {
        let mut author = Author::new();
        let (room, entries) = room_of(&mut author, &[10, 20, 30]);
        let mut replica = author.found();
        replica.accept(0, [0; 16], &entries[..2]).expect("the beginning");
        let taken = replica.accept(1, entries[0].chain, &entries[1..]).expect("an overlap");
        assert_eq!(taken, Taken { entries: entries[2..].to_vec(), ..Taken::default() });
        assert_eq!(replica, room);
        let again = replica.accept(0, [0; 16], &entries).expect("nothing new");
        assert_eq!(again, Taken::default());
        let snapshot = room.snapshot(author.term()).expect("small");
        let from_snapshot = Room::from_snapshot(&snapshot).expect("sound");
        assert_eq!(from_snapshot.state().hash(), room.state().hash());
        let base = author.found().snapshot(author.term()).expect("small");
        assert_eq!(Room::restore(&base, &entries).expect("sound"), room);
    }

    #[test]
    fn a_snapshot_continues_the_log_and_its_time() {
        let mut author = Author::new();
        let (room, _) = room_of(&mut author, &[10]);
        let snapshot = room.snapshot(author.term()).expect("small");
        let mut later = Room::from_snapshot(&snapshot).expect("sound");
        let entry = author.order(&mut later, 5, &OpBody::Clear);
        assert_eq!((entry.idx, entry.at), (3, RoomTime(20)), "never before its predecessor");
    }

    /// What a later version ordered, whose kind nobody here knows.
    fn later(author: &mut Author, room: &Room, previous: &Entry) -> Entry {
        let mut op = author.op(room, &OpBody::Clear);
        (op.kind, op.body) = (999, vec![1, 2, 3]);
        let bytes = codec::signed_bytes(&op.room, &op.id, op.created, op.kind, &op.body);
        op.signature = author.key.sign(&bytes);
        let (term, at) = (author.term(), RoomTime(30));
        let chain = codec::chain(&previous.chain, &term, at, &op);
        Entry { idx: previous.idx + 1, term, at, op, chain }
    }

    #[test]
    fn nothing_is_applied_beyond_an_operation_that_is_not_known() {
        let mut author = Author::new();
        let (mut room, mut entries) = room_of(&mut author, &[10, 20]);
        let before = room.clone();
        let unknown = later(&mut author, &room, &entries[2]);
        // A later version has gone on behind it.
        let op = author.op(&room, &OpBody::Clear);
        let (term, at) = (author.term(), RoomTime(40));
        let chain = codec::chain(&unknown.chain, &term, at, &op);
        entries.extend([unknown.clone(), Entry { idx: 5, term, at, op, chain }]);
        let stopped = Some(Unknown { idx: 4, kind: 999 });
        let mut replica = author.found();
        let taken = replica.accept(0, [0; 16], &entries).expect("sound");
        assert_eq!((taken.entries.len(), taken.unknown), (3, stopped));
        assert_eq!(replica, before, "as far as it knows, and no further");
        let again = replica.accept(3, entries[2].chain, &entries[3..]).expect("sound");
        assert_eq!(again, Taken { unknown: stopped, ..Taken::default() });
        assert!(replica.accept(4, unknown.chain, &entries[4..]).is_err(), "there is a gap");
        // What it has in that place makes way all the same.
        author.order(&mut replica, 50, &OpBody::Clear);
        let taken = replica.follow(2, entries[1].chain, &entries[2..]).expect("sound");
        assert_eq!((taken.cut.len(), taken.entries.len(), taken.unknown), (1, 0, stopped));
        assert_eq!(replica.state().hash(), before.state().hash());
        let refused = room.order(author.term(), RoomTime(60), unknown.op).expect_err("unknown");
        assert!(refused.message.contains("earlier version"), "{refused}");
    }

    #[test]
    fn an_operation_that_is_offered_again_keeps_its_place() {
        let mut author = Author::new();
        let (mut room, _) = room_of(&mut author, &[]);
        let op = author.op(&room, &OpBody::Clear);
        let entry = new(room.order(author.term(), RoomTime(50), op.clone()));
        let snapshot = room.snapshot(author.term()).expect("small");
        // A coordinator that knows the room from a snapshot only gives the same answer.
        for mut room in [room, Room::from_snapshot(&snapshot).expect("sound")] {
            let again = room.order(author.term(), RoomTime(99), op.clone()).expect("known");
            assert_eq!(again, Ordered::Known { idx: entry.idx, at: RoomTime(50) });
        }
    }

    #[test]
    fn forged_operations_are_neither_ordered_nor_accepted() {
        let mut author = Author::new();
        let (mut room, _) = room_of(&mut author, &[]);
        let untouched = room.clone();
        let mut op = author.op(&room, &OpBody::Clear);
        op.signature.0[0] ^= 1;
        let refusal = room.order(author.term(), RoomTime(50), op.clone()).expect_err("forged");
        assert_eq!(refusal.code, RefusalCode::AuthRequired);
        let entry = room.log.clone().append_local(author.term(), RoomTime(50), op);
        let refused = room.accept(1, room.log.chain(), &[entry]);
        assert!(matches!(refused, Err(RoomError::Identity(_))), "{refused:?}");
        assert_eq!(room, untouched);
    }

    #[test]
    fn what_a_coordinator_should_not_have_ordered_keeps_its_place_and_changes_nothing() {
        let mut author = Author::new();
        let (mut room, _) = room_of(&mut author, &[]);
        let op = author.op(&room, &OpBody::Pause(Guard::default()));
        let entry = room.log.clone().append_local(author.term(), RoomTime(50), op);
        let taken = room.accept(1, room.log.chain(), &[entry]).expect("it continues the log");
        assert_eq!(taken.refused.len(), 1);
        assert_eq!(room.log().last_idx(), 2);
    }

    #[test]
    fn a_foreign_or_broken_log_is_told_from_a_gap() {
        let mut author = Author::new();
        let (room, entries) = room_of(&mut author, &[10, 20]);
        let (other, branch) = room_of(&mut author, &[99, 98]);
        assert_eq!(other.id(), room.id());
        let mut replica = author.found();
        replica.accept(0, [0; 16], &entries[..2]).expect("the beginning");
        let fork = |idx| Err(RoomError::Fork { idx });
        let chain = entries[2].chain;
        assert_eq!(replica.accept(3, chain, &[]), Err(RoomError::Gap { have: 2 }));
        assert_eq!(replica.accept(2, [9; 16], &entries[2..]), fork(2));
        assert_eq!(replica.accept(0, [0; 16], &branch), fork(1));
        for spoil in [
            (|entry| entry.at = RoomTime(1)) as fn(&mut Entry),
            |entry| entry.idx = u64::MAX,
            |entry| entry.term = Term::ZERO,
            |entry| entry.chain = [0; 16],
            |entry| entry.op.created = RoomTime(77),
        ] {
            let mut entry = entries[2].clone();
            spoil(&mut entry);
            let refused = replica.accept(2, entries[1].chain, &[entry]);
            assert!(matches!(refused, Err(RoomError::BadEntry { .. })), "{refused:?}");
        }
        assert_eq!(replica.log().last_idx(), 2, "nothing of it was taken");
        replica.accept(2, entries[1].chain, &entries[2..]).expect("the honest rest");
    }

    #[test]
    fn a_member_that_lags_gets_what_fits_into_a_message() {
        let mut author = Author::new();
        let (room, entries) = room_of(&mut author, &[1; 400]);
        let mut replica = author.found();
        let mut rounds = 0;
        while replica.log().last_idx() < room.log().last_idx() {
            let (idx, chain) = (replica.log().last_idx(), replica.log().chain());
            let batch = room.log().entries_after(idx, chain).expect("within the tail");
            let append = crate::wire::Message::Append {
                room: room.id(),
                term: author.term(),
                prev_idx: idx,
                prev_chain: chain,
                entries: batch.clone(),
            };
            assert!(codec::encode_message(&append).is_ok());
            assert!(!replica.accept(idx, chain, &batch).expect("in order").entries.is_empty());
            rounds += 1;
        }
        assert_eq!(replica, room);
        assert!(rounds >= 2, "401 entries are more than one message");
        assert_eq!(room.log().entries_after(3, [0; 16]), None, "another branch");
        assert_eq!(room.log().entries_after(4000, entries[3].chain), None);
    }

    #[test]
    fn a_snapshot_with_another_genesis_or_state_is_refused() {
        let mut author = Author::new();
        let (room, _) = room_of(&mut author, &[10]);
        let good = room.snapshot(author.term()).expect("small");
        let mut unsigned = good.clone();
        unsigned.genesis.name = "Mine".into();
        assert!(matches!(Room::from_snapshot(&unsigned), Err(RoomError::Identity(_))));
        let other = Author::new().found().snapshot(author.term()).expect("small");
        let swapped = Snapshot { state: other.state, ..good.clone() };
        assert!(matches!(Room::from_snapshot(&swapped), Err(RoomError::BadSnapshot(_))));
        let cut = Snapshot { state: good.state[..good.state.len() - 1].to_vec(), ..good };
        assert!(matches!(Room::from_snapshot(&cut), Err(RoomError::Wire(_))));
    }

    #[test]
    fn a_snapshot_that_leaves_no_room_for_what_comes_next_is_refused() {
        let mut author = Author::new();
        let (room, _) = room_of(&mut author, &[10]);
        let good = room.snapshot(author.term()).expect("small");
        let endless = Snapshot { idx: u64::MAX, ..good.clone() };
        assert!(matches!(Room::from_snapshot(&endless), Err(RoomError::BadSnapshot(_))));
        // With it the state still decodes, and with one member more no longer encodes.
        let mut long = room.clone();
        let message = "x".repeat(crate::base::limits::MAX_SNAPSHOT - good.state.len() - 100);
        long.state.playback.notice = Some(Notice { at: RoomTime(0), message });
        let long = long.snapshot(author.term()).expect("just fits");
        assert!(matches!(Room::from_snapshot(&long), Err(RoomError::BadSnapshot(_))));
    }

    #[test]
    fn the_tail_is_bounded_and_says_so() {
        let mut author = Author::new();
        let room = author.found();
        let mut log = Log::default();
        let op = author.op(&room, &OpBody::Clear);
        let n = crate::base::limits::LOG_TAIL as u64 + 5;
        for i in 1..=n {
            let at = RoomTime(0) + Span::from_nanos(i.cast_signed());
            log.append_local(author.term(), at, op.clone());
        }
        assert_eq!((log.last_idx(), log.entries().count() as u64), (n, n - 5));
        assert_eq!(log.entries_after(4, [0; 16]), None);
        let chain = log.chain_at(5).expect("the place before the tail");
        assert_eq!(log.entries_after(5, chain).map(|batch| batch[0].idx), Some(6));
    }

    #[test]
    fn a_log_that_parts_is_wound_back_and_goes_on_like_the_other() {
        let mut author = Author::new();
        let (room, entries) = room_of(&mut author, &[10, 20]);
        let mut replica = author.found();
        replica.accept(0, [0; 16], &entries).expect("the same");
        let mine = author.order(
            &mut replica,
            30,
            &OpBody::Volume { member: author.key.node_id(), volume: 77 },
        );
        let mut other = room.clone();
        let later = Term { n: 2, ..author.term() };
        let op = author.op(&other, &OpBody::Clear);
        let theirs = new(other.order(later, RoomTime(40), op));
        let taken = replica.follow(2, entries[1].chain, &[entries[2].clone(), theirs.clone()]);
        let taken = taken.expect("the two part after 3");
        assert_eq!(taken, Taken { entries: vec![theirs], cut: vec![mine], ..Taken::default() });
        assert_eq!(replica, other);
        let again = replica.follow(2, entries[1].chain, &entries[2..]).expect("known");
        assert_eq!(again, Taken::default(), "an old message takes nothing away");
        assert_eq!(replica, other);
    }

    #[test]
    fn what_is_not_sound_takes_nothing_away() {
        let mut author = Author::new();
        let (room, entries) = room_of(&mut author, &[10, 20]);
        let (mut other, branch) = room_of(&mut author, &[98, 99]);
        assert_eq!(other.id(), room.id());
        let untouched = other.clone();
        let mut forged = entries.clone();
        let last = &mut forged[2];
        last.op.signature.0[0] ^= 1;
        last.chain = codec::chain(&entries[1].chain, &last.term, last.at, &last.op);
        let refused = other.follow(0, [0; 16], &forged);
        assert!(matches!(refused, Err(RoomError::Identity(_))), "{refused:?}");
        assert_eq!(other, untouched);
        let taken = other.follow(0, [0; 16], &entries).expect("sound");
        assert_eq!((taken.cut, taken.entries), (branch, entries));
        assert_eq!(other, room);
    }

    #[test]
    fn a_log_can_be_wound_back_to_every_entry_since_the_oldest_state_kept() {
        let mut author = Author::new();
        let mut room = author.found();
        let op = author.join(&room);
        let mut hashes = vec![room.state().hash()];
        new(room.order(author.term(), RoomTime(10), op));
        hashes.push(room.state().hash());
        let member = author.key.node_id();
        for i in 0..1500_u32 {
            let volume = u8::try_from(i % 101).expect("below 101");
            author.order(&mut room, 20 + i64::from(i), &OpBody::Volume { member, volume });
            hashes.push(room.state().hash());
        }
        let last = room.log().last_idx();
        assert!(last - room.oldest() >= (CHECKPOINTS as u64 - 1) * CHECKPOINT_EVERY);
        assert_eq!(room.oldest() % CHECKPOINT_EVERY, 0);
        for to in [last, last - 1, last - 300, room.oldest() + 1, room.oldest()] {
            let mut back = room.clone();
            let cut = back.rewind(to).expect("kept");
            assert_eq!(cut.len() as u64, last - to);
            assert_eq!(back.state().hash(), hashes[usize::try_from(to).expect("small")]);
            back.accept(to, back.log().chain(), &cut).expect("its own entries");
            assert_eq!(back.state().hash(), room.state().hash());
            assert_eq!(back.log(), room.log());
        }
        assert!(matches!(room.rewind(room.oldest() - 1), Err(RoomError::Fork { .. })));
        let base = room.base_snapshot().expect("small");
        let on_disk = Room::from_snapshot(&base).expect("sound");
        assert_eq!(on_disk.state().hash(), hashes[usize::try_from(base.idx).expect("small")]);
    }

    #[test]
    fn places_lead_to_where_two_logs_part() {
        let mut author = Author::new();
        let (room, entries) = room_of(&mut author, &[1; 600]);
        for common in [1, 2, 255, 256, 590, 601] {
            let mut other = author.found();
            other.accept(0, [0; 16], &entries[..common]).expect("the beginning");
            for _ in 0..7 {
                author.order(&mut other, 99, &OpBody::Clear);
            }
            let places = other.log().places(other.oldest());
            assert!(places.len() <= crate::base::limits::MAX_PLACES);
            let found = places.iter().filter(|place| room.log().has(place)).map(|place| place.idx);
            let found = found.max().expect("at least the beginning");
            let common = common as u64;
            assert!(found <= common && common - found <= other.log().last_idx() - found);
            assert!(other.log().last_idx() - found <= 2 * (other.log().last_idx() - common) + 2);
        }
    }
}
