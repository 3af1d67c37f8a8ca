//! Who governs the music: owner, DJ, votes, chat, the fair queue, who is kept out.

use super::*;
use crate::base::{SessionId, UserId};
use crate::wire::op::{
    Admission, Choice, Control, EndedFriendship, Friendship, OnDjLeave, QueueOrder, Role, Setting,
    Subject, Terms, VoteCall, VoteKind,
};

const NAMES: [&str; 8] = ["anna", "ben", "carla", "dora", "emil", "fritz", "greta", "hugo"];

fn node(n: usize) -> NodeId {
    NodeId([u8::try_from(n).expect("few") + 40; 32])
}

fn id(n: usize) -> UserId {
    person(n).user_id()
}

/// A room that Anna has made, and so many people in it, who came in the order of the alphabet.
struct House {
    scene: Scene,
    /// Chain value of the next entry: what lots are drawn from.
    lots: u8,
}

impl House {
    fn of(people: usize) -> House {
        let made = Genesis { unattended: false, founder: node(0), ..genesis() };
        let state = RoomState::new(&made);
        let mut house = House { scene: Scene { state, idx: 0, now: seconds(100) }, lots: 1 };
        for n in 0..people {
            house.comes(n);
        }
        house
    }

    fn comes(&mut self, n: usize) {
        self.does(n, &joins(node(n), &person(n), NAMES[n]));
        self.scene.pass(Span::from_secs(1));
    }

    fn by(&mut self, author: NodeId, body: &OpBody) -> Result<(), Refusal> {
        let body = &self.scene.meant(body);
        let mut entry = self.scene.entry(author, body);
        entry.op.room = self.scene.state.id();
        entry.chain = [self.lots; 16];
        self.lots = self.lots.wrapping_mul(7).wrapping_add(3);
        let ordered = self.scene.state.validate(&entry.op, body, entry.term.node, entry.at);
        let applied = self.scene.state.apply(&entry);
        assert_eq!(ordered, applied, "ordering and applying agree");
        let again = codec::encode_state(&self.scene.state).expect("it encodes");
        let state: RoomState = codec::decode_state(&again).expect("and decodes");
        assert_eq!(state, self.scene.state);
        applied
    }

    fn does(&mut self, n: usize, body: &OpBody) {
        self.by(node(n), body).unwrap_or_else(|refusal| panic!("{} {body:?}: {refusal}", NAMES[n]));
    }

    fn refuses(&mut self, n: usize, body: &OpBody) -> RefusalCode {
        let before = self.scene.state.settled(self.scene.now).into_owned();
        let refusal = self.by(node(n), body).expect_err("it breaks a rule");
        assert!(!refusal.message.is_empty() && !refusal.hint.is_empty(), "{body:?}");
        let (before, after) = (before.government, &self.scene.state.government);
        assert_eq!(before.dj, after.dj, "a refusal changes nothing");
        assert_eq!(before.votes, after.votes);
        refusal.code
    }

    fn sets(&mut self, key: &str, value: &str) {
        self.does(0, &OpBody::Set(settings::parse(key, value).expect("a setting")));
    }

    fn settled(&self) -> RoomState {
        self.scene.settled()
    }

    fn dj(&self) -> Option<usize> {
        let dj = self.settled().dj()?;
        (0..NAMES.len()).find(|n| id(*n) == dj.user)
    }

    fn open(&self, kind: VoteKind) -> Option<SessionId> {
        let state = self.settled();
        state.votes().find(|session| session.kind == kind).map(|session| session.id)
    }

    fn vote(&self, kind: VoteKind, choice: Choice) -> OpBody {
        OpBody::Vote { session: self.open(kind).expect("it is open"), choice }
    }

    fn votes(&mut self, n: usize, kind: VoteKind, choice: Choice) {
        let vote = self.vote(kind, choice);
        self.does(n, &vote);
    }

    fn mutiny(&self) -> OpBody {
        OpBody::CallVote(VoteCall::Mutiny { dj_epoch: self.settled().dj_epoch() })
    }

    fn past(&self) -> Vec<(VoteKind, Verdict)> {
        self.settled().past_votes().map(|past| (past.kind, past.verdict)).collect()
    }

    /// The coordinator, which is the scene's first device, notes who is away.
    fn away(&mut self, n: usize) {
        let mut body = OpBody::Presence { here: vec![], away: vec![id(n)] };
        self.housekeeping(&mut body);
    }

    fn back(&mut self, n: usize) {
        let mut body = OpBody::Presence { here: vec![id(n)], away: vec![] };
        self.housekeeping(&mut body);
    }

    fn housekeeping(&mut self, body: &mut OpBody) {
        let is_here = self.scene.state.member(&ME).is_some();
        if !is_here {
            self.by(ME, &join("Kitchen")).expect("a speaker joins");
        }
        self.by(ME, body).expect("the coordinator says so");
    }

    fn pass(&mut self, seconds: i64) {
        self.scene.pass(Span::from_secs(seconds));
    }

    fn queue(&self) -> Vec<String> {
        self.scene.queue()
    }
}

fn one(title: &str) -> OpBody {
    add(AddMode::Append, &[(title, 60)])
}

const ELECTION: OpBody = OpBody::CallVote(VoteCall::Election);

#[test]
fn who_makes_a_room_owns_it_and_is_its_first_dj() {
    let mut house = House::of(3);
    assert_eq!((house.settled().owner(), house.dj()), (Some(id(0)), Some(0)));
    assert_eq!(house.refuses(1, &add(AddMode::Play, &[("a", 60)])), RefusalCode::NotDj);
    house.does(0, &add(AddMode::Play, &[("a", 60)]));
    assert_eq!(house.refuses(1, &OpBody::Pause(NOW)), RefusalCode::NotDj);
    assert_eq!(house.refuses(2, &OpBody::RoomVolume { volume: 10 }), RefusalCode::NotDj);
    let own = OpBody::Volume { member: node(2), volume: 10 };
    house.does(2, &own);
    let others = OpBody::Volume { member: node(1), volume: 10 };
    assert_eq!(house.refuses(2, &others), RefusalCode::NotDj);
    house.does(0, &OpBody::Pause(NOW));
}

