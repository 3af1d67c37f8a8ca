//! What was played and said goes to the disk, and what was left out is told.
//!
//! Every node makes the rows by itself, from the state alone, and so makes the same ones. It only
//! has to wait until a row is settled: a skip that is still on its way may have ended the track
//! before its last frame.

use std::collections::VecDeque;

use super::{Heard, LocalTime, Node, Notice, OpId, Output, RoomTime, SegmentId, Span};
use crate::base::limits::{MAX_CHAT_KEPT, MAX_HEARD};
use crate::engine::room::ChatLine;

/// Nobody orders anything so far back: a change of coordinator takes less.
const SETTLED_AFTER: Span = Span::from_secs(2);

/// Without an entry of the log that is later, a row is believed after this time: nobody
/// coordinates, or this node has been cut off, and here the music did go on like that.
const BELIEVED_AFTER: Span = Span::from_secs(10);

/// Rows remembered as given out: those of the state, and those that a history which made way
/// may bring back.
const MAX_GIVEN: usize = 4 * MAX_HEARD;

/// Words remembered as given out: one more than the state has, so that the last of them is known.
const MAX_SAID: usize = MAX_CHAT_KEPT + 1;

/// A notice older than this was told by others, or before a restart.
const NEWS: Span = Span::from_secs(10);

/// What this file remembers.
#[derive(Debug, Default)]
pub(super) struct Past {
    given: VecDeque<SegmentId>,
    /// Words of the chat given out.
    said: VecDeque<OpId>,
    told: Option<RoomTime>,
}

impl Past {
    /// The disk may have lost what it was given.
    pub(super) fn give_again(&mut self) {
        self.given.clear();
        self.said.clear();
    }
}

impl Node {
    /// Gives out the rows that nothing can change any more.
    pub(super) fn write_history(&mut self, now: LocalTime) {
        if self.clock.model().is_none() || self.held_at().is_some() {
            return;
        }
        let at = self.room_now(now);
        let Some(room) = &self.room else { return };
        let settled = room.state().applied_at().min(at - SETTLED_AFTER).max(at - BELIEVED_AFTER);
        let state = room.state().settled(settled);
        let given = &self.playback.past.given;
        let due = |row: &&Heard| row.ended <= settled && !given.contains(&row.segment);
        let rows = state.heard().filter(due).cloned().collect::<Vec<_>>();
        if rows.is_empty() {
            return;
        }
        let room = room.id();
        self.playback.past.given.extend(rows.iter().map(|row| row.segment));
        while self.playback.past.given.len() > MAX_GIVEN {
            self.playback.past.given.pop_front();
        }
        self.outputs.push_back(Output::SaveHistory { room, rows, at });
    }

    /// Gives out what was said. What makes way when two halves meet comes again later, and has its
    /// row by then.
    pub(super) fn write_chat(&mut self, now: LocalTime) {
        if self.clock.model().is_none() {
            return;
        }
        let at = self.room_now(now);
        let Some(room) = &self.room else { return };
        let said = &self.playback.past.said;
        let new = |line: &&ChatLine| !said.contains(&line.op);
        // Words come at the end; only after a start, or with another state, are all of them new.
        let mut lines = room.state().chat().rev().take_while(new).cloned().collect::<Vec<_>>();
        if lines.is_empty() {
            return;
        }
        lines.reverse();
        let room = room.id();
        self.playback.past.said.extend(lines.iter().map(|line| line.op));
        while self.playback.past.said.len() > MAX_SAID {
            self.playback.past.said.pop_front();
        }
        self.outputs.push_back(Output::SaveChat { room, lines, at });
    }

    /// Tells once that an entry was left out of the queue or passed over.
    pub(super) fn tell_left_out(&mut self, now: LocalTime) {
        if self.clock.model().is_none() || self.held_at().is_some() {
            return;
        }
        let Some((state, at)) = self.settled(now) else { return };
        let Some(notice) = state.notice() else { return };
        if self.playback.past.told == Some(notice.at) {
            return;
        }
        let (noticed, message) = (notice.at, notice.message.clone());
        self.playback.past.told = Some(noticed);
        if at < noticed + NEWS {
            self.tell(Notice::LeftOut { message });
        }
    }
}
