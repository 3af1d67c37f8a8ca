//! Locked rooms, from node to node: who comes in and by what, and what those see who do not.

use super::*;
use crate::engine::room::Person;
use crate::identity::{LocalUser, Password, UserKey};
use crate::wire::message::SecretKind;
use crate::wire::op::Role;

fn user(name: &str) -> LocalUser {
    let key = UserKey::from_pkcs8(outside::new_key().pkcs8()).expect("a key");
    LocalUser { key: Arc::new(key), name: name.into(), display: String::new() }
}

fn password(text: &str) -> Option<Password> {
    Password::new(text)
}

/// The first `inside` devices are in a room that is locked, the others in none.
fn locked_house(size: usize, inside: usize) -> House {
    let mut house = House::together(size);
    for i in inside..size {
        house.command(i, Command::LeaveRoom);
    }
    house.run(Span::from_secs(3));
    house.command(0, Command::BecomeUser { user: Some(user("anna")) });
    house.run(Span::from_secs(2));
    house.lock(0, "sesame");
    for i in inside..size {
        assert!(house.node(i).room.is_none());
    }
    house
}

impl House {
    pub(super) fn lock(&mut self, i: usize, with: &str) {
        let room = self.room(i).id();
        let secret = password(with).expect("short").stretch(&room).expect("memory for it");
        self.order(i, Command::Lock { room, secret: Some(secret) });
        self.run(Span::from_secs(2));
    }
}

/// What a device is answered that wants in, and after how long.
fn join(house: &mut House, i: usize, room: &str, with: Option<&str>) -> (CommandReply, Span) {
    let begun = house.now;
    let password = with.and_then(password);
    let id = house.command(i, Command::JoinRoom { room: room.into(), password });
    loop {
        if let Some(reply) = house.devices[i].replies.remove(&id) {
            return (reply, house.now - begun);
        }
        house.run(Span::from_millis(5));
        assert!(house.now - begun < Span::from_secs(90), "no answer");
    }
}

/// What a device does about an input; yet to be carried out.
fn outputs_of(house: &mut House, i: usize, input: Input) -> Vec<Output> {
    let now = house.now;
    let node = house.devices[i].node.as_mut().expect("it runs");
    node.handle_input(now, input);
    std::iter::from_fn(|| node.poll_output()).collect()
}

fn refused(reply: CommandReply) -> RefusalCode {
    reply.expect_err("refused").code
}

#[test]
fn a_locked_room_lets_in_whoever_knows_its_password_and_nobody_else() {
    let mut house = locked_house(3, 2);
    let code = house.room(0).state().code().to_owned();
    assert_eq!(refused(join(&mut house, 2, &code, None).0), RefusalCode::AuthRequired);
    assert_eq!(refused(join(&mut house, 2, &code, Some("Sesame")).0), RefusalCode::BadPassword);
    assert_eq!(refused(join(&mut house, 2, "GROOVE-0000", Some("x")).0), RefusalCode::NotFound);
    assert!(house.node(2).room.is_none());
    let (reply, took) = join(&mut house, 2, &code, Some("sesame"));
    assert!(reply.is_ok(), "{reply:?}");
    assert!(took < Span::from_secs(2), "{took:?}");
    house.run_until_agreed(Span::from_secs(5));
    house.order(2, add(&["song"]));
    assert_eq!(house.room(0).state().members().len(), 3);
}

#[test]
fn a_stranger_sees_of_a_locked_room_that_it_is_there() {
    let house = locked_house(3, 2);
    for i in 0..2 {
        let seen = &house.node(2).peers[&house.node(i).me].room;
        let seen = seen.as_ref().expect("it is there");
        assert!(seen.locked && seen.code.is_empty() && seen.playing.is_none(), "{seen:?}");
        assert_eq!((seen.devices, seen.coordinator, seen.term), (0, None, Term::ZERO));
        assert!(!seen.name.is_empty(), "its name unless it is hidden");
    }
    let known = |i: usize| house.node(0).peers[&house.node(i).me].room.clone();
    assert_eq!(known(1), house.node(1).shown_card, "members see all of it");
}