#[test]
fn a_room_that_made_itself_belongs_to_whoever_comes_first_and_everybody_controls_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.state.owner(), None);
    scene.by(node(1), &joins(node(1), &person(1), "ben")).expect("open");
    scene.by(node(0), &joins(node(0), &person(0), "anna")).expect("open");
    assert_eq!((scene.state.owner(), scene.state.dj()), (Some(id(1)), None));
    scene.by(OTHER, &add(AddMode::Play, &[("a", 60)])).expect("a speaker may play");
    scene.by(node(0), &OpBody::Stop(NOW)).expect("everybody controls");
    let set = OpBody::Set(Setting::Control(Control::Dj));
    assert_eq!(scene.by(node(0), &set).expect_err("not hers").code, RefusalCode::NotOwner);
    scene.by(node(1), &set).expect("his room");
    let played = scene.by(OTHER, &add(AddMode::Play, &[("a", 60)]));
    assert_eq!(played.expect_err("no person").code, RefusalCode::NoUser);
    scene.by(node(0), &OpBody::DjTake).expect("there is none");
}

#[test]
fn the_dj_hands_over_steps_down_and_the_place_can_be_taken() {
    let mut house = House::of(4);
    assert_eq!(house.refuses(1, &OpBody::DjTake), RefusalCode::NotDj);
    assert_eq!(house.refuses(1, &OpBody::DjGive { to: id(2) }), RefusalCode::NotDj);
    house.does(0, &OpBody::DjGive { to: id(2) });
    assert_eq!(house.dj(), Some(2));
    house.does(2, &OpBody::DjDrop);
    assert_eq!(house.dj(), None);
    // With no DJ whoever could be one controls.
    house.does(3, &add(AddMode::Play, &[("a", 60)]));
    house.does(1, &OpBody::DjTake);
    assert_eq!(house.refuses(3, &OpBody::Stop(NOW)), RefusalCode::NotDj);
    let state = house.settled();
    let past: Vec<_> = state.past_djs().map(|dj| (dj.name.as_str(), dj.reason)).collect();
    assert_eq!(past, [("anna", DjEnd::Voluntary), ("carla", DjEnd::Voluntary)]);
    assert_eq!(state.cooling_until(&id(0), house.scene.now), None, "who goes does not cool down");
}

#[test]
fn whom_the_owner_replaces_cools_down_and_only_the_owner_can_bring_them_back() {
    let mut house = House::of(4);
    house.does(0, &OpBody::DjAppoint { to: id(1) });
    assert_eq!(house.refuses(2, &OpBody::DjAppoint { to: id(2) }), RefusalCode::NotOwner);
    house.does(0, &OpBody::DjAppoint { to: id(2) });
    assert_eq!(house.refuses(2, &OpBody::DjGive { to: id(1) }), RefusalCode::Cooldown);
    house.does(2, &OpBody::DjDrop);
    assert_eq!(house.refuses(1, &OpBody::DjTake), RefusalCode::Cooldown);
    house.pass(299);
    let refusal = house.by(node(1), &OpBody::DjTake).expect_err("a second too early");
    assert!(refusal.retry_after_ms.is_some_and(|ms| ms > 0 && ms < 2000), "{refusal:?}");
    house.does(0, &OpBody::DjAppoint { to: id(1) });
    assert_eq!(house.dj(), Some(1), "the owner's word stands above a cool-down");
}

#[test]
fn a_lot_falls_on_somebody_who_is_here_and_not_cooling_down() {
    let mut drawn = std::collections::BTreeSet::new();
    for round in 0..12 {
        let mut house = House::of(5);
        house.lots = house.lots.wrapping_add(round * 17);
        house.away(3);
        house.does(0, &OpBody::DjAppoint { to: id(4) });
        house.does(0, &OpBody::DjAppoint { to: id(1) });
        assert_eq!(house.refuses(2, &OpBody::DjRandom), RefusalCode::NotDj);
        house.does(1, &OpBody::DjRandom);
        drawn.extend(house.dj());
    }
    let expected = std::collections::BTreeSet::from([0, 2]);
    assert_eq!(drawn, expected, "Ben is DJ, Dora is away, Emil cools down");
}

#[test]
fn an_election_ends_with_the_threshold_and_a_vote_can_be_changed_until_then() {
    let mut house = House::of(5);
    house.does(1, &ELECTION);
    assert_eq!(house.refuses(2, &ELECTION), RefusalCode::VoteOpen);
    house.votes(1, VoteKind::Election, Choice::For(id(2)));
    house.votes(3, VoteKind::Election, Choice::For(id(1)));
    house.votes(1, VoteKind::Election, Choice::For(id(1)));
    assert_eq!(
        house.refuses(4, &house.vote(VoteKind::Election, Choice::Yes)),
        RefusalCode::InvalidRequest
    );
    assert_eq!(house.dj(), Some(0), "two of three");
    house.votes(4, VoteKind::Election, Choice::For(id(1)));
    assert_eq!(house.dj(), Some(1));
    let late = OpBody::Vote { session: SessionId(7), choice: Choice::For(id(1)) };
    assert_eq!(house.refuses(2, &late), RefusalCode::NotVoting);
    let state = house.settled();
    let past: Vec<_> = state.past_djs().map(|dj| (dj.name.as_str(), dj.reason)).collect();
    assert_eq!(past, [("anna", DjEnd::Vote)]);
    assert!(state.cooling_until(&id(0), house.scene.now).is_some());
}

#[test]
fn an_election_that_runs_out_goes_to_whoever_has_most() {
    let mut house = House::of(6);
    house.does(0, &ELECTION);
    house.votes(0, VoteKind::Election, Choice::For(id(3)));
    house.votes(1, VoteKind::Election, Choice::For(id(3)));
    house.votes(2, VoteKind::Election, Choice::For(id(4)));
    house.pass(59);
    assert_eq!(house.dj(), Some(0));
    house.pass(1);
    assert_eq!(house.dj(), Some(3), "nobody had to say so");
    house.does(5, &ELECTION);
    house.pass(61);
    assert_eq!(house.dj(), Some(3), "nobody voted");
    let expected =
        [(VoteKind::Election, Verdict::Elected(id(3))), (VoteKind::Election, Verdict::Failed)];
    assert_eq!(house.past(), expected);
}

#[test]
fn a_mutiny_needs_exactly_its_threshold_and_an_election_follows() {
    for (yes, passes) in [(4, false), (5, true)] {
        let mut house = House::of(8);
        let mutiny = house.mutiny();
        assert_eq!(house.refuses(0, &mutiny), RefusalCode::InvalidRequest, "against oneself");
        house.does(1, &mutiny);
        assert_eq!(
            house.refuses(1, &house.vote(VoteKind::Mutiny, Choice::No)),
            RefusalCode::AlreadyVoted
        );
        for n in 2..=yes {
            house.votes(n, VoteKind::Mutiny, Choice::Yes);
        }
        if passes {
            assert_eq!(house.dj(), None);
            assert!(house.open(VoteKind::Election).is_some());
            assert_eq!(house.refuses(0, &OpBody::DjTake), RefusalCode::Cooldown);
            let vote = house.vote(VoteKind::Election, Choice::For(id(0)));
            assert_eq!(house.refuses(3, &vote), RefusalCode::Cooldown);
        } else {
            assert_eq!(house.dj(), Some(0));
            house.pass(60);
            assert_eq!(house.past(), [(VoteKind::Mutiny, Verdict::Failed)]);
            let again = house.mutiny();
            assert_eq!(house.refuses(1, &again), RefusalCode::Cooldown);
            house.does(2, &again);
        }
    }
}

