//! What the devices of people say to each other about their people: who they are, that they want
//! to be friends, and how a person comes onto a second device.
//!
//! Not part of a room's log: two people are friends whatever room they are in.

use serde::{Deserialize, Serialize};

use super::op::{Friendship, PersonCard};
use crate::base::{NodeId, OpId, UserId};
use crate::identity::Signature;

/// Between people. On the wire its number in this list comes first, so that the list only ever
/// grows at its end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FriendMessage {
    /// Whose device the sender is. Only to who may know: members of its room, devices of friends,
    /// devices to which a request is open, and the person's own.
    Person(PersonCard),
    /// Whoever is called like that, and may be found: say so.
    Find {
        /// Comes back with the answers.
        nonce: u64,
        /// What they are called, or how that begins.
        name: String,
    },
    /// The sender's person is called like that.
    Found {
        /// As asked.
        nonce: u64,
        /// Them.
        card: PersonCard,
    },
    /// The sender's person wants to be friends with another.
    Ask {
        /// With whom.
        to: UserId,
        /// Who asks.
        card: PersonCard,
        /// Since when they would be friends, Unix seconds by the clock of whoever asks. It tells
        /// this request from other ones between the two.
        since: u64,
        /// The asker's half of the [`Friendship`].
        signature: Signature,
    },
    /// The request has arrived and waits for its person.
    Asked {
        /// Which.
        since: u64,
    },
    /// The two are friends; to each device of a friend that comes.
    Friends(Friendship),
    /// The sender's person does not want to.
    Declined {
        /// Which request.
        since: u64,
    },
    /// Nothing between the two that has begun up to then holds any more: the request was
    /// withdrawn, or the friendship has ended.
    Ended {
        /// Up to when.
        since: u64,
    },
    /// What another device of the same person has, in parts.
    Kept(Vec<Kept>),
    /// Why a join was refused: the room is for friends of its owner. Whoever is one recognises the
    /// owner in it, and nobody else does.
    Owner {
        /// The join.
        join: OpId,
        /// See [`owner_mark`](super::codec::owner_mark).
        mark: [u8; 16],
    },
}

impl FriendMessage {
    /// How many kinds this version knows.
    pub const KINDS: u32 = 10;
}

/// A person as another one knows them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Contact {
    /// Who.
    pub user: UserId,
    /// What they are called, as they last said.
    pub name: String,
    /// As they want to be called; empty is the name.
    pub display: String,
    /// Their devices that are known.
    pub devices: Vec<NodeId>,
}

/// A request from one person to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FriendRequest {
    /// The other one.
    pub contact: Contact,
    /// See [`FriendMessage::Ask`].
    pub since: u64,
    /// The asker's half of the friendship.
    pub signature: Signature,
    /// It has reached a device of whom it is meant for.
    pub delivered: bool,
}

/// One thing that a person's devices keep about other people, also on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kept {
    /// A friend.
    Friend {
        /// Who.
        contact: Contact,
        /// The proof.
        friendship: Friendship,
    },
    /// A request of this person.
    Sent(FriendRequest),
    /// A request to this person.
    Received(FriendRequest),
    /// Nothing that has begun up to then holds any more.
    Ended {
        /// With whom.
        user: UserId,
        /// Up to when.
        since: u64,
        /// Devices of theirs that are yet to be told.
        untold: Vec<NodeId>,
    },
    /// A request was turned down, and none is taken for a while.
    Refused {
        /// Whose.
        user: UserId,
        /// Until when, Unix seconds.
        until: u64,
    },
}

impl Kept {
    /// With whom.
    #[must_use]
    pub fn user(&self) -> UserId {
        match self {
            Kept::Friend { contact, .. } => contact.user,
            Kept::Sent(request) | Kept::Received(request) => request.contact.user,
            Kept::Ended { user, .. } | Kept::Refused { user, .. } => *user,
        }
    }
}

/// A second device of a person, paired by comparing six digits: a short authentication string with
/// a commitment, so that whoever stands between the two has one guess in a million and cannot
/// search for a better one.
///
/// ```text
///  new device ── Offer { H(a) } ──► device of the person
///             ◄── Nonce { b } ────
///             ── Reveal { a } ────►        both show the six digits; both people compare
///             ── Agreed ──────────►
///             ◄── Key ────────────         once its own person has agreed, too
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PairMessage {
    /// The sender wants to be a device of the receiver's person.
    Offer {
        /// BLAKE3 of the number that it will reveal.
        commitment: [u8; 32],
    },
    /// The receiver's number, once the other is bound to its own.
    Nonce {
        /// It.
        nonce: [u8; 32],
    },
    /// The number that was committed to.
    Reveal {
        /// It.
        nonce: [u8; 32],
    },
    /// The person at the new device has seen that the digits are the same.
    Agreed,
    /// The person's key: only after both have agreed.
    Key {
        /// Its document. A secret.
        key: Secret,
        /// What the person is called.
        name: String,
        /// As they want to be called.
        display: String,
    },
    /// Nothing comes of it.
    Cancelled,
}

impl PairMessage {
    /// How many kinds this version knows.
    pub const KINDS: u32 = 6;
}

/// Bytes that never stand in a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}