#[test]
fn an_invite_lets_in_as_many_as_it_says() {
    let mut house = locked_house(5, 2);
    let lasts = Span::from_secs(600);
    let invite = house.ask(1, Command::Invite { uses: 1, lasts, cap: None }).expect("made").message;
    let invite = invite.expect("its text");
    let mut wrong = invite.clone();
    let place = wrong.find('.').expect("a dot") + 1;
    let other = if wrong.as_bytes()[place] == b'0' { "1" } else { "0" };
    wrong.replace_range(place..=place, other);
    assert_eq!(refused(join(&mut house, 2, &wrong, None).0), RefusalCode::NotAllowed);
    assert!(join(&mut house, 2, &invite, None).0.is_ok());
    assert_eq!(refused(join(&mut house, 3, &invite, None).0), RefusalCode::NotAllowed);
    let old = house.ask(1, Command::Invite { uses: 5, lasts, cap: None }).expect("made").message;
    house.run(Span::from_secs(601));
    let old = old.expect("its text");
    assert_eq!(refused(join(&mut house, 3, &old, None).0), RefusalCode::NotAllowed);
    assert!(house.node(3).room.is_none());
}

#[test]
fn an_invite_may_be_for_guests_only() {
    let mut house = locked_house(4, 2);
    for (i, name) in [(2, "carla"), (3, "dora")] {
        house.command(i, Command::BecomeUser { user: Some(user(name)) });
    }
    let lasts = Span::from_secs(600);
    let invite = Command::Invite { uses: 1, lasts, cap: Some(Role::Guest) };
    let text = house.ask(1, invite).expect("made").message.expect("its text");
    assert!(join(&mut house, 2, &text, None).0.is_ok());
    house.run(Span::from_secs(2));
    let is_guest = |house: &House, name: &str| {
        let state = house.room(0).state();
        state.people().values().find(|person| person.name == name).map(Person::is_guest)
    };
    assert_eq!(is_guest(&house, "carla"), Some(true));
    // What a guest makes is for guests, and says so where more is wanted.
    let more = Command::Invite { uses: 1, lasts, cap: Some(Role::Listener) };
    assert_eq!(house.ask(2, more).expect_err("more than she is").code, RefusalCode::NotAllowed);
    assert!(house.ask(2, Command::Invite { uses: 1, lasts, cap: None }).is_ok());
    // Coming back after a restart she is what she was.
    house.kill(2);
    house.run(Span::from_secs(3));
    house.start(2);
    house.run(Span::from_secs(10));
    assert_eq!(is_guest(&house, "carla"), Some(true));

    // Whoever knows the password comes in as more, also where the guest's device is asked first.
    let room = house.room(0).id();
    let guest = house.node(2).me;
    let key = password("sesame").expect("short").stretch(&room).expect("memory for it");
    let id = house.command(3, Command::JoinRoom { room: room.to_string(), password: None });
    house.run(Span::from_secs(1));
    assert!(house.devices[3].replies.remove(&id).is_some_and(|reply| reply.is_err()));
    let now = house.now;
    let node = house.devices[3].node.as_mut().expect("it runs");
    node.door.key = Some((room, door::Key::Password(key)));
    node.begin_join(now, room, guest);
    house.run(Span::from_secs(2));
    house.run_until_agreed(Span::from_secs(5));
    assert_eq!(is_guest(&house, "dora"), Some(false));
}

#[test]
fn guessing_is_slowed_and_locks_nobody_out() {
    let mut house = locked_house(4, 2);
    let room = house.room(0).id().to_string();
    let slow = (0..7).map(|_| join(&mut house, 2, &room, Some("guess")).1);
    let slow = slow.filter(|took| *took > Span::from_secs(3)).count();
    assert!((1..=2).contains(&slow), "five at once, then one in twelve seconds: {slow}");
    let (reply, took) = join(&mut house, 3, &room, Some("sesame"));
    assert!(reply.is_ok() && took < Span::from_secs(2), "{reply:?} {took:?}");
    let (reply, _) = join(&mut house, 2, &room, Some("sesame"));
    assert!(reply.is_ok(), "{reply:?}");
}

#[test]
fn codes_of_locked_rooms_cannot_be_tried_out() {
    let mut house = locked_house(3, 2);
    let stranger = house.node(2).me;
    let code = house.room(0).state().code().to_owned();
    let is_told = |house: &mut House, code: &str| {
        let message = Message::Seek { code: code.to_owned() };
        let input = Input::MessageReceived { from: stranger, message };
        outputs_of(house, 0, input)
            .iter()
            .any(|output| matches!(output, Output::Send { message: Message::Found { .. }, .. }))
    };
    assert!(is_told(&mut house, &code));
    for _ in 0..20 {
        assert!(!is_told(&mut house, "GROOVE-0000"));
    }
    assert!(!is_told(&mut house, &code), "who guesses so often is not told any more");
    house.lose(0, 2);
    house.connect(2, 0);
    assert!(!is_told(&mut house, &code), "nor once it has come anew");
    house.run(Span::from_secs(3));
    assert!(is_told(&mut house, &code), "who asks now and then is");
}

