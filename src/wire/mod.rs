//! What nodes say to each other, as types. [`codec`] is the only file that knows how they
//! become bytes.
//!
//! | way | types | carried by |
//! |---|---|---|
//! | control stream | [`Message`] | one bidirectional QUIC stream per pair of nodes, framed |
//! | datagrams | [`Datagram`] | QUIC datagrams of the same connection |
//! | log | [`Op`] inside [`Entry`] | inside messages, signed by their author |
//! | bulk | [`BulkRequest`], [`BulkReply`] | a stream per piece of a second QUIC connection |
//! | discovery | [`Announcement`] | mDNS TXT |

pub mod announce;
pub mod bulk;
pub mod codec;
pub mod datagram;
pub mod message;
pub mod op;
pub mod person;
pub mod track;

pub use announce::Announcement;
pub use bulk::{BULK_ALPN, BulkReply, BulkRequest};
pub use codec::WireError;
pub use datagram::{
    ClockSource, Datagram, Heartbeat, HeartbeatAck, PreVote, PreVoteReply, Probe, ProbeReply,
    RoomLine,
};
pub use message::{Hello, Message, Report, RoomCard};
pub use op::{Entry, Genesis, Guard, MemberKind, Op, OpBody, Refusal, RefusalCode};
pub use person::{FriendMessage, PairMessage};
pub use track::{Codec, Track};

/// The version of everything here; part of the ALPN, so that versions that cannot talk to
/// each other never get as far as a message.
pub const ALPN: &[u8] = b"groovebox/7";
