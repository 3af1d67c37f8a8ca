//! The network: QUIC between all members, discovery by mDNS.
//!
//! ```text
//!   daemon ── send, fetch, dial ──► Net ──┬─ peer.rs    one task per peer: hello, frames, datagrams
//!      ▲                                  ├─ bulk.rs    pieces of files on a second connection
//!      │                                  │              (pacer.rs: how fast)
//!      │                                  │              (congestion.rs: what a loss means)
//!      └──────── NetEvent ────────────────┼─ links.rs   which connection speaks for which peer
//!                                         ├─ tls.rs     a key is a node
//!                                         ├─ socket.rs  marks what is urgent, stamps arrivals
//!                                         ├─ addresses.rs  when this device's own ones change
//!                                         ├─ refusal.rs hears that nobody listens any more
//!                                         └─ mdns.rs    hints whom to dial
//! ```
//!
//! It moves bytes and says who is there. It decides nothing about rooms, never reads a file
//! (a [`BlobProvider`] does) and never keeps a message for a peer that is not there.

mod addresses;
mod bulk;
mod close;
mod congestion;
pub mod frame;
mod links;
pub mod mdns;
mod pacer;
mod peer;
#[cfg(target_os = "linux")]
mod refusal;
mod socket;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quinn::{
    AsyncUdpSocket, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use self::close::RateLimit;
use self::links::{Links, Outgoing};
use self::mdns::{Discovery, Scope};
use self::pacer::Pacer;
use self::peer::{Dialling, Shared};
use self::socket::{IfTaken, MarkedSocket, Stamped};
use self::tls::Identity;
use crate::base::limits::{MAX_BULK_STREAMS, MAX_UNGREETED};
use crate::base::{BlobHash, Clock, LocalTime, NodeId};
use crate::identity::NodeKey;
use crate::wire::{
    ALPN, Announcement, BULK_ALPN, BulkRequest, Datagram, Hello, Message, RoomCard, codec,
};

/// How long a connection lives without a sign of life from the other side.
const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// How often a quiet connection gives one: three may be lost.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// First guess of the round trip. QUIC's own is 333 ms (RFC 9002, section 6.2.2), which makes
/// a lost first packet cost a second; homes are faster.
const INITIAL_RTT: Duration = Duration::from_millis(20);

/// A Wi-Fi stall of some 100 ms looks like persistent congestion at QUIC's 3.
const PERSISTENT_CONGESTION: u32 = 6;

/// Bytes of datagrams waiting to be sent: some tens. Older ones give way to newer ones.
const DATAGRAM_SEND_BUFFER: usize = 16 * 1024;

/// Bytes of datagrams received and not yet read.
const DATAGRAM_RECEIVE_BUFFER: usize = 64 * 1024;

/// Bytes that a control stream may be ahead of its reader.
const CONTROL_WINDOW: u32 = 256 * 1024;

/// Bytes that a bulk connection may be ahead of its reader: 100 MB/s at a round trip of 20 ms.
const BULK_WINDOW: u32 = 2 * 1024 * 1024;

/// How long the end may take, farewells included.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// What the network needs to know.
#[derive(Debug)]
pub struct NetConfig {
    /// Who this device is.
    pub key: Arc<NodeKey>,
    /// The one address that is used; all addresses of the machine if none is given, over
    /// IPv4 and IPv6 where there is both.
    pub bind: Option<IpAddr>,
    /// The UDP port; 0 lets the system choose.
    pub port: u16,
    /// Whether somebody asked for this very port. If not, and it is taken, the system
    /// chooses another.
    pub port_required: bool,
    /// This device's clock.
    pub clock: Clock,
    /// Whether to announce and browse over mDNS.
    pub mdns: bool,
    /// What to say first. `node` and `port` are filled in.
    pub hello: Hello,
}

/// What the network has to tell.
#[derive(Debug)]
pub enum NetEvent {
    /// A peer is up: its key is proven, and hellos have gone both ways. Once per peer until
    /// its [`Lost`](NetEvent::Lost).
    Connected {
        /// Who.
        peer: NodeId,
        /// Where.
        address: SocketAddr,
        /// What it said of itself.
        hello: Hello,
        /// Keying material that only the two ends of this connection have (RFC 5705): what is
        /// bound to it cannot be handed on.
        channel: [u8; 32],
    },
    /// A peer is up no more, for whatever reason, our own closing included.
    Lost {
        /// Who.
        peer: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// The host of a peer says that nobody listens there any more. Anybody can forge that;
    /// if the peer says nothing either, its [`Lost`](NetEvent::Lost) follows.
    Doubted {
        /// Who.
        peer: NodeId,
    },
    /// A peer that is up goes on from another address.
    Moved {
        /// Who.
        peer: NodeId,
        /// Where it is now.
        address: SocketAddr,
    },
    /// A message, in order.
    Message {
        /// From whom.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A datagram.
    Datagram {
        /// From whom.
        from: NodeId,
        /// What.
        datagram: Datagram,
        /// When it arrived, or slightly later; never after now.
        at: LocalTime,
    },
    /// Somebody announced itself. Comes again whenever something about it changes.
    Discovered {
        /// What it says.
        announcement: Announcement,
        /// Where it might be reached, the likeliest first.
        addresses: Vec<SocketAddr>,
    },
    /// Somebody took its announcement back, or it ran out.
    Vanished {
        /// Who.
        node: NodeId,
    },
    /// Another device has proven this device's key: it was set up with a copy of its state.
    Twin {
        /// Where it is.
        address: SocketAddr,
    },
    /// A dial led to nothing. A dial that ended because its node is connected already says
    /// nothing.
    DialFailed {
        /// Where to.
        address: SocketAddr,
        /// Whom it meant.
        node: Option<NodeId>,
        /// Why, for people.
        reason: String,
    },
    /// Somebody who dialled was turned away: another version, a wrong key, nonsense. Not
    /// told for every one of many.
    Refused {
        /// Who.
        address: SocketAddr,
        /// Why, for people.
        reason: String,
    },
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Another program has the port.
    #[error(
        "UDP port {port} is taken by another program, so no other device could reach this one; \
         stop that program (`ss -ulpn` shows it) or give another port with --port"
    )]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The port needs rights that this process does not have.
    #[error("UDP port {port} is not allowed for this user; give one above 1023 with --port")]
    PortForbidden {
        /// The port.
        port: u16,
    },
    /// An address of another machine, or of an interface that is down.
    #[error(
        "{address} is no address of this device at the moment, so nothing can be received there; \
         `ip addr` shows its addresses, and without --bind all of them are used"
    )]
    AddressNotHere {
        /// The address.
        address: IpAddr,
    },
    /// No socket for another reason.
    #[error("no UDP socket at {address} port {port}, so no other device can be reached: {reason}")]
    Socket {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// What the system says.
        reason: String,
    },
    /// The key does not work with TLS.
    #[error("the node key cannot be used for TLS: {0}")]
    Tls(String),
    /// Nobody to ask.
    #[error("not connected to {}", node.short())]
    NotConnected {
        /// Who.
        node: NodeId,
    },
    /// The peer does not have the piece or does not give it.
    #[error("the peer does not give the piece: {reason}")]
    PieceRefused {
        /// What it says.
        reason: String,
    },
    /// The bulk connection failed.
    #[error("fetching failed: {reason}")]
    Fetch {
        /// How.
        reason: String,
    },
    /// The piece did not come in time.
    #[error("the piece did not come in time")]
    FetchTimeout,
}

