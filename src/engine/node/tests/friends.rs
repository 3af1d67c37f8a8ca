//! Friends, rooms for friends, and a person on two devices.

use super::people::{people, user};
use super::*;
use crate::engine::friends::{Discoverable, FriendCommand};
use crate::engine::pairing::PairCommand;
use crate::engine::status::FriendsStatus;
use crate::wire::op::Setting;

const A_MOMENT: Span = Span::from_secs(1);

fn add_friend(who: &str) -> Command {
    Command::Friend(FriendCommand::Add { who: who.into() })
}

fn accept(who: &str) -> Command {
    Command::Friend(FriendCommand::Accept { who: who.into() })
}

fn reject(who: &str) -> Command {
    Command::Friend(FriendCommand::Reject { who: who.into() })
}

fn remove(who: &str) -> Command {
    Command::Friend(FriendCommand::Remove { who: who.into() })
}

fn find(name: &str) -> Command {
    Command::Friend(FriendCommand::Find { name: name.into() })
}

impl House {
    fn friends(&self, i: usize) -> FriendsStatus {
        self.node(i).friends_status(self.now)
    }

    /// Names of friends, of those asked, and of those who ask.
    fn book(&self, i: usize) -> [Vec<String>; 3] {
        let status = self.friends(i);
        let names = |requests: &[crate::engine::status::FriendRequestStatus]| {
            requests.iter().map(|request| request.name.clone()).collect::<Vec<_>>()
        };
        let friends = status.friends.iter().map(|friend| friend.name.clone()).collect();
        [friends, names(&status.sent), names(&status.received)]
    }

    fn befriend(&mut self, one: usize, other: usize, names: (&str, &str)) {
        self.order(one, add_friend(names.1));
        self.run(A_MOMENT);
        self.order(other, accept(names.0));
        self.run(A_MOMENT);
    }

    fn room_of(&self, i: usize) -> Option<RoomId> {
        self.node(i).room_id()
    }
}

fn book(friends: &[&str], sent: &[&str], received: &[&str]) -> [Vec<String>; 3] {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    [owned(friends), owned(sent), owned(received)]
}

#[test]
fn a_request_is_accepted_or_turned_down_and_both_know() {
    let mut house = people(3);
    house.order(0, add_friend("ben"));
    house.run(A_MOMENT);
    assert_eq!(house.book(0), book(&[], &["ben"], &[]));
    assert_eq!(house.book(1), book(&[], &[], &["anna"]));
    assert!(house.friends(0).sent[0].delivered);
    house.order(1, accept("anna"));
    house.run(A_MOMENT);
    assert_eq!(house.book(0), book(&["ben"], &[], &[]));
    assert_eq!(house.book(1), book(&["anna"], &[], &[]));
    assert!(house.friends(0).friends[0].online);

    house.order(2, add_friend("anna"));
    house.run(A_MOMENT);
    house.order(0, reject("carla"));
    house.run(A_MOMENT);
    assert_eq!(house.book(2), book(&[], &[], &[]));
    // Within a day nothing of hers is heard.
    house.order(2, add_friend("anna"));
    house.run(A_MOMENT);
    assert_eq!(house.book(0), book(&["ben"], &[], &[]));

    house.order(1, remove("anna"));
    house.run(A_MOMENT);
    assert_eq!(house.book(0), book(&[], &[], &[]));
    assert_eq!(house.book(1), book(&[], &[], &[]));
}

#[test]
fn a_request_to_somebody_absent_waits_over_a_restart_and_is_delivered() {
    let mut house = people(3);
    house.kill(1);
    house.run(A_MOMENT);
    let done = house.order(0, add_friend("ben"));
    assert!(done.message.is_some_and(|message| message.contains("away")));
    house.kill(0);
    house.start(0);
    house.run(A_MOMENT);
    assert_eq!(house.book(0), book(&[], &["ben"], &[]));
    assert!(!house.friends(0).sent[0].delivered);
    house.start(1);
    house.run(Span::from_secs(3));
    assert_eq!(house.book(1), book(&[], &[], &["anna"]));
    // He says yes while she is away; she learns it when she is back.
    house.kill(0);
    house.run(A_MOMENT);
    house.order(1, accept("anna"));
    house.start(0);
    house.run(Span::from_secs(3));
    assert_eq!(house.book(0), book(&["ben"], &[], &[]));
}

