//! How much one session may ask for. A session is a user of this machine, as the kernel names
//! the other end of a connection: whoever opens many connections does not get more.
//!
//! The daemon's own user and the superuser administer this device and are not counted, except
//! where they would litter the network: everybody sees a room that is made.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::Caller;
use super::answer::Answer;
use super::router::App;
use crate::base::limits::MAX_SESSIONS;
use crate::base::{LocalTime, Span};
use crate::engine::limits::Gcra;
use crate::wire::{Refusal, RefusalCode};

/// Requests that change something: 60 a minute.
const CHANGE_EVERY: Span = Span::from_secs(1);
const CHANGE_BURST: u32 = 20;

/// Rooms made: five an hour.
const ROOM_EVERY: Span = Span::from_secs(12 * 60);
const ROOM_BURST: u32 = 5;

/// A user of this machine; none where the kernel does not say.
type Session = Option<u32>;

/// The paces of all sessions.
pub(super) struct Paces {
    begun: Instant,
    own: u32,
    changes: Mutex<Buckets>,
    rooms: Mutex<Buckets>,
}

/// One bucket a session, all of one size.
struct Buckets {
    every: Span,
    burst: u32,
    sessions: BTreeMap<Session, Gcra>,
}

impl Paces {
    /// Nobody has asked for anything yet.
    pub(super) fn new() -> Paces {
        Paces {
            begun: Instant::now(),
            own: rustix::process::geteuid().as_raw(),
            changes: Mutex::new(Buckets::new(CHANGE_EVERY, CHANGE_BURST)),
            rooms: Mutex::new(Buckets::new(ROOM_EVERY, ROOM_BURST)),
        }
    }

    fn now(&self) -> LocalTime {
        let passed = i64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(i64::MAX);
        LocalTime(passed)
    }

    /// Counts a request that changes something.
    fn change(&self, caller: Caller) -> Result<(), Answer> {
        let session = session_of(caller);
        if session.is_some_and(|uid| uid == self.own || uid == 0) {
            return Ok(());
        }
        take(&self.changes, session, self.now()).map_err(|wait| {
            too_fast("these were many requests at once; one a second is taken", wait)
        })
    }

    /// Counts a room that is made.
    pub(super) fn room(&self, caller: Caller) -> Result<(), Answer> {
        take(&self.rooms, session_of(caller), self.now()).map_err(|wait| {
            too_fast("you have made many rooms just now; five an hour are enough", wait)
        })
    }
}

impl Buckets {
    fn new(every: Span, burst: u32) -> Buckets {
        Buckets { every, burst, sessions: BTreeMap::new() }
    }

    /// Takes one from a session's bucket, or says how long it has to wait.
    fn take(&mut self, session: Session, now: LocalTime) -> Result<(), Span> {
        if self.sessions.len() >= MAX_SESSIONS && !self.sessions.contains_key(&session) {
            self.sessions.retain(|_, bucket| !bucket.is_full(now));
            if self.sessions.len() >= MAX_SESSIONS {
                return Err(self.every);
            }
        }
        let (every, burst) = (self.every, self.burst);
        self.sessions.entry(session).or_insert_with(|| Gcra::new(every, burst)).take(now)
    }
}

fn take(buckets: &Mutex<Buckets>, session: Session, now: LocalTime) -> Result<(), Span> {
    // A panic between two steps leaves at worst one bucket untouched.
    buckets.lock().unwrap_or_else(PoisonError::into_inner).take(session, now)
}

fn session_of(caller: Caller) -> Session {
    match caller {
        Caller::Local { uid, .. } => Some(uid),
        Caller::Unknown => None,
    }
}

fn too_fast(message: &str, wait: Span) -> Answer {
    let ms = u32::try_from(wait.as_millis().max(1)).unwrap_or(u32::MAX);
    let refusal = Refusal::new(RefusalCode::RateLimited, message, "nothing was changed; wait");
    Refusal { retry_after_ms: Some(ms), ..refusal }.into()
}

/// Stands before everything that is counted.
pub(super) async fn count(
    State(app): State<App>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response, Answer> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        app.paces.change(caller)?;
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Caller {
        Caller::Local { uid, gid: 0, pid: None }
    }

    #[test]
    fn a_burst_is_taken_and_then_one_a_second_for_each_session() {
        let mut buckets = Buckets::new(CHANGE_EVERY, CHANGE_BURST);
        let mut now = LocalTime(0);
        for session in [Some(1001), Some(1002), None] {
            let taken = (0..100).filter(|_| buckets.take(session, now).is_ok()).count();
            assert_eq!(taken, 20, "{session:?}");
        }
        assert_eq!(buckets.take(Some(1001), now), Err(Span::from_secs(1)));
        let mut taken = 0;
        for _ in 0..600 {
            now += Span::from_millis(100);
            taken += usize::from(buckets.take(Some(1001), now).is_ok());
        }
        assert_eq!(taken, 60, "in a minute");
    }

    #[test]
    fn five_rooms_an_hour_are_made() {
        let mut buckets = Buckets::new(ROOM_EVERY, ROOM_BURST);
        let taken = (0..9).filter(|_| buckets.take(Some(0), LocalTime(0)).is_ok()).count();
        assert_eq!(taken, 5);
        let later = LocalTime(0) + Span::from_secs(3600);
        assert_eq!((0..9).filter(|_| buckets.take(Some(0), later).is_ok()).count(), 5);
    }

    #[test]
    fn sessions_are_bounded_and_forgotten_once_they_are_quiet() {
        let mut buckets = Buckets::new(CHANGE_EVERY, CHANGE_BURST);
        for uid in 0..2 * u32::try_from(MAX_SESSIONS).expect("few") {
            let _either_way = buckets.take(Some(uid), LocalTime(0));
        }
        assert_eq!(buckets.sessions.len(), MAX_SESSIONS);
        assert_eq!(buckets.take(Some(u32::MAX), LocalTime(0)), Err(CHANGE_EVERY));
        assert_eq!(buckets.take(Some(u32::MAX), LocalTime(0) + CHANGE_EVERY), Ok(()));
        assert_eq!(buckets.sessions.len(), 1);
    }

    #[test]
    fn the_administrator_is_exempt_but_not_from_the_limit_on_rooms() {
        let paces = Paces::new();
        for _ in 0..1000 {
            assert!(paces.change(user(0)).is_ok() && paces.change(user(paces.own)).is_ok());
        }
        assert_eq!((0..30).filter(|_| paces.change(Caller::Unknown).is_ok()).count(), 20);
        assert_eq!((0..30).filter(|_| paces.room(user(0)).is_ok()).count(), 5);
    }
}