/// Gives pieces of the blobs that this device holds.
pub trait BlobProvider: Send + Sync {
    /// The bytes of a piece, at most [`MAX_PIECE`](crate::base::limits::MAX_PIECE), or why
    /// there are none. May block.
    fn piece(&self, hash: BlobHash, piece: u32) -> Result<Vec<u8>, String>;
}

/// The running network. Dropping it closes everything without a farewell.
pub struct Net {
    shared: Arc<Shared>,
    port: u16,
    discovery: Option<Discovery>,
    accepting: JoinHandle<()>,
    /// Tasks that watch the socket's errors and this device's addresses.
    watching: Vec<JoinHandle<()>>,
}

impl Net {
    /// Opens the socket and begins to listen.
    ///
    /// # Errors
    ///
    /// When there is no socket to be had, or the key is unusable. That mDNS does not start is
    /// a warning only.
    #[expect(clippy::unused_async, reason = "must run inside the runtime it spawns onto")]
    pub async fn start(
        config: NetConfig,
        events: mpsc::Sender<NetEvent>,
        provider: Arc<dyn BlobProvider>,
    ) -> Result<Net, NetError> {
        let if_taken = if config.port_required { IfTaken::Fail } else { IfTaken::ChooseAnother };
        let socket = socket::bind(config.bind, config.port, if_taken)?;
        let socket = MarkedSocket::new(socket).map_err(|e| socket_error(&config, &e))?;
        let (socket, bind) = (Arc::new(socket), config.bind);
        let mut net = Net::start_on(socket.clone(), config, events, provider)?;
        net.watching.push(tokio::spawn(peer::watch_refusals(net.shared.clone(), socket)));
        // Whoever is confined to one address cannot move.
        if bind.is_none() {
            net.watching.push(tokio::spawn(peer::watch_addresses(net.shared.clone())));
        }
        Ok(net)
    }

