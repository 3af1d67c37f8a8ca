//! Deterministic simulations of the machines that the daemon links. One binary; every module
//! is a world of its own. Each prints its seed when it fails.

mod clock;
mod crystal;
mod draw;
mod path;
mod vectors;
