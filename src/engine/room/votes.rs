//! Votes: who may vote, what counts, and when a vote is over.
//!
//! ```text
//!  CallVote ──► open ── Vote … ──► nothing can change the result any more ──► over
//!                 └── its time is up: an election goes to whoever has most, the others fail ──► over
//! ```
//!
//! The electorate is who was here at the opening. A result depends on the session alone, so that
//! everybody comes to the same; nobody has to announce it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::limits::{MAX_DEADLINES, MAX_MEMBERS, MAX_NAME, MAX_REMEMBERED};
use crate::base::rng::Rng;
use crate::base::{OpId, RoomTime, SegmentId, SessionId, UserId};
use crate::wire::op::{Choice, VoteKind};

/// A vote that is open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// On what.
    pub kind: VoteKind,
    /// Who called it; nobody where a mutiny or a vanished DJ did.
    pub caller: Option<UserId>,
    /// Whom it is about: the DJ of a mutiny, whom a kick sends out.
    pub target: Option<UserId>,
    /// What a skip is about.
    pub segment: Option<SegmentId>,
    /// When it was opened.
    pub opened_at: RoomTime,
    /// When it is over at the latest.
    pub closes_at: RoomTime,
    /// Who has a vote.
    pub electorate: BTreeSet<UserId>,
    /// Votes that decide.
    pub required: u32,
    /// What was voted.
    pub ballots: BTreeMap<UserId, Choice>,
    /// Decides between equals.
    pub(super) seed: u64,
}

/// How a vote ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// It is done.
    Passed,
    /// It is not done.
    Failed,
    /// An election has a winner.
    Elected(UserId),
    /// What it was about is no more.
    Moot,
}

/// A vote that is over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PastVote {
    /// Its name.
    pub id: SessionId,
    /// On what.
    pub kind: VoteKind,
    /// Name of who called it.
    pub caller: Option<String>,
    /// Name of whom it was about, or who was elected.
    pub about: Option<String>,
    /// When it was opened.
    pub opened_at: RoomTime,
    /// How it ended.
    pub verdict: Verdict,
    /// Votes for it; in an election, for the winner.
    pub votes_for: u32,
    /// Votes against it; in an election, for others.
    pub votes_against: u32,
    /// Who had a vote.
    pub electorate: u32,
    /// What would have decided.
    pub required: u32,
}

impl Session {
    pub(super) fn id_of(op: &OpId, kind: VoteKind) -> SessionId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"groovebox vote 1").update(kind.as_str().as_bytes());
        hasher.update(&op.author.0).update(&op.boot.to_le_bytes()).update(&op.seq.to_le_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        SessionId(u64::from_le_bytes(first))
    }

    /// How many have chosen something.
    #[must_use]
    pub fn count(&self, choice: Choice) -> u32 {
        let count = self.ballots.values().filter(|ballot| **ballot == choice).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Votes of an election, most first; equals by id.
    #[must_use]
    pub fn tally(&self) -> Vec<(UserId, u32)> {
        let mut votes = BTreeMap::new();
        for choice in self.ballots.values() {
            if let Choice::For(user) = choice {
                *votes.entry(*user).or_insert(0) += 1;
            }
        }
        let mut tally = votes.into_iter().collect::<Vec<(UserId, u32)>>();
        tally.sort_by_key(|(user, votes)| (std::cmp::Reverse(*votes), *user));
        tally
    }

    /// What cannot change any more, if anything. In an election everybody may think again until
    /// the end, so that only the threshold ends it early.
    pub(super) fn settled(&self, may_win: impl Fn(&UserId) -> bool) -> Option<Verdict> {
        if self.kind == VoteKind::Election {
            let mut tally = self.tally().into_iter();
            let winner = tally.find(|(user, votes)| *votes >= self.required && may_win(user));
            return winner.map(|(user, _)| Verdict::Elected(user));
        }
        let voted = u32::try_from(self.ballots.len()).unwrap_or(u32::MAX);
        let electorate = u32::try_from(self.electorate.len()).unwrap_or(u32::MAX);
        let yes = self.count(Choice::Yes);
        if yes >= self.required {
            return Some(Verdict::Passed);
        }
        let reachable = yes + electorate.saturating_sub(voted);
        (reachable < self.required).then_some(Verdict::Failed)
    }

    /// What stands when its time is up.
    pub(super) fn at_the_end(&self, may_win: impl Fn(&UserId) -> bool) -> Verdict {
        if self.kind != VoteKind::Election {
            return Verdict::Failed;
        }
        let tally = self.tally();
        let eligible = tally.into_iter().filter(|(user, _)| may_win(user)).collect::<Vec<_>>();
        let most = eligible.first().map_or(0, |(_, votes)| *votes);
        let first = eligible.iter().take_while(|(_, votes)| *votes == most);
        let first = first.map(|(user, _)| *user).collect::<Vec<_>>();
        draw(&first, self.seed).map_or(Verdict::Failed, Verdict::Elected)
    }

    fn counts(&self, verdict: Verdict) -> (u32, u32) {
        let all = u32::try_from(self.ballots.len()).unwrap_or(u32::MAX);
        let votes_for = match verdict {
            Verdict::Elected(user) => self.count(Choice::For(user)),
            _ => self.count(Choice::Yes),
        };
        (votes_for, all.saturating_sub(votes_for))
    }

    fn is_sane(&self) -> bool {
        self.electorate.len() <= MAX_MEMBERS
            && self.ballots.keys().all(|user| self.electorate.contains(user))
    }
}