    /// The same over any socket: the place where a simulated network comes in. `bind` and
    /// `port` of the configuration are not looked at.
    ///
    /// # Errors
    ///
    /// As [`start`](Net::start).
    pub fn start_on(
        socket: Arc<dyn AsyncUdpSocket>,
        config: NetConfig,
        events: mpsc::Sender<NetEvent>,
        provider: Arc<dyn BlobProvider>,
    ) -> Result<Net, NetError> {
        let identity = Identity::new(&config.key)?;
        let stamps = Arc::new(Stamped::new(socket, config.clock));
        let mut server = ServerConfig::with_crypto(identity.server(&peer::ALPNS)?);
        server.transport_config(Arc::new(server_transport()));
        let endpoint = Endpoint::new_with_abstract_socket(
            EndpointConfig::default(),
            Some(server),
            stamps.clone(),
            Arc::new(TokioRuntime),
        )
        .map_err(|e| socket_error(&config, &e))?;
        let local = endpoint.local_addr().map_err(|e| socket_error(&config, &e))?;
        let own = config.key.node_id();
        let discovery = config
            .mdns
            .then(|| Scope { bind: config.bind, v6: local.is_ipv6() })
            .and_then(|scope| start_discovery(own, scope, events.clone()));
        let shared = Arc::new(Shared {
            own,
            clock: config.clock,
            endpoint,
            dialling: dialling(&identity)?,
            stamps,
            events,
            provider,
            hello: Mutex::new(Hello { node: own, port: local.port(), ..config.hello }),
            links: Links::default(),
            pacer: Pacer::new(),
            ungreeted: Arc::new(Semaphore::new(MAX_UNGREETED)),
            refusals: RateLimit::new(),
            ups: watch::Sender::new(0),
            admitted: Mutex::new(None),
        });
        let accepting = tokio::spawn(peer::accept(shared.clone()));
        Ok(Net { shared, port: local.port(), discovery, accepting, watching: Vec::new() })
    }

