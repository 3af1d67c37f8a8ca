//! Showing each other that both know a secret, without telling it: SPAKE2 (Abdalla and
//! Pointcheval 2005, after RFC 9382) on the Ed25519 group, and a confirmation both ways.
//!
//! ```text
//!  who asks                                   who is inside
//!    ── share ──────────────────────────────►
//!    ◄───────────────────────────── share ──
//!    ── confirmation ───────────────────────►   knows it, or the run is over
//!    ◄────────────────────── confirmation ──    so does the other side
//! ```
//!
//! Who does not know the secret learns nothing from a run but whether the one guess with which it
//! was made is right: nothing that crosses the wire can be tried at home. Bound into it are both
//! nodes, the room, what the secret is, and the connection itself (TLS exporter, RFC 5705): a run
//! that somebody hands on from one connection to another fails. Who asks confirms first, so that
//! a guess always costs a run that the other side counts.

use spake2::{Ed25519Group, Identity, Password, Spake2};

use super::random::SecretRng;
use crate::base::{NodeId, RoomId};

/// What both sides must agree on beside the secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// Who asks.
    pub asker: NodeId,
    /// Who is inside.
    pub insider: NodeId,
    /// The room.
    pub room: RoomId,
    /// Tells one kind of secret from another.
    pub purpose: Purpose,
    /// Exported keying material of the connection that carries the run.
    pub connection: [u8; 32],
}

/// What the secret is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The room's stretched password.
    Password,
    /// The code of the invite of this number.
    Invite(u32),
}

/// Which side one is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Who asks.
    Asker,
    /// Who is inside.
    Insider,
}

/// One run, begun.
pub struct Run {
    state: Spake2<Ed25519Group>,
    side: Side,
    bound: Bound,
    share: [u8; 32],
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("side", &self.side)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

/// What both sides show each other at the end.
#[derive(Clone, PartialEq, Eq)]
pub struct Confirmation {
    ours: blake3::Hash,
    theirs: blake3::Hash,
}

impl std::fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Confirmation(..)")
    }
}

impl Run {
    /// Begins a run: what it remembers, and the share for the other side.
    #[must_use]
    pub fn begin(side: Side, secret: &[u8], bound: Bound, random: &mut SecretRng) -> Run {
        let password = Password::new(secret);
        let asker = Identity::new(&identity(b"asker", &bound.asker, &bound.room));
        let insider = Identity::new(&identity(b"insider", &bound.insider, &bound.room));
        let (state, message) = match side {
            Side::Asker => Spake2::start_a_with_rng(&password, &asker, &insider, random),
            Side::Insider => Spake2::start_b_with_rng(&password, &asker, &insider, random),
        };
        // In front stands which side it is; here every message says that by its kind.
        let share = message[1..].try_into().expect("a compressed point has 32 bytes");
        Run { state, side, bound, share }
    }

    /// What the other side is sent.
    #[must_use]
    pub fn share(&self) -> [u8; 32] {
        self.share
    }

    /// Ends a run with the other side's share; none if that is no point of the curve.
    #[must_use]
    pub fn finish(self, theirs: &[u8; 32]) -> Option<Confirmation> {
        let (letter, asker, insider) = match self.side {
            Side::Asker => (b'B', &self.share, theirs),
            Side::Insider => (b'A', theirs, &self.share),
        };
        let mut message = [letter; 33];
        message[1..].copy_from_slice(theirs);
        let transcript = transcript(&self.bound, asker, insider);
        let key = self.state.finish(&message).ok()?;
        let confirm = |context: &'static str| {
            blake3::keyed_hash(&blake3::derive_key(context, &key), &transcript)
        };
        let of_asker = confirm("groovebox 2026 pake confirmation of the asker 1");
        let of_insider = confirm("groovebox 2026 pake confirmation of the insider 1");
        Some(match self.side {
            Side::Asker => Confirmation { ours: of_asker, theirs: of_insider },
            Side::Insider => Confirmation { ours: of_insider, theirs: of_asker },
        })
    }
}

impl Confirmation {
    /// Shows the other side that this one knows the secret.
    #[must_use]
    pub fn ours(&self) -> [u8; 32] {
        *self.ours.as_bytes()
    }

