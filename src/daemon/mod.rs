//! The daemon: puts the parts together and keeps them running until it is told to stop.
//!
//! | file | what |
//! |---|---|
//! | this one | start, signals, orderly end |
//! | `event_loop` | wait for one input, hand it in, drain the outputs |
//! | `dispatch` | one `match` over the outputs |
//! | `front` | what the local interface asks for |
//! | `clock` | the only reader of this device's clock |
//! | `fitness` | cable, mains, battery: what the system tells of them |
//! | `wifi` | whether the radio sleeps between packets |
//! | `health` | what the machine offers, for `groovebox doctor` |
//! | `logging` | where log lines go |
//! | `service` | what the service manager is told |
//!
//! Nothing here decides anything about rooms, time or music.

pub mod clock;
mod dispatch;
mod event_loop;
mod fitness;
mod front;
mod gateway;
pub mod health;
mod logging;
mod service;
#[cfg_attr(not(target_os = "linux"), path = "wifi_elsewhere.rs")]
mod wifi;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::api::UserWish;
use crate::audio::output::{self, OutputSettings};
use crate::audio::{self, PlayoutCommand, PlayoutReport};
use crate::base::{BlobHash, LocalTime, Span};
use crate::config::{Person, Port, Settings};
use crate::engine::Status;
use crate::engine::node::{
    Input, KnownRoom, Node, NodeConfig, PlayoutFacts, Position, RestoredPosition, RestoredRoom,
};
use crate::engine::transfer::Have;
use crate::identity::{LocalUser, NodeKey, UserKey};
use crate::media::Library;
use crate::net::{BlobProvider, Net, NetConfig, NetEvent};
use crate::store::{self, StoreEvent};
use crate::wire::Hello;

use dispatch::Driver;
use event_loop::{Event, EventLoop, EventSender, SHUTDOWN_DEADLINE};
use front::Front;
pub use front::outputs;

/// Threads that run tasks. Two keep a heartbeat going while the other seals a packet; more
/// only cost memory.
const WORKERS: usize = 2;

/// Threads for files and decoders' starts.
const BLOCKING: usize = 16;

/// As disks are sold.
const MEGABYTE: u64 = 1_000_000;

/// Between these lies how much fetched audio is kept where nobody has said so: a handful of
/// albums, and what a phone's card can spare.
const CACHE_LEAST: u64 = 200 * MEGABYTE;
const CACHE_MOST: u64 = 8000 * MEGABYTE;

/// What threads are called that read files of people: a decoder's fault on a file made to
/// break it ends that file, not the daemon.
const READER_THREADS: &str = "decode";

/// How long a name of a peer that does not resolve is left alone.
const RESOLVE_RETRY: Span = Span::from_secs(5);

/// How often files are looked for that could not be reached.
const FILE_LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often every file of the owner is looked at.
const LOOK_OVER_EVERY: Span = Span::from_secs(24 * 3600);

/// How many of these looks may last at once: half of the threads that may wait.
const MAX_LOOKS: usize = BLOCKING / 2;