#[test]
fn a_mutiny_that_cannot_succeed_any_more_is_over() {
    let mut house = House::of(5);
    let mutiny = house.mutiny();
    house.does(1, &mutiny);
    house.votes(0, VoteKind::Mutiny, Choice::No);
    house.votes(2, VoteKind::Mutiny, Choice::No);
    assert!(house.open(VoteKind::Mutiny).is_some(), "three of five are needed, three can be");
    house.votes(3, VoteKind::Mutiny, Choice::No);
    assert_eq!(house.past(), [(VoteKind::Mutiny, Verdict::Failed)]);
}

#[test]
fn a_mutiny_may_be_followed_by_a_lot() {
    let mut house = House::of(3);
    house.sets("auto_random_dj", "true");
    let mutiny = house.mutiny();
    house.does(1, &mutiny);
    house.votes(2, VoteKind::Mutiny, Choice::Yes);
    assert!(matches!(house.dj(), Some(1 | 2)), "{:?}", house.dj());
    assert_eq!(house.open(VoteKind::Election), None);
}

#[test]
fn who_comes_after_the_opening_has_no_vote_and_changes_no_threshold() {
    let mut house = House::of(3);
    let mutiny = house.mutiny();
    house.does(1, &mutiny);
    for n in 3..8 {
        house.comes(n);
    }
    let yes = house.vote(VoteKind::Mutiny, Choice::Yes);
    assert_eq!(house.refuses(4, &yes), RefusalCode::NotVoting);
    house.does(2, &yes);
    assert_eq!(house.dj(), None, "two of three");
}

#[test]
fn one_person_with_two_devices_is_one_voter() {
    let mut house = House::of(3);
    let second = NodeId([90; 32]);
    house.by(second, &joins(second, &person(1), "ben")).expect("his other device");
    let mutiny = house.mutiny();
    house.does(1, &mutiny);
    let vote = house.vote(VoteKind::Mutiny, Choice::Yes);
    assert_eq!(house.by(second, &vote).expect_err("once").code, RefusalCode::AlreadyVoted);
    assert_eq!(house.settled().people().len(), 3);
    house.does(1, &OpBody::Leave);
    assert!(house.settled().person(&id(1)).is_some(), "he is here with the other");
    house.by(second, &OpBody::Leave).expect("a member");
    assert!(house.settled().person(&id(1)).is_none());
}

#[test]
fn a_skip_passes_by_vote_and_is_asked_for_once_per_track() {
    let mut house = House::of(3);
    house.does(0, &add(AddMode::Play, &[("a", 600), ("b", 600)]));
    let segment = house.settled().pending().expect("it waits").id;
    let mut begin = OpBody::Begin { segment };
    house.housekeeping(&mut begin);
    let skip = OpBody::CallVote(VoteCall::Skip { segment });
    house.does(1, &skip);
    house.votes(0, VoteKind::Skip, Choice::No);
    house.votes(2, VoteKind::Skip, Choice::No);
    assert_eq!(house.past(), [(VoteKind::Skip, Verdict::Failed)]);
    assert_eq!(house.refuses(1, &skip), RefusalCode::Cooldown);
    house.does(2, &skip);
    house.votes(1, VoteKind::Skip, Choice::Yes);
    let state = house.settled();
    assert_eq!(state.focus().map(|focus| focus.entry.track.title.clone()), Some("b".into()));
    assert_eq!(house.dj(), Some(0));
    assert_eq!(house.refuses(2, &skip), RefusalCode::UpdateFailed, "that track is over");
}

#[test]
fn a_vote_to_skip_is_over_when_the_track_is() {
    let mut house = House::of(3);
    house.does(0, &add(AddMode::Play, &[("a", 20), ("b", 600)]));
    let segment = house.settled().pending().expect("it waits").id;
    let mut begin = OpBody::Begin { segment };
    house.housekeeping(&mut begin);
    house.does(1, &OpBody::CallVote(VoteCall::Skip { segment }));
    house.pass(21);
    assert_eq!(house.past(), [(VoteKind::Skip, Verdict::Moot)]);
}

#[test]
fn a_dj_who_vanishes_is_followed_as_the_room_wants() {
    for policy in [OnDjLeave::Keep, OnDjLeave::Pause, OnDjLeave::Elect, OnDjLeave::Random] {
        let mut house = House::of(4);
        house.does(0, &OpBody::DjGive { to: id(1) });
        house.does(0, &OpBody::Set(Setting::OnDjLeave(policy)));
        house.does(1, &add(AddMode::Play, &[("a", 600)]));
        let segment = house.settled().pending().expect("it waits").id;
        let mut begin = OpBody::Begin { segment };
        house.housekeeping(&mut begin);
        house.away(1);
        let paused = matches!(house.settled().phase(), Phase::Paused { .. });
        assert_eq!(paused, policy == OnDjLeave::Pause, "{policy:?}");
        let elects = house.open(VoteKind::Election).is_some();
        assert_eq!(elects, policy == OnDjLeave::Elect, "{policy:?}");
        match policy {
            OnDjLeave::Keep | OnDjLeave::Pause => assert_eq!(house.dj(), Some(1)),
            OnDjLeave::Elect => assert_eq!(house.dj(), None),
            OnDjLeave::Random => assert!(matches!(house.dj(), Some(0 | 2 | 3))),
        }
        house.back(1);
        house.does(1, &OpBody::Chat { text: "back".into() });
        if policy == OnDjLeave::Elect {
            house.does(1, &OpBody::DjTake);
        }
    }
}

