//! People across devices: who is here, who is sent out, and what two halves of a room make of it.

use super::*;
use crate::engine::command::VoteWord;
use crate::engine::room::Verdict;
use crate::identity::{LocalUser, UserKey};
use crate::wire::op::VoteKind;

const NAMES: [&str; 5] = ["anna", "ben", "carla", "dora", "emil"];

pub(super) fn user(name: &str) -> LocalUser {
    let key = UserKey::generate(&ring::rand::SystemRandom::new()).expect("random numbers");
    LocalUser { key: Arc::new(key), name: name.into(), display: String::new() }
}

/// A house in which each device is somebody's, and Anna, who was first, owns the room.
pub(super) fn people(size: usize) -> House {
    let mut house = House::together(size);
    for (i, name) in NAMES.iter().enumerate().take(size) {
        house.order(i, Command::BecomeUser { user: Some(user(name)) });
        house.run(Span::from_secs(1));
    }
    house.run_until_agreed(Span::from_secs(10));
    house
}

impl House {
    fn state(&self, i: usize) -> crate::engine::room::RoomState {
        let node = self.node(i);
        let (state, _) = node.settled(self.now).expect("it is in a room");
        state.into_owned()
    }

    fn is_here(&self, i: usize, name: &str) -> Option<bool> {
        let state = self.state(i);
        let mut people = state.people().values();
        people.find(|person| person.name == name).map(crate::engine::room::Person::is_here)
    }

    fn dj(&self, i: usize) -> Option<String> {
        let state = self.state(i);
        state.dj().map(|dj| state.person_name(&dj.user))
    }

    fn refused(&mut self, i: usize, command: Command) -> RefusalCode {
        self.ask(i, command).expect_err("it is against a rule").code
    }
}

fn take() -> Command {
    Command::DjTake
}

#[test]
fn what_is_asked_in_the_first_second_waits_for_the_room() {
    let mut house = House::together(1);
    house.kill(0);
    house.devices[0].disk = Disk::default();
    house.start(0);
    assert!(house.node(0).room.is_none(), "it still looks");
    let done = house.order(0, Command::Add { tracks: vec![track("a")] });
    assert!(done.idx.is_some());
    assert_eq!(house.titles(0), ["a"]);
}

#[test]
fn a_person_is_away_a_while_after_their_last_device_and_here_at_once() {
    let mut house = people(3);
    let second = house.others()[0];
    let name = NAMES[second];
    house.kill(second);
    house.run(Span::from_secs(12));
    let lead = house.coordinator();
    assert_eq!(house.is_here(lead, name), Some(true), "a phone may lose its Wi-Fi for a moment");
    house.run(Span::from_secs(6));
    assert_eq!(house.is_here(lead, name), Some(false));
    house.start(second);
    // A restarted device is told by its driver whose it is.
    house.run(Span::from_secs(4));
    assert_eq!(house.is_here(house.coordinator(), name), Some(true));
}

#[test]
fn who_is_sent_out_is_out_and_stays_so() {
    let mut house = people(3);
    let owner = 0;
    assert_eq!(house.refused(1, Command::Kick { who: "carla".into() }), RefusalCode::NotOwner);
    house.order(owner, Command::Kick { who: "carla".into() });
    house.run(Span::from_secs(3));
    assert!(house.node(2).room.is_none());
    assert!(house.notices(2).iter().any(|notice| matches!(notice, Notice::SentOut { .. })));
    assert_eq!(house.is_here(owner, "carla"), None);
    let code = house.room(owner).state().code().to_owned();
    let back = Command::JoinRoom { room: code.clone(), password: None };
    assert_eq!(house.refused(2, back.clone()), RefusalCode::Cooldown);
    house.run(Span::from_secs(301));
    house.order(2, back);
    house.run_until_agreed(Span::from_secs(5));
    assert_eq!(house.is_here(owner, "carla"), Some(true));
}

#[test]
fn who_is_banned_while_away_is_out_when_they_come_back() {
    let mut house = people(3);
    let owner = 0;
    house.split(&[2]);
    house.run(Span::from_secs(20));
    house.order(owner, Command::Ban { who: "carla".into() });
    house.order(2, Command::Add { tracks: vec![track("of the banned")] });
    house.heal();
    house.run(Span::from_secs(20));
    assert!(house.node(2).room.is_none(), "it is in {:?}", house.node(2).room_id());
    assert_eq!(house.is_here(owner, "carla"), None);
    let code = house.room(owner).state().code().to_owned();
    assert_eq!(
        house.refused(2, Command::JoinRoom { room: code, password: None }),
        RefusalCode::Banned
    );
}