#[test]
fn of_two_rooms_with_one_code_the_person_is_asked_which_though_one_does_not_show_it() {
    let mut house = locked_house(4, 2);
    let locked = house.room(0).id();
    let code = house.room(0).state().code().to_owned();
    let open = RoomId([7; 32]);
    let card = house.node(0).shown_card.clone().expect("it has a room");
    let card = RoomCard { id: open, name: "Attic".into(), locked: false, ..card };
    let card = |code: &str| Message::Card(Some(RoomCard { code: code.into(), ..card.clone() }));
    let from = house.node(3).me;
    outputs_of(&mut house, 2, Input::MessageReceived { from, message: card(&code) });
    let (reply, took) = join(&mut house, 2, &code, Some("sesame"));
    let refusal = reply.expect_err("which one?");
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
    for room in [locked, open] {
        assert!(refusal.hint.contains(&room.short()), "{refusal:?}");
    }
    assert!(took < Span::from_millis(400), "all have answered: {took:?}");
    // The other one's code is another: it says nothing, and is not waited for long.
    outputs_of(&mut house, 2, Input::MessageReceived { from, message: card("GROOVE-0000") });
    let begun = house.now;
    house.command(2, Command::JoinRoom { room: "GROOVE-0000".into(), password: None });
    while !house.node(2).requests.is_awaited(open) {
        house.run(Span::from_millis(5));
        assert!(house.now - begun < Span::from_millis(500), "it is entered by its code");
    }
    let (reply, _) = join(&mut house, 2, &locked.short(), Some("sesame"));
    assert!(reply.is_ok(), "the beginning of its id says which: {reply:?}");
}

#[test]
fn what_a_stranger_says_is_not_heard_and_what_it_asks_for_not_answered() {
    let mut house = locked_house(3, 2);
    let (room, stranger) = (house.room(0).id(), house.node(2).me);
    let before = house.room(0).log().end();
    let term = house.room(0).log().last_term();
    let place = LogPlace { idx: 1, chain: [0; 16] };
    let id = OpId { author: stranger, boot: 1, seq: 1_000 };
    let key = Arc::clone(&house.devices[2].key);
    let pause = OpBody::Chat { text: "hello".into() };
    let op = Op::signed(&key, room, id, RoomTime(0), &pause).expect("short");
    let join = house.node(2).join_body();
    let join = Op::signed(&key, room, id, RoomTime(0), &join).expect("short");
    let lead = house.coordinator();
    for message in [
        Message::NeedSnapshot { room },
        Message::Fetch { room, term, after: place },
        Message::Places { room, term, places: vec![] },
        Message::Propose(op.clone()),
        Message::Orphans { room, ops: vec![op] },
        Message::Resync { room, member: stranger },
        Message::Stale { room, term: Term { n: term.n + 1, node: stranger, boot: 1 }, alive: true },
        Message::Join(join),
    ] {
        for i in 0..2 {
            let input = Input::MessageReceived { from: stranger, message: message.clone() };
            for output in outputs_of(&mut house, i, input) {
                if let Output::Send { to, message: said } = &output
                    && *to == stranger
                {
                    let refused = matches!(
                        said,
                        Message::Proposed { outcome: Err(refusal), .. }
                            if refusal.code == RefusalCode::AuthRequired
                    );
                    assert!(refused, "{message:?} was answered with {said:?}");
                }
                house.carry_out(i, output);
            }
        }
    }
    house.run(Span::from_secs(2));
    assert_eq!(house.coordinator(), lead);
    assert_eq!(house.room(lead).log().end().idx, before.idx, "nothing was ordered");
}

#[test]
fn a_word_for_somebody_else_lets_nobody_in() {
    let mut house = locked_house(4, 2);
    let room = house.room(0).id();
    assert!(join(&mut house, 2, &room.to_string(), Some("sesame")).0.is_ok());
    house.run(Span::from_secs(2));
    let admission = house.node(2).pass_for(room).expect("what it was given");
    let thief = house.node(3).me;
    house.input(
        0,
        Input::MessageReceived { from: thief, message: Message::Show { room, admission } },
    );
    assert!(!house.node(0).lets_in(thief));
    // Nor does a run begun with a share that somebody else has used.
    let start = Message::PakeStart { room, secret: SecretKind::Password, share: [1; 32] };
    house.input(0, Input::MessageReceived { from: thief, message: start });
    let confirmation = [0; 32];
    let confirm = Message::PakeConfirm { room, confirmation };
    house.input(0, Input::MessageReceived { from: thief, message: confirm });
    assert!(!house.node(0).lets_in(thief));
}

