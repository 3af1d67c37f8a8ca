//! What was said in a room lately. The disk keeps more.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::base::limits::{MAX_CHAT, MAX_CHAT_BYTES, MAX_CHAT_KEPT, MAX_NAME};
use crate::base::{OpId, RoomTime, UserId};

/// Something said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChatLine {
    /// Its name: the operation.
    pub op: OpId,
    /// Who.
    pub user: UserId,
    /// What they were called.
    pub name: String,
    /// When, as its author counts; when it was ordered, if that did not know the time.
    pub at: RoomTime,
    /// What.
    pub text: String,
}

/// Oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Chat(VecDeque<ChatLine>);

impl Chat {
    pub fn say(&mut self, line: ChatLine) {
        self.0.push_back(line);
        let mut bytes = self.0.iter().map(|line| line.text.len()).sum::<usize>();
        while self.0.len() > MAX_CHAT_KEPT || bytes > MAX_CHAT_BYTES {
            let Some(oldest) = self.0.pop_front() else { break };
            bytes -= oldest.text.len();
        }
    }

    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &ChatLine> {
        self.0.iter()
    }

    /// What every reachable room obeys; for states from elsewhere.
    pub fn is_sane(&self) -> bool {
        let is_sane =
            |line: &ChatLine| is_chat_text(&line.text) && line.name.chars().count() <= MAX_NAME;
        self.0.len() <= MAX_CHAT_KEPT && self.0.iter().all(is_sane)
    }
}

/// Whether this can be said: something to see, on one line or more.
#[must_use]
pub fn is_chat_text(text: &str) -> bool {
    let shown = |c: char| !c.is_control() || c == '\n';
    text.chars().count() <= MAX_CHAT && !text.trim().is_empty() && text.chars().all(shown)
}
