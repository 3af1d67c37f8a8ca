//! A witness of the machine: when it stood still, be it that its host stopped it or that every
//! core was taken. What an output did in such a moment says nothing of the program under test.
//!
//! The witness is a thread of the tests' own process, with the priority that the outputs ask
//! for, that looks at the clock every few milliseconds. It depends on nothing under test, so a
//! daemon that holds up only itself is not excused.

use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use groovebox::audio::realtime;
use groovebox::base::{LocalTime, Span};
use groovebox::daemon::clock;

/// Between two looks.
const STEP: Duration = Duration::from_millis(4);

/// Later than this is a stall: what the playout thread has ahead is little more.
const LATE: Span = Span::from_millis(20);

/// What a stall may disturb: windows that reach into it, and the way back into step.
const BEFORE: Span = Span::from_millis(200);
const AFTER: Span = Span::from_millis(800);

static STALLS: Mutex<Vec<(LocalTime, LocalTime)>> = Mutex::new(Vec::new());

/// Starts the witness, once.
pub fn watch() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        thread::Builder::new().name("witness".into()).spawn(look).expect("a thread");
    });
}

fn look() {
    let _ = realtime::promote();
    let mut before = clock::now();
    loop {
        thread::sleep(STEP);
        let now = clock::now();
        if now - before > LATE {
            println!("the machine stood still for {:?}", now - before);
            STALLS.lock().unwrap_or_else(PoisonError::into_inner).push((before, now));
        }
        before = now;
    }
}

/// How much of the time from `since` to now no stall excuses.
pub fn calm(since: LocalTime) -> Span {
    let (mut calm, mut from, now) = (Span::ZERO, since, clock::now());
    let stalls = STALLS.lock().unwrap_or_else(PoisonError::into_inner);
    for (begin, end) in stalls.iter() {
        calm = calm + (*begin - BEFORE - from).max(Span::ZERO);
        from = from.later(*end + AFTER);
    }
    calm + (now - from).max(Span::ZERO)
}

/// Whether something at this time is excused by a stall.
pub fn excuse(at: LocalTime) -> bool {
    let stalls = STALLS.lock().unwrap_or_else(PoisonError::into_inner);
    stalls.iter().any(|(from, to)| at > *from - BEFORE && at < *to + AFTER)
}