#[test]
fn the_owners_place_passes_to_whoever_was_here_longest() {
    let mut house = House::of(4);
    house.away(1);
    house.back(1);
    house.away(0);
    house.pass(599);
    assert_eq!(house.settled().acting_owner(house.scene.now), Some(id(0)));
    let set = OpBody::Set(Setting::QueueLimit(7));
    assert_eq!(house.refuses(2, &set), RefusalCode::NotOwner);
    house.pass(1);
    assert_eq!(house.settled().acting_owner(house.scene.now), Some(id(2)), "Ben was away");
    house.does(2, &set);
    assert_eq!(house.refuses(2, &OpBody::Delete), RefusalCode::NotOwner, "acting is not owning");
    let owner = Subject::Person(id(0));
    assert_eq!(house.refuses(2, &OpBody::Kick { subject: owner }), RefusalCode::NotAllowed);
    house.back(0);
    assert_eq!(house.refuses(2, &set), RefusalCode::NotOwner);
    house.does(0, &OpBody::Leave);
    assert_eq!(house.settled().owner(), Some(id(2)));
    house.does(2, &OpBody::Delete);
    let comes = joins(node(5), &person(5), "fritz");
    assert_eq!(house.refuses(5, &comes), RefusalCode::JoinFailed);
}

#[test]
fn who_is_sent_out_may_come_back_later_and_who_is_banned_may_not() {
    let mut house = House::of(4);
    let (ben, carla) = (Subject::Person(id(1)), Subject::Person(id(2)));
    assert_eq!(house.refuses(1, &OpBody::Kick { subject: carla }), RefusalCode::NotOwner);
    house.does(0, &OpBody::Kick { subject: ben });
    let back = joins(node(1), &person(1), "ben");
    assert_eq!(house.refuses(1, &OpBody::Chat { text: "hey".into() }), RefusalCode::NotInRoom);
    assert_eq!(house.refuses(1, &back), RefusalCode::Cooldown);
    house.pass(301);
    house.does(1, &back);
    house.does(0, &OpBody::Ban { subject: carla });
    house.pass(100_000);
    let other = NodeId([91; 32]);
    let with_another_device = house.by(other, &joins(other, &person(2), "carla"));
    assert_eq!(with_another_device.expect_err("banned").code, RefusalCode::Banned);
    let as_another_person = joins(node(2), &person(7), "eve");
    assert_eq!(house.refuses(2, &as_another_person), RefusalCode::Banned);
    house.does(0, &OpBody::Unban { subject: carla });
    house.does(2, &joins(node(2), &person(2), "carla"));
    house.does(0, &OpBody::Kick { subject: carla });
    assert_eq!(house.refuses(2, &as_another_person), RefusalCode::Cooldown);
    // Banned once she is out, and once more: her device too, and one word takes it all back.
    house.does(0, &OpBody::Ban { subject: carla });
    house.pass(1000);
    house.does(0, &OpBody::Ban { subject: carla });
    assert_eq!(house.refuses(2, &as_another_person), RefusalCode::Banned);
    house.does(0, &OpBody::Unban { subject: carla });
    house.does(2, &as_another_person);
}

#[test]
fn a_dj_who_is_put_out_was_removed_and_cools_down() {
    let mut house = House::of(4);
    for by_vote in [false, true] {
        house.does(0, &OpBody::DjAppoint { to: id(1) });
        if by_vote {
            house.does(2, &OpBody::CallVote(VoteCall::Kick { user: id(1) }));
            house.votes(0, VoteKind::Kick, Choice::Yes);
            house.votes(3, VoteKind::Kick, Choice::Yes);
        } else {
            house.does(0, &OpBody::Kick { subject: Subject::Person(id(1)) });
        }
        let state = house.settled();
        let last = state.past_djs().last().expect("one").reason;
        assert_eq!(last, if by_vote { DjEnd::Vote } else { DjEnd::Owner });
        house.does(0, &OpBody::Unban { subject: Subject::Person(id(1)) });
        house.comes(1);
        assert_eq!(house.refuses(1, &OpBody::DjTake), RefusalCode::Cooldown);
    }
}

#[test]
fn a_room_whose_owner_went_while_all_were_away_belongs_to_whoever_is_back_first() {
    let mut house = House::of(3);
    house.away(1);
    house.away(2);
    house.does(0, &OpBody::Leave);
    assert_eq!(house.settled().owner(), None);
    house.back(2);
    assert_eq!(house.settled().owner(), Some(id(2)));
    house.back(1);
    assert_eq!(house.settled().owner(), Some(id(2)));
    assert_eq!(house.refuses(1, &OpBody::Delete), RefusalCode::NotOwner);
}

#[test]
fn a_pause_or_a_jump_does_not_end_a_vote_to_skip() {
    let mut house = House::of(5);
    house.does(0, &add(AddMode::Play, &[("a", 300), ("b", 300)]));
    let mut begin = OpBody::Begin { segment: house.settled().pending().expect("it waits").id };
    house.housekeeping(&mut begin);
    house.pass(5);
    let focus = |house: &House| house.settled().focus().expect("it plays").id;
    let skip = |house: &House| OpBody::CallVote(VoteCall::Skip { segment: focus(house) });
    let before = focus(&house);
    house.does(1, &skip(&house));
    house.does(0, &OpBody::Pause(NOW));
    house.pass(2);
    house.does(0, &OpBody::Seek { position: Span::from_secs(60), guard: NOW });
    house.does(0, &OpBody::Resume(NOW));
    assert_ne!(focus(&house), before);
    assert_eq!(house.refuses(1, &skip(&house)), RefusalCode::VoteOpen);
    house.votes(2, VoteKind::Skip, Choice::Yes);
    house.votes(3, VoteKind::Skip, Choice::Yes);
    assert_eq!(house.settled().focus().expect("the next").entry.track.title, "b");
    // It was about that track only.
    house.does(1, &skip(&house));
}

#[test]
fn people_can_vote_somebody_out() {
    let mut house = House::of(4);
    let anna = OpBody::CallVote(VoteCall::Kick { user: id(0) });
    assert_eq!(house.refuses(1, &anna), RefusalCode::NotAllowed, "it is her room");
    house.does(1, &OpBody::CallVote(VoteCall::Kick { user: id(3) }));
    house.votes(0, VoteKind::Kick, Choice::Yes);
    house.votes(2, VoteKind::Kick, Choice::Yes);
    assert!(house.settled().person(&id(3)).is_none());
    assert_eq!(house.refuses(3, &joins(node(3), &person(3), "dora")), RefusalCode::Cooldown);
}

