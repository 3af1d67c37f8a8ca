//! Who a device is: an Ed25519 key. No I/O: the bytes of a key come from and go to the caller.

use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::base::{NodeId, OpId, RoomId, RoomTime};
use crate::wire::codec::{self, WireError};
use crate::wire::{Genesis, Op, OpBody};

/// Key material that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The random generator gave nothing.
    #[error("the system's random generator failed")]
    NoRandomness,
    /// Bytes that are no Ed25519 key in PKCS#8.
    #[error("not an Ed25519 key: {0}")]
    BadKey(String),
    /// A signature that its author did not make.
    #[error("bad signature of {author}")]
    BadSignature {
        /// The claimed author, shortened.
        author: String,
    },
}

/// A device's key pair.
pub struct NodeKey {
    pkcs8: Vec<u8>,
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeKey({})", self.node_id().short())
    }
}

impl NodeKey {
    /// A new key from `random`.
    ///
    /// # Errors
    ///
    /// When `random` fails.
    pub fn generate(random: &dyn SecureRandom) -> Result<NodeKey, IdentityError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(random).map_err(|_| IdentityError::NoRandomness)?;
        NodeKey::from_pkcs8(document.as_ref())
    }

    /// A key from its PKCS#8 document.
    ///
    /// # Errors
    ///
    /// When the bytes are no such document.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<NodeKey, IdentityError> {
        let pair =
            Ed25519KeyPair::from_pkcs8(bytes).map_err(|e| IdentityError::BadKey(e.to_string()))?;
        Ok(NodeKey { pkcs8: bytes.to_vec(), pair })
    }

    /// The PKCS#8 document, for the disk and for TLS. A secret.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The device's identity: the public key.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        let bytes = self.pair.public_key().as_ref();
        NodeId(bytes.try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    /// Makes and signs an operation.
    ///
    /// # Errors
    ///
    /// When the body is longer than a body may be.
    pub fn sign_op(
        &self,
        room: RoomId,
        id: OpId,
        created: RoomTime,
        body: &OpBody,
    ) -> Result<Op, WireError> {
        let kind = body.kind();
        let body = codec::encode_body(body)?;
        let signature = self.sign(&codec::signed_bytes(&room, &id, created, kind, &body));
        Ok(Op { room, id, created, kind, body, signature })
    }

    /// Signs a genesis in place.
    pub fn sign_genesis(&self, genesis: &mut Genesis) {
        genesis.founder = self.node_id();
        genesis.signature = self.sign(&codec::genesis_bytes(genesis));
    }

    fn sign(&self, bytes: &[u8]) -> ([u8; 32], [u8; 32]) {
        let signature = self.pair.sign(bytes);
        let (first, second) = signature.as_ref().split_at(32);
        let half = |bytes: &[u8]| bytes.try_into().expect("an Ed25519 signature has 64 bytes");
        (half(first), half(second))
    }
}

/// Whether an operation was signed by its author.
///
/// # Errors
///
/// When it was not.
pub fn verify_op(op: &Op) -> Result<(), IdentityError> {
    let bytes = codec::signed_bytes(&op.room, &op.id, op.created, op.kind, &op.body);
    verify(op.id.author, &bytes, op.signature)
}

/// Whether a genesis was signed by its founder.
///
/// # Errors
///
/// When it was not.
pub fn verify_genesis(genesis: &Genesis) -> Result<(), IdentityError> {
    verify(genesis.founder, &codec::genesis_bytes(genesis), genesis.signature)
}

fn verify(
    author: NodeId,
    bytes: &[u8],
    signature: ([u8; 32], [u8; 32]),
) -> Result<(), IdentityError> {
    UnparsedPublicKey::new(&ED25519, author.0)
        .verify(bytes, &[signature.0, signature.1].concat())
        .map_err(|_| IdentityError::BadSignature { author: author.short() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> NodeKey {
        NodeKey::generate(&ring::rand::SystemRandom::new()).expect("random numbers")
    }

    #[test]
    fn a_changed_operation_is_noticed() {
        let key = key();
        let id = OpId { author: key.node_id(), boot: 1, seq: 1 };
        let op = key.sign_op(RoomId([1; 32]), id, RoomTime(5), &OpBody::Pause).expect("short");
        assert_eq!(verify_op(&op), Ok(()));
        let elsewhere = Op { room: RoomId([2; 32]), ..op.clone() };
        let later = Op { created: RoomTime(6), ..op.clone() };
        let forged = Op { id: OpId { author: self::key().node_id(), ..id }, ..op };
        for changed in [elsewhere, later, forged] {
            assert!(verify_op(&changed).is_err());
        }
    }

    #[test]
    fn a_key_survives_its_document() {
        let key = key();
        let again = NodeKey::from_pkcs8(key.pkcs8()).expect("its own document");
        assert_eq!(again.node_id(), key.node_id());
    }
}
