//! Friends: who is told what when. What the book says is in `engine/friends.rs`.
//!
//! Everything is said again on each connection to whom it concerns, until it is known there: a
//! request to somebody who is absent waits for nothing else than their coming. Whose device this
//! is it tells only to members of its room, to devices of friends, to those to which a request is
//! open, and to the person's own; to others where the person wants to be found by everyone.

use std::collections::{BTreeMap, BTreeSet};

use super::{LocalTime, Message, Node, NodeId, Notice, OpId, Output, RequestId, RoomId, Span};
use crate::base::UserId;
use crate::base::limits::{
    MAX_DEVICES_OF_PERSON, MAX_ENDED_AT_ONCE, MAX_FOUND, MAX_FRIEND_REQUESTS, MAX_KEPT_PER_MESSAGE,
    MAX_NAME, MIN_USER_NAME,
};
use crate::engine::friends::{
    Answer, Discoverable, FriendBook, FriendCommand, Hourly, SavedFriends, contact_of, request_of,
};
use crate::engine::limits::Gcra;
use crate::engine::room::RoomState;
use crate::engine::status::{FoundStatus, FriendRequestStatus, FriendStatus, FriendsStatus};
use crate::wire::codec;
use crate::wire::op::{EndedFriendship, Friendship, OpBody, PersonCard};
use crate::wire::person::{Contact, FriendMessage, FriendRequest};
use crate::wire::{Refusal, RefusalCode};

/// How long answers to a search are waited for: everybody who is connected is a few milliseconds
/// away, on a bad network some hundred.
const SEARCH: Span = Span::from_millis(700);

/// How often it is looked whether the room knows of ended friendships, if none has just ended.
const TELL_ROOM_EVERY: Span = Span::from_secs(5);

/// Messages about people of one device at once, and then one in a second: a whole book is some
/// fifteen.
const PACE_BURST: u32 = 64;
const PACE_EVERY: Span = Span::from_secs(1);

/// People and devices whose requests of the last hour are counted. Beyond that nobody new is let
/// through, which a person with so many admirers will not notice.
const MAX_COUNTED: usize = 512;

/// The wall clock where nobody has told it: in tests, and for the first moment.
const SOME_DAY_S: u64 = 1_700_000_000;

/// What follows a search.
#[derive(Debug)]
enum Then {
    /// It is shown.
    Show,
    /// Whoever is called like that is asked to be friends.
    Ask,
}

#[derive(Debug)]
struct Search {
    nonce: u64,
    name: String,
    request: RequestId,
    then: Then,
    until: LocalTime,
}

/// What a node remembers about its person's friends.
#[derive(Debug, Default)]
pub(super) struct Friends {
    book: Option<FriendBook>,
    /// Whose a connected device has proven to be.
    proven: BTreeMap<NodeId, PersonCard>,
    /// Connected devices that know whose this one is.
    told: BTreeSet<NodeId>,
    /// Connected devices to which has been said what concerns them.
    greeted: BTreeSet<NodeId>,
    /// What the book says of devices that may know; made anew when it changes.
    may_know: BTreeSet<NodeId>,
    paces: BTreeMap<NodeId, Gcra>,
    asking: Hourly,
    asked_by_device: BTreeMap<NodeId, Hourly>,
    asked_by_person: BTreeMap<UserId, Hourly>,
    search: Option<Search>,
    found: BTreeMap<UserId, Contact>,
    /// The wall clock at an instant of this device's, Unix seconds.
    wall: Option<(LocalTime, u64)>,
    /// For a room whose owner is known to be a friend.
    vouched: Option<(RoomId, Friendship)>,
    /// When this device last looked whether its room knows what has ended.
    told_room: Option<LocalTime>,
}

impl Friends {
    /// As the disk has them.
    pub(super) fn restored(user: Option<UserId>, saved: Option<&SavedFriends>) -> Friends {
        let book = user.map(|user| FriendBook::restored(user, saved));
        let may_know = book.as_ref().map(FriendBook::devices).unwrap_or_default();
        Friends { book, may_know, ..Friends::default() }
    }

    pub(super) fn lost(&mut self, peer: NodeId) {
        self.proven.remove(&peer);
        self.told.remove(&peer);
        self.greeted.remove(&peer);
        self.paces.remove(&peer);
    }

