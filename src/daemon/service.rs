//! What the service manager is told: that the daemon is ready, that it is alive, that it stops.
//! Where nobody asked (`NOTIFY_SOCKET`, see `sd_notify(3)`) nothing is said.

use crate::base::{LocalTime, Span};

/// Everything is up: the socket answers, other devices can connect.
pub fn ready(name: &str) {
    let status = format!("{name} is up");
    imp::tell(&[imp::State::Ready, imp::State::Status(&status)]);
}

/// It has been told to stop and is about to.
pub fn stopping() {
    imp::tell(&[imp::State::Stopping]);
}

/// Signs of life for a manager that restarts what has hung (`WatchdogSec=`). They are given by the
/// event loop between two events, so that they end with it.
#[derive(Debug)]
pub struct Watchdog {
    /// Twice as often as the manager wants to hear, in case one comes late.
    every: Option<Span>,
    next: LocalTime,
}

impl Watchdog {
    /// As the manager wants it.
    #[must_use]
    pub fn new(now: LocalTime) -> Watchdog {
        let every = imp::watchdog()
            .map(|wanted| Span(i64::try_from(wanted.as_nanos() / 2).unwrap_or(i64::MAX)));
        Watchdog { every, next: now }
    }

    /// The loop turns.
    pub fn feed(&mut self, now: LocalTime) {
        let Some(every) = self.every.filter(|_| now >= self.next) else { return };
        self.next = now + every;
        imp::tell(&[imp::State::Watchdog]);
    }
}

#[cfg(target_os = "linux")]
mod imp {
    pub use sd_notify::NotifyState as State;
    pub use sd_notify::watchdog_enabled as watchdog;

    pub fn tell(state: &[State<'_>]) {
        if let Err(error) = sd_notify::notify(state) {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    #[expect(dead_code, reason = "nobody is told")]
    pub enum State<'a> {
        Ready,
        Status(&'a str),
        Stopping,
        Watchdog,
    }

    pub fn watchdog() -> Option<std::time::Duration> {
        None
    }

    pub fn tell(_state: &[State<'_>]) {}
}
