//! One task per peer: dialling or admitting, the hello both ways, then reading and writing
//! until the connection ends.
//!
//! ```text
//!  dial(address) ─┐                         ┌─ frames    → NetEvent::Message
//!                 ├─► greet ─► Connected ───┼─ datagrams → NetEvent::Datagram ──► Lost
//!  accept() ──────┘     │                   └─ queue     → frames
//!                       └─► DialFailed, Refused, or nothing for a duplicate
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AsyncUdpSocket, ClientConfig, Connecting, Connection, ConnectionError, Endpoint, Incoming,
    RecvStream, SendStream, Side, TransportConfig,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{timeout, timeout_at};

use super::addresses::Addresses;
use super::close::{CloseCode, RateLimit, describe};
use super::frame::{FrameError, read_message};
use super::links::{Claim, Duplicate, Link, LinkEnds, Links, Outgoing};
use super::pacer::Pacer;
use super::socket::{MarkedSocket, Stamped};
use super::{BlobProvider, NetError, NetEvent, bulk, canonical, tls};
use crate::base::limits::{HELLO_TIMEOUT, MAX_DIALS, MAX_FRAME, MAX_SNAPSHOT, MAX_UNGREETED};
use crate::base::{Clock, LocalTime, NodeId, Term};
use crate::wire::codec;
use crate::wire::{ALPN, BULK_ALPN, Datagram, Hello, Message, Probe, WireError};

/// How long what is queued may take to reach a peer when its connection is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// How long a peer that ended its stream may take to say why.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the better one of two simultaneous dials may take after the other has ended.
const RIVAL_DIAL: Duration = Duration::from_millis(500);

/// How long a peer may take to contradict its host: a round trip and the acknowledgement's
/// delay, on Wi-Fi that is not stalled.
const DOUBT: Duration = Duration::from_millis(200);

/// Everything that the tasks of the network share.
pub(super) struct Shared {
    pub(super) own: NodeId,
    pub(super) clock: Clock,
    pub(super) endpoint: Endpoint,
    pub(super) dialling: Dialling,
    pub(super) stamps: Arc<Stamped>,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) provider: Arc<dyn BlobProvider>,
    pub(super) hello: Mutex<Hello>,
    pub(super) links: Links,
    pub(super) pacer: Pacer,
    /// Places for connections that have not said hello.
    pub(super) ungreeted: Arc<Semaphore>,
    pub(super) refusals: RateLimit,
    /// Changes whenever a peer comes up.
    pub(super) ups: watch::Sender<u64>,
    /// Who is given pieces; none is everybody.
    pub(super) admitted: Mutex<Option<BTreeSet<NodeId>>>,
}

/// How to dial, and what is being dialled.
pub(super) struct Dialling {
    pub(super) tls: Arc<QuicClientConfig>,
    pub(super) transport: Arc<TransportConfig>,
    pub(super) bulk_tls: Arc<QuicClientConfig>,
    pub(super) bulk_transport: Arc<TransportConfig>,
    pub(super) under_way: Mutex<BTreeSet<SocketAddr>>,
}

impl Shared {
    /// The link of a peer that is up.
    pub(super) fn link(&self, peer: NodeId) -> Option<Arc<Link>> {
        self.links.up(peer)
    }

    /// The link of a peer as soon as it is up, if that happens within `limit`.
    pub(super) async fn until_up(&self, peer: NodeId, limit: Duration) -> Option<Arc<Link>> {
        let mut ups = self.ups.subscribe();
        let up = async {
            loop {
                if let Some(link) = self.link(peer) {
                    break link;
                }
                // The sender lives in `self`.
                let _ = ups.changed().await;
            }
        };
        timeout(limit, up).await.ok()
    }

    /// A bulk connection to `address` in the making.
    pub(super) fn connect_bulk(&self, address: SocketAddr) -> Result<Connecting, NetError> {
        let mut config = ClientConfig::new(self.dialling.bulk_tls.clone());
        config.transport_config(self.dialling.bulk_transport.clone());
        self.endpoint
            .connect_with(config, address, tls::SERVER_NAME)
            .map_err(|e| NetError::Fetch { reason: e.to_string() })
    }