#[test]
fn who_joined_in_the_other_half_of_a_locked_room_is_known_when_they_meet() {
    for lone_half in [vec![0], vec![1, 2]] {
        let mut house = locked_house(4, 3);
        house.split(&[&lone_half[..], &[3]].concat());
        house.run(A_WHILE);
        let room = house.room(lone_half[0]).id().to_string();
        let (reply, _) = join(&mut house, 3, &room, Some("sesame"));
        assert!(reply.is_ok(), "{reply:?}");
        house.run(Span::from_secs(5));
        house.heal();
        house.run_until_agreed(Span::from_secs(60));
        assert_eq!(house.room(0).state().members().len(), 4, "{lone_half:?}");
    }
}

#[test]
fn a_room_that_is_made_with_a_password_is_never_open() {
    let mut house = House::together(2);
    house.command(1, Command::BecomeUser { user: Some(user("anna")) });
    house.run(Span::from_secs(2));
    let create = Command::CreateRoom { name: Some("Attic".into()), password: password("sesame") };
    let id = house.command(1, create);
    let other = house.node(1).me;
    for _ in 0..400 {
        house.run(Span::from_millis(5));
        let card = house.node(0).peers[&other].room.clone();
        let attic = card.filter(|card| card.name == "Attic");
        assert!(attic.is_none_or(|card| card.locked && card.code.is_empty()));
    }
    assert!(house.devices[1].replies.remove(&id).expect("an answer").is_ok());
    assert!(house.room(1).state().lock().is_some());
    assert!(join(&mut house, 0, "attic", Some("sesame")).0.is_ok());
}

#[test]
fn who_was_sent_out_in_the_other_half_of_a_locked_room_learns_it_when_they_meet() {
    for half in [&[3][..], &[2, 3]] {
        let mut house = locked_house(5, 5);
        for (i, name) in [(2, "carla"), (3, "emil")] {
            house.order(i, Command::BecomeUser { user: Some(user(name)) });
        }
        house.split(half);
        house.run(Span::from_secs(8));
        assert!(house.order(0, Command::Ban { who: "emil".into() }).op.is_some());
        house.run(Span::from_secs(2));
        assert!(house.node(3).room.is_some(), "it has not heard");
        house.heal();
        house.run(Span::from_secs(15));
        assert!(house.node(3).room.is_none(), "{half:?}");
        let members = house.room(0).state().members().len();
        assert_eq!(members, 4, "and the others are together: {half:?}");
        for i in [1, 2, 4] {
            assert_eq!(house.room(i).log().chain(), house.room(0).log().chain(), "{i}");
        }
        let code = house.room(0).state().code().to_owned();
        assert_eq!(refused(join(&mut house, 3, &code, Some("sesame")).0), RefusalCode::Banned);
    }
}

#[test]
fn who_asks_for_another_room_stays_where_they_were_if_that_is_not_there() {
    let mut house = locked_house(3, 2);
    house.order(2, Command::CreateRoom { name: Some("Attic".into()), password: None });
    let (attic, room) = (house.room(2).id(), house.room(0).id().to_string());
    house.command(2, Command::JoinRoom { room, password: password("sesame") });
    let typo = Command::JoinRoom { room: "cellar".into(), password: None };
    assert_eq!(refused(house.ask(2, typo)), RefusalCode::NotFound);
    house.run(Span::from_secs(5));
    assert_eq!(house.node(2).room_id(), Some(attic));
}

#[test]
fn who_asks_for_a_room_twice_is_answered_twice() {
    let mut house = locked_house(3, 2);
    let room = house.room(0).id();
    let join = |with: &str| Command::JoinRoom { room: room.to_string(), password: password(with) };
    let first = house.command(2, join("sesame"));
    let second = house.command(2, join("sesame"));
    house.run(Span::from_secs(3));
    let earlier = house.devices[2].replies.remove(&first).expect("an answer");
    assert_eq!(refused(earlier), RefusalCode::JoinFailed);
    let reply = house.devices[2].replies.remove(&second).expect("an answer");
    assert!(reply.is_ok(), "{reply:?}");
}