/// Why a daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state directory.
    #[error("{}{}", .0, way_out(.0))]
    Store(#[from] store::StoreError),
    /// The cache directory.
    #[error(
        "cannot keep music in {}: {why}; name another directory with --cache-dir, or [storage] \
         cache_dir in the settings",
        path.display()
    )]
    Cache {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        why: crate::media::MediaError,
    },
    /// The network.
    #[error(transparent)]
    Net(#[from] crate::net::NetError),
    /// The local socket.
    #[error(transparent)]
    Api(#[from] crate::api::ApiError),
    /// The key.
    #[error("the device's key cannot be used: {0}")]
    Identity(#[from] crate::identity::IdentityError),
    /// The output's name.
    #[error("audio.output: {0}")]
    Output(String),
    /// The operating system gives no threads, timers or signals.
    #[error("the operating system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

/// What to do where the system refuses the state directory; other errors of it say so themselves.
fn way_out(error: &store::StoreError) -> &'static str {
    match error {
        store::StoreError::Io { .. } | store::StoreError::Sqlite { .. } => {
            "; let the daemon's user write there, or name another directory with --state-dir, or \
             [storage] state_dir in the settings"
        }
        _ => "",
    }
}

/// Runs a daemon until SIGTERM or SIGINT.
///
/// # Errors
///
/// When it cannot start; once it runs, it runs on.
pub fn run(settings: &Settings) -> Result<(), DaemonError> {
    logging::start(&settings.log, settings.log_format);
    end_whole_on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_name("worker")
        .enable_all()
        .build()
        .map_err(|source| DaemonError::System { what: "threads", source })?;
    let outcome = runtime.block_on(serve(settings));
    // A decoder may still be reading a slow disk; the process need not wait for it.
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

/// A panic ends the process: a daemon that lost a thread would keep its place in the room and
/// do nothing there. Only threads that read files may panic and are caught where they began:
/// their names start with [`READER_THREADS`].
fn end_whole_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        if !name.starts_with(READER_THREADS) {
            std::process::abort();
        }
    }));
}

async fn serve(settings: &Settings) -> Result<(), DaemonError> {
    let mut stop = stop_signals()?;
    let (events, queue) = event_loop::channel();
    let parts = Parts::open(settings, events.clone()).await?;
    let listener = crate::api::listen(&settings.socket).await?;
    let (status, watch) = watch::channel(Arc::new(Status::default()));
    let (chat, chat_watch) = watch::channel(Arc::default());
    let driver = &parts.driver;
    let shown = (watch, chat_watch);
    let (library, rooms) = (driver.library.clone(), driver.store.reader());
    let front = Front::new(events.clone(), shown, library, rooms, settings.clone());
    tracing::info!(
        name = %settings.name,
        node = %parts.driver.me.short(),
        port = parts.driver.port,
        socket = %settings.socket.display(),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    introduce(settings, parts.node.user(), &events).await;
    tokio::spawn(fitness::watch(settings.coordinate, status.subscribe(), events.clone()));
    tokio::spawn(watch_files(parts.driver.library.clone(), events.clone()));
    let running = EventLoop::new(parts.node, parts.driver, queue, (status, chat));
    let running = tokio::spawn(running.run());
    let (end_api, api_ended) = tokio::sync::oneshot::channel::<()>();
    let api = tokio::spawn(serve_api(listener, front, api_ended));
    service::ready(&settings.name);
    stop.recv().await;
    tracing::info!("stopping");
    service::stopping();
    let _ = end_api.send(());
    let _ = events.send(Input::ShutdownRequested.into()).await;
    if let Ok(Ok(driver)) = tokio::time::timeout(SHUTDOWN_DEADLINE, running).await {
        close(driver).await;
    } else {
        tracing::warn!("the event loop did not end in time");
    }
    let _ = tokio::time::timeout(SHUTDOWN_DEADLINE, api).await;
    Ok(())
}

/// Looks whether files that could not be reached are there again: a disk that was not mounted. A
/// look may last as long as another machine takes to answer, and holds up no other.
async fn watch_files(library: Library, events: EventSender) {
    let look_over = || {
        let all = library.clone();
        tokio::task::spawn_blocking(move || all.look_over())
    };
    let mut over = look_over();
    let mut looked_over = clock::now();
    let mut looks = BTreeMap::<BlobHash, tokio::task::JoinHandle<()>>::new();
    let mut last = None;
    loop {
        tokio::time::sleep(FILE_LOOK_EVERY).await;
        if over.is_finished() && clock::now() - looked_over >= LOOK_OVER_EVERY {
            looked_over = clock::now();
            over = look_over();
        }
        looks.retain(|_, look| !look.is_finished());
        // In turn, where there are more than can be looked for at once.
        let mut away = library.away();
        let next = away.partition_point(|hash| Some(*hash) <= last);
        away.rotate_left(next);
        for hash in away {
            if looks.len() >= MAX_LOOKS {
                break;
            }
            if looks.contains_key(&hash) {
                continue;
            }
            last = Some(hash);
            let (wanted, events) = (library.clone(), events.clone());
            let look = tokio::task::spawn_blocking(move || {
                if wanted.look_again(&hash) {
                    let found = Input::BlobOpened { hash, have: Have::Complete };
                    let _ = events.blocking_send(found.into());
                }
            });
            looks.insert(hash, look);
        }
    }
}

/// The settings name the person: as if they had said so first thing, where it is news.
async fn introduce(settings: &Settings, user: Option<&LocalUser>, events: &EventSender) {
    let Some(Person { name, display }) = settings.user.clone() else { return };
    let is_known = user.is_some_and(|user| {
        user.name == name && display.as_ref().is_none_or(|display| *display == user.display)
    });
    if is_known {
        return;
    }
    let (reply, answer) = tokio::sync::oneshot::channel();
    let _ = events.send(Event::BecomeUser(UserWish { name, display }, reply)).await;
    tokio::spawn(async move {
        if let Ok(Err(refusal)) = answer.await {
            tracing::warn!(%refusal, "the person of the settings is not taken");
        }
    });
}

async fn serve_api(
    listener: crate::api::Listening,
    front: Front,
    ended: tokio::sync::oneshot::Receiver<()>,
) {
    let shutdown = async {
        let _ = ended.await;
    };
    if let Err(error) = crate::api::serve(listener, Arc::new(front), shutdown).await {
        tracing::error!(%error, "the local interface ended; the music plays on");
    }
}

/// Fades out, says good-bye and writes what is not yet on disk.
async fn close(driver: Driver) {
    let Driver { net, store, mut playout, streams, .. } = driver;
    playout.send(PlayoutCommand::Quit);
    net.shutdown().await;
    let closing = tokio::task::spawn_blocking(move || {
        playout.join();
        drop(streams);
        // Writes what is queued.
        drop(store);
    });
    let _ = tokio::time::timeout(SHUTDOWN_DEADLINE, closing).await;
}

/// One channel for both signals that mean "stop".
fn stop_signals() -> Result<mpsc::Receiver<()>, DaemonError> {
    let (sender, receiver) = mpsc::channel(1);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut stream =
            signal(kind).map_err(|source| DaemonError::System { what: "signals", source })?;
        let sender = sender.clone();
        tokio::spawn(async move {
            stream.recv().await;
            let _ = sender.send(()).await;
        });
    }
    Ok(receiver)
}

