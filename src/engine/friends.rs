//! Who is friends with whom, as one person's devices know it: requests, certificates, and what is
//! over. Who is told of it when is in `node/friends.rs`.
//!
//! ```text
//!  A asks: half of the certificate ──► B keeps the request
//!                                      B accepts: the other half
//!  A has the whole certificate ◄────── and so has B
//!  either ends it: nothing up to `since` holds any more, whoever comes with it
//! ```
//!
//! A certificate needs no third party and is valid while both are away. That it has ended is known
//! to those who were told: the other one's devices, and the rooms for friends that whoever ended
//! it owns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::limits::{
    FRIEND_REQUESTS_PER_HOUR, MAX_DEVICES_OF_PERSON, MAX_ENDED_FRIENDSHIPS, MAX_FRIEND_REQUESTS,
    MAX_FRIENDS, MAX_NAME, MAX_SINCE,
};
use crate::base::{LocalTime, NodeId, Span, UserId};
use crate::engine::room::{is_display_name, is_user_name};
use crate::identity::{Signature, UserKey, verify};
use crate::wire::codec;
use crate::wire::op::{Friendship, PersonCard};
use crate::wire::person::{Contact, FriendRequest, Kept};
use crate::wire::{Refusal, RefusalCode};

/// For how long no request is taken of somebody who was turned down.
pub const REFUSED_FOR_S: u64 = 24 * 3600;

const HOUR: Span = Span::from_secs(3600);

/// Who may find a person by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discoverable {
    /// Whoever is connected.
    Everyone,
    /// Whoever is in the same room.
    #[default]
    Rooms,
    /// Nobody; nor does a request of anybody new arrive.
    Nobody,
}

impl Discoverable {
    /// One word, for people, programs and the disk.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Discoverable::Everyone => "everyone",
            Discoverable::Rooms => "rooms",
            Discoverable::Nobody => "nobody",
        }
    }

    /// The other way round.
    #[must_use]
    pub fn parse(text: &str) -> Option<Discoverable> {
        let all = [Discoverable::Everyone, Discoverable::Rooms, Discoverable::Nobody];
        all.into_iter().find(|one| one.as_str() == text)
    }
}

/// What a person asks of their friends' book.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FriendCommand {
    /// Looks for people by name.
    Find {
        /// What they are called, or how that begins.
        name: String,
    },
    /// Asks somebody to be friends.
    Add {
        /// Whom.
        who: String,
    },
    /// Says yes to a request.
    Accept {
        /// Whose.
        who: String,
    },
    /// Says no to a request.
    Reject {
        /// Whose.
        who: String,
    },
    /// Ends a friendship, or takes a request back.
    Remove {
        /// With whom.
        who: String,
    },
    /// Says who may find this person by name.
    Discoverable(Discoverable),
}

/// The book as the disk has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedFriends {
    /// Whose it is: another person's is of no use.
    pub of: UserId,
    /// Who may find them.
    pub discoverable: Discoverable,
    /// Their own devices.
    pub devices: Vec<NodeId>,
    /// Everything else.
    pub kept: Vec<Kept>,
}

/// A friend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Friend {
    /// Who.
    pub contact: Contact,
    /// The proof.
    pub friendship: Friendship,
}

/// With whom something has ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Ended {
    since: u64,
    untold: Vec<NodeId>,
}

/// What became of a request that arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It waits for its person; whether that is news.
    Waits {
        /// It was not there before.
        is_new: bool,
    },
    /// The two are friends, by it or already.
    Friends(Friendship),
    /// Not now.
    Declined,
    /// What it is about is over up to then.
    Ended(u64),
    /// Nobody is told anything.
    Silence,
}

/// Everything that one person's devices know about their friends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FriendBook {
    me: UserId,
    discoverable: Discoverable,
    devices: BTreeSet<NodeId>,
    friends: BTreeMap<UserId, Friend>,
    sent: BTreeMap<UserId, FriendRequest>,
    received: BTreeMap<UserId, FriendRequest>,
    ended: BTreeMap<UserId, Ended>,
    refused: BTreeMap<UserId, u64>,
}