    /// How much it remembers.
    pub(super) fn size(&self) -> usize {
        let book = self.book.as_ref().map_or(0, FriendBook::size);
        book + self.found.len() + self.asked_by_device.len() + self.asked_by_person.len()
    }

    fn now_s(&self, now: LocalTime) -> u64 {
        let (at, wall) = self.wall.unwrap_or((LocalTime(0), SOME_DAY_S));
        wall.saturating_add_signed((now - at).0 / 1_000_000_000)
    }

    /// Whether a request of somebody new is let through, from that device.
    fn may_be_asked(&mut self, now: LocalTime, device: NodeId, user: UserId) -> bool {
        self.asked_by_device.retain(|_, hour| !hour.is_idle(now));
        self.asked_by_person.retain(|_, hour| !hour.is_idle(now));
        let counted = self.asked_by_device.len().max(self.asked_by_person.len());
        counted < MAX_COUNTED
            && self.asked_by_device.entry(device).or_default().take(now).is_ok()
            && self.asked_by_person.entry(user).or_default().take(now).is_ok()
    }
}

/// What became of friends, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FriendNews {
    /// They ask to be friends.
    Asks,
    /// They are a friend now.
    Accepted,
    /// They do not want to.
    Declined,
    /// They are a friend no longer, or have taken their request back.
    Ended,
}

impl Node {
    /// The wall clock, Unix seconds: what a friendship is dated by. Nothing is timed by it but the
    /// day for which no request is taken of somebody who was turned down.
    pub(super) fn wall_told(&mut self, now: LocalTime, unix_s: u64) {
        self.friends.wall = Some((now, unix_s));
    }

    /// Another person has this device, or the same by another name.
    pub(super) fn friends_of_new_user(&mut self, before: Option<UserId>) {
        let user = self.user_id();
        self.friends.told.clear();
        self.friends.greeted.clear();
        if user == before {
            return;
        }
        self.friends.book = user.map(FriendBook::new);
        self.friends.found.clear();
        self.friends.may_know.clear();
        let saved = self.friends.book.as_ref().map(|book| Box::new(book.saved()));
        self.outputs.push_back(Output::RememberFriends(saved));
    }

    /// This device belongs to the same person as another one.
    pub(super) fn note_own_device(&mut self, device: NodeId) {
        let Some(card) = self.own_card() else { return };
        let Some(book) = &mut self.friends.book else { return };
        if book.met(device, &card) {
            self.book_changed();
        }
    }

    fn own_card(&self) -> Option<PersonCard> {
        let user = self.user.as_ref()?;
        let id = user.key.user_id();
        Some(PersonCard {
            user: id,
            name: user.name.clone(),
            display: user.display.clone(),
            certificate: user.key.sign(&codec::device_bytes(&id, &self.me)),
        })
    }

    fn book_changed(&mut self) {
        let Some(book) = &self.friends.book else { return };
        self.friends.may_know = book.devices();
        self.friends.greeted.clear();
        self.friends.told_room = None;
        self.outputs.push_back(Output::RememberFriends(Some(Box::new(book.saved()))));
    }

    /// What is to be said, and to whom that has come. Called again and again.
    pub(super) fn look_after_friends(&mut self, now: LocalTime) {
        self.end_search(now);
        if self.friends.book.is_none() {
            return;
        }
        self.tell_room_what_ended(now);
        let peers = self.peers.keys().copied().collect::<Vec<_>>();
        for peer in peers {
            if self.may_know_person(peer) {
                self.tell_person(peer);
            }
            if !self.friends.greeted.contains(&peer) {
                self.greet_friend(peer);
            }
        }
    }

    fn may_know_person(&self, peer: NodeId) -> bool {
        let Some(book) = &self.friends.book else { return false };
        self.friends.may_know.contains(&peer)
            || (self.is_member(peer) && self.is_present(peer))
            || self.friends.proven.get(&peer).is_some_and(|card| book.trusts(&card.user))
    }

    /// Says whose device this is, once a connection.
    fn tell_person(&mut self, peer: NodeId) {
        if self.friends.told.contains(&peer) {
            return;
        }
        let Some(card) = self.own_card() else { return };
        self.friends.told.insert(peer);
        self.send(peer, Message::Friend(FriendMessage::Person(card)));
    }