/// A node and what it drives, before the loop runs.
struct Parts {
    node: Node,
    driver: Driver,
}

impl Parts {
    async fn open(settings: &Settings, events: EventSender) -> Result<Parts, DaemonError> {
        let output = output_settings(settings)?;
        let (store, loaded) = open_store(settings, events.clone())?;
        for notice in &loaded.notices {
            tracing::warn!("{notice}");
            let _ = events.send(Input::DiskDamaged { notice: notice.clone() }.into()).await;
        }
        let key = Arc::new(NodeKey::from_pkcs8(&loaded.key)?);
        let library = Library::open(&settings.cache_dir, cache_limit(settings))
            .map_err(|why| DaemonError::Cache { path: settings.cache_dir.clone(), why })?;
        let hello = Hello {
            node: key.node_id(),
            boot: loaded.boot,
            name: settings.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            port: 0,
            room: None,
        };
        let net = open_net(settings, key.clone(), hello, &library, events.clone()).await?;
        let playout = start_playout(&output, events.clone());
        resolve_peers(&settings.peers, &events);
        let config = NodeConfig {
            key: key.clone(),
            boot: loaded.boot,
            name: settings.name.clone(),
            user: loaded.user.and_then(local_user),
            friends: loaded.friends,
            version: env!("CARGO_PKG_VERSION").into(),
            seed: seed(),
            secret: secret()?,
            // A device that sounds late must be given its frames early.
            trim: -Span::from_millis(i64::from(settings.trim_ms)),
            peers: Vec::new(),
            remembered: loaded.peers.into_iter().map(|p| (p.node, p.name, p.addresses)).collect(),
            alone: loaded.intent == store::Intent::Alone,
            resume: settings.resume,
            known_rooms: loaded.rooms.into_iter().map(known_room).collect(),
            room: loaded.last_room.map(restored),
        };
        let node = Node::new(config, clock::now());
        let driver = Driver {
            me: key.node_id(),
            port: net.local_port(),
            net,
            store,
            library,
            playout,
            events,
            streams: BTreeMap::new(),
        };
        Ok(Parts { node, driver })
    }
}