/// One of several by lot.
pub(super) fn draw(from: &[UserId], seed: u64) -> Option<UserId> {
    let n = u64::try_from(from.len()).ok().filter(|n| *n > 0)?;
    let place = usize::try_from(Rng::new(seed).below(n)).ok()?;
    from.get(place).copied()
}

/// A seed that nobody can choose: the chain value of an entry.
pub(super) fn seed_of(chain: &[u8; 16]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&chain[..8]);
    u64::from_le_bytes(first)
}

/// Open votes, past ones, and who may not call another yet.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Votes {
    open: BTreeMap<VoteKind, Session>,
    past: VecDeque<PastVote>,
    /// Whose mutiny or kick failed, and until when that bars them from calling another.
    barred: BTreeMap<(VoteKind, UserId), RoomTime>,
    /// Who has called a skip of which stretch.
    skips: VecDeque<(SegmentId, UserId)>,
}

impl Votes {
    pub fn open(&self) -> impl Iterator<Item = &Session> {
        self.open.values()
    }

    pub fn open_of(&self, kind: VoteKind) -> Option<&Session> {
        self.open.get(&kind)
    }

    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.open.values().find(|session| session.id == id)
    }

    pub fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.open.values_mut().find(|session| session.id == id)
    }

    pub fn past(&self) -> impl DoubleEndedIterator<Item = &PastVote> {
        self.past.iter()
    }

    /// Until when somebody may not call such a vote.
    pub fn barred_until(&self, kind: VoteKind, user: &UserId) -> Option<RoomTime> {
        self.barred.get(&(kind, *user)).copied()
    }

    pub fn bar(&mut self, kind: VoteKind, user: UserId, until: RoomTime) {
        let earliest = self.barred.iter().min_by_key(|(_, until)| **until).map(|(key, _)| *key);
        if self.barred.len() >= MAX_DEADLINES
            && let Some(key) = earliest
        {
            self.barred.remove(&key);
        }
        self.barred.insert((kind, user), until);
    }

    pub fn forget_bars(&mut self, at: RoomTime) {
        self.barred.retain(|_, until| *until > at);
    }

    pub fn has_called_skip(&self, segment: SegmentId, user: UserId) -> bool {
        self.skips.contains(&(segment, user))
    }

    /// What was a vote on one stretch is one on another.
    pub fn carry_skips(&mut self, from: SegmentId, to: SegmentId) {
        let sessions = self.open.values_mut().filter_map(|session| session.segment.as_mut());
        let called = self.skips.iter_mut().map(|(segment, _)| segment);
        for segment in sessions.chain(called).filter(|segment| **segment == from) {
            *segment = to;
        }
    }

    pub fn begin(&mut self, session: Session) {
        if let (Some(segment), Some(caller)) = (session.segment, session.caller) {
            self.skips.push_back((segment, caller));
            while self.skips.len() > MAX_MEMBERS {
                self.skips.pop_front();
            }
        }
        self.open.insert(session.kind, session);
    }

    /// The session whose time is up first, if that is at `at` or before.
    pub fn due(&self, at: RoomTime) -> Option<(RoomTime, VoteKind)> {
        let ends = self.open.values().map(|session| (session.closes_at, session.kind));
        ends.min().filter(|(end, _)| *end <= at)
    }

    /// Ends a session.
    pub fn end(
        &mut self,
        kind: VoteKind,
        verdict: Verdict,
        name_of: impl Fn(&UserId) -> String,
    ) -> Option<Session> {
        let session = self.open.remove(&kind)?;
        let (votes_for, votes_against) = session.counts(verdict);
        let about = match verdict {
            Verdict::Elected(user) => Some(user),
            _ => session.target,
        };
        self.past.push_back(PastVote {
            id: session.id,
            kind,
            caller: session.caller.as_ref().map(&name_of),
            about: about.as_ref().map(&name_of),
            opened_at: session.opened_at,
            verdict,
            votes_for,
            votes_against,
            electorate: u32::try_from(session.electorate.len()).unwrap_or(u32::MAX),
            required: session.required,
        });
        while self.past.len() > MAX_REMEMBERED {
            self.past.pop_front();
        }
        Some(session)
    }

    /// What every reachable room obeys; for states from elsewhere.
    pub fn is_sane(&self) -> bool {
        let short = |name: &Option<String>| {
            name.as_ref().is_none_or(|name| name.chars().count() <= MAX_NAME)
        };
        self.open.iter().all(|(kind, session)| *kind == session.kind && session.is_sane())
            && self.past.len() <= MAX_REMEMBERED
            && self.past.iter().all(|past| short(&past.caller) && short(&past.about))
            && self.barred.len() <= MAX_DEADLINES
            && self.skips.len() <= MAX_MEMBERS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(n: u8) -> UserId {
        UserId([n; 32])
    }

    fn session(kind: VoteKind, electorate: u8, required: u32) -> Session {
        Session {
            id: SessionId(1),
            kind,
            caller: None,
            target: None,
            segment: None,
            opened_at: RoomTime(0),
            closes_at: RoomTime(60),
            electorate: (1..=electorate).map(user).collect(),
            required,
            ballots: BTreeMap::new(),
            seed: 7,
        }
    }

    /// What people would say by counting on their fingers: pretend that all who have not voted
    /// say yes, then that they say no. If both come out alike, it is decided.
    fn model(ballots: &[Option<bool>], required: u32) -> Option<Verdict> {
        let passes = |missing: bool| {
            let yes = ballots.iter().filter(|ballot| ballot.unwrap_or(missing)).count();
            yes >= required as usize
        };
        match (passes(true), passes(false)) {
            (true, true) => Some(Verdict::Passed),
            (false, false) => Some(Verdict::Failed),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn a_vote_is_over_exactly_when_nothing_can_change_it(
            ballots in proptest::collection::vec(proptest::option::of(any::<bool>()), 1..40),
            share in 0.0_f64..=1.0,
        ) {
            let electorate = u8::try_from(ballots.len()).expect("few");
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let required = ((f64::from(electorate) * share).ceil() as u32).max(1);
            let mut vote = session(VoteKind::Mutiny, electorate, required);
            for (n, ballot) in (1..).zip(&ballots) {
                if let Some(yes) = ballot {
                    vote.ballots.insert(user(n), if *yes { Choice::Yes } else { Choice::No });
                }
            }
            prop_assert_eq!(vote.settled(|_| true), model(&ballots, required));
            prop_assert_eq!(vote.at_the_end(|_| true), Verdict::Failed);
        }

        #[test]
        fn an_election_goes_to_somebody_whom_nobody_has_more_votes_than(
            ballots in proptest::collection::vec(1_u8..6, 0..30),
            barred in 1_u8..8,
            required in 1_u32..40,
        ) {
            let electorate = u8::try_from(ballots.len()).expect("few");
            let mut vote = session(VoteKind::Election, electorate, required);
            for (n, choice) in (1..).zip(&ballots) {
                vote.ballots.insert(user(n), Choice::For(user(*choice)));
            }
            let may_win = |candidate: &UserId| *candidate != user(barred);
            let votes = |n| ballots.iter().filter(|choice| u32::from(**choice) == n).count();
            let most = (1..6).filter(|n| *n != u32::from(barred)).map(votes).max().unwrap_or(0);
            match vote.at_the_end(may_win) {
                Verdict::Elected(winner) => {
                    prop_assert!(most > 0 && votes(winner.0[0].into()) == most && may_win(&winner));
                }
                verdict => prop_assert!(most == 0 && verdict == Verdict::Failed),
            }
            let early = vote.settled(may_win);
            prop_assert_eq!(early.is_some(), most >= required as usize && most > 0);
        }
    }

    #[test]
    fn one_short_of_the_threshold_is_not_enough() {
        let mut vote = session(VoteKind::Mutiny, 8, 5);
        for n in 1..=4 {
            vote.ballots.insert(user(n), Choice::Yes);
        }
        assert_eq!(vote.settled(|_| true), None);
        for n in 5..=7 {
            vote.ballots.insert(user(n), Choice::No);
        }
        assert_eq!(vote.settled(|_| true), None, "the last one decides");
        let mut against = vote.clone();
        against.ballots.insert(user(8), Choice::No);
        assert_eq!(against.settled(|_| true), Some(Verdict::Failed));
        vote.ballots.insert(user(8), Choice::Yes);
        assert_eq!(vote.settled(|_| true), Some(Verdict::Passed));
    }

    #[test]
    fn a_lot_can_fall_on_everybody_and_is_the_same_for_everybody() {
        let three = [user(1), user(2), user(3)];
        let drawn: BTreeSet<_> = (0..50).filter_map(|seed| draw(&three, seed)).collect();
        assert_eq!(drawn.len(), 3);
        assert_eq!(draw(&three, 5), draw(&three, 5));
        assert_eq!(draw(&[], 5), None);
    }
}
