//! Asks the gateway of the default route for an echo (RFC 792), to find out whether it is this
//! device that is cut off. By a datagram socket of ICMP, which Linux gives to users in the range of
//! `net.ipv4.ping_group_range`. Where it does not, or over IPv6 alone, nobody answers, and the
//! election waits as long as it would without.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// A gateway in the same room answers within some milliseconds, over a busy radio within this.
const PATIENCE: Duration = Duration::from_millis(250);

/// Type and code of a request and of its answer; the kernel fills checksum and identifier in.
const ECHO_REQUEST: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 1];
const ECHO_REPLY: u8 = 0;

/// Whether the gateway answers. Waits for it.
pub fn answers() -> bool {
    gateway(Path::new("/")).is_some_and(|gateway| match echo(gateway) {
        Ok(answered) => answered,
        Err(error) => {
            tracing::debug!(%gateway, %error, "the gateway was asked for an echo in vain");
            false
        }
    })
}

fn echo(address: Ipv4Addr) -> std::io::Result<bool> {
    let mut socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
    socket.connect(&SocketAddrV4::new(address, 0).into())?;
    socket.send(&ECHO_REQUEST)?;
    let deadline = Instant::now() + PATIENCE;
    let mut answer = [0; 64];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.read(&mut answer)?;
        if answer[..length].first() == Some(&ECHO_REPLY) {
            return Ok(true);
        }
    }
}

/// The gateway of the default route. Its address stands in the file as the number that it is in
/// this machine's memory.
fn gateway(root: &Path) -> Option<Ipv4Addr> {
    let routes = fs::read_to_string(root.join("proc/net/route")).ok()?;
    let mut lines = routes.lines().skip(1).map(str::split_ascii_whitespace);
    lines.find_map(|mut fields| {
        let (_, destination, gateway) = (fields.next()?, fields.next()?, fields.next()?);
        let address = Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes());
        (destination == "00000000" && !address.is_unspecified()).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway_of(routes: &str) -> Option<Ipv4Addr> {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("proc/net")).expect("a folder");
        fs::write(root.path().join("proc/net/route"), routes).expect("a file");
        gateway(root.path())
    }

    #[test]
    fn the_gateway_is_that_of_the_default_route() {
        let number = u32::from_ne_bytes([192, 168, 1, 1]);
        let head = "Iface\tDestination\tGateway\tFlags\n";
        let local = "lan0\t0001A8C0\t00000000\t0001\n";
        let default = format!("lan0\t00000000\t{number:08X}\t0003\n");
        let found = gateway_of(&format!("{head}{local}{default}"));
        assert_eq!(found, Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(gateway_of(&format!("{head}{local}")), None);
        let without = "tun0\t00000000\t00000000\t0001\n";
        assert_eq!(gateway_of(&format!("{head}{without}")), None, "a tunnel has none");
        for nonsense in ["", "x\n\n00000000", "x\nlan0\t00000000\tzz\n"] {
            assert_eq!(gateway_of(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn whoever_listens_to_itself_hears_an_echo_where_that_is_permitted() {
        match echo(Ipv4Addr::LOCALHOST) {
            Ok(answered) => assert!(answered),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{error}"),
        }
    }
}
