//! Which connection speaks for which peer.
//!
//! Two nodes may dial each other at the same time. So that exactly one connection stays and
//! no message is lost on the other, **the node with the smaller id decides**: it says hello on
//! one connection at a time and never on a second while the first is alive; the other node
//! follows it to wherever that hello arrives. A duplicate ends before anybody heard of it.
//!
//! ```text
//!  smaller id                         larger id
//!    dials ──── hello ──────────────►   follows: answers hello, up
//!    up    ◄─────────────── hello ──
//!
//!    decides ◄────────────── hello ──  dials
//!    answers hello, up ─── hello ───►  up           (or: close "duplicate")
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::Connection;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::canonical;
use super::close::CloseCode;
use crate::base::NodeId;
use crate::base::limits::{MAX_MEMBERS, MAX_SEND_BYTES, MAX_SEND_QUEUE};

/// A connection that has been up for this long is up on both sides or on none: a hello on
/// another one means that the peer has lost it.
const SETTLED: Duration = Duration::from_secs(3);

/// Something for the peer's task to do.
pub(super) enum Outgoing {
    /// A whole frame.
    Frame(Vec<u8>),
    /// Send what is queued, then close.
    Close(String),
}

/// What is counted of a peer since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Messages and datagrams of a later version, left out.
    pub(super) skipped: AtomicU64,
    /// Bytes on the streams of its bulk connections, ours and theirs.
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// The connection that speaks for a peer, or is about to.
pub(super) struct Link {
    pub(super) peer: NodeId,
    pub(super) connection: Connection,
    pub(super) counters: Arc<Counters>,
    /// The connection over which pieces are fetched from the peer.
    pub(super) bulk_out: tokio::sync::Mutex<Option<Connection>>,
    /// The connection over which the peer fetches.
    bulk_in: Mutex<Option<Connection>>,
    outgoing: mpsc::Sender<Outgoing>,
    queued_bytes: AtomicUsize,
    up: AtomicBool,
    /// Its host says that nobody listens; that is being looked into.
    doubted: AtomicBool,
    since: Instant,
    /// The peer's start counter once it said hello; 0 before.
    boot: AtomicU32,
    /// Ends when the peer's task does.
    alive: watch::Receiver<()>,
}

/// The other ends of a link, for the peer's task.
pub(super) struct LinkEnds {
    pub(super) outgoing: mpsc::Receiver<Outgoing>,
    /// Dropped when everything about the link has been told; that is all it does.
    _alive: watch::Sender<()>,
}

impl Link {
    pub(super) fn new(
        peer: NodeId,
        connection: Connection,
        counters: Arc<Counters>,
    ) -> (Arc<Link>, LinkEnds) {
        let (outgoing, queue) = mpsc::channel(MAX_SEND_QUEUE);
        let (alive, alive_receiver) = watch::channel(());
        let link = Link {
            peer,
            connection,
            counters,
            bulk_out: tokio::sync::Mutex::new(None),
            bulk_in: Mutex::new(None),
            outgoing,
            queued_bytes: AtomicUsize::new(0),
            up: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            since: Instant::now(),
            boot: AtomicU32::new(0),
            alive: alive_receiver,
        };
        (Arc::new(link), LinkEnds { outgoing: queue, _alive: alive })
    }

    /// Where the peer is now.
    pub(super) fn address(&self) -> SocketAddr {
        canonical(self.connection.remote_address())
    }

    /// Queues something for the peer; a peer that is too far behind is given up.
    pub(super) fn push(&self, outgoing: Outgoing) {
        let len = outgoing.len();
        let queued = self.queued_bytes.fetch_add(len, Ordering::Relaxed) + len;
        let full = match self.outgoing.try_send(outgoing) {
            Ok(()) => false,
            // The peer's task has ended; it says so itself.
            Err(mpsc::error::TrySendError::Closed(_)) => return,
            Err(mpsc::error::TrySendError::Full(_)) => true,
        };
        if full || queued > MAX_SEND_BYTES {
            let peer = self.peer.short();
            tracing::warn!(peer, queued, "peer reads too slowly, closing its connection");
            CloseCode::Overflow.close(&self.connection, "you read too slowly");
        }
    }

    /// Notes that something queued is on its way.
    pub(super) fn popped(&self, outgoing: &Outgoing) {
        self.queued_bytes.fetch_sub(outgoing.len(), Ordering::Relaxed);
    }

