//! Every log there ever was, as a tree of entries. A chain value stands for a whole history,
//! so each history is replayed by the rules once, and every node is held against it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use groovebox::base::{NodeId, OpId, RoomId, RoomTime, SegmentId, Span, Term};
use groovebox::engine::planted::plant;
use groovebox::engine::room::{DjEnd, Heard, Room, RoomState, Verdict};
use groovebox::wire::message::{Level, Snapshot};
use groovebox::wire::op::{Entry, Genesis, Subject};

/// The cool-down may have been made shorter since; people here make it no shorter than this.
const SHORTEST_COOLDOWN: Span = Span::from_secs(10);

pub type Chain = [u8; 16];

/// One entry in one history.
pub struct Page {
    pub parent: Chain,
    /// A page further back: by these any earlier one is found in a few steps (Myers, "An
    /// applicative random-access stack", 1983).
    jump: Chain,
    pub idx: u64,
    pub term: Term,
    pub at: RoomTime,
    pub op: Option<OpId>,
    pub kind: u16,
    /// The state after it, by the rules.
    pub state: Rc<RoomState>,
    /// When the first device took it in.
    pub made_at: i64,
}

/// An operation that a person was told is done.
pub struct Acknowledged {
    pub room: RoomId,
    pub op: OpId,
    pub level: Level,
    pub at: i64,
    pub by: usize,
    /// The devices whose disk has it.
    pub holders: BTreeSet<usize>,
    /// Other disks lost it, and those left have it in a state only, which came whole when they
    /// joined: they cannot offer it to a coordinator that lacks it.
    pub is_in_states_only: bool,
}

#[derive(Default)]
pub struct Ledger {
    pages: HashMap<(RoomId, Chain), Page>,
    /// Where an operation has a place, in whichever histories.
    places_of: HashMap<(RoomId, OpId), Vec<Chain>>,
    places: BTreeMap<(RoomId, Term, u64), Chain>,
    /// Who began which term, in which start.
    terms: BTreeMap<(RoomId, Term), (NodeId, u32)>,
    pub acknowledged: Vec<Acknowledged>,
    /// Operations that were left out by the rules for halves that meet, with a word about it.
    pub dropped: BTreeSet<OpId>,
    /// Rows of what was played, and at the end of which history somebody made them.
    heard: BTreeMap<(RoomId, SegmentId), Vec<(Chain, Heard)>>,
    /// Histories that a hostile coordinator is about to send.
    pub rogue: BTreeSet<Chain>,
}

impl Ledger {
    pub fn page(&self, room: RoomId, chain: Chain) -> Option<&Page> {
        self.pages.get(&(room, chain))
    }

    /// The beginning of a room.
    pub fn open(&mut self, genesis: &Genesis) -> RoomId {
        let room = Room::new(genesis.clone()).expect("a node founded it");
        let id = room.id();
        self.pages.entry((id, [0; 16])).or_insert_with(|| Page {
            parent: [0; 16],
            jump: [0; 16],
            idx: 0,
            term: Term::ZERO,
            at: RoomTime(i64::MIN),
            op: None,
            kind: 0,
            state: Rc::new(room.state().clone()),
            made_at: 0,
        });
        id
    }

