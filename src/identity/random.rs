//! Secret random numbers inside the pure machine: drawn from a seed that the driver has taken
//! from the system, so that a run can be repeated and yet nobody else can guess them.

use rand_core::{CryptoRng, RngCore};

/// A generator whose numbers are as good a secret as its seed. Each draw replaces the key, so
/// that whoever sees the memory later cannot tell what was drawn before.
pub struct SecretRng {
    key: [u8; 32],
}

impl std::fmt::Debug for SecretRng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretRng(..)")
    }
}

impl SecretRng {
    /// The seed must come from the system's generator, and be used once.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> SecretRng {
        SecretRng { key: blake3::derive_key("groovebox 2026 secret numbers of a start 1", &seed) }
    }

    /// So many random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_bytes(&mut bytes);
        bytes
    }
}

impl RngCore for SecretRng {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        let mut stream = blake3::Hasher::new_keyed(&self.key).finalize_xof();
        stream.fill(&mut self.key);
        stream.fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for SecretRng {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_alike_and_a_seed_repeats_them() {
        let draw = |seed| {
            let mut random = SecretRng::new([seed; 32]);
            (0..100).map(|_| random.bytes::<16>()).collect::<Vec<_>>()
        };
        let drawn = draw(1);
        assert_eq!(drawn, draw(1));
        assert_ne!(drawn, draw(2));
        let different = drawn.iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(different.len(), 100);
    }
}