#[test]
fn a_muted_person_is_not_heard_in_the_chat() {
    let mut house = House::of(3);
    house.does(1, &OpBody::Chat { text: "hello\nall".into() });
    for text in ["", " \n ", "bell\u{7}", &"x".repeat(501)] {
        assert_eq!(
            house.refuses(1, &OpBody::Chat { text: text.into() }),
            RefusalCode::InvalidRequest
        );
    }
    house.does(0, &OpBody::Silence { user: id(1), silenced: true });
    assert_eq!(house.refuses(1, &OpBody::Chat { text: "hm".into() }), RefusalCode::NotAllowed);
    house.does(1, &OpBody::Leave);
    house.comes(1);
    assert_eq!(house.refuses(1, &OpBody::Chat { text: "hm".into() }), RefusalCode::NotAllowed);
    house.does(0, &OpBody::Silence { user: id(1), silenced: false });
    house.does(1, &OpBody::Chat { text: "thanks".into() });
    // Muted, gone, and let speak again while gone: only whoever was muted can be.
    house.does(0, &OpBody::Silence { user: id(1), silenced: true });
    house.does(1, &OpBody::Leave);
    let muted = |house: &House| house.settled().silenced().map(|(_, n)| n.to_owned()).last();
    assert_eq!(muted(&house).as_deref(), Some("ben"));
    for (who, silenced) in [(id(1), true), (id(4), false)] {
        let refused = house.refuses(0, &OpBody::Silence { user: who, silenced });
        assert_eq!(refused, RefusalCode::NotFound);
    }
    house.does(0, &OpBody::Silence { user: id(1), silenced: false });
    assert_eq!(muted(&house), None);
    house.comes(1);
    assert!(house.settled().person(&id(1)).is_some_and(|person| !person.silenced));
    let state = house.settled();
    let said: Vec<_> = state.chat().map(|line| (line.name.as_str(), line.text.as_str())).collect();
    assert_eq!(said, [("ben", "hello\nall"), ("ben", "thanks")]);
    for n in 0..600 {
        house.does(2, &OpBody::Chat { text: format!("{n}") });
    }
    assert_eq!(house.settled().chat().count(), 500);
}

#[test]
fn a_fair_queue_plays_people_in_turn() {
    let mut house = House::of(4);
    house.sets("queue_limit", "10");
    for title in ["b1", "b2", "b3"] {
        house.does(1, &one(title));
    }
    house.does(2, &one("c1"));
    house.does(3, &one("d1"));
    house.does(2, &one("c2"));
    assert_eq!(house.queue(), ["b1", "c1", "d1", "b2", "c2", "b3"]);
    let key = |house: &House, title: &str| {
        let state = house.settled();
        let entry = state.queue().iter().find(|entry| entry.track.title == title);
        entry.expect("it waits").key
    };
    house.does(0, &OpBody::UpVote { entry: key(&house, "b3"), up: true });
    assert_eq!(house.queue(), ["b3", "c1", "d1", "b1", "c2", "b2"], "within Ben's turns");
    let own = OpBody::Move { entry: key(&house, "b2"), behind: None };
    house.does(1, &own);
    assert_eq!(house.queue(), ["b2", "c1", "d1", "b3", "c2", "b1"], "among his own");
    let others = OpBody::Move { entry: key(&house, "c1"), behind: None };
    assert_eq!(house.refuses(1, &others), RefusalCode::NotDj);
    assert_eq!(
        house.refuses(1, &OpBody::Remove { entries: vec![key(&house, "c1")] }),
        RefusalCode::NotDj
    );
    house.does(1, &OpBody::Remove { entries: vec![key(&house, "b1")] });
    house.does(0, &OpBody::Move { entry: key(&house, "d1"), behind: None });
    assert_eq!(house.queue(), ["d1", "b2", "c1", "b3", "c2"], "the DJ may do anything");
    // What plays has had its turn: whoever comes now does not wait for the second round.
    house.does(0, &OpBody::Resume(NOW));
    house.does(0, &one("a1"));
    assert_eq!(house.queue(), ["b2", "c1", "a1", "b3", "c2"]);
    // Whose entry plays has had that turn, and cannot have it again by adding one more.
    house.does(3, &one("d2"));
    assert_eq!(house.queue(), ["b2", "c1", "a1", "b3", "c2", "d2"]);
}

#[test]
fn a_queue_can_be_first_come_first_served_and_become_fair() {
    let mut house = House::of(3);
    house.does(0, &OpBody::Set(Setting::QueueOrder(QueueOrder::Fifo)));
    for (n, title) in [(1, "b1"), (1, "b2"), (2, "c1"), (1, "b3"), (2, "c2")] {
        house.does(n, &one(title));
    }
    assert_eq!(house.queue(), ["b1", "b2", "c1", "b3", "c2"]);
    house.does(0, &OpBody::Set(Setting::QueueOrder(QueueOrder::Fair)));
    assert_eq!(house.queue(), ["b1", "c1", "b2", "c2", "b3"]);
}

#[test]
fn each_has_so_much_waiting_and_nothing_twice_within_half_an_hour() {
    let mut house = House::of(3);
    let five = [("1", 60), ("2", 60), ("3", 60), ("4", 60), ("5", 60)];
    house.does(1, &add(AddMode::Append, &five));
    assert_eq!(house.refuses(1, &one("6")), RefusalCode::QueueLimit);
    house.does(2, &one("6"));
    let many: Vec<(&str, u64)> = std::iter::repeat_n(("x", 60), 200).collect();
    house.does(0, &add(AddMode::Append, &many));
    house.does(0, &OpBody::Clear);
    house.does(0, &add(AddMode::Play, &[("a", 20)]));
    let segment = house.settled().pending().expect("it waits").id;
    let mut begin = OpBody::Begin { segment };
    house.housekeeping(&mut begin);
    house.pass(1);
    assert_eq!(house.refuses(1, &one("a")), RefusalCode::PlayedRecently, "it plays");
    house.pass(20);
    assert_eq!(house.refuses(1, &one("a")), RefusalCode::PlayedRecently);
    house.does(0, &one("a"));
    house.pass(30 * 60);
    house.does(0, &OpBody::Clear);
    house.does(1, &one("a"));
}

#[test]
fn what_was_heard_is_remembered_however_short_and_only_the_dj_plays_it_again() {
    let mut house = House::of(3);
    let titles: Vec<String> = (0..60).map(|n| format!("short {n}")).collect();
    let short: Vec<(&str, u64)> = titles.iter().map(|title| (title.as_str(), 10)).collect();
    house.does(0, &add(AddMode::Play, &short));
    let segment = house.settled().pending().expect("it waits").id;
    let mut begin = OpBody::Begin { segment };
    house.housekeeping(&mut begin);
    house.pass(601);
    assert_eq!(house.settled().heard().count(), 32, "the rows themselves are fewer");
    assert_eq!(house.refuses(1, &one(&titles[0])), RefusalCode::PlayedRecently);
    house.does(0, &OpBody::Set(Setting::Control(Control::Everyone)));
    let again = add(AddMode::Play, &[(titles[1].as_str(), 10)]);
    assert_eq!(house.refuses(1, &again), RefusalCode::PlayedRecently, "who controls is no DJ");
    house.does(0, &again);
    house.does(0, &OpBody::Stop(NOW));
    house.does(0, &OpBody::DjDrop);
    house.does(1, &again);
}

