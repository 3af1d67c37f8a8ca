//! A room as one node holds it: genesis, state and the tail of the log, kept in step.

use crate::base::{OpId, RoomId, RoomTime, Term};
use crate::identity::{verify_genesis, verify_op};
use crate::wire::codec;
use crate::wire::message::Snapshot;
use crate::wire::op::{Entry, Genesis, Op, Refusal, RefusalCode};

use super::{Log, RoomError, RoomState};

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
}

/// Genesis, state and log.
#[derive(Clone, PartialEq, Debug)]
pub struct Room {
    genesis: Genesis,
    state: RoomState,
    log: Log,
}

impl Room {
    /// An empty room.
    ///
    /// # Errors
    ///
    /// When the genesis was not signed by its founder, or names more than a room may be called.
    pub fn new(genesis: Genesis) -> Result<Room, RoomError> {
        verify_genesis(&genesis)?;
        let state = RoomState::new(&genesis);
        state.check(&genesis).map_err(RoomError::BadSnapshot)?;
        Ok(Room { genesis, state, log: Log::default() })
    }

    /// The room at a snapshot. Its log goes on from there.
    ///
    /// # Errors
    ///
    /// When the genesis is not signed, or the state is not one of that room.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Room, RoomError> {
        verify_genesis(&snapshot.genesis)?;
        let state: RoomState = codec::decode_state(&snapshot.state)?;
        state.check(&snapshot.genesis).map_err(RoomError::BadSnapshot)?;
        let log =
            Log::resumed(snapshot.idx, snapshot.last_term, state.applied_at(), snapshot.chain);
        Ok(Room { genesis: snapshot.genesis.clone(), state, log })
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
        verify_op(&op).map_err(|error| forged(&op.id, &error))?;
        if let Some((idx, at)) = self.state.known(&op.id) {
            return Ok(Ordered::Known { idx, at });
        }
        let body = codec::decode_body(&op).map_err(|error| unreadable(&error))?;
        let at = self.log.effective(at);
        self.state.validate(&op, &body, term.node, at)?;
        let entry = self.log.append_local(term, at, op);
        self.state.apply(&entry).expect("the same rules let it through just now");
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
        for entry in fresh {
            if entry.op.room != self.id() {
                return Err(RoomError::OtherRoom(entry.op.id));
            }
            verify_op(&entry.op)?;
        }
        let mut taken = Taken { entries: fresh.to_vec(), refused: Vec::new() };
        for entry in fresh {
            self.log.push(entry.clone());
            if let Err(refusal) = self.state.apply(entry) {
                taken.refused.push((entry.idx, refusal));
            }
        }
        Ok(taken)
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

fn unreadable(error: &codec::WireError) -> Refusal {
    Refusal::new(
        RefusalCode::InvalidRequest,
        format!("the operation cannot be read ({error})"),
        "update GrooveBox on all devices to the same version",
    )
}