impl FriendBook {
    /// Of a person who knows nobody yet.
    #[must_use]
    pub fn new(me: UserId) -> FriendBook {
        FriendBook {
            me,
            discoverable: Discoverable::default(),
            devices: BTreeSet::new(),
            friends: BTreeMap::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            ended: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// As the disk has it, if that is the same person's.
    #[must_use]
    pub fn restored(me: UserId, saved: Option<&SavedFriends>) -> FriendBook {
        let mut book = FriendBook::new(me);
        if let Some(saved) = saved.filter(|saved| saved.of == me) {
            book.discoverable = saved.discoverable;
            book.devices = saved.devices.iter().copied().take(MAX_DEVICES_OF_PERSON).collect();
            for kept in &saved.kept {
                book.merge(kept);
            }
        }
        book
    }

    /// For the disk.
    #[must_use]
    pub fn saved(&self) -> SavedFriends {
        SavedFriends {
            of: self.me,
            discoverable: self.discoverable,
            devices: self.devices.iter().copied().collect(),
            kept: self.kept(),
        }
    }

    /// For another device of the person, and for the disk. What is over comes first, so that
    /// whoever takes it up in order does not believe for a moment what is not so.
    #[must_use]
    pub fn kept(&self) -> Vec<Kept> {
        let ended = self.ended.iter().map(|(user, ended)| Kept::Ended {
            user: *user,
            since: ended.since,
            untold: ended.untold.clone(),
        });
        let refused =
            self.refused.iter().map(|(user, until)| Kept::Refused { user: *user, until: *until });
        let friends = self.friends.values().map(|friend| Kept::Friend {
            contact: friend.contact.clone(),
            friendship: friend.friendship.clone(),
        });
        let sent = self.sent.values().cloned().map(Kept::Sent);
        let received = self.received.values().cloned().map(Kept::Received);
        ended.chain(refused).chain(friends).chain(sent).chain(received).collect()
    }

    /// Who may find this person.
    #[must_use]
    pub fn discoverable(&self) -> Discoverable {
        self.discoverable
    }

    /// Says who may.
    pub fn set_discoverable(&mut self, discoverable: Discoverable) {
        self.discoverable = discoverable;
    }

    /// Friends, by id.
    pub fn friends(&self) -> impl Iterator<Item = &Friend> {
        self.friends.values()
    }

    /// Requests of this person.
    pub fn sent(&self) -> impl Iterator<Item = &FriendRequest> {
        self.sent.values()
    }

    /// Requests to this person.
    pub fn received(&self) -> impl Iterator<Item = &FriendRequest> {
        self.received.values()
    }

    /// The proof that somebody is a friend.
    #[must_use]
    pub fn friendship(&self, user: &UserId) -> Option<&Friendship> {
        self.friends.get(user).map(|friend| &friend.friendship)
    }

    /// The request to somebody.
    #[must_use]
    pub fn sent_to(&self, user: &UserId) -> Option<&FriendRequest> {
        self.sent.get(user)
    }

    /// The request of somebody.
    #[must_use]
    pub fn received_from(&self, user: &UserId) -> Option<&FriendRequest> {
        self.received.get(user)
    }

    /// The devices that may know whose device this one is: friends', those to which a request is
    /// open, those that must hear that something is over, and the person's own.
    #[must_use]
    pub fn devices(&self) -> BTreeSet<NodeId> {
        let friends = self.friends.values().flat_map(|friend| &friend.contact.devices);
        let asked = self.sent.values().flat_map(|request| &request.contact.devices);
        let untold = self.ended.values().flat_map(|ended| &ended.untold);
        friends.chain(asked).chain(untold).chain(&self.devices).copied().collect()
    }

    /// Whether a device of that person may know whose this one is.
    #[must_use]
    pub fn trusts(&self, user: &UserId) -> bool {
        *user == self.me || self.friends.contains_key(user) || self.sent.contains_key(user)
    }

    /// A device has proven whose it is. Whether something changed by that.
    pub fn met(&mut self, device: NodeId, card: &PersonCard) -> bool {
        let before = (self.devices.len(), self.contact_of(&card.user).cloned());
        if card.user == self.me {
            if self.devices.len() < MAX_DEVICES_OF_PERSON {
                self.devices.insert(device);
            }
            return before.0 != self.devices.len();
        }
        let contacts = [
            self.friends.get_mut(&card.user).map(|friend| &mut friend.contact),
            self.sent.get_mut(&card.user).map(|request| &mut request.contact),
            self.received.get_mut(&card.user).map(|request| &mut request.contact),
        ];
        for contact in contacts.into_iter().flatten() {
            if is_user_name(&card.name) {
                contact.name.clone_from(&card.name);
                contact.display = display_of(&card.display);
            }
            add_device(&mut contact.devices, device);
        }
        before.1.as_ref() != self.contact_of(&card.user)
    }

    fn contact_of(&self, user: &UserId) -> Option<&Contact> {
        let friend = self.friends.get(user).map(|friend| &friend.contact);
        let sent = self.sent.get(user).map(|request| &request.contact);
        let received = self.received.get(user).map(|request| &request.contact);
        friend.or(sent).or(received)
    }

    /// Makes a request.
    ///
    /// # Errors
    ///
    /// When there is no sense in it, or too many are open.
    pub fn ask(
        &mut self,
        key: &UserKey,
        mut contact: Contact,
        now_s: u64,
    ) -> Result<FriendRequest, Refusal> {
        let name = contact.name.clone();
        if contact.user == self.me {
            return Err(invalid("that is yourself", "name somebody else"));
        }
        if self.friends.contains_key(&contact.user) {
            return Err(no_change(format!("{name} is your friend already")));
        }
        if self.sent.contains_key(&contact.user) {
            return Err(no_change(format!("{name} has been asked already")));
        }
        if self.sent.len() >= MAX_FRIEND_REQUESTS || self.friends.len() >= MAX_FRIENDS {
            return Err(Refusal::new(
                RefusalCode::UpdateFailed,
                format!(
                    "there are {MAX_FRIEND_REQUESTS} open requests or {MAX_FRIENDS} friends, \
                     which is all there can be"
                ),
                "`groovebox friend list` shows them, `groovebox friend remove NAME` makes room",
            ));
        }
        contact.devices.truncate(MAX_DEVICES_OF_PERSON);
        let over = self.ended.get(&contact.user).map_or(0, |ended| ended.since);
        let since = now_s.min(MAX_SINCE - 1).max(over.saturating_add(1));
        let signature = key.sign(&bytes(self.me, contact.user, since));
        let request = FriendRequest { contact, since, signature, delivered: false };
        self.sent.insert(request.contact.user, request.clone());
        Ok(request)
    }

    /// Says yes to a request.
    ///
    /// # Errors
    ///
    /// When there is none, or there are too many friends.
    pub fn accept(&mut self, key: &UserKey, user: &UserId) -> Result<Friendship, Refusal> {
        let Some(request) = self.received.get(user).cloned() else {
            return Err(Refusal::new(
                RefusalCode::NotFound,
                "there is no such request",
                "`groovebox friend list` shows who has asked",
            ));
        };
        if self.friends.len() >= MAX_FRIENDS {
            return Err(Refusal::new(
                RefusalCode::UpdateFailed,
                format!("you have {MAX_FRIENDS} friends, which is all one can have"),
                "`groovebox friend remove NAME` makes room",
            ));
        }
        let friendship = self.completed(key, &request);
        self.befriend(request.contact, friendship.clone());
        Ok(friendship)
    }

    /// The whole certificate of a request to this person.
    fn completed(&self, key: &UserKey, request: &FriendRequest) -> Friendship {
        let other = request.contact.user;
        let own = key.sign(&bytes(self.me, other, request.since));
        let signatures =
            if self.me < other { (own, request.signature) } else { (request.signature, own) };
        let people = (self.me.min(other), self.me.max(other));
        Friendship { people, since: request.since, signatures }
    }

    fn befriend(&mut self, contact: Contact, friendship: Friendship) {
        let user = contact.user;
        self.sent.remove(&user);
        self.received.remove(&user);
        self.refused.remove(&user);
        self.friends.insert(user, Friend { contact, friendship });
    }

    /// Says no to a request; its `since`. None is taken of them for a day.
    pub fn reject(&mut self, user: &UserId, now_s: u64) -> Option<u64> {
        let request = self.received.remove(user)?;
        self.end(user, request.since, Vec::new());
        self.refused.retain(|_, until| *until > now_s);
        if self.refused.len() < MAX_ENDED_FRIENDSHIPS {
            self.refused.insert(*user, now_s.min(MAX_SINCE) + REFUSED_FOR_S);
        }
        Some(request.since)
    }

    /// Ends a friendship or takes a request back; up to when nothing holds any more.
    pub fn remove(&mut self, user: &UserId) -> Option<u64> {
        let friend = self.friends.remove(user).map(|f| (f.friendship.since, f.contact.devices));
        let sent = self.sent.remove(user).map(|r| (r.since, r.contact.devices));
        let (since, devices) = [friend, sent].into_iter().flatten().max_by_key(|(s, _)| *s)?;
        self.end(user, since, devices);
        Some(since)
    }

    fn end(&mut self, user: &UserId, since: u64, untold: Vec<NodeId>) {
        let ended = self.ended.entry(*user).or_default();
        if since > ended.since || !untold.is_empty() {
            ended.untold = untold;
        }
        ended.since = ended.since.max(since).min(MAX_SINCE);
        while self.ended.len() > MAX_ENDED_FRIENDSHIPS {
            let oldest = self.ended.iter().min_by_key(|(_, ended)| ended.since);
            let oldest = oldest.map(|(user, _)| *user).expect("more than one");
            self.ended.remove(&oldest);
        }
    }

    /// Who is no friend any more, and up to when nothing holds.
    pub fn ended(&self) -> impl Iterator<Item = (UserId, u64)> {
        let ended = self.ended.iter().filter(|(user, _)| !self.friends.contains_key(user));
        ended.map(|(user, ended)| (*user, ended.since))
    }

    /// The device of somebody is told that something is over: up to when. Their other devices
    /// learn it from that one.
    pub fn take_untold(&mut self, device: NodeId) -> Option<u64> {
        let ended = self.ended.values_mut().find(|ended| ended.untold.contains(&device))?;
        ended.untold.clear();
        Some(ended.since)
    }

    /// A request has arrived, from a device that has proven that it is the asker's.
    /// `may_be_asked` tells whether somebody new is let through.
    pub fn asked(
        &mut self,
        key: &UserKey,
        request: &FriendRequest,
        now_s: u64,
        may_be_asked: impl FnOnce() -> bool,
    ) -> Answer {
        let (user, since) = (request.contact.user, request.since);
        if user == self.me || since == 0 || since >= MAX_SINCE {
            return Answer::Silence;
        }
        if let Some(friend) = self.friends.get(&user) {
            return Answer::Friends(friend.friendship.clone());
        }
        let known = self.received.get(&user).map(|known| known.since);
        if known.is_some_and(|known| known >= since) {
            return Answer::Waits { is_new: false };
        }
        if self.refused.get(&user).is_some_and(|until| *until > now_s) {
            return Answer::Declined;
        }
        let over = self.ended.get(&user).map_or(0, |ended| ended.since);
        if since <= over {
            return Answer::Ended(over);
        }
        let signed = bytes(self.me, user, since);
        if verify(NodeId(user.0), &signed, &request.signature).is_err() {
            return Answer::Silence;
        }
        // Both have asked: both want it.
        if self.sent.contains_key(&user) && self.friends.len() < MAX_FRIENDS {
            let friendship = self.completed(key, request);
            self.befriend(request.contact.clone(), friendship.clone());
            return Answer::Friends(friendship);
        }
        let is_full = known.is_none() && self.received.len() >= MAX_FRIEND_REQUESTS;
        if self.discoverable == Discoverable::Nobody || is_full || !may_be_asked() {
            return Answer::Silence;
        }
        self.received.insert(user, FriendRequest { delivered: true, ..request.clone() });
        Answer::Waits { is_new: true }
    }

    /// A request of this person has arrived. Whether that is news.
    pub fn arrived(&mut self, user: &UserId, since: u64) -> bool {
        let request = self.sent.get_mut(user).filter(|request| request.since == since);
        request.is_some_and(|request| !std::mem::replace(&mut request.delivered, true))
    }

    /// Somebody shows the certificate of a friendship with this person.
    ///
    /// # Errors
    ///
    /// Up to when it is over, if it is.
    pub fn confirmed(&mut self, contact: Contact, friendship: &Friendship) -> Result<bool, u64> {
        let user = contact.user;
        let over = self.ended.get(&user).map_or(0, |ended| ended.since);
        if friendship.since <= over {
            return Err(over);
        }
        let known = self.friends.get(&user).map(|friend| friend.friendship.since);
        let fits = known.is_none_or(|known| known < friendship.since)
            && (known.is_some() || self.friends.len() < MAX_FRIENDS);
        if !fits || !self.is_valid(&user, friendship) {
            return Ok(false);
        }
        self.befriend(contact, friendship.clone());
        Ok(true)
    }

    fn is_valid(&self, user: &UserId, friendship: &Friendship) -> bool {
        (1..MAX_SINCE).contains(&friendship.since)
            && friendship.is_between(self.me, *user)
            && friendship.verify().is_ok()
    }

    /// Somebody has turned a request down. Whether there was one.
    pub fn declined(&mut self, user: &UserId, since: u64) -> bool {
        let is_it = self.sent.get(user).is_some_and(|request| request.since <= since);
        if is_it {
            self.sent.remove(user);
            self.end(user, since, Vec::new());
        }
        is_it
    }

    /// Somebody says that nothing up to then holds any more. Whether something did.
    pub fn over(&mut self, user: &UserId, since: u64) -> bool {
        let since = since.min(MAX_SINCE);
        let friend = self.friends.get(user).is_some_and(|f| f.friendship.since <= since);
        let sent = self.sent.get(user).is_some_and(|request| request.since <= since);
        let received = self.received.get(user).is_some_and(|request| request.since <= since);
        if !(friend || sent || received) {
            return false;
        }
        self.end(user, since, Vec::new());
        self.forget_what_is_over(user);
        true
    }

    fn forget_what_is_over(&mut self, user: &UserId) {
        let over = self.ended.get(user).map_or(0, |ended| ended.since);
        let is_over = |since: u64| since <= over;
        if self.friends.get(user).is_some_and(|friend| is_over(friend.friendship.since)) {
            self.friends.remove(user);
        }
        self.sent.retain(|other, request| other != user || !is_over(request.since));
        self.received.retain(|other, request| other != user || !is_over(request.since));
    }

    /// Takes up what another device of the person, or the disk, has. Whether anything changed.
    pub fn merge(&mut self, kept: &Kept) -> bool {
        let user = kept.user();
        if user == self.me {
            return false;
        }
        let over = self.ended.get(&user).map_or(0, |ended| ended.since);
        match kept {
            Kept::Friend { contact, friendship } => {
                self.confirmed(cut(contact), friendship).unwrap_or(false)
            }
            Kept::Sent(request) => {
                let fits = self.takes(request, over)
                    && self.sent.get(&user).is_none_or(|known| {
                        (known.since, known.delivered) < (request.since, request.delivered)
                    })
                    && self.sent.len() < MAX_FRIEND_REQUESTS;
                if fits && self.is_signed(self.me, request) {
                    self.sent.insert(user, cut_request(request));
                    return true;
                }
                false
            }
            Kept::Received(request) => {
                let fits = self.takes(request, over)
                    && self.received.get(&user).is_none_or(|known| known.since < request.since)
                    && self.received.len() < MAX_FRIEND_REQUESTS;
                if fits && self.is_signed(user, request) {
                    self.received.insert(user, cut_request(request));
                    return true;
                }
                false
            }
            Kept::Ended { since, untold, .. } => {
                let is_news = *since > over && *since <= MAX_SINCE;
                if is_news {
                    let untold = untold.iter().copied().take(MAX_DEVICES_OF_PERSON).collect();
                    self.end(&user, *since, untold);
                    self.forget_what_is_over(&user);
                }
                is_news
            }
            Kept::Refused { until, .. } => {
                let until = (*until).min(MAX_SINCE + REFUSED_FOR_S);
                let is_news = self.refused.get(&user).is_none_or(|known| *known < until)
                    && self.refused.len() < MAX_ENDED_FRIENDSHIPS;
                if is_news {
                    self.refused.insert(user, until);
                }
                is_news
            }
        }
    }

    /// Whether a request of another device is still one.
    fn takes(&self, request: &FriendRequest, over: u64) -> bool {
        request.since > over
            && request.since < MAX_SINCE
            && !self.friends.contains_key(&request.contact.user)
    }

    fn is_signed(&self, author: UserId, request: &FriendRequest) -> bool {
        let signed = bytes(self.me, request.contact.user, request.since);
        verify(NodeId(author.0), &signed, &request.signature).is_ok()
    }

    /// How much it remembers.
    #[must_use]
    pub fn size(&self) -> usize {
        self.friends.len()
            + self.sent.len()
            + self.received.len()
            + self.ended.len()
            + self.refused.len()
            + self.devices.len()
    }
}

/// What two people sign.
fn bytes(one: UserId, other: UserId, since: u64) -> Vec<u8> {
    codec::friendship_bytes(&one.min(other), &one.max(other), since)
}

/// Who has shown a card, as a contact.
#[must_use]
pub fn contact_of(device: NodeId, card: &PersonCard) -> Contact {
    let short = |text: &str| text.chars().take(MAX_NAME).collect::<String>();
    Contact {
        user: card.user,
        name: short(&card.name),
        display: display_of(&card.display),
        devices: vec![device],
    }
}

/// A display name, or none where it is not one to be shown.
fn display_of(text: &str) -> String {
    if is_display_name(text) { text.to_owned() } else { String::new() }
}

/// A request as it arrives with a card.
#[must_use]
pub fn request_of(
    device: NodeId,
    card: &PersonCard,
    since: u64,
    signature: Signature,
) -> FriendRequest {
    FriendRequest { contact: contact_of(device, card), since, signature, delivered: true }
}

fn cut(contact: &Contact) -> Contact {
    let mut contact = contact.clone();
    contact.devices.truncate(MAX_DEVICES_OF_PERSON);
    contact
}

fn cut_request(request: &FriendRequest) -> FriendRequest {
    FriendRequest { contact: cut(&request.contact), ..request.clone() }
}

/// The latest come last and stay.
fn add_device(devices: &mut Vec<NodeId>, device: NodeId) {
    if devices.contains(&device) {
        return;
    }
    if devices.len() >= MAX_DEVICES_OF_PERSON {
        devices.remove(0);
    }
    devices.push(device);
}

fn no_change(message: String) -> Refusal {
    Refusal::new(
        RefusalCode::UpdateFailed,
        message,
        "`groovebox friend list` shows friends and open requests",
    )
}

fn invalid(message: &str, hint: &str) -> Refusal {
    Refusal::new(RefusalCode::InvalidRequest, message, hint)
}

/// How often something happened within the last hour. A bucket would let twice as many through in
/// the first one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hourly(VecDeque<LocalTime>);

impl Hourly {
    /// Takes one.
    ///
    /// # Errors
    ///
    /// How long to wait until there is one again.
    pub fn take(&mut self, now: LocalTime) -> Result<(), Span> {
        while self.0.front().is_some_and(|first| now - *first >= HOUR) {
            self.0.pop_front();
        }
        match self.0.front() {
            Some(first) if self.0.len() >= FRIEND_REQUESTS_PER_HOUR => Err(*first + HOUR - now),
            _ => {
                self.0.push_back(now);
                Ok(())
            }
        }
    }

    /// Whether nothing happened within the last hour.
    #[must_use]
    pub fn is_idle(&self, now: LocalTime) -> bool {
        self.0.back().is_none_or(|last| now - *last >= HOUR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Person {
        key: UserKey,
        book: FriendBook,
    }

    const NOW: u64 = 1_700_000_000;

    fn person() -> Person {
        let key = UserKey::generate(&ring::rand::SystemRandom::new()).expect("random numbers");
        let book = FriendBook::new(key.user_id());
        Person { key, book }
    }

    fn contact(person: &Person) -> Contact {
        let user = person.key.user_id();
        Contact { user, name: "ben".into(), display: String::new(), devices: vec![] }
    }

    /// One asks the other; the request as it arrives there.
    fn ask(one: &mut Person, other: &Person, now_s: u64) -> FriendRequest {
        let sent = one.book.ask(&one.key, contact(other), now_s).expect("a request");
        FriendRequest { contact: contact(one), ..sent }
    }

    fn receive(other: &mut Person, request: &FriendRequest, now_s: u64) -> Answer {
        other.book.asked(&other.key, request, now_s, || true)
    }

    fn befriended() -> (Person, Person, Friendship) {
        let (mut anna, mut ben) = (person(), person());
        let request = ask(&mut anna, &ben, NOW);
        assert_eq!(receive(&mut ben, &request, NOW), Answer::Waits { is_new: true });
        let user = anna.key.user_id();
        let friendship = ben.book.accept(&ben.key, &user).expect("the request is there");
        assert_eq!(anna.book.confirmed(contact(&ben), &friendship), Ok(true));
        (anna, ben, friendship)
    }

    #[test]
    fn both_hold_the_same_certificate_of_a_friendship() {
        let (anna, ben, friendship) = befriended();
        assert_eq!(friendship.verify(), Ok(()));
        assert_eq!(anna.book.friendship(&ben.key.user_id()), Some(&friendship));
        assert_eq!(ben.book.friendship(&anna.key.user_id()), Some(&friendship));
        assert_eq!(anna.book.sent().count() + ben.book.received().count(), 0);
    }

    #[test]
    fn what_has_ended_does_not_come_back_with_its_certificate() {
        let (mut anna, mut ben, friendship) = befriended();
        let (a, b) = (anna.key.user_id(), ben.key.user_id());
        let since = anna.book.remove(&b).expect("they were friends");
        assert_eq!(anna.book.confirmed(contact(&ben), &friendship), Err(since));
        assert!(ben.book.over(&a, since));
        assert!(ben.book.friendship(&a).is_none());
        // A new request is a new friendship, even where the clock has gone back.
        let request = ask(&mut ben, &anna, 5);
        assert!(request.since > since);
        assert_eq!(receive(&mut anna, &request, NOW), Answer::Waits { is_new: true });
    }

    #[test]
    fn a_request_that_was_turned_down_may_come_again_after_a_day() {
        let (mut anna, mut ben) = (person(), person());
        let request = ask(&mut anna, &ben, NOW);
        receive(&mut ben, &request, NOW);
        let since = ben.book.reject(&anna.key.user_id(), NOW).expect("it is there");
        assert!(anna.book.declined(&ben.key.user_id(), since));
        let again = ask(&mut anna, &ben, NOW + 60);
        assert_eq!(receive(&mut ben, &again, NOW + 3600), Answer::Declined);
        let later = NOW + REFUSED_FOR_S + 1;
        assert_eq!(receive(&mut ben, &again, later), Answer::Waits { is_new: true });
        assert!(matches!(receive(&mut ben, &request, later), Answer::Waits { is_new: false }));
    }

    #[test]
    fn two_who_ask_each_other_are_friends() {
        let (mut anna, mut ben) = (person(), person());
        let (one, other) = (ask(&mut anna, &ben, NOW), ask(&mut ben, &anna, NOW + 1));
        let Answer::Friends(here) = receive(&mut anna, &other, NOW) else { panic!("friends") };
        let Answer::Friends(there) = receive(&mut ben, &one, NOW) else { panic!("friends") };
        // Each told the other; the later certificate is the one that stays.
        assert_eq!(anna.book.confirmed(contact(&ben), &there), Ok(false));
        assert_eq!(ben.book.confirmed(contact(&anna), &here), Ok(true));
        let (a, b) = (anna.key.user_id(), ben.key.user_id());
        assert_eq!(anna.book.friendship(&b), ben.book.friendship(&a));
    }

    #[test]
    fn a_request_that_its_asker_did_not_sign_is_not_heard() {
        let (mut anna, mut ben, mut eve) = (person(), person(), person());
        let request = ask(&mut eve, &ben, NOW);
        let forged = FriendRequest { contact: contact(&anna), ..request };
        assert_eq!(receive(&mut ben, &forged, NOW), Answer::Silence);
        ben.book.set_discoverable(Discoverable::Nobody);
        let honest = ask(&mut anna, &ben, NOW);
        assert_eq!(receive(&mut ben, &honest, NOW), Answer::Silence);
    }

    #[test]
    fn devices_of_one_person_come_to_the_same_book_in_any_order() {
        let (mut anna, mut ben, friendship) = befriended();
        let mut carla = person();
        let request = ask(&mut anna, &carla, NOW);
        receive(&mut carla, &request, NOW);
        // Her tablet knew Ben as a friend; on the phone she has ended that since.
        let mut tablet = anna.book.clone();
        anna.book.remove(&ben.key.user_id()).expect("a friend");
        let from_phone = anna.book.kept();
        for kept in tablet.kept() {
            anna.book.merge(&kept);
        }
        for kept in from_phone {
            tablet.merge(&kept);
        }
        assert_eq!(tablet, anna.book);
        assert!(tablet.friendship(&ben.key.user_id()).is_none());
        assert_eq!(tablet.sent().count(), 1);
        // What the disk has is the same again.
        let again = FriendBook::restored(anna.key.user_id(), Some(&anna.book.saved()));
        assert_eq!(again, anna.book);
        let other = FriendBook::restored(ben.key.user_id(), Some(&anna.book.saved()));
        assert_eq!(other.size(), 0, "another person's book is not theirs");
        assert!(ben.book.over(&anna.key.user_id(), friendship.since));
    }

    #[test]
    fn ten_requests_an_hour_and_not_one_more() {
        let mut hour = Hourly::default();
        let mut now = LocalTime(0);
        for _ in 0..10 {
            assert_eq!(hour.take(now), Ok(()));
            now += Span::from_secs(60);
        }
        assert_eq!(hour.take(now), Err(Span::from_secs(3000)));
        now += Span::from_secs(3000);
        assert_eq!(hour.take(now), Ok(()));
        assert!(hour.take(now).is_err());
        assert!(!hour.is_idle(now) && hour.is_idle(now + HOUR));
    }
}
