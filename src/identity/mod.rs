//! Who a device is: an Ed25519 key. No I/O: the bytes of a key come from and go to the caller.
//!
//! | file | what |
//! |---|---|
//! | this one | keys of devices and people, signatures |
//! | `password` | from a password to a secret that is slow to guess |
//! | `pake` | showing each other that both know a secret |
//! | `random` | secret numbers, from a seed that is passed in |

pub mod pake;
mod password;
mod random;

pub use password::Password;
pub use random::SecretRng;

use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::base::{NodeId, UserId};

/// An Ed25519 signature, in two halves because serde knows arrays up to 32.
pub type Signature = ([u8; 32], [u8; 32]);

/// Key material that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The random generator gave nothing.
    #[error("the system's random generator failed")]
    NoRandomness,
    /// Bytes that are no Ed25519 key in PKCS#8.
    #[error("not an Ed25519 key: {0}")]
    BadKey(String),
    /// A password could not be stretched.
    #[error("the password could not be stretched: {0}")]
    Stretching(String),
    /// A signature that its author did not make.
    #[error("bad signature of {author}")]
    BadSignature {
        /// The claimed author, shortened.
        author: String,
    },
}

/// A person's key pair. It may be on several devices, all of them that person's.
#[derive(Debug)]
pub struct UserKey(NodeKey);

impl UserKey {
    /// A new key from `random`.
    ///
    /// # Errors
    ///
    /// When `random` fails.
    pub fn generate(random: &dyn SecureRandom) -> Result<UserKey, IdentityError> {
        NodeKey::generate(random).map(UserKey)
    }

    /// A key from its PKCS#8 document.
    ///
    /// # Errors
    ///
    /// When the bytes are no such document.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<UserKey, IdentityError> {
        NodeKey::from_pkcs8(bytes).map(UserKey)
    }

    /// The PKCS#8 document, for the disk and for another device of the person. A secret.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        self.0.pkcs8()
    }

    /// The person's identity: the public key.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        UserId(self.0.node_id().0)
    }

    /// A signature over `bytes`, which must begin with a name for this use of the key.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        self.0.sign(bytes)
    }
}

/// The person whose device this is.
#[derive(Clone, Debug)]
pub struct LocalUser {
    /// Their key.
    pub key: std::sync::Arc<UserKey>,
    /// What they are called, as they ask for it.
    pub name: String,
    /// As they want to be called.
    pub display: String,
}

impl PartialEq for LocalUser {
    fn eq(&self, other: &LocalUser) -> bool {
        (self.key.user_id(), &self.name, &self.display)
            == (other.key.user_id(), &other.name, &other.display)
    }
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

    /// A signature over `bytes`, which must begin with a name for this use of the key.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        let signature = self.pair.sign(bytes);
        let (first, second) = signature.as_ref().split_at(32);
        let half = |bytes: &[u8]| bytes.try_into().expect("an Ed25519 signature has 64 bytes");
        (half(first), half(second))
    }
}

/// Whether `author` made `signature` over `bytes`.
///
/// # Errors
///
/// When it did not.
pub fn verify(author: NodeId, bytes: &[u8], signature: &Signature) -> Result<(), IdentityError> {
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
    fn only_the_signed_bytes_and_their_author_verify() {
        let key = key();
        let signature = key.sign(b"bytes");
        assert_eq!(verify(key.node_id(), b"bytes", &signature), Ok(()));
        assert!(verify(key.node_id(), b"other", &signature).is_err());
        assert!(verify(self::key().node_id(), b"bytes", &signature).is_err());
    }

    #[test]
    fn a_key_survives_its_document() {
        let key = key();
        let again = NodeKey::from_pkcs8(key.pkcs8()).expect("its own document");
        assert_eq!(again.node_id(), key.node_id());
    }
}