    pub(super) fn admit(&self, nodes: Option<BTreeSet<NodeId>>) {
        *lock(&self.admitted) = nodes;
    }

    pub(super) fn admits(&self, node: NodeId) -> bool {
        lock(&self.admitted).as_ref().is_none_or(|nodes| nodes.contains(&node))
    }

    pub(super) fn hello(&self) -> MutexGuard<'_, Hello> {
        lock(&self.hello)
    }

    async fn tell(&self, event: NetEvent) {
        // Without a receiver the daemon is ending, and nobody needs to know.
        let _ = self.events.send(event).await;
    }

    /// Somebody has proven this device's own key. That is this device itself, reached at one of
    /// its own addresses, or another one that was set up with a copy of its state.
    async fn own_key_seen_at(&self, address: SocketAddr) {
        let port = self.hello().port;
        if !super::is_here(address, port) {
            self.tell(NetEvent::Twin { address }).await;
        }
    }

    /// Tells of a stranger that was turned away, as far as strangers deserve it.
    async fn refuse(&self, address: SocketAddr, reason: String) {
        if self.refusals.admit() {
            tracing::warn!(%address, reason, "connection refused");
            self.tell(NetEvent::Refused { address, reason }).await;
        }
    }
}

/// Why there is no greeting.
struct Failure {
    code: CloseCode,
    reason: String,
}

impl Failure {
    fn new(code: CloseCode, reason: impl Into<String>) -> Failure {
        Failure { code, reason: reason.into() }
    }
}