    /// Takes an entry in that follows `parent`; says what is wrong with it.
    pub fn take(
        &mut self,
        now: i64,
        room: RoomId,
        entry: &Entry,
        parent: Chain,
    ) -> Result<(), String> {
        if let Some(known) = self.page(room, entry.chain) {
            return same(known, entry, parent);
        }
        let Some(before) = self.page(room, parent) else {
            return Err(format!("entry {} continues a history that nobody has made", entry.idx));
        };
        if before.idx + 1 != entry.idx || entry.at < before.at || entry.term < before.term {
            return Err(format!("entry {} does not follow {}", entry.idx, before.idx));
        }
        let is_rogue = self.rogue.contains(&entry.chain);
        let mut state = (*before.state).clone();
        let was_planted = groovebox::engine::planted::planted();
        plant(None);
        let outcome = state.apply(entry);
        plant(was_planted);
        if let (Err(refusal), false) = (outcome, is_rogue) {
            return Err(format!("entry {} was ordered against the rules: {refusal}", entry.idx));
        }
        entry.op.verify().map_err(|error| format!("entry {}: {error}", entry.idx))?;
        governed_well(&before.state, &state, entry)?;
        let page = Page {
            parent,
            jump: self.jump_from(room, parent),
            idx: entry.idx,
            term: entry.term,
            at: entry.at,
            op: Some(entry.op.id),
            kind: entry.op.kind,
            state: Rc::new(state),
            made_at: now,
        };
        if self.contains(room, parent, entry.op.id) {
            return Err(format!("{:?} has a second place at {}", entry.op.id, entry.idx));
        }
        let rival = self.places.insert((room, entry.term, entry.idx), entry.chain);
        let tolerated = is_rogue || rival.is_some_and(|chain| self.rogue.contains(&chain));
        self.pages.insert((room, entry.chain), page);
        self.places_of.entry((room, entry.op.id)).or_default().push(entry.chain);
        match rival {
            Some(_) if !tolerated => {
                Err(format!("two entries of {:?} have the index {}", entry.term, entry.idx))
            }
            _ => Ok(()),
        }
    }