    /// Says something as a person.
    fn send_as_person(&mut self, peer: NodeId, message: FriendMessage) {
        self.tell_person(peer);
        self.send(peer, Message::Friend(message));
    }

    /// Whose device that is: as it has proven, or else as the room or the book has it.
    fn supposed_person(&self, peer: NodeId) -> Option<UserId> {
        let proven = self.friends.proven.get(&peer).map(|card| card.user);
        let in_room = || self.room.as_ref()?.state().member(&peer)?.user;
        let in_book = || {
            let sent = self.friends.book.as_ref()?.sent();
            let mut theirs = sent.filter(|request| request.contact.devices.contains(&peer));
            theirs.next().map(|request| request.contact.user)
        };
        proven.or_else(in_room).or_else(in_book)
    }

    /// What concerns the person of that device: the request to them, the certificate, what is
    /// over; to the person's own device everything.
    fn greet_friend(&mut self, peer: NodeId) {
        if let Some(since) = self.friends.book.as_mut().and_then(|book| book.take_untold(peer)) {
            self.send_as_person(peer, FriendMessage::Ended { since });
            self.book_changed();
        }
        let Some(user) = self.supposed_person(peer) else { return };
        self.friends.greeted.insert(peer);
        let is_proven = self.friends.proven.contains_key(&peer);
        let Some(book) = &self.friends.book else { return };
        let mut messages = Vec::new();
        if is_proven && Some(user) == self.user_id() {
            let kept = book.kept();
            messages.extend(
                kept.chunks(MAX_KEPT_PER_MESSAGE).map(|part| FriendMessage::Kept(part.to_vec())),
            );
        } else if let Some(friendship) = book.friendship(&user).filter(|_| is_proven) {
            messages.push(FriendMessage::Friends(friendship.clone()));
        } else if let Some(request) = book.sent_to(&user).cloned() {
            messages.extend(self.asking(&request));
        }
        for message in messages {
            self.send_as_person(peer, message);
        }
    }

    fn asking(&self, request: &FriendRequest) -> Option<FriendMessage> {
        let FriendRequest { contact, since, signature, .. } = request;
        let (card, to) = (self.own_card()?, contact.user);
        Some(FriendMessage::Ask { to, card, since: *since, signature: *signature })
    }

