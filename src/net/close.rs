//! Why connections end: the numbers on the wire, and words for people.

use std::sync::{Mutex, PoisonError};

use quinn::{Connection, ConnectionError, TransportErrorCode, VarInt};
use tokio::time::{Duration, Instant};

use crate::wire::ALPN;

/// Application error codes of QUIC, both kinds of connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CloseCode {
    /// On purpose: leaving, or the room decided so.
    Closed,
    /// There is another connection between the two already.
    Duplicate,
    /// Bytes that are no message, or a message out of place.
    Malformed,
    /// The hello or the key is not that of the node that was meant.
    Identity,
    /// The peer reads too slowly.
    Overflow,
    /// A node dialled itself.
    Own,
    /// A bulk connection without a control connection.
    NotUp,
    /// No hello in time.
    Silent,
}

impl CloseCode {
    fn number(self) -> VarInt {
        VarInt::from_u32(match self {
            CloseCode::Closed => 0,
            CloseCode::Duplicate => 1,
            CloseCode::Malformed => 2,
            CloseCode::Identity => 3,
            CloseCode::Overflow => 4,
            CloseCode::Own => 5,
            CloseCode::NotUp => 6,
            CloseCode::Silent => 7,
        })
    }

    /// Closes a connection and tells the other side why.
    pub(super) fn close(self, connection: &Connection, reason: &str) {
        connection.close(self.number(), reason.as_bytes());
    }

    /// Whether it is this that the peer closed a connection with.
    pub(super) fn closed(self, error: &ConnectionError) -> bool {
        matches!(error, ConnectionError::ApplicationClosed(close)
            if close.error_code == self.number())
    }
}

/// The TLS alert `no_application_protocol` (RFC 7301, section 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Characters kept of a reason that a peer gave.
const MAX_REASON: usize = 200;

/// What happened to a connection, for people.
pub(super) fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) if close.reason.is_empty() => {
            "it closed the connection".into()
        }
        ConnectionError::ApplicationClosed(close) => {
            format!("it closed the connection: {}", printable(&close.reason))
        }
        ConnectionError::ConnectionClosed(close) => in_handshake(close.error_code)
            .unwrap_or_else(|| format!("its QUIC gave up: {}", printable(&close.reason))),
        ConnectionError::TransportError(e) => {
            in_handshake(e.code).unwrap_or_else(|| format!("it broke the rules of QUIC: {e}"))
        }
        ConnectionError::VersionMismatch => "it speaks another version of QUIC".into(),
        ConnectionError::Reset => "it was restarted and does not know the connection".into(),
        ConnectionError::TimedOut => "it does not answer any more".into(),
        ConnectionError::LocallyClosed => "closed by this device".into(),
        ConnectionError::CidsExhausted => "QUIC ran out of connection ids".into(),
    }
}

fn in_handshake(code: TransportErrorCode) -> Option<String> {
    let alerts =
        u64::from(TransportErrorCode::crypto(0))..=u64::from(TransportErrorCode::crypto(u8::MAX));
    if code == TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL) {
        let own = String::from_utf8_lossy(ALPN);
        return Some(format!(
            "it speaks another version of the protocol than {own}; update the older of the two"
        ));
    }
    if code == TransportErrorCode::CONNECTION_REFUSED {
        return Some("it takes no more connections at the moment".into());
    }
    let alert = alerts.contains(&u64::from(code));
    alert.then(|| format!("it could not prove its key (TLS says: {code})"))
}

/// A peer's words without anything that could disturb a terminal or a log.
fn printable(reason: &[u8]) -> String {
    let text = String::from_utf8_lossy(reason);
    text.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

/// Lets some things through at once and then one a second: strangers must not fill the log.
pub(super) struct RateLimit(Mutex<(f64, Instant)>);

impl RateLimit {
    const BURST: f64 = 20.0;

    pub(super) fn new() -> RateLimit {
        RateLimit(Mutex::new((Self::BURST, Instant::now())))
    }

    pub(super) fn admit(&self) -> bool {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age: Duration = now - state.1;
        let tokens = (state.0 + age.as_secs_f64()).min(Self::BURST);
        let admitted = tokens >= 1.0;
        *state = (if admitted { tokens - 1.0 } else { tokens }, now);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_a_burst_and_then_once_a_second() {
        let limit = RateLimit::new();
        let now = Instant::now();
        let admitted = (0..100).filter(|_| limit.admit_at(now)).count();
        assert!((19..=20).contains(&admitted), "{admitted}");
        let later = now + Duration::from_secs(3);
        assert_eq!((0..100).filter(|_| limit.admit_at(later)).count(), 3);
    }

    #[test]
    fn a_peers_words_cannot_disturb_a_terminal() {
        assert_eq!(printable(b"\x1b[2Jbye\r\n\xff"), "[2Jbye\u{fffd}");
        assert_eq!(printable(&[b'x'; 1000]).len(), MAX_REASON);
    }
}