#[test]
fn what_ended_while_the_other_was_away_has_ended_for_both() {
    let mut house = people(2);
    house.befriend(0, 1, ("anna", "ben"));
    house.kill(1);
    house.order(0, remove("ben"));
    house.kill(0);
    house.start(0);
    house.start(1);
    house.run(Span::from_secs(5));
    assert_eq!(house.book(0), book(&[], &[], &[]));
    assert_eq!(house.book(1), book(&[], &[], &[]), "the old certificate is worth nothing");
    house.befriend(1, 0, ("ben", "anna"));
    assert_eq!(house.book(0), book(&["ben"], &[], &[]), "a new one is another thing");
}

#[test]
fn people_are_found_as_they_want_to_be() {
    let mut house = people(3);
    let set = |how| Command::Friend(FriendCommand::Discoverable(how));
    let found = |house: &mut House, name: &str| {
        house.order(0, find(name));
        house.friends(0).found.into_iter().map(|found| found.name).collect::<Vec<_>>()
    };
    assert_eq!(found(&mut house, "BE"), ["ben"]);
    assert_eq!(house.ask(0, find("b")).expect_err("everybody?").code, RefusalCode::InvalidRequest);
    house.order(1, set(Discoverable::Nobody));
    assert!(found(&mut house, "ben").is_empty());
    let refused = house.ask(0, add_friend("ben")).expect_err("nobody finds him");
    assert_eq!(refused.code, RefusalCode::NotFound);
    // In another room only who is found by everyone. A room in which nobody has acted would go
    // along into the new one.
    house.order(0, Command::Clear);
    house.order(2, Command::CreateRoom { name: Some("elsewhere".into()), password: None });
    house.run(Span::from_secs(15));
    assert_ne!(house.room_of(2), house.room_of(0), "whoever leads has handed over and is gone");
    assert!(found(&mut house, "carla").is_empty());
    house.order(2, set(Discoverable::Everyone));
    assert_eq!(found(&mut house, "carla"), ["carla"]);
    house.befriend(0, 2, ("anna", "carla"));
    assert_eq!(house.book(2), book(&["anna"], &[], &[]));
}

#[test]
fn ten_requests_an_hour_can_be_made() {
    let mut house = people(2);
    for _ in 0..10 {
        house.order(0, add_friend("ben"));
        house.order(0, remove("ben"));
    }
    let refused = house.ask(0, add_friend("ben")).expect_err("enough");
    assert_eq!(refused.code, RefusalCode::RateLimited);
    assert!(refused.retry_after_ms.is_some_and(|ms| ms > 3_000_000), "{refused:?}");
    assert_eq!(house.book(1), book(&[], &[], &[]), "each was withdrawn");
}

/// Anna's room for her friends, and its code; these are her friends, and the last two of four people
/// are in rooms of their own.
fn room_for_friends(friends: &[(usize, &str)]) -> (House, String) {
    let mut house = people(4);
    for (i, name) in friends {
        house.befriend(0, *i, ("anna", name));
    }
    house.order(0, Command::Set { setting: Setting::FriendsOnly(true) });
    let code = house.room(0).state().code().to_owned();
    for i in [2, 3] {
        house.order(i, Command::CreateRoom { name: Some(format!("room of {i}")), password: None });
    }
    house.run(Span::from_secs(3));
    (house, code)
}

#[test]
fn a_friend_comes_into_a_room_for_friends_while_its_owner_is_away() {
    let (mut house, code) = room_for_friends(&[(3, "dora")]);
    let room = house.room_of(0);
    house.kill(0);
    house.run(Span::from_secs(5));
    let join = || Command::JoinRoom { room: code.clone(), password: None };
    let refused = house.ask(2, join()).expect_err("she is no friend");
    assert_eq!(refused.code, RefusalCode::NotAllowed);
    house.order(3, join());
    assert_eq!(house.room_of(3), room);
    assert_ne!(house.room_of(2), room);
}

