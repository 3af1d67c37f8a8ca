//! The UDP socket under QUIC: binds, marks what is urgent, and stamps what arrives.
//!
//! ```text
//!  quinn ── Stamped ── MarkedSocket ── kernel
//!              │            └ DSCP EF on short packets
//!              └ our clock right after each receive          (a test may put a simulated
//!                                                              network in place of the rest)
//! ```
//!
//! Why not quinn's own: it overwrites a DSCP set on the socket, because it sets the ECN bits
//! of every packet and both share one byte. And the time at which a task sees a datagram is
//! later than its arrival by two task switches, which the clock exchange would take for delay.
//!
//! One socket carries both the control and the bulk connections, and packets are encrypted
//! when they get here. So urgency goes by length: heartbeats, probes and acknowledgements are
//! short and are marked Expedited Forwarding (RFC 3246; Wi-Fi puts it in its voice queue, RFC
//! 8325); what is longer is not urgent and stays best effort.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

use super::NetError;
use crate::base::{Clock, LocalTime};

/// Bytes up to which a packet counts as urgent: a probe or a heartbeat with its QUIC overhead
/// is below 350.
#[cfg(target_os = "linux")]
const URGENT_LEN: usize = 400;

/// Expedited Forwarding, 46, in the upper six bits.
#[cfg(target_os = "linux")]
const EXPEDITED: i32 = 0xb8;

/// Bytes of the kernel's buffers that are asked for. Linux gives at most `rmem_max`; then
/// bulk is a little slower, nothing else.
const SOCKET_BUFFER: usize = 2 * 1024 * 1024;

/// What to do when the port is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IfTaken {
    /// Somebody asked for this very port.
    Fail,
    /// It was only the default: the system chooses another.
    ChooseAnother,
}

/// A bound socket, not yet driven by anything.
pub(super) fn bind(
    address: Option<IpAddr>,
    port: u16,
    if_taken: IfTaken,
) -> Result<std::net::UdpSocket, NetError> {
    match bind_port(address, port) {
        Err(NetError::PortTaken { .. }) if port != 0 && if_taken == IfTaken::ChooseAnother => {
            tracing::info!(port, "UDP port is taken by another program, choosing another");
            bind_port(address, 0)
        }
        outcome => outcome,
    }
}

fn bind_port(address: Option<IpAddr>, port: u16) -> Result<std::net::UdpSocket, NetError> {
    if let Some(ip) = address {
        return open(SocketAddr::new(ip, port)).map_err(|e| bind_error(&e, ip, port));
    }
    let (v6, v4) = (Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into());
    match open(SocketAddr::new(v6, port)) {
        Ok(socket) => Ok(socket),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(bind_error(&e, v6, port)),
        // A kernel without IPv6.
        Err(_) => open(SocketAddr::new(v4, port)).map_err(|e| bind_error(&e, v4, port)),
    }
}

fn open(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // Refusals only cost speed.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_error(error: &io::Error, address: IpAddr, port: u16) -> NetError {
    match error.kind() {
        io::ErrorKind::AddrInUse => NetError::PortTaken { port },
        io::ErrorKind::AddrNotAvailable => NetError::AddressNotHere { address },
        io::ErrorKind::PermissionDenied => NetError::PortForbidden { port },
        _ => NetError::Socket { address, port, reason: error.to_string() },
    }
}

/// A UDP socket that marks short packets as urgent.
#[derive(Debug)]
pub(super) struct MarkedSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
}

