//! The fair queue: people in turn, each one's entries in their own order.
//!
//! ```text
//!  anna adds a1 a2 a3      ben adds b1 b2        carla adds c1
//!  turn  1  2  3           turn  1  2            turn  1           ──►  a1 b1 c1 a2 b2 a3
//! ```
//!
//! An entry gets the turn behind its person's last one, what plays among them, but none that is
//! over, and stands behind everything of that turn. Up-votes and moves of one's own entries change
//! who of one person's entries takes which of their turns, and never anybody else's. What came from
//! devices without a person takes turns as if one person had brought it.

use std::cmp::Reverse;

use crate::base::limits::MAX_UP_VOTES;
use crate::base::{EntryKey, UserId};

use super::playback::{Playback, QueueEntry};

impl Playback {
    /// At the end of the queue, or in a fair one at the end of each one's turn.
    pub(super) fn append(&mut self, entries: impl Iterator<Item = QueueEntry>, fair: bool) {
        // Whose entry plays has had that turn.
        let playing = self.focus().map(|focus| focus.entry.clone());
        for mut entry in entries {
            let own = self.queue.iter().chain(&playing).filter(|own| own.same_adder(&entry));
            let own = own.map(|waiting| waiting.turn + 1).max();
            let last = self.queue.back().map_or(self.turn, |last| last.turn);
            entry.turn = if fair { own.unwrap_or(0).max(self.turn) } else { last };
            let earlier = self.queue.iter().rposition(|waiting| waiting.turn <= entry.turn);
            let place = if fair { earlier.map_or(0, |place| place + 1) } else { self.queue.len() };
            self.queue.insert(place, entry);
        }
    }

    /// Brings a queue that was none into a fair order.
    pub(super) fn take_turns(&mut self) {
        let entries = std::mem::take(&mut self.queue);
        self.append(entries.into_iter(), true);
    }

    /// The places keep their turns, whoever has them now.
    pub(super) fn renumber_turns(&mut self) {
        let mut turns = self.queue.iter().map(|entry| entry.turn).collect::<Vec<_>>();
        turns.sort_unstable();
        for (entry, turn) in self.queue.iter_mut().zip(turns) {
            entry.turn = turn;
        }
    }

    /// For an entry, or no longer. What more people want takes an earlier turn of its person.
    pub(super) fn up_vote(&mut self, key: EntryKey, user: UserId, up: bool, fair: bool) {
        let Some(place) = self.place_of(key) else { return };
        let entry = &mut self.queue[place];
        if up && entry.up.len() < MAX_UP_VOTES {
            entry.up.insert(user);
        } else if !up {
            entry.up.remove(&user);
        }
        if fair {
            let entry = self.queue[place].clone();
            self.reorder_own(&entry, |own| own.sort_by_key(|entry| Reverse(entry.up.len())));
        }
    }

    pub(super) fn move_among_own(&mut self, key: EntryKey, behind: Option<EntryKey>) {
        let Some(place) = self.place_of(key) else { return };
        let entry = self.queue[place].clone();
        self.reorder_own(&entry, |own| {
            own.retain(|other| other.key != key);
            let before = own.iter().position(|other| Some(other.key) == behind);
            own.insert(before.map_or(0, |place| place + 1), entry.clone());
        });
    }

    fn reorder_own(&mut self, of: &QueueEntry, how: impl FnOnce(&mut Vec<QueueEntry>)) {
        let places = self.queue.iter().enumerate().filter(|(_, entry)| entry.same_adder(of));
        let places = places.map(|(place, _)| place).collect::<Vec<_>>();
        let mut own = places.iter().map(|place| self.queue[*place].clone()).collect::<Vec<_>>();
        how(&mut own);
        for (place, entry) in places.into_iter().zip(own) {
            let turn = self.queue[place].turn;
            self.queue[place] = QueueEntry { turn, ..entry };
        }
    }
}