impl From<Duplicate> for Failure {
    fn from(_: Duplicate) -> Failure {
        Failure::new(CloseCode::Duplicate, "connected already")
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Failure {
        let code = match &error {
            _ if CloseCode::Duplicate.closed(&error) => CloseCode::Duplicate,
            // The peer knows why and says so at its end.
            ConnectionError::ApplicationClosed(_) => CloseCode::Closed,
            _ => CloseCode::Silent,
        };
        Failure::new(code, describe(&error))
    }
}

// ---- dialling ------------------------------------------------------------------------------

/// Begins to dial, unless that is in vain or under way.
pub(super) fn dial(shared: &Arc<Shared>, address: SocketAddr, node: Option<NodeId>) {
    let address = canonical(address);
    let connected = match node {
        Some(node) => shared.link(node).is_some(),
        None => shared.links.is_up_at(address),
    };
    let mut under_way = lock(&shared.dialling.under_way);
    if connected || under_way.len() >= MAX_DIALS || !under_way.insert(address) {
        return;
    }
    let shared = shared.clone();
    tokio::spawn(async move {
        let outcome = greet_by_dialling(&shared, address, node).await;
        lock(&shared.dialling.under_way).remove(&address);
        match outcome {
            Ok(greeted) => greeted.run().await,
            // Usually another connection has come up meanwhile. Where none has, the peer has not
            // yet noticed that its old one is dead, as after a move of this device.
            Err(Failure { code: CloseCode::Duplicate, .. })
                if node.is_none() || is_up_soon(&shared, node).await => {}
            Err(Failure { code, reason }) => {
                if code == CloseCode::Own {
                    shared.own_key_seen_at(address).await;
                }
                tracing::debug!(%address, reason, "dialling failed");
                shared.tell(NetEvent::DialFailed { address, node, reason }).await;
            }
        }
    });
}

/// Whether a connection with the node is up, or will be in a moment: of two simultaneous dials
/// the one that is given up may end before the other has come up.
async fn is_up_soon(shared: &Shared, node: Option<NodeId>) -> bool {
    match node {
        Some(node) => shared.until_up(node, RIVAL_DIAL).await.is_some(),
        None => false,
    }
}

async fn greet_by_dialling(
    shared: &Arc<Shared>,
    address: SocketAddr,
    node: Option<NodeId>,
) -> Result<Greeted, Failure> {
    let deadline = tokio::time::Instant::now() + HELLO_TIMEOUT.to_std();
    let mut config = ClientConfig::new(shared.dialling.tls.clone());
    config.transport_config(shared.dialling.transport.clone());
    let connecting = shared
        .endpoint
        .connect_with(config, address, tls::SERVER_NAME)
        .map_err(|e| Failure::new(CloseCode::Closed, format!("cannot be dialled: {e}")))?;
    let silent = |_| Failure::new(CloseCode::Silent, "no answer");
    let connection = timeout_at(deadline, connecting).await.map_err(silent)??;
    let greeting = timeout_at(deadline, greet_first(shared, &connection, node)).await;
    let outcome = greeting.unwrap_or_else(|_| {
        Err(Failure::new(CloseCode::Silent, "connected, but no hello came back"))
    });
    close_on_failure(&connection, outcome)
}

/// As the one who dialled: our hello first.
async fn greet_first(
    shared: &Arc<Shared>,
    connection: &Connection,
    node: Option<NodeId>,
) -> Result<Greeted, Failure> {
    let peer = proven(shared, connection)?;
    if node.is_some_and(|node| node != peer) {
        return Err(Failure::new(CloseCode::Identity, "another device answers there"));
    }
    if shared.link(peer).is_some() {
        return Err(Duplicate.into());
    }
    let mut claimed = Claimed::new(shared, peer, connection);
    if shared.own < peer {
        claimed.claim(Claim::Dialled)?;
    }
    let (mut send, mut recv) = connection.open_bi().await?;
    say_hello(shared, connection, &mut send).await?;
    let hello = hear_hello(connection, &mut recv, peer).await?;
    if peer < shared.own {
        claimed.claim(Claim::Told)?;
    }
    Ok(Greeted { claimed, send, recv, hello })
}

// ---- admitting -----------------------------------------------------------------------------

/// Takes incoming connections until the endpoint closes.
pub(super) async fn accept(shared: Arc<Shared>) {
    while let Some(incoming) = shared.endpoint.accept().await {
        let address = canonical(incoming.remote_address());
        let Ok(place) = shared.ungreeted.clone().try_acquire_owned() else {
            incoming.refuse();
            shared.refuse(address, "too many connections without a hello".into()).await;
            continue;
        };
        // When it gets crowded, senders with a forged address get no place (RFC 9000, 8.1).
        if shared.ungreeted.available_permits() < MAX_UNGREETED / 2 && incoming.may_retry() {
            // It fails only for those that may not retry.
            let _ = incoming.retry();
            continue;
        }
        tokio::spawn(admit(shared.clone(), incoming, address, place));
    }
}

async fn admit(
    shared: Arc<Shared>,
    incoming: Incoming,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let deadline = tokio::time::Instant::now() + HELLO_TIMEOUT.to_std();
    let connecting = async { incoming.accept()?.await };
    let connection = match timeout_at(deadline, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return shared.refuse(address, describe(&error)).await,
        Err(_) => return shared.refuse(address, "its handshake took too long".into()).await,
    };
    if tls::alpn_of(&connection).as_deref() == Some(BULK_ALPN) {
        if let Some(peer) = tls::peer_of(&connection) {
            drop(place);
            bulk::serve(shared, connection, peer).await;
        }
        return;
    }
    let greeting = timeout_at(deadline, greet_second(&shared, &connection)).await;
    let outcome =
        greeting.unwrap_or_else(|_| Err(Failure::new(CloseCode::Silent, "it did not say hello")));
    drop(place);
    match close_on_failure(&connection, outcome) {
        Ok(greeted) => greeted.run().await,
        Err(Failure { code: CloseCode::Own, .. }) => shared.own_key_seen_at(address).await,
        Err(Failure { code: CloseCode::Duplicate | CloseCode::Closed, .. }) => {}
        Err(Failure { reason, .. }) => shared.refuse(address, reason).await,
    }
}

/// As the one who was dialled: our hello second, and only if this connection is to stay.
async fn greet_second(shared: &Arc<Shared>, connection: &Connection) -> Result<Greeted, Failure> {
    let peer = proven(shared, connection)?;
    let (mut send, mut recv) = connection.accept_bi().await?;
    let hello = hear_hello(connection, &mut recv, peer).await?;
    let mut claimed = Claimed::new(shared, peer, connection);
    let ours = shared.own < peer;
    claimed.claim(if ours { Claim::Greeted { boot: hello.boot } } else { Claim::Told })?;
    say_hello(shared, connection, &mut send).await?;
    Ok(Greeted { claimed, send, recv, hello })
}

// ---- the hello -----------------------------------------------------------------------------

/// The node at the other end; nobody talks to himself.
fn proven(shared: &Shared, connection: &Connection) -> Result<NodeId, Failure> {
    let Some(peer) = tls::peer_of(connection) else {
        return Err(Failure::new(CloseCode::Identity, "it did not prove a key"));
    };
    if peer == shared.own {
        return Err(Failure::new(CloseCode::Own, "that is this device itself"));
    }
    Ok(peer)
}

async fn say_hello(
    shared: &Shared,
    connection: &Connection,
    send: &mut SendStream,
) -> Result<(), Failure> {
    let hello = Message::Hello(shared.hello().clone());
    let frame = codec::encode_message(&hello)
        .map_err(|e| Failure::new(CloseCode::Closed, format!("own hello cannot be sent: {e}")))?;
    match send.write_all(&frame).await {
        Ok(()) => Ok(()),
        Err(_) => Err(connection.closed().await.into()),
    }
}

async fn hear_hello(
    connection: &Connection,
    recv: &mut RecvStream,
    peer: NodeId,
) -> Result<Hello, Failure> {
    let no_hello = |reason: String| Failure::new(CloseCode::Malformed, reason);
    match read_message(recv, MAX_FRAME).await {
        Ok(Message::Hello(hello)) if hello.node == peer => Ok(hello),
        Ok(Message::Hello(_)) => {
            Err(Failure::new(CloseCode::Identity, "its hello names another node than its key"))
        }
        Ok(_) => Err(no_hello("it did not begin with a hello".into())),
        Err(FrameError::Wire(e)) => Err(no_hello(format!("its hello is malformed: {e}"))),
        Err(FrameError::End) => Err(connection.closed().await.into()),
    }
}

fn close_on_failure(
    connection: &Connection,
    outcome: Result<Greeted, Failure>,
) -> Result<Greeted, Failure> {
    if let Err(failure) = &outcome {
        failure.code.close(connection, &failure.reason);
    }
    outcome
}

/// A link that lets go of its claim when it is dropped.
struct Claimed {
    shared: Arc<Shared>,
    link: Arc<Link>,
    ends: LinkEnds,
    replaced: Option<Arc<Link>>,
}

impl Claimed {
    fn new(shared: &Arc<Shared>, peer: NodeId, connection: &Connection) -> Claimed {
        let counters = shared.links.counters(peer);
        let (link, ends) = Link::new(peer, connection.clone(), counters);
        Claimed { shared: shared.clone(), link, ends, replaced: None }
    }