    pub(super) fn friend_message_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        message: FriendMessage,
    ) {
        let pace = self.friends.paces.entry(from);
        let pace = pace.or_insert_with(|| Gcra::new(PACE_EVERY, PACE_BURST));
        if !self.peers.contains_key(&from) || pace.take(now).is_err() {
            tracing::debug!(peer = %from.short(), "too much about people");
            return;
        }
        if let FriendMessage::Owner { join, mark } = message {
            return self.owner_hinted(from, join, &mark);
        }
        // Also a device that has no person yet remembers whose the others are.
        if let FriendMessage::Person(card) = message {
            return self.person_proven(from, card);
        }
        if self.friends.book.is_none() {
            return;
        }
        match message {
            FriendMessage::Find { nonce, name } => self.looked_for(from, nonce, &name),
            FriendMessage::Found { nonce, card } => self.answer_found(from, nonce, &card),
            FriendMessage::Ask { to, card, since, signature } if Some(to) == self.user_id() => {
                let request = request_of(from, &card, since, signature);
                self.person_proven(from, card);
                self.asked(now, from, &request);
            }
            FriendMessage::Ask { .. } | FriendMessage::Owner { .. } | FriendMessage::Person(_) => {}
            FriendMessage::Asked { since } => {
                let arrived = |book: &mut FriendBook, user| book.arrived(&user, since);
                self.said_by_person(from, None, arrived);
            }
            FriendMessage::Friends(friendship) => self.friendship_shown(from, &friendship),
            FriendMessage::Declined { since } => {
                let declined = |book: &mut FriendBook, user| book.declined(&user, since);
                self.said_by_person(from, Some(FriendNews::Declined), declined);
            }
            FriendMessage::Ended { since } => {
                let over = |book: &mut FriendBook, user| book.over(&user, since);
                self.said_by_person(from, Some(FriendNews::Ended), over);
            }
            FriendMessage::Kept(kept) => {
                let own = self.friends.proven.get(&from).map(|card| card.user);
                if own.is_none() || own != self.user_id() {
                    return;
                }
                let Some(book) = &mut self.friends.book else { return };
                let mut news = false;
                for kept in kept.iter().take(MAX_KEPT_PER_MESSAGE) {
                    news |= book.merge(kept);
                }
                if news {
                    self.book_changed();
                }
            }
        }
    }

    fn person_proven(&mut self, from: NodeId, card: PersonCard) {
        if self.friends.proven.get(&from) == Some(&card) {
            return;
        }
        if card.verify(from).is_err() {
            tracing::debug!(peer = %from.short(), "a person who has not said that this is theirs");
            return;
        }
        let news = self.friends.book.as_mut().is_some_and(|book| book.met(from, &card));
        self.friends.proven.insert(from, card);
        if news {
            self.book_changed();
        }
        self.friends.greeted.remove(&from);
        if self.may_know_person(from) {
            self.tell_person(from);
            self.greet_friend(from);
        }
    }

    /// Something that only the person can say whom it is about.
    fn said_by_person(
        &mut self,
        from: NodeId,
        news: Option<FriendNews>,
        change: impl FnOnce(&mut FriendBook, UserId) -> bool,
    ) {
        let Some(card) = self.friends.proven.get(&from) else { return };
        let (user, name) = (card.user, card.name.clone());
        let Some(book) = &mut self.friends.book else { return };
        if !change(book, user) {
            return;
        }
        self.book_changed();
        if let Some(news) = news {
            self.tell(Notice::Friend { name, news });
        }
    }

    fn asked(&mut self, now: LocalTime, from: NodeId, request: &FriendRequest) {
        let (user, name) = (request.contact.user, request.contact.name.clone());
        if self.friends.proven.get(&from).map(|card| card.user) != Some(user) {
            return;
        }
        let Some(key) = self.user.as_ref().map(|user| user.key.clone()) else { return };
        let (now_s, since) = (self.friends.now_s(now), request.since);
        let Some(mut book) = self.friends.book.take() else { return };
        let was_friend = book.friendship(&user).is_some();
        let answer =
            book.asked(&key, request, now_s, || self.friends.may_be_asked(now, from, user));
        self.friends.book = Some(book);
        let message = match answer {
            Answer::Silence => return,
            Answer::Waits { is_new } => {
                if is_new {
                    self.book_changed();
                    self.tell(Notice::Friend { name, news: FriendNews::Asks });
                }
                FriendMessage::Asked { since }
            }
            Answer::Friends(friendship) => {
                if !was_friend {
                    self.book_changed();
                    self.tell(Notice::Friend { name, news: FriendNews::Accepted });
                }
                FriendMessage::Friends(friendship)
            }
            Answer::Declined => FriendMessage::Declined { since },
            Answer::Ended(since) => FriendMessage::Ended { since },
        };
        self.send_as_person(from, message);
    }

    fn friendship_shown(&mut self, from: NodeId, friendship: &Friendship) {
        let Some(card) = self.friends.proven.get(&from) else { return };
        let (contact, name) = (contact_of(from, card), card.name.clone());
        let Some(book) = &mut self.friends.book else { return };
        match book.confirmed(contact, friendship) {
            Ok(false) => {}
            Ok(true) => {
                self.book_changed();
                self.tell(Notice::Friend { name, news: FriendNews::Accepted });
            }
            Err(since) => self.send_as_person(from, FriendMessage::Ended { since }),
        }
    }

    // Finding people.

    fn looked_for(&mut self, from: NodeId, nonce: u64, name: &str) {
        let (Some(book), Some(user)) = (&self.friends.book, &self.user) else { return };
        let may = match book.discoverable() {
            Discoverable::Everyone => true,
            Discoverable::Rooms => self.is_member(from) && self.is_present(from),
            Discoverable::Nobody => false,
        };
        let wanted = name.trim().to_lowercase();
        let is_it = wanted.chars().count() >= MIN_USER_NAME
            && [&user.name, &user.display].iter().any(|n| n.to_lowercase().starts_with(&wanted));
        if let Some(card) = self.own_card().filter(|_| may && is_it) {
            self.send(from, Message::Friend(FriendMessage::Found { nonce, card }));
        }
    }

    fn answer_found(&mut self, from: NodeId, nonce: u64, card: &PersonCard) {
        let is_ours = self.friends.search.as_ref().is_some_and(|search| search.nonce == nonce);
        if !is_ours || Some(card.user) == self.user_id() || card.verify(from).is_err() {
            return;
        }
        let contact = self.as_named_here(contact_of(from, card));
        self.note_found(contact);
    }

    /// A room gives each name to one person only.
    fn as_named_here(&self, mut contact: Contact) -> Contact {
        let person = self.room.as_ref().and_then(|room| room.state().person(&contact.user));
        if let Some(person) = person {
            contact.name.clone_from(&person.name);
        }
        contact
    }

    fn note_found(&mut self, contact: Contact) {
        let found = &mut self.friends.found;
        if let Some(known) = found.get_mut(&contact.user) {
            let more = contact.devices.iter().filter(|device| !known.devices.contains(device));
            let more = more.copied().collect::<Vec<_>>();
            known.devices.extend(more);
            known.devices.truncate(MAX_DEVICES_OF_PERSON);
        } else if found.len() < MAX_FOUND {
            found.insert(contact.user, contact);
        }
    }

    /// People of the room who are away cannot answer for themselves.
    fn find_absent(&mut self, name: &str) {
        let Some(room) = &self.room else { return };
        let state = room.state();
        let wanted = name.to_lowercase();
        let fits = |person: &crate::engine::room::Person| {
            [&person.name, &person.display].iter().any(|n| n.to_lowercase().starts_with(&wanted))
        };
        let me = self.user_id();
        let mut contacts = Vec::new();
        for (user, person) in state.people().iter().filter(|(_, person)| fits(person)) {
            let theirs = state.members().iter().filter(|(_, member)| member.user == Some(*user));
            let devices = theirs.map(|(node, _)| *node).collect::<Vec<_>>();
            // Who has left has no device there that could be waited for.
            let is_away = !devices.is_empty()
                && !devices.iter().any(|device| self.peers.contains_key(device));
            if Some(*user) != me && is_away {
                let (name, display) = (person.name.clone(), person.display.clone());
                contacts.push(Contact { user: *user, name, display, devices });
            }
        }
        for contact in contacts {
            self.note_found(contact);
        }
    }

    fn begin_search(
        &mut self,
        now: LocalTime,
        request: RequestId,
        name: &str,
        then: Then,
    ) -> Result<(), Refusal> {
        let name = name.trim().trim_start_matches('@').to_owned();
        if !(MIN_USER_NAME..=MAX_NAME).contains(&name.chars().count()) {
            return Err(Refusal::new(
                RefusalCode::InvalidRequest,
                format!("a search needs {MIN_USER_NAME} letters or more"),
                "name somebody by how their name begins",
            ));
        }
        if self.friends.search.is_some() {
            return Err(super::people::too_fast("another search goes on", SEARCH));
        }
        self.friends.found.clear();
        let nonce = self.rng.next_u64();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            let name = name.clone();
            self.send(peer, Message::Friend(FriendMessage::Find { nonce, name }));
        }
        let until = now + SEARCH;
        self.friends.search = Some(Search { nonce, name, request, then, until });
        Ok(())
    }

    fn end_search(&mut self, now: LocalTime) {
        let Some(search) = self.friends.search.take_if(|search| search.until <= now) else {
            return;
        };
        self.find_absent(&search.name);
        match search.then {
            Then::Show => {
                let message = match self.friends.found.len() {
                    0 => "nobody found".to_owned(),
                    1 => "one person found".to_owned(),
                    n => format!("{n} people found"),
                };
                self.reply_done(search.request, message);
            }
            Then::Ask => {
                if let Err(refusal) = self.ask_found(now, search.request, &search.name) {
                    self.outputs
                        .push_back(Output::Reply { id: search.request, reply: Err(refusal) });
                }
            }
        }
    }

    // What a person asks for.

    pub(super) fn carry_out_friend(
        &mut self,
        now: LocalTime,
        id: RequestId,
        command: FriendCommand,
    ) -> Result<(), Refusal> {
        if self.friends.book.is_none() {
            return Err(Refusal::new(
                RefusalCode::NoUser,
                "only a person has friends, and this device has none",
                "give it one: `groovebox user set NAME`",
            ));
        }
        match command {
            FriendCommand::Find { name } => self.begin_search(now, id, &name, Then::Show),
            FriendCommand::Add { who } => self.add_friend(now, id, &who),
            FriendCommand::Accept { who } => self.accept_friend(id, &who),
            FriendCommand::Reject { who } => self.reject_friend(now, id, &who),
            FriendCommand::Remove { who } => self.remove_friend(now, id, &who),
            FriendCommand::Discoverable(discoverable) => {
                if let Some(book) = &mut self.friends.book {
                    book.set_discoverable(discoverable);
                }
                self.book_changed();
                let message = match discoverable {
                    Discoverable::Everyone => "everyone who is connected can find you by name now",
                    Discoverable::Rooms => "who shares a room with you can find you by name now",
                    Discoverable::Nobody => "nobody can find you by name now, or ask you anew",
                };
                self.reply_done(id, message.into());
                Ok(())
            }
        }
    }

    /// Whoever has asked this person is accepted by being asked.
    fn add_friend(&mut self, now: LocalTime, id: RequestId, who: &str) -> Result<(), Refusal> {
        let asked = self.friends.book.as_ref().map(|book| {
            let contacts = book.received().map(|request| &request.contact);
            pick(contacts, who, "")
        });
        if let Some(Ok(_)) = asked {
            return self.accept_friend(id, who);
        }
        // Found a moment ago, perhaps among several, and named by id.
        if pick(self.friends.found.values(), who, "").is_ok() && self.friends.search.is_none() {
            return self.ask_found(now, id, who);
        }
        self.begin_search(now, id, who, Then::Ask)
    }

    fn ask_found(&mut self, now: LocalTime, id: RequestId, who: &str) -> Result<(), Refusal> {
        let user = pick(
            self.friends.found.values(),
            who,
            "people are found who share a room with you or let everyone find them; \
             `groovebox friend search NAME`",
        )?;
        let contact = self.friends.found.get(&user).cloned().expect("it was just picked");
        let now_s = self.friends.now_s(now);
        let Some(key) = self.user.as_ref().map(|user| user.key.clone()) else { return Ok(()) };
        // What makes no sense does not count.
        let mut asking = self.friends.asking.clone();
        let pace = asking.take(now);
        let Some(book) = &mut self.friends.book else { return Ok(()) };
        let is_new = book.sent_to(&user).is_none() && book.friendship(&user).is_none();
        if let (true, Err(wait)) = (is_new, pace) {
            return Err(super::people::too_fast("ten requests an hour can be made", wait));
        }
        let request = book.ask(&key, contact, now_s)?;
        self.friends.asking = asking;
        self.book_changed();
        let name = &request.contact.name;
        let devices = &request.contact.devices;
        let is_here = devices.iter().any(|device| self.peers.contains_key(device));
        let message = if is_here {
            format!("asked {name}")
        } else {
            format!("{name} is away; the request waits and is delivered when they are back")
        };
        self.reply_done(id, message);
        self.look_after_friends(now);
        Ok(())
    }

    fn accept_friend(&mut self, id: RequestId, who: &str) -> Result<(), Refusal> {
        let Some(book) = &mut self.friends.book else { return Ok(()) };
        let user = pick(book.received().map(|r| &r.contact), who, LIST)?;
        let name = book.received_from(&user).map(|r| r.contact.name.clone()).unwrap_or_default();
        let Some(key) = self.user.as_ref().map(|user| user.key.clone()) else { return Ok(()) };
        book.accept(&key, &user)?;
        self.book_changed();
        self.reply_done(id, format!("{name} is your friend now"));
        self.greet_person(user);
        Ok(())
    }

    fn reject_friend(&mut self, now: LocalTime, id: RequestId, who: &str) -> Result<(), Refusal> {
        let now_s = self.friends.now_s(now);
        let Some(book) = &mut self.friends.book else { return Ok(()) };
        let user = pick(book.received().map(|r| &r.contact), who, LIST)?;
        let name = book.received_from(&user).map(|r| r.contact.name.clone()).unwrap_or_default();
        let since = book.reject(&user, now_s);
        self.book_changed();
        self.reply_done(id, format!("turned {name} down; they can ask again tomorrow"));
        for peer in self.devices_here(user) {
            if let Some(since) = since {
                self.send_as_person(peer, FriendMessage::Declined { since });
            }
        }
        Ok(())
    }

    fn remove_friend(&mut self, now: LocalTime, id: RequestId, who: &str) -> Result<(), Refusal> {
        let Some(book) = &mut self.friends.book else { return Ok(()) };
        let friends = book.friends().map(|friend| &friend.contact);
        let contacts = friends.chain(book.sent().map(|request| &request.contact));
        let user = pick(contacts, who, LIST)?;
        let was_friend = book.friendship(&user).is_some();
        let name = book.friends().find(|friend| friend.contact.user == user);
        let name = name.map(|friend| &friend.contact).or(book.sent_to(&user).map(|r| &r.contact));
        let name = name.map(|contact| contact.name.clone()).unwrap_or_default();
        let since = book.remove(&user);
        self.book_changed();
        let message = if was_friend {
            format!("{name} is your friend no longer")
        } else {
            format!("the request to {name} is withdrawn")
        };
        self.reply_done(id, message);
        for peer in self.devices_here(user) {
            if let Some(since) = since {
                self.send_as_person(peer, FriendMessage::Ended { since });
            }
        }
        self.look_after_friends(now);
        Ok(())
    }

    /// Connected devices that have proven to be a person's.
    fn devices_here(&self, user: UserId) -> Vec<NodeId> {
        let proven = self.friends.proven.iter().filter(|(_, card)| card.user == user);
        proven.map(|(node, _)| *node).collect()
    }

    fn greet_person(&mut self, user: UserId) {
        for peer in self.devices_here(user) {
            self.greet_friend(peer);
        }
    }

    // Rooms for friends.

    /// A join was refused because the room is for friends of its owner: the hint by which a friend
    /// recognises them. It is nobody's business what the owner's id is.
    pub(super) fn hint_owner(&mut self, joiner: NodeId, join: OpId, refusal: &Refusal) {
        let state = self.room.as_ref().map(super::Room::state);
        let owner = state.filter(|state| state.settings().friends_only).and_then(RoomState::owner);
        let Some(owner) = owner.filter(|_| refusal.code == RefusalCode::NotAllowed) else { return };
        let mark = codec::owner_mark(&join, &owner);
        self.send(joiner, Message::Friend(FriendMessage::Owner { join, mark }));
    }

    fn owner_hinted(&mut self, from: NodeId, join: OpId, mark: &[u8; 16]) {
        let Some(room) = self.joining_with(join) else { return };
        let theirs = self.peers.get(&from).and_then(|peer| peer.room.as_ref());
        // Only who speaks for that room can know.
        if theirs.is_none_or(|card| card.id != room) {
            return;
        }
        let Some(book) = &self.friends.book else { return };
        let is_owner = |user: &UserId| codec::owner_mark(&join, user) == *mark;
        let friend = book.friends().find(|friend| is_owner(&friend.contact.user));
        self.friends.vouched = friend.map(|friend| (room, friend.friendship.clone()));
    }

    /// A room for friends of this person learns whose certificate is worth nothing any more: it
    /// must know that while they are away.
    fn tell_room_what_ended(&mut self, now: LocalTime) {
        let (Some(book), Some(room)) = (&self.friends.book, &self.room) else { return };
        let (id, state) = (room.id(), room.state());
        let Some(owner) = state.owner().filter(|_| state.settings().friends_only) else { return };
        let is_early = |at: LocalTime| now - at < TELL_ROOM_EVERY;
        if Some(owner) != self.user_id() || self.friends.told_room.is_some_and(is_early) {
            return;
        }
        let marked = book.ended().map(|(user, since)| EndedFriendship {
            mark: codec::ended_mark(&id, &owner, &user),
            since,
        });
        let news = marked.filter(|ended| !state.knows_ended(ended));
        let ended = news.take(MAX_ENDED_AT_ONCE).collect::<Vec<_>>();
        self.friends.told_room = Some(now);
        if ended.is_empty() {
            return;
        }
        if let Err(refusal) = self.propose_own(now, None, &OpBody::EndFriendships { ended }) {
            tracing::debug!(%refusal, "the room was not told of a friendship's end");
        }
    }

    /// The proof that lets this person into a room of a friend, where that is known.
    pub(super) fn friendship_for(&self, room: RoomId) -> Option<Friendship> {
        let book = self.friends.book.as_ref()?;
        let own = self.room.as_ref().filter(|own| own.id() == room);
        if let Some(owner) = own.and_then(|own| own.state().owner()) {
            return book.friendship(&owner).cloned();
        }
        let vouched = self.friends.vouched.as_ref().filter(|(known, _)| *known == room);
        let (_, friendship) = vouched?;
        // It may have ended since.
        let (one, other) = friendship.people;
        let still = |user: &UserId| book.friendship(user) == Some(friendship);
        (still(&one) || still(&other)).then(|| friendship.clone())
    }

    // For front ends.

    /// Friends, requests, and what the last search found.
    #[must_use]
    pub fn friends_status(&self, now: LocalTime) -> FriendsStatus {
        let Some(book) = &self.friends.book else {
            return FriendsStatus { pairing: self.pairing_status(), ..FriendsStatus::default() };
        };
        let here = self.friends.proven.values().map(|card| card.user).collect::<BTreeSet<_>>();
        let friends = book.friends().map(|friend| FriendStatus {
            id: friend.contact.user.to_string(),
            name: friend.contact.name.clone(),
            display: shown(&friend.contact),
            since: friend.friendship.since,
            online: here.contains(&friend.contact.user),
        });
        let request = |request: &FriendRequest| FriendRequestStatus {
            id: request.contact.user.to_string(),
            name: request.contact.name.clone(),
            display: shown(&request.contact),
            since: request.since,
            delivered: request.delivered,
        };
        let found = self.friends.found.values().map(|contact| FoundStatus {
            id: contact.user.to_string(),
            name: contact.name.clone(),
            display: shown(contact),
            online: contact.devices.iter().any(|device| self.peers.contains_key(device)),
            friend: book.friendship(&contact.user).is_some(),
        });
        let mut status = FriendsStatus {
            discoverable: Some(book.discoverable()),
            friends: friends.collect(),
            sent: book.sent().map(request).collect(),
            received: book.received().map(request).collect(),
            found: found.collect(),
            now: self.friends.now_s(now),
            pairing: self.pairing_status(),
        };
        status.friends.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        debug_assert!(status.sent.len() <= MAX_FRIEND_REQUESTS, "the book bounds them");
        status
    }
}