fn known_room(room: store::KnownRoom) -> KnownRoom {
    let store::KnownRoom { id, name, code, left_last } = room;
    KnownRoom { id, name, code, left_last }
}

fn local_user(saved: store::SavedUser) -> Option<LocalUser> {
    match UserKey::from_pkcs8(&saved.key) {
        Ok(key) => Some(LocalUser { key: Arc::new(key), name: saved.name, display: saved.display }),
        Err(error) => {
            tracing::warn!(%error, "the person's key cannot be used; this device has no person");
            None
        }
    }
}

fn restored(room: store::LoadedRoom) -> RestoredRoom {
    let position = room.position.map(|saved| RestoredPosition {
        position: Position {
            segment: saved.segment,
            position: saved.position,
            playing: saved.playing,
            clock_epoch: saved.clock_epoch,
            at: saved.room,
        },
        outage: clock::outage(saved.wall, clock::wall()),
    });
    let store::LoadedRoom { snapshot, entries, outbox, dropped, .. } = room;
    RestoredRoom { snapshot, entries, outbox, dropped, position }
}

fn output_settings(settings: &Settings) -> Result<OutputSettings, DaemonError> {
    let choice = settings.output.parse().map_err(|e| DaemonError::Output(format!("{e}")))?;
    Ok(OutputSettings {
        choice,
        buffer: Span::from_millis(i64::from(settings.buffer_ms)),
        record: settings.record.clone(),
    })
}

fn open_store(
    settings: &Settings,
    events: EventSender,
) -> Result<(store::Store, store::Loaded), DaemonError> {
    let on_event = move |event: StoreEvent| {
        let input = match event {
            StoreEvent::Written { room, idx, chain, .. } => Input::Written { room, idx, chain },
            StoreEvent::NeedsRoom { room } => Input::RoomNotWritten { room },
            StoreEvent::Synced { room, idx, .. } => Input::Synced { room, idx },
            StoreEvent::Damaged { notice } => {
                tracing::warn!("{notice}");
                Input::DiskDamaged { notice }
            }
            StoreEvent::Failed { reason, .. } => {
                tracing::warn!(%reason, "the disk refused something; it is tried again");
                return;
            }
        };
        let _ = events.blocking_send(input.into());
    };
    let new_key = || {
        let key = NodeKey::generate(&SystemRandom::new())?;
        Ok(key.pkcs8().to_vec())
    };
    Ok(store::open(&settings.state_dir, new_key, Box::new(on_event))?)
}

async fn open_net(
    settings: &Settings,
    key: Arc<NodeKey>,
    hello: Hello,
    library: &Library,
    events: EventSender,
) -> Result<Net, DaemonError> {
    let (sender, mut receiver) = mpsc::channel(crate::base::limits::EVENT_QUEUE);
    let config = NetConfig {
        key,
        bind: settings.bind,
        port: settings.port.number(),
        port_required: matches!(settings.port, Port::Exactly(_)),
        clock: clock::now,
        mdns: settings.mdns,
        hello,
    };
    let net = Net::start(config, sender, Arc::new(Pieces(library.clone()))).await?;
    tokio::spawn(async move {
        while let Some(event) = receiver.recv().await {
            let Some(input) = input_from(event) else { continue };
            if events.send(input.into()).await.is_err() {
                return;
            }
        }
    });
    Ok(net)
}