#[test]
fn looking_in_between_changes_nothing_of_what_was_heard() {
    let mut house = House::of(2);
    let many: Vec<(&str, u64)> = std::iter::once(("x", 10)).chain([("y", 5); 299]).collect();
    house.does(0, &add(AddMode::Play, &many));
    let segment = house.settled().pending().expect("it waits").id;
    house.housekeeping(&mut OpBody::Begin { segment });
    let begun = house.scene.now;
    let [early, late] = [700, 1_520].map(|s| begun + Span::from_secs(s));
    let at_once = house.scene.state.settled(late).into_owned();
    let in_steps = house.scene.state.settled(early).settled(late).into_owned();
    assert_eq!(at_once, in_steps);
    assert_eq!(house.refuses(1, &one("x")), RefusalCode::PlayedRecently);
}

#[test]
fn settings_are_the_owners_and_take_effect_at_once() {
    let mut house = House::of(3);
    let set = |control| OpBody::Set(Setting::Control(control));
    assert_eq!(house.refuses(1, &set(Control::Everyone)), RefusalCode::NotOwner);
    let bad = OpBody::Set(Setting::VoteTimeout(Span::from_secs(1)));
    assert_eq!(house.refuses(0, &bad), RefusalCode::InvalidRequest);
    house.does(0, &set(Control::Everyone));
    house.does(1, &add(AddMode::Play, &[("a", 60)]));
    house.does(0, &OpBody::DjGive { to: id(2) });
    house.does(0, &set(Control::Owner));
    assert_eq!(house.refuses(2, &OpBody::Stop(NOW)), RefusalCode::NotOwner);
    house.does(0, &OpBody::Stop(NOW));
    house.does(0, &OpBody::Set(Setting::Name("Cellar".into())));
    assert_eq!(house.settled().name(), "Cellar");
    house.does(0, &OpBody::Set(Setting::MaxMembers(3)));
    assert_eq!(house.refuses(3, &joins(node(3), &person(3), "dora")), RefusalCode::RoomFull);
}

fn some_key() -> crate::identity::NodeKey {
    let random = ring::rand::SystemRandom::new();
    crate::identity::NodeKey::generate(&random).expect("random numbers")
}

fn admitted(
    room: &RoomState,
    issuer: &crate::identity::NodeKey,
    of: NodeId,
    epoch: u32,
    invited: bool,
) -> Admission {
    let terms = Terms { epoch, invited, cap: Role::Owner };
    Admission::signed(issuer, room.id(), of, terms)
}

fn with(body: OpBody, admission: Option<Admission>, friendship: Option<Friendship>) -> OpBody {
    match body {
        OpBody::Join { name, person, .. } => OpBody::Join { name, person, admission, friendship },
        other => other,
    }
}

#[test]
fn nobody_rises_above_what_their_invite_says() {
    let mut house = House::of(1);
    let member = some_key();
    house.by(member.node_id(), &join("Kitchen")).expect("open");
    house.by(ME, &join("Hall")).expect("open");
    house.sets("control", "everyone");
    house.does(0, &OpBody::Lock { secret: Some([5; 32]) });
    let epoch = house.settled().lock_epoch();
    let invite = |house: &House, n: usize, cap| {
        let terms = Terms { epoch, invited: true, cap };
        Some(Admission::signed(&member, house.settled().id(), node(n), terms))
    };
    for (n, cap) in [(1, Role::Guest), (2, Role::Listener), (3, Role::Dj)] {
        let word = invite(&house, n, cap);
        house.does(n, &with(joins(node(n), &person(n), NAMES[n]), word, None));
    }
    // A guest at once has no vote, and no hand on the music; a listener has both.
    let electorate = house.settled().government.electorate(house.scene.now);
    assert_eq!(electorate, std::collections::BTreeSet::from([id(0), id(2), id(3)]));
    let (state, at) = (house.settled(), house.scene.now);
    assert_eq!([1, 2, 3].map(|n| state.may_control(Some(&id(n)), at)), [false, true, true]);
    assert_eq!([1, 2, 3].map(|n| state.may_be_dj(&id(n), at)), [false, false, true]);
    for n in [1, 2] {
        assert_eq!(house.refuses(0, &OpBody::DjAppoint { to: id(n) }), RefusalCode::NotAllowed);
    }
    // Also with the music in guests' hands no listener is DJ.
    house.sets("guests_may", "vote,control");
    assert!(!house.settled().may_be_dj(&id(2), at) && house.settled().may_be_dj(&id(1), at));

    // Another person on the same device is bound by what the device came in with, a device
    // without one as well.
    house.sets("guests_may", "vote");
    house.does(1, &joins(node(1), &person(4), NAMES[4]));
    assert!(house.settled().person(&id(4)).is_some_and(Person::is_guest));
    house.does(1, &join("Phone"));
    assert_eq!(house.refuses(1, &OpBody::Pause(Guard::default())), RefusalCode::NotAllowed);

    // The room passes on to none of them.
    house.does(0, &OpBody::Leave);
    assert_eq!(house.settled().owner(), None);
    // Who stays plays on, and no guest gets further by taking their person off the device.
    house.scene.state.government.settings.control = Control::Owner;
    let (state, at) = (house.settled(), house.scene.now);
    assert_eq!([2, 3].map(|n| state.may_control(Some(&id(n)), at)), [true, true]);
    assert!(!state.governs(&node(1), None, at));
    house.scene.state.government.settings.control = Control::Everyone;
    assert!(!house.settled().governs(&node(1), None, at));
    assert_eq!(house.refuses(3, &OpBody::Set(Setting::MaxMembers(3))), RefusalCode::NotOwner);
    house.away(3);
    house.back(3);
    assert_eq!(house.settled().owner(), None);

    // A better invite lifts; a worse one takes nothing away.
    for cap in [Role::Owner, Role::Guest] {
        let word = invite(&house, 2, cap);
        house.does(2, &with(joins(node(2), &person(2), NAMES[2]), word, None));
    }
    assert!(house.settled().may_be_dj(&id(2), house.scene.now));
}

