//! Deterministic simulation: the very machines that the daemon links, in a world of seeded
//! chance. A failing run prints its seed; `GROOVEBOX_SIM_SEED=<seed>` runs that one alone and
//! tells its story, `GROOVEBOX_SIM_SEEDS=<count>` runs more of them.
//!
//! Long ranges of whole houses are run in a profile of their own, which is as fast as a release
//! and keeps every assertion, from any first seed on:
//!
//! ```text
//! GROOVEBOX_SIM_FROM=100000 GROOVEBOX_SIM_SEEDS=20000 \
//!     cargo test --profile sim --test sim -- --nocapture house::tests::whatever
//! GROOVEBOX_SIM_FROM=200000 GROOVEBOX_SIM_SEEDS=3000 GROOVEBOX_SIM_CLOCKS=exact \
//!     cargo test --profile sim --test sim -- --nocapture house::tests::whatever
//! ```

mod clock;
mod crystal;
mod draw;
mod election;
mod house;
mod membership;
mod path;
mod reigns;
mod sync;
mod vectors;
mod world;
