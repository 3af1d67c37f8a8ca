//! This device's own addresses, and when they change: a station that roams, a lease that was
//! not renewed, a cable that was plugged in.
//!
//! On Linux the kernel tells (`rtnetlink(7)`, groups of address changes); what exactly changed
//! is not read out of its messages but looked up, so that a message that was lost or came in a
//! burst costs nothing. Elsewhere the addresses are looked at every two seconds.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Changes come in groups: an address goes, another comes, routes follow.
const SETTLE: Duration = Duration::from_millis(50);

/// Between two looks where nobody tells.
#[cfg(not(target_os = "linux"))]
const LOOK: Duration = Duration::from_secs(2);

/// All addresses of the machine.
pub(super) fn own() -> BTreeSet<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(|interface| interface.ip().to_canonical()).collect()
}

/// Watches the addresses.
pub(super) struct Addresses {
    known: BTreeSet<IpAddr>,
    #[cfg(target_os = "linux")]
    kernel: Option<netlink::Listener>,
}

impl Addresses {
    pub(super) fn new() -> Addresses {
        Addresses {
            known: own(),
            #[cfg(target_os = "linux")]
            kernel: netlink::open()
                .inspect_err(
                    |error| tracing::debug!(%error, "the kernel does not tell of addresses"),
                )
                .ok(),
        }
    }

    /// Waits for a change; the addresses there are now.
    pub(super) async fn changed(&mut self) -> BTreeSet<IpAddr> {
        loop {
            self.told().await;
            tokio::time::sleep(SETTLE).await;
            let now = own();
            if now != self.known {
                self.known.clone_from(&now);
                return now;
            }
        }
    }

    #[cfg(target_os = "linux")]
    async fn told(&mut self) {
        let Some(kernel) = &self.kernel else { return std::future::pending().await };
        match kernel.readable().await {
            Ok(mut ready) => {
                netlink::drain(kernel.get_ref());
                ready.clear_ready();
            }
            Err(_) => self.kernel = None,
        }
    }

    #[cfg(not(target_os = "linux"))]
    async fn told(&mut self) {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(target_os = "linux")]
mod netlink {
    #![expect(unsafe_code, reason = "netlink sockets are known to libc alone")]

    use std::io;
    use std::mem;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use tokio::io::unix::AsyncFd;

    pub(super) type Listener = AsyncFd<OwnedFd>;

    /// Far more than the socket's buffer holds.
    const MOST_AT_ONCE: usize = 10_000;

    /// A socket that becomes readable when an address comes or goes.
    pub(super) fn open() -> io::Result<Listener> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor has just been opened and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an address of zeros is a valid one.
        let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
        address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).expect("a small number");
        let groups = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        address.nl_groups = u32::try_from(groups).expect("two bits");
        let size = libc::socklen_t::try_from(size_of_val(&address)).expect("twelve bytes");
        // SAFETY: the pointer is to an address of that size.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), size) };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor stays the same and open as long as its owner lives.
        Ok(unsafe { AsyncFd::register(socket) }?)
    }

    /// Takes all messages out; that they came is all that matters.
    pub(super) fn drain(socket: &OwnedFd) {
        let mut buffer = [0_u8; 4096];
        let mut take = || {
            // SAFETY: the buffer is of the stated size. The socket does not block.
            let len = unsafe {
                libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
            };
            if len > 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // Where there were too many the kernel says so before it hands out those that fitted, and
        // sends no more until they are taken.
        for _ in 0..MOST_AT_ONCE {
            match take() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_is_listened_to_and_loopback_is_an_address() {
        let addresses = Addresses::new();
        assert!(addresses.known.contains(&IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)));
        #[cfg(target_os = "linux")]
        assert!(addresses.kernel.is_some());
    }
}