    /// The UDP port at which this device is reached.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        self.port
    }

    /// Tries to connect to `address`, where `node` is expected if it is known. Does nothing
    /// while the same is under way or the node is connected; ends in `Connected`,
    /// `DialFailed`, or silently if the node came up on another way meanwhile.
    pub fn dial(&self, address: SocketAddr, node: Option<NodeId>) {
        peer::dial(&self.shared, address, node);
    }

    /// Queues a message for a peer. A peer that is not up gets nothing; one that is too far
    /// behind is closed.
    pub fn send(&self, peer: NodeId, message: &Message) {
        let Some(link) = self.shared.link(peer) else { return };
        match codec::encode_message(message) {
            Ok(frame) => link.push(Outgoing::Frame(frame)),
            Err(error) => tracing::error!(peer = peer.short(), %error, "message not sent"),
        }
    }

    /// Sends a datagram at once or never. `t1` of a probe and `t3` of its reply are stamped
    /// here.
    pub fn send_datagram(&self, peer: NodeId, datagram: Datagram) {
        if let Some(link) = self.shared.link(peer) {
            peer::send_datagram(&self.shared, &link, datagram);
        }
    }

    /// Closes the connection to a peer after what is queued for it. Its `Lost` follows.
    pub fn close(&self, peer: NodeId, reason: &str) {
        if let Some(link) = self.shared.link(peer) {
            link.push(Outgoing::Close(reason.to_owned()));
        }
    }

    /// The room that hellos to come will show.
    pub fn set_room(&self, room: Option<RoomCard>) {
        self.shared.hello().room = room;
    }

    /// Gives pieces to these nodes only; none gives them to everybody who is up.
    pub fn admit(&self, nodes: Option<BTreeSet<NodeId>>) {
        self.shared.admit(nodes);
    }

    /// Announces this device from now on. `node` and `port` are filled in.
    pub fn announce(&self, announcement: Announcement) {
        if let Some(discovery) = &self.discovery {
            let (node, port) = (self.shared.own, self.port);
            discovery.announce(Announcement { node, port, ..announcement });
        }
    }

    /// Fetches a piece of a blob from a peer that is up. What comes is not verified.
    ///
    /// # Errors
    ///
    /// When the peer is not up, does not have it, or falls silent for two seconds.
    pub async fn fetch(&self, peer: NodeId, hash: BlobHash, piece: u32) -> Result<Bytes, NetError> {
        self.fetcher().fetch(peer, hash, piece).await
    }

    /// Something that fetches, for tasks that outlive a borrow of this.
    #[must_use]
    pub fn fetcher(&self) -> Fetcher {
        Fetcher { shared: self.shared.clone() }
    }

    /// Bytes sent to and received from a peer over bulk connections since the start, headers
    /// of pieces included, QUIC's overhead not.
    #[must_use]
    pub fn bulk_counters(&self, peer: NodeId) -> (u64, u64) {
        let counters = self.shared.links.counters(peer);
        (counters.sent.load(Ordering::Relaxed), counters.received.load(Ordering::Relaxed))
    }

    /// How many messages and datagrams of a peer were left out because only a later version
    /// knows them.
    #[must_use]
    pub fn skipped(&self, peer: NodeId) -> u64 {
        self.shared.links.counters(peer).skipped.load(Ordering::Relaxed)
    }

    /// Halves the rate at which pieces are given away, for a while; again while it lasts, the
    /// half of that.
    pub fn throttle_bulk(&self, time: Duration) {
        self.shared.pacer.throttle(time);
    }

    /// Goes on over another socket, as when `gone` is an address of this device no more.
    #[cfg(test)]
    fn move_to(&self, socket: Arc<dyn AsyncUdpSocket>, gone: IpAddr) -> std::io::Result<()> {
        let socket = Arc::new(self.shared.stamps.over(socket));
        peer::move_over(&self.shared, socket, |ip| ip == gone)
    }

    /// Sends what is queued, takes the announcement back and closes everything, within half a
    /// second. Whoever should hear a farewell must have been sent it before.
    pub async fn shutdown(mut self) {
        let discovery = self.discovery.take();
        let shared = &self.shared;
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        let links = shared.links.all();
        for link in &links {
            link.push(Outgoing::Close("shutting down".into()));
        }
        let goodbye = async {
            if let Some(discovery) = discovery {
                discovery.stop().await;
            }
        };
        let drained = async {
            for link in &links {
                link.ended().await;
            }
            shared.endpoint.close(VarInt::from_u32(0), b"shutting down");
            shared.endpoint.wait_idle().await;
        };
        // What is not done by then is left to the time-outs of the others.
        let _ = timeout_at(deadline, async { tokio::join!(goodbye, drained) }).await;
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.shared.endpoint.close(VarInt::from_u32(0), b"stopped");
        self.accepting.abort();
        self.watching.iter().for_each(JoinHandle::abort);
    }
}

