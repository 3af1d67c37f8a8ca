//! Devices with addresses of their own: each in a network namespace, on two switches with a
//! cable between them, so that cables can be pulled, the street can fall into two halves, and
//! addresses can change. Nothing outside the namespaces is touched.
//!
//! ```text
//!   hub:   switch A ──── cross ──── switch B
//!           │    │                   │    │
//!          st1  st3   (odd numbers)  st2  st4   (even ones)      10.78.0.K/24 each
//! ```
//!
//! Making namespaces needs root and `ip` (iproute2). Where there is no root, the scenes say so
//! and pass; as root on Linux they never step aside.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Two switches and what hangs on them. Dropping it takes everything down.
pub struct Street {
    prefix: String,
    stations: usize,
}

/// Which of the two switches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// That of the odd stations.
    A,
    /// That of the even ones.
    B,
}

impl Street {
    /// Whether there can be one here: for whoever is root there can.
    pub fn is_possible() -> bool {
        let possible = cfg!(target_os = "linux") && rustix::process::geteuid().is_root();
        if !possible {
            println!("left out: network namespaces need root on Linux");
        }
        possible
    }

    /// An empty one.
    pub fn new() -> Street {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let street = Street { prefix: format!("gb{}-{number}", std::process::id()), stations: 0 };
        let hub = street.hub();
        ip(&format!("netns add {hub}"));
        for switch in ["swA", "swB"] {
            ip(&format!("-n {hub} link add {switch} type bridge forward_delay 0 mcast_snooping 0"));
            ip(&format!("-n {hub} link set {switch} up"));
        }
        ip(&format!("-n {hub} link add crossA type veth peer name crossB"));
        for end in ["crossA", "crossB"] {
            ip(&format!("-n {hub} link set {end} up"));
        }
        street.heal();
        street
    }

    /// One more station, plugged in; the name of its namespace.
    pub fn add(&mut self) -> String {
        self.stations += 1;
        let (k, hub) = (self.stations, self.hub());
        let name = self.station(k);
        ip(&format!("netns add {name}"));
        ip(&format!("-n {hub} link add p{k} type veth peer name eth0 netns {name}"));
        ip(&format!("-n {hub} link set p{k} up"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        self.give_address(k, address(k));
        self.plug_in(k);
        name
    }

    /// Gives a station one more address, and the way to everywhere over it.
    pub fn give_address(&self, k: usize, address: Ipv4Addr) {
        let name = self.station(k);
        ip(&format!("-n {name} addr add {address}/24 dev eth0"));
        ip(&format!("-n {name} route replace default dev eth0"));
    }

    /// Takes an address from a station.
    pub fn take_address(&self, k: usize, address: Ipv4Addr) {
        ip(&format!("-n {} addr del {address}/24 dev eth0", self.station(k)));
    }

    /// Connects a station with its switch.
    pub fn plug_in(&self, k: usize) {
        let switch = match side(k) {
            Side::A => "swA",
            Side::B => "swB",
        };
        ip(&format!("-n {} link set p{k} master {switch}", self.hub()));
    }

    /// Joins them.
    pub fn heal(&self) {
        ip(&format!("-n {} link set crossA master swA", self.hub()));
        ip(&format!("-n {} link set crossB master swB", self.hub()));
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    fn station(&self, k: usize) -> String {
        format!("{}-st{k}", self.prefix)
    }
}

/// The switch of station `k`.
pub fn side(k: usize) -> Side {
    if k % 2 == 1 { Side::A } else { Side::B }
}

/// The first address of station `k`.
pub fn address(k: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, 0, u8::try_from(k).expect("a short street"))
}

impl Drop for Street {
    fn drop(&mut self) {
        let stations = (1..=self.stations).map(|k| self.station(k));
        for name in stations.chain([self.hub()]) {
            // What is gone already need not be taken down.
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

fn ip(arguments: &str) {
    let outcome = Command::new("ip").args(arguments.split(' ')).output();
    let outcome = outcome.expect("`ip` of iproute2 is installed (./dev test does that)");
    assert!(outcome.status.success(), "ip {arguments}: {outcome:?}");
}