    /// A whole state: it must be one that the entries lead to.
    pub fn compare(&self, room: RoomId, snapshot: &Snapshot) -> Result<(), String> {
        match self.page(room, snapshot.chain) {
            None => Err(format!("a state at {} of a history that nobody made", snapshot.idx)),
            Some(page) if page.idx != snapshot.idx => {
                Err(format!("a state says {} where it is {}", snapshot.idx, page.idx))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether the history that ends here has an operation.
    pub fn contains(&self, room: RoomId, end: Chain, op: OpId) -> bool {
        let places = self.places_of.get(&(room, op)).map_or(&[][..], Vec::as_slice);
        places.iter().any(|place| self.leads_to(room, *place, end))
    }

    /// Whether the history that ends at `end` goes through `place`.
    fn leads_to(&self, room: RoomId, place: Chain, end: Chain) -> bool {
        let Some(idx) = self.page(room, place).map(|page| page.idx) else { return false };
        let mut at = end;
        while let Some(page) = self.page(room, at).filter(|page| page.idx > idx) {
            let far = self.page(room, page.jump).is_some_and(|jump| jump.idx >= idx);
            at = if far { page.jump } else { page.parent };
        }
        at == place
    }

    /// The jump of a page that follows `parent`: as far as that one's and the one before it, if
    /// both are equally long.
    fn jump_from(&self, room: RoomId, parent: Chain) -> Chain {
        let at = |chain| self.page(room, chain).expect("a page that was taken in");
        let (before, jump) = (at(parent), at(at(parent).jump));
        let further = at(jump.jump);
        if before.idx - jump.idx == jump.idx - further.idx { jump.jump } else { parent }
    }

    /// When an operation first got a place in any history, and its kind.
    pub fn made(&self, room: RoomId, op: OpId) -> Option<(i64, u16)> {
        let places = self.places_of.get(&(room, op))?.iter();
        places.filter_map(|place| self.page(room, *place)).map(|p| (p.made_at, p.kind)).min()
    }

    /// From the last entry back to the first.
    pub fn history(&self, room: RoomId, end: Chain) -> impl Iterator<Item = &Page> {
        let first = self.page(room, end);
        std::iter::successors(first, move |page| {
            (page.idx > 0).then(|| self.page(room, page.parent)).flatten()
        })
    }

    /// Whether one history is the beginning of another, or the same.
    fn precedes(&self, room: RoomId, first: Chain, second: Chain) -> bool {
        let Some(idx) = self.page(room, first).map(|page| page.idx) else { return false };
        let mut at = second;
        while let Some(page) = self.page(room, at).filter(|page| page.idx > idx) {
            at = page.parent;
        }
        at == first
    }

    /// A device gives a row out, at the end of that history. Whoever shares it has the same row;
    /// says so if not.
    pub fn hear(&mut self, room: RoomId, end: Chain, row: &Heard) -> Result<(), String> {
        // Without a later entry this device went on by itself, and others may know better.
        if self.page(room, end).is_none_or(|page| page.at < row.ended) {
            return Ok(());
        }
        let key = (room, row.segment);
        let others = self.heard.get(&key).into_iter().flatten();
        for (other_end, other) in others.filter(|(_, other)| other != row) {
            let same = self.precedes(room, *other_end, end) || self.precedes(room, end, *other_end);
            if same {
                return Err(format!("{row:?}, and elsewhere {other:?}"));
            }
        }
        self.heard.entry(key).or_default().push((end, row.clone()));
        Ok(())
    }

    /// A term begins; says whether it had begun before.
    pub fn begin(
        &mut self,
        room: RoomId,
        term: Term,
        node: NodeId,
        boot: u32,
    ) -> Result<(), String> {
        if (term.node, term.boot) != (node, boot) {
            return Err(format!("{term:?} is led by another than its owner"));
        }
        match self.terms.insert((room, term), (node, boot)) {
            None => Ok(()),
            Some(_) => Err(format!("{term:?} begins a second time")),
        }
    }
}

/// What must hold between one state and the next, told without looking how it is done.
fn governed_well(before: &RoomState, after: &RoomState, entry: &Entry) -> Result<(), String> {
    let wrong = |what: String| Err(format!("entry {}: {what}", entry.idx));
    let (old, new) = (before.dj().map(|dj| dj.user), after.dj().map(|dj| dj.user));
    // Each change counts. There may be two between two entries: an election ends, and whoever was
    // elected goes with the next word.
    let changes = after.dj_epoch().checked_sub(before.dj_epoch());
    if changes.is_none_or(|changes| if old == new { changes == 1 } else { changes == 0 }) {
        return wrong(format!(
            "DJ {old:?} of {} to {new:?} of {}",
            before.dj_epoch(),
            after.dj_epoch()
        ));
    }
    // Nobody who was removed is DJ again in their cool-down, unless the owner says so.
    let appointed = entry.op.kind == 43;
    if let Some(dj) = after.dj().filter(|dj| Some(dj.user) != old && !appointed) {
        let cooldown = before.settings().dj_cooldown;
        let removed = before.past_djs().rev().find(|past| past.user == dj.user);
        let cools = removed.is_some_and(|past| {
            let by_others = matches!(past.reason, DjEnd::Mutiny | DjEnd::Vote | DjEnd::Owner);
            by_others && dj.since < past.to + cooldown.min(SHORTEST_COOLDOWN)
        });
        if cools {
            return wrong(format!("{:?} is DJ again in their cool-down", dj.user));
        }
    }
    for session in after.votes() {
        let voters = session.ballots.keys();
        if voters.clone().any(|user| !session.electorate.contains(user)) {
            return wrong(format!("{:?} has votes of people who have none", session.kind));
        }
        let known = before.votes().find(|other| other.id == session.id);
        let is_another = known.is_some_and(|known| {
            (known.required, &known.electorate) != (session.required, &session.electorate)
        });
        if is_another {
            return wrong(format!("{:?} changes its electorate", session.kind));
        }
    }
    // What is over was decided by as many as were needed, each counted once.
    let known = before.past_votes().map(|past| past.id).collect::<BTreeSet<_>>();
    for past in after.past_votes().filter(|past| !known.contains(&past.id)) {
        let enough = past.votes_for >= past.required;
        let sane = past.votes_for + past.votes_against <= past.electorate;
        if !sane || (past.verdict == Verdict::Passed && !enough) {
            return wrong(format!("{past:?}"));
        }
    }
    // Whoever is kept out is not in.
    let kept_out = |subject: &Subject| match subject {
        Subject::Person(user) => after.person(user).is_some(),
        Subject::Device(node) => after.member(node).is_some(),
    };
    match after.banned().find(|(subject, _)| kept_out(subject)) {
        Some((subject, name)) => wrong(format!("{name} ({subject:?}) is banned and here")),
        None => Ok(()),
    }
}

fn same(known: &Page, entry: &Entry, parent: Chain) -> Result<(), String> {
    let (idx, op) = (known.idx, known.op);
    if (idx, known.parent, op) == (entry.idx, parent, Some(entry.op.id)) {
        return Ok(());
    }
    Err(format!("one chain value stands for two histories at {idx}"))
}
