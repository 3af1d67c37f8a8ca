//! Real-time priority for the two threads that must not be late: the sound card's callback
//! and the playout thread that feeds it.
//!
//! Only upward: a thread that somebody has already given a real-time class keeps it as it is.
//! What this deliberately does not do: ask a bus service for the permission. The system's
//! answer to a process without it (`RLIMIT_RTPRIO` of 0) is a refusal, and music then plays at
//! ordinary priority, which a busy machine makes audible.

#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "the standard library has no call for the class of a thread")
)]

/// What became of the wish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promotion {
    /// The thread had a real-time class before and keeps it.
    AlreadyRealtime,
    /// The thread has one now.
    Promoted,
    /// The system said no, with this error number: usually `EPERM`, where the limit is 0.
    Refused(i32),
}

/// Real-time priority asked for, of 1 to 99. Above ordinary threads is all that matters; the
/// kernel's own interrupt threads run at 50 and stay above.
#[cfg(target_os = "linux")]
const PRIORITY: libc::c_int = 10;

/// Gives the calling thread a real-time class, if it has none. Threads and processes that it
/// starts later do not inherit it. Two system calls, no allocation.
///
/// The kernel is called directly: musl's functions of these names only say `ENOSYS`. Its
/// `sched_param` is one number.
#[cfg(target_os = "linux")]
#[must_use]
pub fn promote() -> Promotion {
    let (priority, policy) = (PRIORITY, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK);
    // SAFETY: 0 means the calling thread; `priority` lives through the call, which only reads it.
    let done = unsafe {
        if is_realtime(libc::syscall(libc::SYS_sched_getscheduler, 0)) {
            return Promotion::AlreadyRealtime;
        }
        libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority)
    };
    match done {
        0 => Promotion::Promoted,
        _ => Promotion::Refused(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
    }
}

/// Elsewhere the sound system looks after its own threads.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn promote() -> Promotion {
    Promotion::Refused(0)
}

#[cfg(target_os = "linux")]
fn is_realtime(answer: libc::c_long) -> bool {
    let flag = libc::c_long::from(libc::SCHED_RESET_ON_FORK);
    let classes = [libc::SCHED_FIFO, libc::SCHED_RR, libc::SCHED_DEADLINE];
    answer >= 0 && classes.into_iter().any(|class| answer & !flag == libc::c_long::from(class))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_real_time_classes_count_as_such() {
        assert!(is_realtime(libc::SCHED_FIFO.into()));
        assert!(is_realtime((libc::SCHED_RR | libc::SCHED_RESET_ON_FORK).into()));
        assert!(!is_realtime(libc::SCHED_OTHER.into()));
        assert!(!is_realtime((libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK).into()));
        assert!(!is_realtime(-1), "a failed question is not an answer");
    }

    #[test]
    fn asking_twice_changes_nothing() {
        let first = std::thread::spawn(|| (promote(), promote())).join().expect("no panic");
        match first {
            (Promotion::Refused(a), Promotion::Refused(b)) => assert_eq!(a, b),
            (_, second) => assert_eq!(second, Promotion::AlreadyRealtime),
        }
    }
}