/// How many bytes of fetched audio are kept.
fn cache_limit(settings: &Settings) -> u64 {
    if settings.cache_mb > 0 {
        return u64::from(settings.cache_mb) * MEGABYTE;
    }
    // The cache's own bytes are not free any more; a share of what is left is close enough.
    let mut folders = settings.cache_dir.ancestors();
    let disk = folders.find_map(|folder| rustix::fs::statvfs(folder).ok());
    let share = disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) / 5);
    share.unwrap_or(CACHE_MOST).clamp(CACHE_LEAST, CACHE_MOST)
}

/// The cache as the network sees it.
struct Pieces(Library);

impl BlobProvider for Pieces {
    fn piece(&self, hash: BlobHash, piece: u32) -> Result<Vec<u8>, String> {
        self.0.encode_piece(&hash, piece).map_err(|error| error.to_string())
    }
}

fn input_from(event: NetEvent) -> Option<Input> {
    Some(match event {
        NetEvent::Connected { peer, address, hello, channel } => {
            Input::PeerConnected { peer, address, hello, channel }
        }
        NetEvent::Lost { peer, reason } => {
            tracing::debug!(peer = %peer.short(), %reason, "connection lost");
            Input::PeerLost { peer }
        }
        NetEvent::Doubted { peer } => {
            tracing::debug!(peer = %peer.short(), "its host says that nobody listens there");
            Input::PeerDoubted { peer }
        }
        NetEvent::Message { from, message } => Input::MessageReceived { from, message },
        NetEvent::Datagram { from, datagram, at } => Input::DatagramReceived { from, datagram, at },
        NetEvent::Discovered { announcement, addresses } => {
            Input::PeerDiscovered { announcement, addresses }
        }
        NetEvent::Vanished { node } => Input::PeerVanished { node },
        NetEvent::Moved { peer, address } => Input::PeerMoved { peer, address },
        NetEvent::Twin { address } => Input::TwinSeen { address },
        NetEvent::DialFailed { address, node, reason } => {
            tracing::debug!(%address, %reason, "could not connect");
            Input::DialFailed { address, node }
        }
        // The network has logged it already.
        NetEvent::Refused { .. } => return None,
    })
}

fn start_playout(output: &OutputSettings, events: EventSender) -> audio::PlayoutHandle {
    let report = move |report: PlayoutReport| {
        // The playout thread never waits; a report that finds no place is followed by another.
        let _ = events.try_send(Event::Input(Input::PlayoutReported(facts(&report))));
    };
    audio::start(clock::now, output::sink(output, clock::now), Box::new(report))
}

fn facts(report: &PlayoutReport) -> PlayoutFacts {
    PlayoutFacts {
        output: report.output.clone(),
        error_s: report.error_s,
        correction_ppm: report.correction_ppm,
        dac_ppm: report.dac_ppm,
        dac_sigma_s: report.dac_sigma_s,
        buffer_ms: report.buffer_ms,
        underruns: report.underruns,
        depth: report.depth,
        locked: report.locked,
    }
}

/// Looks peers' names up until they are found: a name may be known only once the network is.
fn resolve_peers(peers: &[String], events: &EventSender) {
    for peer in peers {
        let peer = peer.clone();
        let events = events.clone();
        tokio::spawn(async move {
            loop {
                match tokio::net::lookup_host(&peer).await {
                    Ok(addresses) => {
                        for address in addresses.collect::<Vec<SocketAddr>>() {
                            let _ = events.send(Input::PeerNamed { address }.into()).await;
                        }
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%peer, %error, "peer's name is not known; trying again");
                        tokio::time::sleep(RESOLVE_RETRY.to_std()).await;
                    }
                }
            }
        });
    }
}

/// What secrets are drawn from. Without it nothing could be kept secret, so there is no start.
fn secret() -> Result<[u8; 32], DaemonError> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| crate::identity::IdentityError::NoRandomness)?;
    Ok(bytes)
}

/// Different for every start: two nodes that draw alike would always draw together.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the time of the start must do.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        let LocalTime(now) = clock::now();
        return now.unsigned_abs();
    }
    u64::from_le_bytes(bytes)
}