    /// Completes when everything about the link has been told.
    pub(super) async fn ended(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Makes this the one connection over which the peer fetches.
    pub(super) fn replace_bulk_in(&self, connection: Connection) -> Option<Connection> {
        lock(&self.bulk_in).replace(connection)
    }

    /// The peer, in its life number `boot`, has been greeted both ways.
    pub(super) fn set_up(&self, boot: u32) {
        self.boot.store(boot, Ordering::Release);
        self.up.store(true, Ordering::Release);
    }

    /// Begins to look into a doubt; false when somebody does already.
    pub(super) fn begin_doubt(&self) -> bool {
        !self.doubted.swap(true, Ordering::AcqRel)
    }

    /// The doubt was unfounded.
    pub(super) fn end_doubt(&self) {
        self.doubted.store(false, Ordering::Release);
    }

    /// Packets that have come from the peer.
    pub(super) fn n_received(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire) && self.connection.close_reason().is_none()
    }
}

impl Outgoing {
    fn len(&self) -> usize {
        match self {
            Outgoing::Frame(bytes) => bytes.len(),
            Outgoing::Close(_) => 0,
        }
    }
}

/// On whose word a connection is to speak for a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// Ours: our id is the smaller, and we dialled.
    Dialled,
    /// Ours: our id is the smaller, and the peer dialled and said hello.
    Greeted {
        /// The peer's start counter.
        boot: u32,
    },
    /// The peer's: its id is the smaller and it said hello.
    Told,
}

/// All links, one per peer.
#[derive(Default)]
pub(super) struct Links {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: BTreeMap<NodeId, Arc<Link>>,
    counters: BTreeMap<NodeId, Arc<Counters>>,
}

impl Links {
    /// Lets `link` speak for its peer and returns the one that it replaces, or says that it
    /// is a duplicate.
    pub(super) fn claim(
        &self,
        link: &Arc<Link>,
        claim: Claim,
    ) -> Result<Option<Arc<Link>>, Duplicate> {
        let mut state = lock(&self.state);
        if state.links.get(&link.peer).is_some_and(|old| !old.yields_to(claim)) {
            return Err(Duplicate);
        }
        Ok(state.links.insert(link.peer, link.clone()))
    }

    /// Forgets a link, unless another speaks for its peer by now.
    pub(super) fn release(&self, link: &Arc<Link>) {
        let mut state = lock(&self.state);
        if state.links.get(&link.peer).is_some_and(|current| Arc::ptr_eq(current, link)) {
            state.links.remove(&link.peer);
        }
    }

    /// The link of a peer that is up.
    pub(super) fn up(&self, peer: NodeId) -> Option<Arc<Link>> {
        lock(&self.state).links.get(&peer).filter(|link| link.is_up()).cloned()
    }

    /// Whether a peer that is up was reached at this address.
    pub(super) fn is_up_at(&self, address: SocketAddr) -> bool {
        lock(&self.state).links.values().any(|link| link.is_up() && link.address() == address)
    }

    /// The links of peers that are up and reached at this address.
    pub(super) fn at(&self, address: SocketAddr) -> Vec<Arc<Link>> {
        let state = lock(&self.state);
        let at = |link: &&Arc<Link>| link.is_up() && link.address() == address;
        state.links.values().filter(at).cloned().collect()
    }

    /// All links, up or not.
    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        lock(&self.state).links.values().cloned().collect()
    }

    /// A peer's counters; they outlive its connections.
    pub(super) fn counters(&self, peer: NodeId) -> Arc<Counters> {
        let mut state = lock(&self.state);
        if state.counters.len() >= 4 * MAX_MEMBERS {
            let State { links, counters } = &mut *state;
            counters.retain(|peer, _| links.contains_key(peer));
        }
        state.counters.entry(peer).or_default().clone()
    }
}

/// Another connection speaks for the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Duplicate;

impl Link {
    fn yields_to(&self, claim: Claim) -> bool {
        if self.connection.close_reason().is_some() {
            return true;
        }
        match claim {
            Claim::Told => true,
            // Whoever is connected does not say hello again, unless it was restarted.
            Claim::Greeted { boot } => {
                let known = self.boot.load(Ordering::Acquire);
                (known != 0 && boot > known) || self.since.elapsed() > SETTLED
            }
            Claim::Dialled => false,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
