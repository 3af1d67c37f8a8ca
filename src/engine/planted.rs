//! Faults that can be planted on purpose, to show that the simulator would notice them.
//!
//! A test that never fails proves little. Each rule that keeps the room's history safe has a
//! fault here that leaves the rule out; a test plants it and demands that the simulator
//! objects within a bounded number of seeds.
//!
//! Nothing is planted unless a test says so, and only for the thread that says it. A release
//! build cannot plant anything: there `is` is constant and the faulty code falls away.

/// A fault that a test may plant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// What was ordered on the branch that gave way is not offered again.
    ForgottenOrphans,
    /// A restarted node uses the `boot` of its previous start again.
    ForgottenBoot,
    /// An entry changes the state without being checked against it first.
    UnvalidatedApply,
    /// An operation is acknowledged before anybody has written it.
    AcknowledgeBeforeWrite,
    /// After two halves have met, the one that goes on keeps its old term.
    NoReterm,
    /// What a member once had written counts for ever, even when it came back with less.
    StaleMatch,
    /// How much faster another clock runs is taken with the wrong sign while room time is
    /// carried on without its answers.
    ClockBiasSign,
    /// A heartbeat vouches for its sender at the instant of its arrival, not at that of its
    /// sending.
    ArrivalTimeFreshness,
    /// A removed DJ's cool-down is not part of the state.
    UnwrittenCooldown,
    /// How many votes a vote needs is counted from who is here when it is counted.
    ElectorateAtClose,
    /// A second vote of a person counts as well.
    VoteCountedTwice,
}

#[cfg(debug_assertions)]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a fault for everything that runs on this thread from now on, or removes it.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// What is planted for this thread.
    #[must_use]
    pub fn planted() -> Option<Bug> {
        PLANTED.get()
    }

    /// Whether this fault is planted.
    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(debug_assertions)]
pub(crate) use switch::is;
#[cfg(debug_assertions)]
pub use switch::{plant, planted};

/// Whether this fault is planted: never.
#[cfg(not(debug_assertions))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
