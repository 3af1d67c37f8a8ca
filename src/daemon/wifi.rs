//! Power save of the radio, asked of the kernel by nl80211 over generic netlink
//! (`include/uapi/linux/nl80211.h`, `genetlink.h`): three messages, so no crate is needed.
//!
//! A radio that sleeps between packets answers after tens of milliseconds, now and then after
//! two seconds: a room on such radios elects needlessly and starts late. Switching it off
//! needs `CAP_NET_ADMIN`; where that is missing, it is only told.

#![expect(unsafe_code, reason = "netlink sockets are known to libc alone")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Messages of generic netlink's own family, and what asks for another by name.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// Commands and attributes of nl80211.
const SET_POWER_SAVE: u8 = 61;
const GET_POWER_SAVE: u8 = 62;
const IFINDEX: u16 = 3;
const PS_STATE: u16 = 93;

/// The kernel answers within the call; this is for one that does not.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);

/// A question is answered with data or an error, an order only if it says so.
const ONLY_DATA: i32 = 0;
const CONFIRM: i32 = libc::NLM_F_ACK;

/// Bytes in front of the attributes: netlink's and generic netlink's headers.
const HEADERS: usize = 20;

/// Asks the kernel about radios.
#[derive(Debug)]
pub struct Radios {
    socket: OwnedFd,
    family: u16,
}

impl Radios {
    /// # Errors
    ///
    /// When the kernel has no generic netlink or no radio.
    pub fn open() -> io::Result<Radios> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_GENERIC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor has just been opened and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        socket2::SockRef::from(&socket).set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut radios = Radios { socket, family: CONTROL };
        let answer = radios.ask(GET_FAMILY, ONLY_DATA, &[(FAMILY_NAME, b"nl80211\0")])?;
        let id = attribute(&answer, FAMILY_ID).and_then(|bytes| bytes.try_into().ok());
        radios.family = id.map(u16::from_ne_bytes).ok_or(io::ErrorKind::NotFound)?;
        Ok(radios)
    }

    /// Whether the radio of that interface sleeps between packets.
    ///
    /// # Errors
    ///
    /// When it is no radio, or does not tell.
    pub fn power_save(&self, interface: u32) -> io::Result<bool> {
        let answer = self.ask(GET_POWER_SAVE, ONLY_DATA, &[(IFINDEX, &interface.to_ne_bytes())])?;
        let state = attribute(&answer, PS_STATE).and_then(|bytes| bytes.try_into().ok());
        state.map(|state| u32::from_ne_bytes(state) != 0).ok_or(io::ErrorKind::NotFound.into())
    }

    /// Lets it sleep or keeps it awake.
    ///
    /// # Errors
    ///
    /// Mostly that it is not permitted.
    pub fn set_power_save(&self, interface: u32, on: bool) -> io::Result<()> {
        let (interface, state) = (interface.to_ne_bytes(), u32::from(on).to_ne_bytes());
        self.ask(SET_POWER_SAVE, CONFIRM, &[(IFINDEX, &interface), (PS_STATE, &state)]).map(|_| ())
    }

    /// One question; the attributes of its answer.
    fn ask(&self, command: u8, flags: i32, attributes: &[(u16, &[u8])]) -> io::Result<Vec<u8>> {
        let question = question(self.family, command, flags, attributes);
        let (fd, length) = (self.socket.as_raw_fd(), question.len());
        // SAFETY: the buffer is of the stated length.
        if unsafe { libc::send(fd, question.as_ptr().cast(), length, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = vec![0_u8; 8192];
        // SAFETY: as above.
        let received = unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        answer.truncate(received);
        attributes_of(&answer)
    }
}

fn question(family: u16, command: u8, flags: i32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, data) in attributes {
        let length = u16::try_from(4 + data.len()).expect("a short attribute");
        body.extend(length.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(*data);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(HEADERS + body.len()).expect("a short message");
    let flags = u16::try_from(libc::NLM_F_REQUEST | flags).expect("two bits");
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Number and sender: the kernel answers this socket, one question at a time.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(body);
    message
}

/// The attributes of the first message in an answer; nothing for a bare acknowledgement.
fn attributes_of(answer: &[u8]) -> io::Result<Vec<u8>> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let number = |at: usize| answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let length = number(0).and_then(|n| usize::try_from(n).ok()).ok_or_else(short)?;
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    if kind.map(i32::from) == Some(libc::NLMSG_ERROR) {
        return match number(16).map(u32::cast_signed) {
            Some(0) => Ok(Vec::new()),
            Some(error) => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
            None => Err(short()),
        };
    }
    answer.get(HEADERS..length).map(<[u8]>::to_vec).ok_or_else(short)
}

/// The data of an attribute.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, rest) = attributes.split_first_chunk::<2>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let data = attributes.get(4..length)?;
        // The two highest bits say how the data is laid out.
        if u16::from_ne_bytes(*kind) & 0x3fff == wanted {
            return Some(data);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_can_be_read() {
        let message = question(
            27,
            SET_POWER_SAVE,
            CONFIRM,
            &[(IFINDEX, &[7, 0, 0, 0]), (PS_STATE, b"abcde")],
        );
        assert_eq!(message.len() % 4, 0);
        let attributes = attributes_of(&message).expect("well-formed");
        assert_eq!(attribute(&attributes, IFINDEX), Some(&[7, 0, 0, 0][..]));
        assert_eq!(attribute(&attributes, PS_STATE), Some(&b"abcde"[..]));
        assert_eq!(attribute(&attributes, 5), None);
    }

    #[test]
    fn refusals_and_nonsense_are_errors() {
        let mut refusal = question(0, 0, CONFIRM, &[]);
        refusal[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        refusal[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        let error = attributes_of(&refusal).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        for length in 0..refusal.len() {
            let _ = attributes_of(&refusal[..length]);
            let _ = attribute(&refusal[..length], 1);
        }
        assert_eq!(attribute(&[0; 64], 1), None, "attributes without a length do not loop");
    }
}