    fn claim(&mut self, claim: Claim) -> Result<(), Duplicate> {
        self.replaced = self.shared.links.claim(&self.link, claim)?;
        if let Some(old) = &self.replaced {
            CloseCode::Duplicate.close(&old.connection, "replaced by another connection");
        }
        Ok(())
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.shared.links.release(&self.link);
    }
}

// ---- up ------------------------------------------------------------------------------------

/// A peer that said hello and heard ours.
struct Greeted {
    claimed: Claimed,
    send: SendStream,
    recv: RecvStream,
    hello: Hello,
}

impl Greeted {
    /// Serves the peer from `Connected` to `Lost`.
    async fn run(self) {
        let Greeted { mut claimed, mut send, mut recv, hello } = self;
        let (shared, link) = (claimed.shared.clone(), claimed.link.clone());
        if let Some(old) = claimed.replaced.take() {
            // Its end is told before our beginning.
            old.ended().await;
        }
        link.set_up(hello.boot);
        shared.ups.send_modify(|n| *n += 1);
        let (peer, address) = (link.peer, link.address());
        tracing::debug!(peer = peer.short(), %address, name = hello.name, "peer is up");
        let channel = tls::channel_of(&link.connection);
        shared.tell(NetEvent::Connected { peer, address, hello, channel }).await;
        let reason = tokio::select! {
            reason = read_frames(&shared, &link, &mut recv) => reason,
            reason = read_datagrams(&shared, &link) => reason,
            reason = write_frames(&link, &mut claimed.ends.outgoing, &mut send) => reason,
        };
        if let Some(bulk) = link.bulk_out.lock().await.take() {
            CloseCode::Closed.close(&bulk, "control connection ended");
        }
        shared.links.release(&link);
        tracing::debug!(peer = peer.short(), %address, reason, "peer is gone");
        shared.tell(NetEvent::Lost { peer, reason }).await;
        // Now the ends of the link are dropped: whoever waits for that may go on.
    }
}

/// Hands messages on until the stream ends, and says why it did.
async fn read_frames(shared: &Shared, link: &Link, recv: &mut RecvStream) -> String {
    loop {
        let message = match read_message(recv, MAX_SNAPSHOT).await {
            Ok(Message::Hello(_)) => return malformed(link, "a second hello"),
            Ok(message) => message,
            Err(FrameError::Wire(WireError::Unknown(number))) => {
                skip(link, "message", number);
                continue;
            }
            Err(FrameError::Wire(error)) => return malformed(link, &error.to_string()),
            Err(FrameError::End) => return end_of(link).await,
        };
        shared.tell(NetEvent::Message { from: link.peer, message }).await;
    }
}

/// Leaves out what only a later version knows. That is said once a connection.
fn skip(link: &Link, what: &str, number: u32) {
    if link.counters.skipped.fetch_add(1, Ordering::Relaxed) == 0 {
        let (peer, address) = (link.peer.short(), link.address());
        tracing::info!(
            peer, %address, what, number,
            "peer runs a later version; what this one does not know is left out"
        );
    }
}

/// Closes the connection of a peer that sends nonsense.
fn malformed(link: &Link, what: &str) -> String {
    let (peer, address) = (link.peer.short(), link.address());
    tracing::warn!(peer, %address, what, "peer sent something malformed, closing its connection");
    CloseCode::Malformed.close(&link.connection, what);
    format!("it sent something malformed: {what}")
}

/// Why a connection ended whose stream has ended.
async fn end_of(link: &Link) -> String {
    if let Ok(error) = timeout(REASON_TIMEOUT, link.connection.closed()).await {
        return describe(&error);
    }
    CloseCode::Closed.close(&link.connection, "your stream ended");
    "it ended its stream".into()
}

/// Hands datagrams on with their stamps. The end of the connection is told by the stream,
/// which may still have messages in it.
async fn read_datagrams(shared: &Shared, link: &Link) -> String {
    let mut address = link.address();
    while let Ok(bytes) = link.connection.read_datagram().await {
        let at = shared.stamps.last_receive();
        // Asked once for each datagram: it takes the connection's lock.
        let present = link.address();
        if present != address {
            address = present;
            let peer = link.peer;
            tracing::debug!(peer = peer.short(), %address, "peer has moved");
            shared.tell(NetEvent::Moved { peer, address }).await;
        }
        match codec::decode_datagram(&bytes) {
            Ok(datagram) => {
                shared.tell(NetEvent::Datagram { from: link.peer, datagram, at }).await;
            }
            Err(WireError::Unknown(number)) => skip(link, "datagram", number),
            Err(error) => return malformed(link, &format!("datagram: {error}")),
        }
    }
    std::future::pending().await
}

/// Writes what is queued until this side closes.
async fn write_frames(
    link: &Link,
    queue: &mut mpsc::Receiver<Outgoing>,
    send: &mut SendStream,
) -> String {
    while let Some(outgoing) = queue.recv().await {
        link.popped(&outgoing);
        match outgoing {
            Outgoing::Frame(frame) => {
                if send.write_all(&frame).await.is_err() {
                    break;
                }
            }
            Outgoing::Close(reason) => {
                let _ = send.finish();
                // Completes when everything has been acknowledged.
                let _ = timeout(DRAIN_TIMEOUT, send.stopped()).await;
                CloseCode::Closed.close(&link.connection, &reason);
                return format!("closed by this device: {reason}");
            }
        }
    }
    // The connection failed; the reader says how.
    std::future::pending().await
}

/// Moves with this device from one address to another.
pub(super) async fn watch_addresses(shared: Arc<Shared>) {
    let mut addresses = Addresses::new();
    loop {
        let now = addresses.changed().await;
        tracing::info!(addresses = now.len(), "this device's addresses changed");
        // The socket is bound to all of them; the connections must notice.
        let socket = shared.stamps.clone();
        if let Err(error) = move_over(&shared, socket, |ip| !now.contains(&ip)) {
            tracing::warn!(%error, "connections could not be moved to the new address");
        }
    }
}

/// Carries the connections over to a socket, after some of this device's addresses have gone.
///
/// Those that this side dialled move by themselves (RFC 9000, section 9): the peer sees a
/// packet from elsewhere and checks that path. Whoever was dialled may not move; its old
/// address is all that the other side knows. Such connections are made anew, by dialling.
pub(super) fn move_over(
    shared: &Arc<Shared>,
    socket: Arc<dyn AsyncUdpSocket>,
    gone: impl Fn(IpAddr) -> bool,
) -> std::io::Result<()> {
    shared.endpoint.rebind_abstract(socket)?;
    for link in shared.links.all() {
        let here = link.connection.local_ip().map(|ip| ip.to_canonical());
        if here.is_some_and(&gone) && link.connection.side() == Side::Server {
            let (peer, address) = (link.peer, link.address());
            tracing::debug!(peer = peer.short(), %address, "dialling from the new address");
            CloseCode::Closed.close(&link.connection, "moved to another address");
            dial(shared, address, Some(peer));
        }
    }
    Ok(())
}

/// Looks into what hosts say of ports where nobody listens any more.
pub(super) async fn watch_refusals(shared: Arc<Shared>, socket: Arc<MarkedSocket>) {
    while let Ok(address) = socket.refused().await {
        for link in shared.links.at(canonical(address)) {
            if link.begin_doubt() {
                tokio::spawn(look_into(shared.clone(), link));
            }
        }
    }
}

/// A peer that is alive answers whatever is sent to it; one that says nothing is gone.
async fn look_into(shared: Arc<Shared>, link: Arc<Link>) {
    let heard = link.n_received();
    shared.tell(NetEvent::Doubted { peer: link.peer }).await;
    // Nobody's clock is meant: it is acknowledged by QUIC and ignored by everybody else.
    let question = Probe { seq: 0, source: Term::ZERO, t1: LocalTime(0) };
    send_datagram(&shared, &link, Datagram::Probe(question));
    tokio::time::sleep(DOUBT).await;
    if link.n_received() == heard {
        CloseCode::Closed.close(&link.connection, "nobody listens there any more");
    }
    link.end_doubt();
}

/// Sends a datagram now; expendable, so nothing waits and nothing is kept.
pub(super) fn send_datagram(shared: &Shared, link: &Link, mut datagram: Datagram) {
    stamp(&mut datagram, (shared.clock)());
    let sent = codec::encode_datagram(&datagram).map_err(|e| e.to_string()).and_then(|bytes| {
        link.connection.send_datagram(Bytes::from(bytes)).map_err(|e| e.to_string())
    });
    if let Err(error) = sent {
        tracing::debug!(peer = link.peer.short(), error, "datagram not sent");
    }
}

/// Clock exchange is stamped as late as can be.
fn stamp(datagram: &mut Datagram, now: LocalTime) {
    match datagram {
        Datagram::Probe(probe) => probe.t1 = now,
        Datagram::ProbeReply(reply) => reply.t3 = now,
        _ => {}
    }
}

/// The protocols that an endpoint answers to.
pub(super) const ALPNS: [&[u8]; 2] = [ALPN, BULK_ALPN];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