#[test]
fn nobody_lets_in_higher_than_they_are_themselves() {
    let mut house = House::of(1);
    let (member, guest) = (some_key(), some_key());
    house.by(member.node_id(), &join("Kitchen")).expect("open");
    house.does(0, &OpBody::Lock { secret: Some([5; 32]) });
    let (room, epoch) = (house.settled().id(), house.settled().lock_epoch());
    let terms = Terms { epoch, invited: true, cap: Role::Guest };
    let word = Admission::signed(&member, room, guest.node_id(), terms);
    house.by(guest.node_id(), &with(join("Phone"), Some(word), None)).expect("invited");
    // Neither by an invite nor by saying that somebody knew the password.
    for (n, invited) in [(1, true), (2, false)] {
        let terms = Terms { epoch, invited, cap: Role::Owner };
        let word = Admission::signed(&guest, room, node(n), terms);
        house.does(n, &with(joins(node(n), &person(n), NAMES[n]), Some(word), None));
        assert!(house.settled().person(&id(n)).is_some_and(Person::is_guest), "{invited}");
    }
    // Where nobody is left who has more, whoever knows the password comes in: no other could let
    // them. The founder, above all.
    for gone in [node(0), member.node_id()] {
        house.by(gone, &OpBody::Leave).expect("they may");
    }
    let back = |invited| {
        let terms = Terms { epoch, invited, cap: Role::Owner };
        Some(Admission::signed(&guest, room, node(0), terms))
    };
    house.does(0, &with(joins(node(0), &person(0), NAMES[0]), back(false), None));
    assert_eq!(house.settled().owner(), Some(id(0)));
    // Once somebody is there again, the guest's word is a guest's again.
    let terms = Terms { epoch, invited: false, cap: Role::Owner };
    let word = Admission::signed(&guest, room, node(3), terms);
    house.does(3, &with(joins(node(3), &person(3), NAMES[3]), Some(word), None));
    assert!(house.settled().person(&id(3)).is_some_and(Person::is_guest));
}

#[test]
fn a_limit_binds_its_bearer_also_where_the_room_is_open() {
    let mut house = House::of(1);
    let member = some_key();
    house.by(member.node_id(), &join("Kitchen")).expect("open");
    let terms = Terms { epoch: 0, invited: true, cap: Role::Guest };
    let word = Admission::signed(&member, house.settled().id(), node(1), terms);
    let comes = with(joins(node(1), &person(1), NAMES[1]), Some(word), None);
    house.does(1, &comes);
    assert!(house.settled().person(&id(1)).is_some_and(Person::is_guest));
    // A ban makes the word void for the door, not for whoever bears it.
    house.does(1, &OpBody::Leave);
    house.comes(2);
    house.does(0, &OpBody::Ban { subject: Subject::Person(id(2)) });
    house.does(1, &comes);
    assert!(house.settled().person(&id(1)).is_some_and(Person::is_guest));

    // Two devices: the person has the higher, and lets in as high.
    let phone = some_key();
    let word = Admission::signed(&member, house.settled().id(), phone.node_id(), terms);
    let card = joins(phone.node_id(), &person(3), NAMES[3]);
    house.comes(3);
    house.by(phone.node_id(), &with(card, Some(word), None)).expect("open");
    house.does(3, &OpBody::Leave);
    assert_eq!(house.settled().highest_of(&phone.node_id()), Some(Role::Owner));
}

#[test]
fn a_room_for_friends_whose_owner_has_gone_opens_for_no_stranger() {
    let mut house = House::of(1);
    let member = some_key();
    house.by(member.node_id(), &join("Kitchen")).expect("open");
    let epoch = house.settled().lock_epoch();
    let invite = |house: &House, n: usize, cap| {
        let terms = Terms { epoch, invited: true, cap };
        Some(Admission::signed(&member, house.settled().id(), node(n), terms))
    };
    let word = invite(&house, 1, Role::Guest);
    house.does(1, &with(joins(node(1), &person(1), NAMES[1]), word, None));
    house.does(0, &OpBody::Set(Setting::FriendsOnly(true)));
    house.does(0, &OpBody::Leave);
    assert_eq!(house.settled().owner(), None);
    let stranger = joins(node(2), &person(2), NAMES[2]);
    assert_eq!(house.refuses(2, &stranger), RefusalCode::NotAllowed);
    let word = invite(&house, 2, Role::Owner);
    house.does(2, &with(stranger, word, None));
    assert_eq!(house.settled().owner(), Some(id(2)));
}

#[test]
fn a_locked_room_lets_in_only_whom_a_member_has_admitted_since() {
    let mut house = House::of(1);
    let (member, stranger) = (some_key(), some_key());
    house.by(member.node_id(), &join("Kitchen")).expect("open");
    house.does(0, &OpBody::Lock { secret: Some([5; 32]) });
    let comes = joins(node(2), &person(2), "carla");
    assert_eq!(house.refuses(2, &comes), RefusalCode::AuthRequired);
    let state = house.settled();
    let epoch = state.lock_epoch();
    let good = admitted(&state, &member, node(2), epoch, false);
    let stolen = admitted(&state, &member, node(3), epoch, false);
    let old = admitted(&state, &member, node(2), epoch - 1, false);
    let forged = Admission {
        signature: good.signature,
        ..admitted(&state, &stranger, node(2), epoch, false)
    };
    let by_stranger = admitted(&state, &stranger, node(2), epoch, false);
    let raised = Admission { terms: Terms { invited: true, ..good.terms }, ..good.clone() };
    let capped = Admission { terms: Terms { cap: Role::Guest, ..good.terms }, ..good.clone() };
    for bad in [stolen, old, forged, by_stranger, raised, capped] {
        let comes = with(comes.clone(), Some(bad), None);
        assert_eq!(house.refuses(2, &comes), RefusalCode::AuthRequired);
    }
    house.does(2, &with(comes, Some(good), None));
    // A ban turns the lock: what was issued before opens nothing.
    let ahead = admitted(&house.settled(), &member, node(3), epoch, false);
    house.does(0, &OpBody::Ban { subject: Subject::Person(id(2)) });
    let dora = with(joins(node(3), &person(3), "dora"), Some(ahead), None);
    assert_eq!(house.refuses(3, &dora), RefusalCode::AuthRequired);
}

#[test]
fn a_room_for_friends_is_entered_while_its_owner_is_away() {
    let mut house = House::of(1);
    let member = some_key();
    house.by(member.node_id(), &join("Kitchen")).expect("open");
    house.away(0);
    house.back(0);
    house.sets("friends_only", "true");
    house.away(0);
    let friends = |one, other| friendship(one, other, 7);
    let carla = joins(node(2), &person(2), "carla");
    assert_eq!(house.refuses(2, &carla), RefusalCode::NotAllowed);
    let of_another = with(carla.clone(), None, Some(friends(1, 2)));
    assert_eq!(house.refuses(2, &of_another), RefusalCode::NotAllowed);
    let mut one_sided = friends(0, 2);
    one_sided.signatures.0 = one_sided.signatures.1;
    assert_eq!(
        house.refuses(2, &with(carla.clone(), None, Some(one_sided))),
        RefusalCode::NotAllowed
    );
    house.does(2, &with(carla, None, Some(friends(0, 2))));
}

