//! Finding each other: multicast DNS service discovery (RFC 6762, RFC 6763).
//!
//! A hint, nothing more: an address that was announced is worth a dial. That a node is alive,
//! and that it is who it says, comes from QUIC. A network that swallows multicast is a reason
//! for a warning and for `--peer`, not for stopping.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use mdns_sd::{
    IfKind, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::NetEvent;
use crate::base::NodeId;
use crate::base::limits::MAX_ADDRESSES;
use crate::wire::Announcement;
use crate::wire::announce::SERVICE;

/// How often the interfaces are looked at, in seconds.
const INTERFACE_CHECK: u32 = 1;

/// How long the farewell may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(250);

/// Between two attempts to browse again.
const BROWSE_AGAIN: Duration = Duration::from_secs(1);

/// Services remembered by name, for their farewell.
const MAX_SERVICES: usize = 1024;

/// The running announcer and browser.
pub(super) struct Discovery {
    announcement: watch::Sender<Option<Announcement>>,
    task: JoinHandle<()>,
}

/// Which addresses may be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// Everything is confined to this address.
    pub(super) bind: Option<IpAddr>,
    /// The socket reaches IPv6.
    pub(super) v6: bool,
}

impl Discovery {
    /// Starts to browse; announces from the first [`announce`](Discovery::announce) on.
    ///
    /// # Errors
    ///
    /// When the multicast port cannot be opened.
    pub(super) fn start(
        own: NodeId,
        scope: Scope,
        events: mpsc::Sender<NetEvent>,
    ) -> Result<Discovery, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        daemon.set_ip_check_interval(INTERFACE_CHECK)?;
        let loopback = choose_interfaces(&daemon, scope.bind)?;
        let found = daemon.browse(SERVICE)?;
        let (announcement, announced) = watch::channel(None);
        let browser = Browser {
            own,
            scope,
            loopback,
            daemon,
            events,
            known: BTreeMap::new(),
            registered: None,
        };
        let task = tokio::spawn(browser.run(found, announced));
        Ok(Discovery { announcement, task })
    }

    /// Announces this from now on.
    pub(super) fn announce(&self, announcement: Announcement) {
        self.announcement.send_if_modified(|current| {
            let new = Some(announcement);
            let changed = *current != new;
            *current = new;
            changed
        });
    }

    /// Says goodbye and stops.
    pub(super) async fn stop(self) {
        drop(self.announcement);
        // The farewell has its own deadline.
        let _ = self.task.await;
    }
}

/// Who announces itself within `patience`, this device's own daemon included. Asks the network
/// anew, beside whatever daemon runs here.
///
/// # Errors
///
/// When the multicast port cannot be opened, with what the system says.
pub async fn survey(
    bind: Option<IpAddr>,
    patience: Duration,
) -> Result<Vec<Announcement>, std::io::Error> {
    let told = |error: mdns_sd::Error| std::io::Error::other(error.to_string());
    let daemon = ServiceDaemon::new().map_err(told)?;
    choose_interfaces(&daemon, bind).map_err(told)?;
    let found = daemon.browse(SERVICE).map_err(told)?;
    let mut known = BTreeMap::new();
    let listening = async {
        while let Ok(event) = found.recv_async().await {
            let ServiceEvent::ServiceResolved(service) = event else { continue };
            let txt = service.txt_properties.iter().map(|pair| (pair.key(), pair.val_str()));
            if let Ok(announcement) = Announcement::from_txt(txt)
                && known.len() < MAX_SERVICES
            {
                known.insert(announcement.node, announcement);
            }
        }
    };
    // It ends by the time only, unless the listener's thread does.
    let _ = timeout(patience, listening).await;
    let _ = daemon.shutdown();
    Ok(known.into_values().collect())
}

/// Where multicast goes. Loopback only when it is all there is, or all that is wanted:
/// 127.0.0.1 in an announcement means something else to everybody who hears it.
fn choose_interfaces(
    daemon: &ServiceDaemon,
    bind: Option<IpAddr>,
) -> Result<Loopback, mdns_sd::Error> {
    let Some(ip) = bind else {
        let loopback = Loopback::now();
        loopback.apply(daemon)?;
        return Ok(loopback);
    };
    daemon.disable_interface(IfKind::All)?;
    daemon.enable_interface(IfKind::Addr(ip))?;
    Ok(if ip.is_loopback() { Loopback::Used } else { Loopback::Unused })
}

/// Whether the loopback interface takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loopback {
    Used,
    Unused,
}

impl Loopback {
    fn now() -> Loopback {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        if interfaces.iter().all(if_addrs::Interface::is_loopback) {
            Loopback::Used
        } else {
            Loopback::Unused
        }
    }

    fn apply(self, daemon: &ServiceDaemon) -> Result<(), mdns_sd::Error> {
        let kinds = vec![IfKind::LoopbackV4, IfKind::LoopbackV6];
        match self {
            Loopback::Used => daemon.enable_interface(kinds),
            Loopback::Unused => daemon.disable_interface(kinds),
        }
    }
}

struct Browser {
    own: NodeId,
    scope: Scope,
    loopback: Loopback,
    daemon: ServiceDaemon,
    events: mpsc::Sender<NetEvent>,
    /// Nodes by the full name of their service.
    known: BTreeMap<String, NodeId>,
    /// The full name under which this node is announced.
    registered: Option<String>,
}