    /// Whether the other side has shown that it knows the secret. Takes equally long whatever
    /// differs.
    #[must_use]
    pub fn is_theirs(&self, shown: &[u8; 32]) -> bool {
        self.theirs == *shown
    }
}

fn identity(side: &[u8], node: &NodeId, room: &RoomId) -> Vec<u8> {
    [b"groovebox pake 1 ", side, &node.0[..], &room.0[..]].concat()
}

/// Every part has a fixed length, so no two transcripts are the same bytes.
fn transcript(bound: &Bound, asker: &[u8; 32], insider: &[u8; 32]) -> Vec<u8> {
    let purpose = match bound.purpose {
        Purpose::Password => [0; 5],
        Purpose::Invite(number) => {
            let [a, b, c, d] = number.to_le_bytes();
            [1, a, b, c, d]
        }
    };
    let parts = [&bound.asker.0, &bound.insider.0, &bound.room.0, &bound.connection];
    let parts = parts.into_iter().chain([asker, insider]).flatten().copied();
    parts.chain(purpose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound {
        asker: NodeId([1; 32]),
        insider: NodeId([2; 32]),
        room: RoomId([3; 32]),
        purpose: Purpose::Password,
        connection: [4; 32],
    };

    fn run(side: Side, secret: &[u8], bound: Bound, seed: u8) -> Run {
        Run::begin(side, secret, bound, &mut SecretRng::new([seed; 32]))
    }

    /// Whether both sides believe each other.
    fn meet(asker: (&[u8], Bound), insider: (&[u8], Bound)) -> (bool, bool) {
        let asker = run(Side::Asker, asker.0, asker.1, 1);
        let insider = run(Side::Insider, insider.0, insider.1, 2);
        let (one, other) = (asker.share(), insider.share());
        let asker = asker.finish(&other).expect("a point");
        let insider = insider.finish(&one).expect("a point");
        (insider.is_theirs(&asker.ours()), asker.is_theirs(&insider.ours()))
    }

    #[test]
    fn the_same_secret_convinces_both_and_another_neither() {
        assert_eq!(meet((b"sesame", BOUND), (b"sesame", BOUND)), (true, true));
        assert_eq!(meet((b"Sesame", BOUND), (b"sesame", BOUND)), (false, false));
    }

    #[test]
    fn whatever_is_bound_must_be_the_same() {
        let other = NodeId([9; 32]);
        for bound in [
            Bound { asker: other, ..BOUND },
            Bound { insider: other, ..BOUND },
            Bound { room: RoomId([9; 32]), ..BOUND },
            Bound { purpose: Purpose::Invite(0), ..BOUND },
            Bound { connection: [9; 32], ..BOUND },
        ] {
            assert_eq!(meet((b"sesame", bound), (b"sesame", BOUND)), (false, false), "{bound:?}");
        }
    }

    #[test]
    fn a_share_or_a_confirmation_sent_back_convinces_nobody() {
        let insider = run(Side::Insider, b"sesame", BOUND, 2);
        let own = insider.share();
        let confirmation = insider.finish(&own).expect("a point");
        assert!(!confirmation.is_theirs(&confirmation.ours()));
    }

    #[test]
    fn what_was_recorded_is_worth_nothing_in_another_run() {
        let asker = run(Side::Asker, b"sesame", BOUND, 1);
        let share = asker.share();
        let first = run(Side::Insider, b"sesame", BOUND, 2);
        let recorded = asker.finish(&first.share()).expect("a point").ours();
        assert!(first.finish(&share).expect("a point").is_theirs(&recorded));
        let second = run(Side::Insider, b"sesame", BOUND, 3);
        assert!(!second.finish(&share).expect("a point").is_theirs(&recorded));
    }

    #[test]
    fn bytes_that_are_no_point_end_the_run() {
        let no_point = (0..=u8::MAX).map(|byte| [byte; 32]);
        let refused =
            no_point.filter(|bytes| run(Side::Asker, b"sesame", BOUND, 1).finish(bytes).is_none());
        assert!(refused.count() > 50, "about half of all encodings");
    }
}
