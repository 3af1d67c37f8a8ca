//! What follows when the room's log has an operation that only a later version knows.
//!
//! What it does to the state cannot be told, so nothing behind it is applied either: a state that
//! is guessed would differ from everybody else's, and every check after it would decide otherwise.
//! The device keeps what it has, plays on by it, says that it wants to be updated, no longer
//! counts among those that have written, and coordinates only if there is nobody else. A state
//! that the coordinator sends, if it can be read, leads past the place: so does `groovebox resync`.

use super::{Entry, LocalTime, Message, Node, Notice, Output};
use crate::engine::room::Unknown;
use crate::engine::room::merge::Came;

impl Node {
    /// Whether entries reach this device's log, and its disk.
    pub(super) fn writes(&self) -> bool {
        self.disk_takes() && self.replication.unknown.is_none()
    }

    /// A coordinator's entries were taken, up to one of a later version or all of them.
    pub(super) fn note_unknown(&mut self, now: LocalTime, unknown: Option<Unknown>) {
        if unknown == self.replication.unknown {
            return;
        }
        let wrote = self.writes();
        let news = self.replication.unknown.is_none();
        self.replication.unknown = unknown;
        if let Some(unknown) = unknown.filter(|_| news) {
            self.tell(Notice::Outdated { kind: unknown.kind });
        }
        self.tell_if_writes(now, wrote);
    }

    /// Others count on what this device writes.
    pub(super) fn tell_if_writes(&mut self, now: LocalTime, before: bool) {
        let writes = self.writes();
        if writes == before {
            return;
        }
        for peer in self.member_peers() {
            self.send(peer, Message::Disk { writes });
        }
        self.refresh_election(now);
    }

    /// For people, while the log ends before an operation that is not known here.
    pub(super) fn outdated_notice(&self) -> Option<String> {
        let unknown = self.replication.unknown?;
        Some(format!(
            "the room uses a later version of GrooveBox (operation {} at {}): update it here; until \
             then this device plays on with what it knows",
            unknown.kind, unknown.idx
        ))
    }

    /// The disk has entries that an earlier start, of a later version, has written: from the first
    /// unknown one on they go into the outbox, and are offered to whoever knows them.
    pub(super) fn set_later_entries_aside(&mut self, now: LocalTime, entries: &[Entry]) {
        let Some((id, to_idx)) = self.room.as_ref().map(|room| (room.id(), room.log().last_idx()))
        else {
            return;
        };
        let later = entries.iter().filter(|entry| entry.idx > to_idx).collect::<Vec<_>>();
        let Some(first) = later.first() else { return };
        let unknown = Unknown { idx: first.idx, kind: first.op.kind };
        self.keep(later.iter().map(|entry| entry.op.clone()).collect(), Came::CutOff);
        self.outputs.push_back(Output::RewindRoom { room: id, to_idx });
        self.note_unknown(now, Some(unknown));
    }
}
