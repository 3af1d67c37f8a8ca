//! Devices' keys: a fixed pool, so that one seed is one story and nothing is drawn from the
//! system. Making a key is as dear as a signature, so each is made once a thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use groovebox::identity::{LocalUser, NodeKey, UserKey};
use ring::signature::{Ed25519KeyPair, KeyPair};

thread_local! {
    static POOL: RefCell<BTreeMap<u32, Arc<NodeKey>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The key of this number, always the same one.
pub fn key(number: u32) -> Arc<NodeKey> {
    POOL.with_borrow_mut(|pool| {
        let made = || Arc::new(NodeKey::from_pkcs8(&document(number)).expect("a sound document"));
        pool.entry(number).or_insert_with(made).clone()
    })
}

/// A person: always the same one for this number.
pub fn user(number: u32) -> LocalUser {
    thread_local! {
        static PEOPLE: RefCell<BTreeMap<u32, Arc<UserKey>>> = const { RefCell::new(BTreeMap::new()) };
    }
    let key = PEOPLE.with_borrow_mut(|people| {
        let document = || document(number + 1_000_000);
        let made = || Arc::new(UserKey::from_pkcs8(&document()).expect("a sound document"));
        people.entry(number).or_insert_with(made).clone()
    });
    LocalUser { key, name: format!("p{number}"), display: String::new() }
}

/// PKCS#8 version 2 (RFC 5958, RFC 8410): the seed, and the public key that belongs to it.
fn document(number: u32) -> Vec<u8> {
    let mut seed = [0x47; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes");
    let mut der = vec![0x30, 0x51, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend(seed);
    der.extend([0x81, 0x21, 0]);
    der.extend(pair.public_key().as_ref());
    der
}

#[test]
fn the_pool_has_a_key_for_every_number() {
    let ids: std::collections::BTreeSet<_> = (0..40).map(|n| key(n).node_id()).collect();
    assert_eq!(ids.len(), 40);
}