impl Browser {
    async fn run(
        mut self,
        mut found: Receiver<ServiceEvent>,
        mut announced: watch::Receiver<Option<Announcement>>,
    ) {
        let mut check = interval(Duration::from_secs(INTERFACE_CHECK.into()));
        loop {
            tokio::select! {
                event = found.recv_async() => match event {
                    Ok(event) => self.hear(event).await,
                    // Its queue was full: we have been too slow.
                    Err(_) => found = self.browse_again().await,
                },
                changed = announced.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let announcement = announced.borrow_and_update().clone();
                    self.register(announcement);
                }
                _ = check.tick() => self.check_loopback(),
            }
        }
        self.say_goodbye().await;
    }

    async fn hear(&mut self, event: ServiceEvent) {
        match event {
            ServiceEvent::ServiceResolved(service) => self.hear_service(&service).await,
            ServiceEvent::ServiceRemoved(_, name) => {
                if let Some(node) = self.known.remove(&name) {
                    self.tell(NetEvent::Vanished { node }).await;
                }
            }
            _ => {}
        }
    }

    async fn hear_service(&mut self, service: &ResolvedService) {
        let txt = service.txt_properties.iter().map(|pair| (pair.key(), pair.val_str()));
        let announcement = match Announcement::from_txt(txt) {
            Ok(announcement) => announcement,
            Err(error) => {
                tracing::debug!(name = service.fullname, %error, "foreign announcement");
                return;
            }
        };
        let mut addresses = self.addresses(service, announcement.port);
        // What is left of our own is a device that says it is us; a dial shows whether it is.
        if announcement.node == self.own {
            addresses.retain(|address| !super::is_here(*address, address.port()));
        }
        if addresses.is_empty() || self.known.len() >= MAX_SERVICES {
            return;
        }
        if announcement.node != self.own {
            self.known.insert(service.fullname.clone(), announcement.node);
        }
        self.tell(NetEvent::Discovered { announcement, addresses }).await;
    }

    /// What is worth a dial, IPv4 first and link-local IPv6 last.
    fn addresses(&self, service: &ResolvedService, port: u16) -> Vec<SocketAddr> {
        let loopback = self.loopback == Loopback::Used;
        let mut addresses: Vec<SocketAddr> = service
            .addresses
            .iter()
            .filter(|ip| loopback || !ip.is_loopback())
            .filter_map(|ip| socket_address(ip, port))
            .filter(|address| self.scope.reaches(*address))
            .collect();
        addresses.sort_by_key(|address| (rank(address.ip()), *address));
        addresses.truncate(MAX_ADDRESSES);
        addresses
    }

    async fn browse_again(&mut self) -> Receiver<ServiceEvent> {
        loop {
            match self.daemon.browse(SERVICE) {
                Ok(found) => return found,
                Err(error) => tracing::debug!(%error, "browsing again"),
            }
            tokio::time::sleep(BROWSE_AGAIN).await;
        }
    }

    fn register(&mut self, announcement: Option<Announcement>) {
        let Some(announcement) = announcement else { return };
        let outcome = service_info(&announcement, self.scope.bind).and_then(|info| {
            let name = info.get_fullname().to_owned();
            self.daemon.register(info).map(|()| name)
        });
        match outcome {
            Ok(name) => self.registered = Some(name),
            Err(error) => tracing::warn!(
                %error,
                "cannot announce this device; others find it with --peer HOST:PORT"
            ),
        }
    }

    /// A cable may have been plugged in since the start, or pulled.
    fn check_loopback(&mut self) {
        let now = Loopback::now();
        if self.scope.bind.is_some() || now == self.loopback {
            return;
        }
        match now.apply(&self.daemon) {
            Ok(()) => self.loopback = now,
            // Its queue of commands is full for the moment; the next check tries again.
            Err(error) => tracing::debug!(%error, "interfaces changed"),
        }
    }

    async fn say_goodbye(self) {
        if let Some(name) = self.registered
            && let Ok(done) = self.daemon.unregister(&name)
        {
            let _ = timeout(GOODBYE_TIMEOUT, done.recv_async()).await;
        }
        if let Ok(done) = self.daemon.shutdown() {
            let _ = timeout(GOODBYE_TIMEOUT, done.recv_async()).await;
        }
    }

    async fn tell(&self, event: NetEvent) {
        // Without a receiver the daemon is ending, and nobody needs to know.
        let _ = self.events.send(event).await;
    }
}

impl Scope {
    fn reaches(self, address: SocketAddr) -> bool {
        (self.v6 || address.is_ipv4())
            && self.bind.is_none_or(|ip| ip.is_ipv4() == address.is_ipv4())
    }
}

/// The service of a node. Instance and host are named after the node, so that several on one
/// machine do not collide.
fn service_info(
    announcement: &Announcement,
    bind: Option<IpAddr>,
) -> Result<ServiceInfo, mdns_sd::Error> {
    let name: String = announcement.node.to_string().chars().take(16).collect();
    let host = format!("{name}.local.");
    let addresses = bind.map(|ip| ip.to_string()).unwrap_or_default();
    let txt = announcement.to_txt();
    let info =
        ServiceInfo::new(SERVICE, &name, &host, addresses, announcement.port, txt.as_slice())?;
    Ok(if bind.is_none() { info.enable_addr_auto() } else { info })
}

/// A link-local address is nothing without its interface.
fn socket_address(ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
    match ip {
        ScopedIp::V6(v6) => {
            let scope = if is_link_local(*v6.addr()) { v6.scope_id().index } else { 0 };
            Some(SocketAddrV6::new(*v6.addr(), port, 0, scope).into())
        }
        ScopedIp::V4(v4) => Some(SocketAddr::new(IpAddr::V4(*v4.addr()), port)),
        _ => None,
    }
}

fn is_link_local(ip: std::net::Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

fn rank(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 0,
        IpAddr::V6(ip) if is_link_local(ip) => 2,
        IpAddr::V6(_) => 1,
    }
}