impl MarkedSocket {
    /// # Errors
    ///
    /// When the socket does not take the options that QUIC needs.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<MarkedSocket> {
        let state = UdpSocketState::new((&socket).into())?;
        #[cfg(target_os = "linux")]
        super::refusal::ask_for(&socket);
        Ok(MarkedSocket { io: tokio::net::UdpSocket::from_std(socket)?, state })
    }

    /// The next address whose host says that nobody listens there. Never on systems that do
    /// not tell.
    pub(super) async fn refused(&self) -> io::Result<SocketAddr> {
        #[cfg(target_os = "linux")]
        return self.io.async_io(Interest::ERROR, || super::refusal::take(&self.io)).await;
        #[cfg(not(target_os = "linux"))]
        return std::future::pending().await;
    }

    /// Anything but a full socket is a lost packet to QUIC: it tries again or gives the
    /// connection up.
    fn send_now(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let outcome = match self.send_once(transmit) {
            // What became of an earlier packet, to whomever, is told here instead of sending.
            Err(error) if is_of_an_earlier_packet(&error) => self.send_once(transmit),
            outcome => outcome,
        };
        match outcome {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                tracing::trace!(%error, address = %transmit.destination, "packet not sent");
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn send_once(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if transmit.segment_size.is_none() && transmit.contents.len() <= URGENT_LEN {
            return send_marked(&self.io, transmit);
        }
        self.state.try_send((&self.io).into(), transmit)
    }
}

fn is_of_an_earlier_packet(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

impl AsyncUdpSocket for MarkedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, wait: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || self.send_now(transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self
                .io
                .try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta));
            // Failing means that somebody else was faster or that an error of an earlier
            // send was reported; neither concerns what arrives next.
            if let Ok(n) = received {
                return Poll::Ready(Ok(n));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

type WritableFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits for the socket on behalf of one connection. Each needs its own, because the socket
/// itself remembers only the last one who asked.
struct Writable {
    socket: Arc<MarkedSocket>,
    wait: Option<WritableFuture>,
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.clone();
        let wait =
            self.wait.get_or_insert_with(|| Box::pin(async move { socket.io.writable().await }));
        let outcome = ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(outcome)
    }
}

/// Sends one short packet with Expedited Forwarding beside its ECN bits.
#[cfg(target_os = "linux")]
fn send_marked(socket: &tokio::net::UdpSocket, transmit: &Transmit<'_>) -> io::Result<()> {
    let destination = transmit.destination.into();
    let control = control_messages(transmit);
    let contents = [io::IoSlice::new(transmit.contents)];
    let message = socket2::MsgHdr::new()
        .with_addr(&destination)
        .with_buffers(&contents)
        .with_control(&control);
    socket2::SockRef::from(socket).sendmsg(&message, 0).map(|_| ())
}

/// The type of service, and the source address if one is asked for, in the layout of
/// `cmsg(3)`.
#[cfg(target_os = "linux")]
fn control_messages(transmit: &Transmit<'_>) -> Vec<u8> {
    let service = EXPEDITED | transmit.ecn.map_or(0, |ecn| ecn as i32);
    let mut control = Vec::with_capacity(80);
    let v4 = transmit.destination.ip().to_canonical().is_ipv4();
    let (level, kind) =
        if v4 { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) };
    push_control(&mut control, level, kind, &service.to_ne_bytes());
    match transmit.src_ip {
        Some(IpAddr::V4(ip)) => {
            // struct in_pktinfo: interface (any), source, unused.
            let info = [[0; 4], ip.octets(), [0; 4]].concat();
            push_control(&mut control, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(ip)) => {
            // struct in6_pktinfo: source, interface (any).
            let info = [&ip.octets()[..], &[0; 4]].concat();
            push_control(&mut control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    control
}

#[cfg(target_os = "linux")]
fn push_control(control: &mut Vec<u8>, level: i32, kind: i32, data: &[u8]) {
    let word = size_of::<usize>();
    let header = word + 2 * size_of::<i32>();
    control.extend((header + data.len()).to_ne_bytes());
    control.extend(level.to_ne_bytes());
    control.extend(kind.to_ne_bytes());
    control.extend(data);
    control.resize(control.len().next_multiple_of(word), 0);
}

/// Any socket, with a stamp of its last receive.
#[derive(Debug)]
pub(super) struct Stamped {
    inner: Arc<dyn AsyncUdpSocket>,
    clock: Clock,
    last: Arc<AtomicI64>,
}

impl Stamped {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, clock: Clock) -> Stamped {
        Stamped { inner, clock, last: Arc::new(AtomicI64::new(clock().0)) }
    }

    /// The same stamp, over another socket.
    #[cfg(test)]
    pub(super) fn over(&self, inner: Arc<dyn AsyncUdpSocket>) -> Stamped {
        Stamped { inner, clock: self.clock, last: self.last.clone() }
    }

    /// The best known time of arrival of a datagram that is being handed over now.
    ///
    /// Packets come out in the order in which they went in, so the last receive is never
    /// before that of this datagram, and never after now: an upper bound, tighter than the
    /// present by the two task switches in between.
    pub(super) fn last_receive(&self) -> LocalTime {
        LocalTime(self.last.load(Ordering::Acquire))
    }
}

impl AsyncUdpSocket for Stamped {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.inner.poll_recv(cx, bufs, meta));
        self.last.store((self.clock)().0, Ordering::Release);
        Poll::Ready(received)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_taken_port_is_an_error_or_a_reason_for_another() {
        let first = bind(Some(HERE), 0, IfTaken::Fail).expect("a free port");
        let port = first.local_addr().expect("bound").port();
        let again = bind(Some(HERE), port, IfTaken::Fail);
        assert!(matches!(again, Err(NetError::PortTaken { port: p }) if p == port));
        let other = bind(Some(HERE), port, IfTaken::ChooseAnother).expect("another port");
        assert_ne!(other.local_addr().expect("bound").port(), port);
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let documentation = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
        let outcome = bind(Some(documentation), 0, IfTaken::Fail);
        assert!(
            matches!(outcome, Err(NetError::AddressNotHere { address }) if address == documentation)
        );
    }

    /// The type of service with which a packet of `len` bytes arrives.
    #[cfg(target_os = "linux")]
    async fn service_of(len: usize, source: Option<IpAddr>) -> u8 {
        let receiver = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        receiver.bind(&SocketAddr::new(HERE, 0).into()).expect("a free port");
        receiver.set_recv_tos_v4(true).expect("an option of Linux");
        let second = std::time::Duration::from_secs(1);
        receiver.set_read_timeout(Some(second)).expect("an option of sockets");
        let address = receiver.local_addr().expect("bound").as_socket().expect("an IP address");
        let sender = bind(Some(HERE), 0, IfTaken::Fail).expect("a free port");
        let sender = MarkedSocket::new(sender).expect("a UDP socket");
        let contents = vec![1; len];
        let transmit = Transmit {
            destination: address,
            ecn: Some(quinn::udp::EcnCodepoint::Ect0),
            contents: &contents,
            segment_size: None,
            src_ip: source,
        };
        // A fresh socket is not known to be writable before the runtime has asked the kernel.
        sender.io.writable().await.expect("a UDP socket");
        sender.try_send(&transmit).expect("room in the socket");
        service_received(&receiver)
    }

    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "socket2 hands control messages over as maybe uninitialised")]
    fn service_received(receiver: &Socket) -> u8 {
        use std::mem::MaybeUninit;
        let (mut control, mut contents) =
            ([MaybeUninit::new(0_u8); 64], [MaybeUninit::uninit(); 9]);
        let mut buffers = [socket2::MaybeUninitSlice::new(&mut contents)];
        let mut message =
            socket2::MsgHdrMut::new().with_buffers(&mut buffers).with_control(&mut control);
        receiver.recvmsg(&mut message, 0).expect("a packet within the time-out");
        // The data of the first control message follows its length, level and kind.
        let at = size_of::<usize>() + 2 * size_of::<i32>();
        // SAFETY: initialised with zeros above, and the kernel writes only plain bytes.
        unsafe { control[at].assume_init() }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_port_where_nobody_listens_is_told() {
        let second = std::time::Duration::from_secs(1);
        for here in [HERE, IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            let socket = bind(Some(here), 0, IfTaken::Fail).expect("a free port");
            let socket = MarkedSocket::new(socket).expect("a UDP socket");
            let gone = bind(Some(HERE), 0, IfTaken::Fail).expect("a free port");
            let address = gone.local_addr().expect("bound");
            drop(gone);
            socket.io.writable().await.expect("a UDP socket");
            let destination = if here == HERE {
                address
            } else {
                SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), address.port())
            };
            let transmit = Transmit {
                destination,
                ecn: None,
                contents: b"is anybody there?",
                segment_size: None,
                src_ip: None,
            };
            socket.try_send(&transmit).expect("room in the socket");
            let refused = tokio::time::timeout(second, socket.refused()).await;
            let refused = refused.expect("told within a second").expect("an address");
            assert_eq!((refused.ip().to_canonical(), refused.port()), (HERE, address.port()));
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn short_packets_are_marked_urgent_and_keep_their_ecn_bits() {
        assert_eq!(service_of(URGENT_LEN, None).await, 0xb8 | 0b10);
        assert_eq!(service_of(1, Some(HERE)).await, 0xb8 | 0b10);
        assert_eq!(service_of(URGENT_LEN + 1, None).await, 0b10);
    }
}