#[test]
fn into_a_room_for_friends_its_owner_and_their_friends_invite() {
    let mut house = House::of(1);
    let random = ring::rand::SystemRandom::new();
    let device = || crate::identity::NodeKey::generate(&random).expect("random numbers");
    let members = [device(), device(), device()];
    for (n, key) in members.iter().enumerate() {
        let card = joins(key.node_id(), &person(n), NAMES[n]);
        house.by(key.node_id(), &card).expect("open");
    }
    let speaker = device();
    house.by(speaker.node_id(), &join("Kitchen")).expect("open");
    house.sets("friends_only", "true");
    let dora = |house: &House, by: &crate::identity::NodeKey, shown: Option<Friendship>| {
        let state = house.settled();
        let word = admitted(&state, by, node(3), state.lock_epoch(), true);
        with(joins(node(3), &person(3), "dora"), Some(word), shown)
    };
    let [of_anna, of_ben, of_carla] = &members;
    let is_friend = friendship(0, 1, 7);
    for (by, shown) in [
        (&speaker, None),
        (of_ben, None),
        (of_carla, None),
        (of_carla, Some(is_friend.clone())),
        (of_ben, Some(friendship(1, 2, 7))),
    ] {
        let joins = dora(&house, by, shown);
        assert_eq!(house.refuses(3, &joins), RefusalCode::NotAllowed);
    }
    let invited = dora(&house, of_ben, Some(is_friend.clone()));
    house.does(3, &invited);
    house.does(3, &OpBody::Leave);
    let invited = dora(&house, of_anna, None);
    house.does(3, &invited);
    house.does(3, &OpBody::Leave);
    let mark = codec::ended_mark(&house.scene.state.id(), &id(0), &id(1));
    house.does(0, &OpBody::EndFriendships { ended: vec![EndedFriendship { mark, since: 7 }] });
    let invited = dora(&house, of_ben, Some(is_friend));
    assert_eq!(house.refuses(3, &invited), RefusalCode::NotAllowed, "friends no longer");
}

fn friendship(one: usize, other: usize, since: u64) -> Friendship {
    let (mut a, mut b) = (person(one), person(other));
    if b.user_id() < a.user_id() {
        std::mem::swap(&mut a, &mut b);
    }
    let bytes = codec::friendship_bytes(&a.user_id(), &b.user_id(), since);
    let signatures = (a.sign(&bytes), b.sign(&bytes));
    Friendship { people: (a.user_id(), b.user_id()), since, signatures }
}

#[test]
fn a_friendship_that_ended_opens_no_room_and_a_new_one_does() {
    let mut house = House::of(2);
    house.away(0);
    house.sets("friends_only", "true");
    let ended = |with| {
        let mark = codec::ended_mark(&house.scene.state.id(), &id(0), &id(with));
        OpBody::EndFriendships { ended: vec![EndedFriendship { mark, since: 7 }] }
    };
    let (carla_is_out, dora_is_out) = (ended(2), ended(3));
    assert_eq!(house.refuses(1, &carla_is_out), RefusalCode::NotOwner);
    assert_eq!(
        house.refuses(0, &OpBody::EndFriendships { ended: Vec::new() }),
        RefusalCode::InvalidRequest
    );
    house.does(0, &carla_is_out);
    let with_friend = |n: usize, since| {
        with(joins(node(n), &person(n), NAMES[n]), None, Some(friendship(0, n, since)))
    };
    assert_eq!(house.refuses(2, &with_friend(2, 7)), RefusalCode::NotAllowed);
    house.does(3, &with_friend(3, 7));
    house.does(2, &with_friend(2, 8));
    // Whoever acts for the owner does not end the owner's friendships.
    house.scene.pass(Span::from_secs(700));
    assert_eq!(house.refuses(1, &dora_is_out), RefusalCode::NotOwner);
}

#[test]
fn a_person_whose_certificate_is_of_another_device_is_not_believed() {
    let mut house = House::of(1);
    let stolen = joins(node(2), &person(0), "anna");
    assert_eq!(house.refuses(3, &stolen), RefusalCode::AuthRequired);
}

/// A second opinion on mutinies: counts ballots as people on a sofa would, without the machine.
#[derive(Default)]
struct Sofa {
    electorate: Vec<usize>,
    yes: Vec<usize>,
    no: Vec<usize>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn mutinies_end_as_counted_by_hand(
        people in 2_usize..8,
        away in proptest::collection::vec(0_usize..8, 0..4),
        share in 1_u16..=10_000,
        ballots in proptest::collection::vec((0_usize..8, any::<bool>()), 0..16),
    ) {
        let mut house = House::of(people);
        house.does(0, &OpBody::Set(Setting::KindThreshold(VoteKind::Mutiny, Some(share))));
        for n in away.into_iter().filter(|n| *n < people && *n > 1) {
            house.away(n);
        }
        let here = |n: &usize| house.settled().person(&id(*n)).is_some_and(Person::is_here);
        let mut sofa = Sofa { electorate: (0..people).filter(here).collect(), ..Sofa::default() };
        let needed = (sofa.electorate.len() as u64 * u64::from(share)).div_ceil(10_000).max(1);
        let mutiny = house.mutiny();
        house.does(1, &mutiny);
        sofa.yes.push(1);
        let outcome = |sofa: &Sofa| {
            let open = sofa.electorate.len() - sofa.yes.len() - sofa.no.len();
            let yes = sofa.yes.len() as u64;
            if yes >= needed { Some(true) } else if yes + (open as u64) < needed { Some(false) } else { None }
        };
        for (n, yes) in ballots {
            if outcome(&sofa).is_some() { break }
            let vote = house.vote(VoteKind::Mutiny, if yes { Choice::Yes } else { Choice::No });
            let may = sofa.electorate.contains(&n) && !sofa.yes.contains(&n) && !sofa.no.contains(&n);
            if n >= people { continue }
            prop_assert_eq!(house.by(node(n), &vote).is_ok(), may);
            if may && yes { sofa.yes.push(n) }
            if may && !yes { sofa.no.push(n) }
        }
        let expected = match outcome(&sofa) {
            Some(true) => vec![(VoteKind::Mutiny, Verdict::Passed)],
            Some(false) => vec![(VoteKind::Mutiny, Verdict::Failed)],
            None => vec![],
        };
        prop_assert_eq!(house.past(), expected);
        prop_assert_eq!(house.dj(), if outcome(&sofa) == Some(true) { None } else { Some(0) });
    }
}