#[test]
fn a_folder_that_takes_several_operations_is_added_as_a_whole_or_not_at_all() {
    let mut house = people(2);
    house.order(0, take());
    house.order(0, play(&["heard"]));
    house.run(Span::from_secs(5));
    let tagged = |title: String| Track { artists: vec!["x".repeat(200); 8], ..track(&title) };
    let folder = |first: &str| {
        let others = (1..400).map(|n| tagged(format!("track {n}")));
        Command::Play { tracks: [tagged(first.to_owned())].into_iter().chain(others).collect() }
    };
    assert_eq!(house.refused(1, folder("heard")), RefusalCode::PlayedRecently);
    house.run(Span::from_secs(2));
    assert!(house.titles(0).is_empty(), "nothing of it: {:?}", house.titles(0).len());
    house.order(1, folder("new"));
    house.run(Span::from_secs(2));
    assert_eq!(house.titles(0).len(), 399);
}

#[test]
fn of_two_banned_of_one_name_the_owner_is_asked_which() {
    let mut house = people(3);
    house.order(0, Command::Ban { who: "carla".into() });
    house.order(1, Command::BecomeUser { user: Some(user("carla")) });
    house.run(Span::from_secs(2));
    let other = house.node(1).user_id().expect("a person").short();
    house.order(0, Command::Ban { who: "carla".into() });
    let unban = |who: &str| Command::Unban { who: who.into() };
    let refused = house.ask(0, unban("carla")).expect_err("which one?");
    assert_eq!(refused.code, RefusalCode::InvalidRequest);
    assert!(refused.hint.contains(&other), "{refused:?}");
    house.order(0, unban(&other));
    house.order(0, unban("carla"));
    assert_eq!(house.refused(0, unban("carla")), RefusalCode::NotFound, "nobody is any more");
}

#[test]
fn a_ban_in_the_smaller_half_wins_and_its_dj_does_not() {
    let mut house = people(5);
    house.run(A_WHILE);
    house.split(&[0, 1]);
    house.run(Span::from_secs(8));
    // The larger half votes itself a DJ; in the smaller one the owner rules.
    house.order(2, take());
    house.order(0, Command::DjAppoint { to: "ben".into() });
    house.order(0, Command::Ban { who: "emil".into() });
    house.order(0, Command::Chat { text: "out with him".into() });
    house.order(3, Command::Chat { text: "hello?".into() });
    house.heal();
    house.run(Span::from_secs(30));
    assert!(house.node(4).room.is_none(), "Emil is out");
    assert_eq!(house.dj(0), Some("carla".into()), "the half that goes on has a DJ");
    let dropped =
        |notice: &Notice| matches!(notice, Notice::Dropped { what, .. } if what.contains("ben"));
    assert!(house.notices(0).iter().any(dropped), "the owner is told");
    let said: Vec<_> = house.state(1).chat().map(|line| line.text.clone()).collect();
    assert_eq!(said.len(), 2, "nothing said is lost: {said:?}");
}

#[test]
fn votes_cast_in_two_halves_are_counted_once_each() {
    let mut house = people(5);
    house.order(
        0,
        Command::Set { setting: crate::wire::op::Setting::VoteTimeout(Span::from_secs(600)) },
    );
    house.order(0, take());
    house.run(A_WHILE);
    house.order(1, Command::CallVote { kind: VoteKind::Mutiny, who: None });
    house.split(&[0, 1]);
    house.run(Span::from_secs(8));
    // Three of five are needed: one on each side besides the caller's.
    let yes = || Command::Vote { kind: Some(VoteKind::Mutiny), word: VoteWord::Yes };
    let no = || Command::Vote { kind: Some(VoteKind::Mutiny), word: VoteWord::No };
    house.order(0, no());
    house.order(2, yes());
    assert_eq!(house.refused(1, yes()), RefusalCode::AlreadyVoted);
    house.heal();
    house.run(Span::from_secs(10));
    house.run_until_agreed(Span::from_secs(20));
    let state = house.state(3);
    let session = state.votes().next().expect("it is open");
    assert_eq!((session.ballots.len(), session.required), (3, 3));
    assert_eq!(house.dj(3), Some("anna".into()));
    house.order(4, yes());
    assert_eq!(house.dj(4), None);
    let past: Vec<_> = house.state(4).past_votes().map(|past| past.verdict).collect();
    assert_eq!(past, [Verdict::Passed]);
}

#[test]
fn one_name_claimed_in_two_halves_is_the_earlier_ones() {
    let mut house = House::together(4);
    house.run(A_WHILE);
    house.split(&[0]);
    house.run(Span::from_secs(8));
    house.order(0, Command::BecomeUser { user: Some(user("max")) });
    house.run(Span::from_secs(2));
    house.order(1, Command::BecomeUser { user: Some(user("max")) });
    let earlier = house.node(0).user_id().expect("just set");
    let later = house.node(1).user_id().expect("just set");
    house.heal();
    house.run(Span::from_secs(10));
    house.run_until_agreed(Span::from_secs(20));
    let state = house.state(2);
    assert_eq!(state.person_name(&earlier), "max");
    assert_eq!(state.person_name(&later), "max-2");
}

