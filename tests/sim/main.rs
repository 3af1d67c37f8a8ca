//! Deterministic simulation: the very machines that the daemon links, in a world of seeded
//! chance. A failing run prints its seed; `GROOVEBOX_SIM_SEED=<seed>` runs that one alone and
//! tells its story, `GROOVEBOX_SIM_SEEDS=<count>` runs more of them.

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
