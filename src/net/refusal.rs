//! "Port unreachable", as the hosts of dead processes say it: the kernel keeps such answers in
//! the socket's error queue (`IP_RECVERR` in `ip(7)`, `IPV6_RECVERR` in RFC 3542's spirit).
//!
//! Without this a killed process is noticed by its silence only. An answer can be forged by
//! anybody who guesses two ports, so it is a reason to look, never one to believe.

#![expect(unsafe_code, reason = "the error queue is read by recvmsg alone")]

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::SockAddr;

/// Asks the kernel to keep them. Where it does not, silence has to do.
pub(super) fn ask_for(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).expect("four bytes");
    for (level, option) in [(libc::SOL_IP, libc::IP_RECVERR), (libc::SOL_IPV6, libc::IPV6_RECVERR)]
    {
        let value = (&raw const on).cast();
        // SAFETY: the descriptor is open, and `value` points to an int of `size` bytes.
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, size) };
    }
}

/// The next address that refused a packet; would block when there is none.
pub(super) fn take(socket: &impl AsRawFd) -> io::Result<SocketAddr> {
    loop {
        if let Some(address) = take_one(socket)? {
            return Ok(address);
        }
    }
}

/// One answer out of the queue; none if it is of another kind.
fn take_one(socket: &impl AsRawFd) -> io::Result<Option<SocketAddr>> {
    // 64-bit words, for the alignment of control messages.
    let mut control = [0_u64; 64];
    let mut packet = [0_u8; 1];
    let mut part = libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() };
    // SAFETY: a message header of zeros is an empty one.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let receive = |name: *mut socket2::SockAddrStorage, len: *mut libc::socklen_t| {
        message.msg_name = name.cast();
        // SAFETY: `len` points to the length of the storage that `name` points to.
        message.msg_namelen = unsafe { *len };
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: every pointer in the header is to memory of the stated size that lives
        // longer than the call.
        if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above; the kernel has written that many bytes of address.
        unsafe { *len = message.msg_namelen };
        Ok(())
    };
    // SAFETY: `receive` writes an address and its length, or fails.
    let ((), name) = unsafe { SockAddr::try_init(receive) }?;
    // SAFETY: the header describes `control`, which recvmsg has just filled in.
    let refused = unsafe { is_refusal(&message) };
    Ok(name.as_socket().filter(|_| refused))
}

/// Whether one of the control messages says "connection refused".
///
/// # Safety
///
/// The header must be as recvmsg left it, and its memory alive.
unsafe fn is_refusal(message: &libc::msghdr) -> bool {
    // SAFETY: by the caller's promise; the macros stay within `msg_controllen`.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, and within the control buffer.
        let libc::cmsghdr { cmsg_level, cmsg_type, .. } = unsafe { ptr::read(header) };
        let v4 = (cmsg_level, cmsg_type) == (libc::SOL_IP, libc::IP_RECVERR);
        let v6 = (cmsg_level, cmsg_type) == (libc::SOL_IPV6, libc::IPV6_RECVERR);
        if v4 || v6 {
            let data = unsafe { libc::CMSG_DATA(header) };
            // SAFETY: these control messages begin with this structure.
            let error = unsafe { ptr::read_unaligned(data.cast::<libc::sock_extended_err>()) };
            return i32::try_from(error.ee_errno) == Ok(libc::ECONNREFUSED);
        }
        // SAFETY: as for the first.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    false
}