/// Fetches pieces; see [`Net::fetch`].
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<Shared>,
}

impl Fetcher {
    /// As [`Net::fetch`].
    ///
    /// # Errors
    ///
    /// As [`Net::fetch`].
    pub async fn fetch(&self, peer: NodeId, hash: BlobHash, piece: u32) -> Result<Bytes, NetError> {
        bulk::fetch(&self.shared, peer, BulkRequest { hash, piece }).await
    }
}

fn start_discovery(own: NodeId, scope: Scope, events: mpsc::Sender<NetEvent>) -> Option<Discovery> {
    match Discovery::start(own, scope, events) {
        Ok(discovery) => Some(discovery),
        Err(error) => {
            tracing::warn!(
                %error,
                "cannot look for other devices by mDNS; name them with --peer HOST:PORT"
            );
            None
        }
    }
}

fn socket_error(config: &NetConfig, error: &std::io::Error) -> NetError {
    let any = std::net::Ipv6Addr::UNSPECIFIED.into();
    let (address, port) = (config.bind.unwrap_or(any), config.port);
    NetError::Socket { address, port, reason: error.to_string() }
}

fn dialling(identity: &Identity) -> Result<Dialling, NetError> {
    Ok(Dialling {
        tls: identity.client(ALPN)?,
        transport: Arc::new(control_transport()),
        bulk_tls: identity.client(BULK_ALPN)?,
        bulk_transport: Arc::new(bulk_transport()),
        under_way: Mutex::new(BTreeSet::new()),
    })
}

/// What control and bulk connections, dialled and admitted, have in common.
fn transport() -> TransportConfig {
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("far below QUIC's limit");
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle))
        .initial_rtt(INITIAL_RTT)
        .congestion_controller_factory(Arc::new(congestion::Home::default()))
        .persistent_congestion_threshold(PERSISTENT_CONGESTION)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER))
        .stream_receive_window(VarInt::from_u32(CONTROL_WINDOW))
        .receive_window(VarInt::from_u32(2 * CONTROL_WINDOW));
    transport
}

/// Whoever dialled a control connection keeps it alive; that does for both ends.
fn control_transport() -> TransportConfig {
    let mut transport = transport();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport
}

/// Admitted connections show what they are only after their transport is set, so this serves
/// both kinds. The streams of a control connection beyond its first are never accepted.
fn server_transport() -> TransportConfig {
    let mut transport = transport();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(MAX_BULK_STREAMS));
    transport.send_window(2 * u64::from(BULK_WINDOW));
    transport
}

/// Who dials a bulk connection receives. It is not kept alive: when no piece is wanted for a
/// while it ends by itself.
fn bulk_transport() -> TransportConfig {
    let mut transport = transport();
    transport
        .stream_receive_window(VarInt::from_u32(BULK_WINDOW))
        .receive_window(VarInt::from_u32(BULK_WINDOW));
    transport
}

/// Whether an address is that of this very endpoint.
fn is_here(address: SocketAddr, port: u16) -> bool {
    let has = |ip: IpAddr| {
        // Where they cannot be listed, nobody is accused of anything.
        if_addrs::get_if_addrs().map_or(true, |all| all.iter().any(|one| one.ip() == ip))
    };
    address.port() == port && (address.ip().is_loopback() || has(address.ip()))
}

/// An IPv4 address as such, also where a dual-stack socket wraps it in IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), address.port()),
        IpAddr::V6(_) => address,
    }
}