#[test]
fn the_chat_takes_ten_words_in_half_a_minute_from_each() {
    let mut house = people(2);
    let say = |n: usize| Command::Chat { text: format!("{n}") };
    for n in 0..10 {
        house.order(1, say(n));
    }
    let refusal = house.ask(1, say(11)).expect_err("too much");
    assert_eq!(refusal.code, RefusalCode::RateLimited);
    assert!(refusal.retry_after_ms.is_some_and(|ms| ms <= 3000), "{refusal:?}");
    house.order(0, say(12));
    house.run(Span::from_secs(4));
    house.order(1, say(13));
}

#[test]
fn a_deleted_room_is_left_by_everybody() {
    let mut house = people(3);
    assert_eq!(house.refused(1, Command::DeleteRoom), RefusalCode::NotOwner);
    house.order(0, Command::DeleteRoom);
    house.run(Span::from_secs(20));
    for i in 0..3 {
        assert!(house.node(i).room.is_none(), "{i}");
        assert!(
            house.notices(i).iter().any(|notice| matches!(notice, Notice::Deleted { .. })),
            "{i}"
        );
    }
}

#[test]
fn a_dj_who_vanishes_is_voted_on_when_the_room_wants_it() {
    let mut house = people(4);
    let setting = crate::wire::op::Setting::OnDjLeave(crate::wire::op::OnDjLeave::Elect);
    house.order(0, Command::Set { setting });
    let other = *house.others().iter().find(|i| **i != 0).expect("four");
    house.order(0, Command::DjAppoint { to: NAMES[other].into() });
    house.kill(other);
    house.run(Span::from_secs(20));
    let lead = house.coordinator();
    assert_eq!(house.dj(lead), None);
    let voter = house.others().into_iter().find(|i| *i != other && *i != 0).unwrap_or(lead);
    let for_anna = || Command::Vote { kind: None, word: VoteWord::For("anna".into()) };
    house.order(voter, for_anna());
    house.order(0, for_anna());
    house.run(Span::from_secs(65));
    assert_eq!(house.dj(0), Some("anna".into()));
}

#[test]
fn yes_where_an_election_is_open_is_answered_with_what_it_wants() {
    let mut house = people(2);
    let yes = |kind| Command::Vote { kind, word: VoteWord::Yes };
    assert_eq!(house.refused(0, yes(None)), RefusalCode::NotVoting);
    house.order(0, Command::CallVote { kind: VoteKind::Election, who: None });
    let refusal = house.ask(0, yes(None)).expect_err("a name is wanted");
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
    assert!(refusal.message.starts_with("an election is open"), "{refusal}");
    assert_eq!(house.refused(0, yes(Some(VoteKind::Skip))), RefusalCode::NotVoting);
}

/// The word that one leaves must not be lost while the lead moves, however the coordinator of the
/// next seconds is slow to begin.
#[test]
fn who_coordinates_and_leaves_is_in_nobodys_list_any_more() {
    for seed in 0..5 {
        let mut house = people(5);
        house.run(Span::from_millis(137 * seed));
        let lead = house.coordinator();
        house.order(lead, Command::LeaveRoom);
        let stays = usize::from(lead == 0);
        house.run(Span::from_secs(1));
        let state = house.state(stays);
        assert_eq!(state.members().len(), 4);
        let owner = state.owner().map(|owner| state.person_name(&owner));
        assert_eq!(owner.as_deref(), Some(NAMES[stays]));
    }
}

/// A device without a word to anybody is no reason to stay.
#[test]
fn who_cannot_be_heard_leaves_all_the_same() {
    let mut house = people(3);
    let lead = house.coordinator();
    let leaves = house.others()[0];
    for other in (0..3).filter(|other| *other != leaves) {
        house.kill(other);
    }
    assert_ne!(lead, leaves);
    house.order(leaves, Command::LeaveRoom);
    assert!(house.node(leaves).room.is_none());
}

#[test]
fn a_room_that_says_no_is_not_asked_again_and_again() {
    let mut house = people(3);
    house.order(0, Command::Kick { who: "carla".into() });
    house.run(Span::from_secs(3));
    let code = house.room(0).state().code().to_owned();
    house.notices(2);
    let back = Command::JoinRoom { room: code, password: None };
    assert_eq!(house.refused(2, back), RefusalCode::Cooldown);
    house.run(Span::from_secs(60));
    let since = house.notices(2);
    let failed = since.iter().filter(|notice| matches!(notice, Notice::JoinFailed { .. }));
    assert_eq!(failed.count(), 1);
}

/// Nobody leads for a moment when one goes: they are elected, give that away, and are out.
#[test]
fn who_leaves_while_nobody_leads_is_in_nobodys_list_any_more() {
    for leaves in 0..2 {
        let mut house = people(3);
        let lead = house.coordinator();
        let leaves = house.others()[leaves];
        house.kill(lead);
        house.order(leaves, Command::LeaveRoom);
        assert!(house.node(leaves).room.is_none());
        house.run(Span::from_secs(3));
        let stays = (0..3).find(|i| ![lead, leaves].contains(i)).expect("one of three");
        let me = house.node(leaves).me;
        assert!(house.state(stays).member(&me).is_none());
    }
}