const LIST: &str = "`groovebox friend list` shows friends and open requests";

fn shown(contact: &Contact) -> String {
    let display = &contact.display;
    if display.is_empty() { contact.name.clone() } else { display.clone() }
}

/// The person that somebody means: by name, by display name, by how one of them begins, by how
/// their id begins.
fn pick<'a>(
    contacts: impl Iterator<Item = &'a Contact>,
    text: &str,
    hint: &str,
) -> Result<UserId, Refusal> {
    let wanted = text.trim().trim_start_matches('@').to_lowercase();
    let contacts = contacts.collect::<Vec<_>>();
    let names = |contact: &Contact| [contact.name.to_lowercase(), contact.display.to_lowercase()];
    let exact = |contact: &Contact| names(contact).contains(&wanted);
    let begins = |contact: &Contact| names(contact).iter().any(|n| n.starts_with(&wanted));
    let by_id = |c: &Contact| wanted.len() >= 6 && c.user.to_string().starts_with(&wanted);
    let rules: [&dyn Fn(&Contact) -> bool; 3] = [&exact, &begins, &by_id];
    for rule in rules.iter().filter(|_| !wanted.is_empty()) {
        let mut users =
            contacts.iter().filter(|c| rule(c)).map(|c| (c.user, &c.name)).collect::<Vec<_>>();
        users.dedup_by_key(|(user, _)| *user);
        match users[..] {
            [] => {}
            [(user, _)] => return Ok(user),
            _ => {
                let all = users.iter().take(MAX_FOUND);
                let all = all.map(|(user, name)| format!("{name} ({})", user.short()));
                let all = all.collect::<Vec<_>>().join(", ");
                return Err(Refusal::new(
                    RefusalCode::InvalidRequest,
                    format!("more than one person is meant: {all}"),
                    "name one of them by the id",
                ));
            }
        }
    }
    let short = text.chars().take(MAX_NAME).collect::<String>();
    Err(Refusal::new(RefusalCode::NotFound, format!("nobody is called {short:?}"), hint))
}
