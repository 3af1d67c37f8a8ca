//! What is done with bytes from outside, as plain functions: one per kind of outside. The
//! fuzz package hands them whatever it comes up with, `tests/wire.rs` what was once worth
//! keeping; so there is one implementation.
//!
//! A function panics when something is wrong and returns otherwise. None reads a clock or
//! ambient randomness, so that an input fails again where it failed once.

mod api;
mod bytes;
mod media;
mod node;
mod people;
mod room;
mod wire;

/// One target.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 8] = [
    ("control", wire::control),
    ("datagram", wire::datagram),
    ("bulk", wire::bulk),
    ("announce", wire::announce),
    ("room", room::room),
    ("api", api::api),
    ("media", media::media),
    ("node", node::node),
];

/// Inputs to begin with, made from what is valid: target, name, bytes.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut of = |target, list: Vec<Vec<u8>>| {
        seeds.extend(list.into_iter().enumerate().map(|(i, b)| (target, format!("seed-{i}"), b)));
    };
    of("control", wire::control_seeds());
    of("datagram", wire::datagram_seeds());
    of("bulk", wire::bulk_seeds());
    of("announce", wire::announce_seeds());
    of("room", room::seeds());
    of("api", api::seeds());
    of("media", media::seeds());
    of("node", node::seeds());
    seeds
}

/// Hands `input` to one of them.
pub fn run(name: &str, input: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target's name");
    target(input);
}
