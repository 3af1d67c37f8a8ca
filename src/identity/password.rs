//! From a password to a secret of 32 bytes that is slow to guess: argon2id (RFC 9106).
//!
//! A password is stretched once on the device where it is typed; what is compared later, and what
//! members keep, is the result. It takes tens of milliseconds on a desktop and about half a second
//! on a small board, so it does not belong on the event loop.

use argon2::{Algorithm, Argon2, Params, Version};

use super::IdentityError;
use crate::base::RoomId;
use crate::base::limits::MAX_PASSWORD;

/// Memory in KiB, passes and lanes: the first choice of OWASP's password storage cheat sheet for
/// argon2id, and what a board with 512 MB can spare.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A password as somebody typed it. It is never shown, not even in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Password {
    /// A password of 1 to [`MAX_PASSWORD`] bytes; none if it has more or fewer.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Option<Password> {
        let text = text.into();
        (1..=MAX_PASSWORD).contains(&text.len()).then_some(Password(text))
    }

    /// Its secret for one room. The room is the salt, so that one guess serves one room only.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn stretch(&self, room: &RoomId) -> Result<[u8; 32], IdentityError> {
        let failed = |error: argon2::Error| IdentityError::Stretching(error.to_string());
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).map_err(failed)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut secret = [0; 32];
        argon2.hash_password_into(self.0.as_bytes(), &room.0, &mut secret).map_err(failed)?;
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_opens_one_room_only() {
        let stretched = |text: &str, room| {
            let password = Password::new(text).expect("short");
            password.stretch(&RoomId([room; 32])).expect("memory for it")
        };
        let secret = stretched("sesame", 1);
        assert_eq!(secret, stretched("sesame", 1));
        assert_ne!(secret, stretched("sesame", 2));
        assert_ne!(secret, stretched("Sesame", 1));
    }

    #[test]
    fn what_is_no_password_is_refused_and_none_is_ever_shown() {
        assert_eq!(Password::new(""), None);
        assert_eq!(Password::new("x".repeat(MAX_PASSWORD + 1)), None);
        let shown = format!("{:?}", Password::new("sesame"));
        assert!(!shown.contains("sesame"), "{shown}");
    }
}