#[test]
fn a_friend_no_longer_stays_out_while_the_owner_is_away() {
    let (mut house, code) = room_for_friends(&[(2, "carla"), (3, "dora")]);
    let room = house.room_of(0);
    // Dora does not hear of it: her device still shows the certificate.
    house.kill(3);
    house.order(0, remove("dora"));
    house.run(Span::from_secs(1));
    house.kill(0);
    house.start(3);
    house.run(Span::from_secs(5));
    let join = || Command::JoinRoom { room: code.clone(), password: None };
    assert_eq!(house.book(3), book(&["anna"], &[], &[]), "she has not heard");
    let refused = house.ask(3, join()).expect_err("she is a friend no longer");
    assert_eq!(refused.code, RefusalCode::NotAllowed);
    house.order(2, join());
    assert_eq!(house.room_of(2), room);
}

#[test]
fn a_friend_invites_to_a_room_for_friends_and_another_member_does_not() {
    let invite = || Command::Invite { uses: 1, lasts: Span::from_secs(600), cap: None };
    let (mut house, _) = room_for_friends(&[]);
    let refused = house.ask(1, invite()).expect_err("ben came in before");
    assert_eq!(refused.code, RefusalCode::NotAllowed);
    assert!(refused.message.contains("anna"), "{refused}");
    assert!(house.ask(0, invite()).is_ok(), "it is anna's room");

    let (mut house, _) = room_for_friends(&[(1, "ben")]);
    let room = house.room_of(0);
    let text = house.order(1, invite()).message.expect("its text");
    house.kill(0);
    house.run(Span::from_secs(5));
    house.order(2, Command::JoinRoom { room: text, password: None });
    assert_eq!(house.room_of(2), room);
}

#[test]
fn a_paired_device_is_the_same_voter_and_has_the_same_friends() {
    let mut house = people(2);
    house.befriend(0, 1, ("anna", "ben"));
    let mut house = house.with_one_more();
    let pair = |command| Command::Pair(command);
    let device = "d0".to_owned();
    let early = pair(PairCommand::Call { device: device.clone(), nonce: [1; 32] });
    house.order(2, early);
    house.run(A_MOMENT);
    let state = |house: &House, i: usize| house.friends(i).pairing;
    assert_eq!(state(&house, 2).state, "failed", "nobody waits there");
    house.order(0, pair(PairCommand::Wait { nonce: [2; 32] }));
    house.order(2, pair(PairCommand::Call { device, nonce: [3; 32] }));
    house.run(A_MOMENT);
    let code = state(&house, 0).code.expect("six digits");
    assert_eq!(state(&house, 2).code.as_ref(), Some(&code));
    let confirm = || Command::Pair(PairCommand::Confirm { code: code.parse().expect("digits") });
    house.order(2, confirm());
    house.run(A_MOMENT);
    assert!(house.node(2).user().is_none(), "nothing before both have agreed");
    house.order(0, confirm());
    house.run(Span::from_secs(3));
    assert_eq!(state(&house, 2).state, "done");
    assert_eq!(house.node(2).user_id(), house.node(0).user_id());
    house.run_until_agreed(Span::from_secs(10));
    assert_eq!(house.room(1).state().people().len(), 2, "one voter on two devices");
    assert_eq!(house.book(2), book(&["ben"], &[], &[]));
    // What is done on one is known on the other, also after it was off.
    house.kill(2);
    house.order(0, remove("ben"));
    house.start(2);
    house.run(Span::from_secs(3));
    assert_eq!(house.book(2), book(&[], &[], &[]));
}

#[test]
fn another_person_on_the_device_knows_nobody() {
    let mut house = people(2);
    house.befriend(0, 1, ("anna", "ben"));
    house.order(0, Command::BecomeUser { user: Some(user("zoe")) });
    assert_eq!(house.book(0), book(&[], &[], &[]));
    house.order(0, Command::BecomeUser { user: None });
    let refused = house.ask(0, add_friend("ben")).expect_err("a speaker has no friends");
    assert_eq!(refused.code, RefusalCode::NoUser);
}
