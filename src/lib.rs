//! GrooveBox: the devices on one network as one loudspeaker, and the people around it as a
//! room that governs the music. `docs/architecture.md` draws the whole; the folders below are
//! listed in reading order, each using only those before it.

pub mod base;
pub mod identity;
pub mod wire;

pub mod engine;

pub mod config;

pub mod api;
pub mod audio;
pub mod media;
pub mod net;
pub mod store;

pub mod cli;
pub mod daemon;
