//! What goes wrong: each seed enables a random half of the menu.

use groovebox::base::OpId;
use groovebox::base::rng::Rng;
use groovebox::engine::election::Role;
use groovebox::wire::codec;
use groovebox::wire::message::Message;
use groovebox::wire::op::{Entry, Op, OpBody};

use super::{Event, House};
use crate::world::{Air, Chance, MS, SEC};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    KillCoordinator,
    KillAny,
    Terminate,
    PowerStrip,
    WholeHouse,
    Suspend,
    Pause,
    Partition,
    OneWay,
    Flapping,
    ThreeWay,
    CutLinks,
    AccessPoint,
    DiskFull,
    DiskSlow,
    RoomsLost,
    Wiped,
    OlderRestored,
    LateCopies,
    MassRestart,
    Rogue,
}

const ALL: [Fault; 21] = [
    Fault::KillCoordinator,
    Fault::KillAny,
    Fault::Terminate,
    Fault::PowerStrip,
    Fault::WholeHouse,
    Fault::Suspend,
    Fault::Pause,
    Fault::Partition,
    Fault::OneWay,
    Fault::Flapping,
    Fault::ThreeWay,
    Fault::CutLinks,
    Fault::AccessPoint,
    Fault::DiskFull,
    Fault::DiskSlow,
    Fault::RoomsLost,
    Fault::Wiped,
    Fault::OlderRestored,
    Fault::LateCopies,
    Fault::MassRestart,
    Fault::Rogue,
];

/// The faults of one run.
#[derive(Debug)]
pub struct Menu {
    pub enabled: Vec<Fault>,
    /// No more from here on.
    pub is_over: bool,
}

impl Menu {
    pub fn nothing() -> Menu {
        Menu { enabled: Vec::new(), is_over: true }
    }

    pub fn half(rng: &mut Rng) -> Menu {
        let enabled = ALL.into_iter().filter(|_| rng.happens(0.5)).collect();
        Menu { enabled, is_over: false }
    }
}

impl House {
    pub fn faults_begin(&mut self) {
        self.menu = Menu::half(&mut self.rng);
        for d in 0..self.devices.len() {
            self.devices[d].disk.back_up();
        }
        self.tell(|house| format!("faults: {:?}", house.menu.enabled));
        self.add(0, Event::Fault);
    }

    pub fn fault(&mut self) {
        if self.menu.is_over || self.menu.enabled.is_empty() {
            return;
        }
        let next = self.rng.between(SEC, 8 * SEC);
        self.add(next, Event::Fault);
        let place = self.rng.below(self.menu.enabled.len() as u64) as usize;
        let fault = self.menu.enabled[place];
        self.counts.faults += 1;
        self.tell(|_| format!("fault: {fault:?}"));
        self.suffer(fault);
        if self.rng.happens(0.5) {
            self.add(next / 2, Event::Heal);
        }
    }

    pub fn suffer(&mut self, fault: Fault) {
        let leader = self.coordinators().first().copied();
        let someone = self.someone();
        match fault {
            Fault::KillCoordinator => self.each(leader, House::kill),
            Fault::KillAny => self.each(someone, House::kill),
            Fault::Terminate => {
                let d = if self.rng.happens(0.5) { leader } else { someone };
                self.each(d, House::stop);
            }
            Fault::PowerStrip => self.cut_power(0.5),
            Fault::WholeHouse => self.cut_power(1.0),
            Fault::Suspend => {
                let long = self.rng.happens(0.2);
                let most = if long { 600 } else { 30 };
                let length = self.rng.between(2 * SEC, most * SEC);
                self.each(someone, |house, d| house.sleep(d, length));
            }
            Fault::Pause => {
                let d = if self.rng.happens(0.5) { leader } else { someone };
                let length = self.rng.between(SEC / 2, 20 * SEC);
                self.each(d, |house, d| house.pause(d, length));
            }
            Fault::Partition => self.divide(2),
            Fault::ThreeWay => self.divide(3),
            Fault::OneWay => self.cut_one_way(),
            Fault::Flapping => self.add(0, Event::Flap { left: 8 }),
            Fault::CutLinks => self.cut_links(),
            Fault::AccessPoint => {
                self.net.air_back_at = self.now + self.rng.between(3 * SEC, 40 * SEC);
            }
            Fault::LateCopies => self.net.has_late_copies = true,
            Fault::MassRestart => {
                for d in 0..self.devices.len() {
                    if self.rng.happens(0.7) && self.devices[d].node.is_some() {
                        self.end(d, false);
                        let back = self.rng.between(100 * MS, 2 * SEC);
                        self.add(back, Event::Restart { d });
                    }
                }
            }
            Fault::Rogue => self.order_against_the_rules(leader),
            Fault::DiskFull | Fault::DiskSlow => self.hamper_disk(fault, someone),
            Fault::RoomsLost | Fault::Wiped | Fault::OlderRestored => {
                self.each(someone, |house, d| house.damage_disk(fault, d));
            }
        }
    }

    fn each(&mut self, d: Option<usize>, act: impl FnOnce(&mut House, usize)) {
        if let Some(d) = d {
            act(self, d);
        }
    }

    fn someone(&mut self) -> Option<usize> {
        let at_work = |d: &usize| self.devices[*d].is_at_work();
        let up: Vec<usize> = (0..self.devices.len()).filter(at_work).collect();
        let place = self.rng.below(up.len() as u64) as usize;
        up.get(place).copied()
    }

    pub fn kill(&mut self, d: usize) {
        self.tell(|_| format!("{d} is killed"));
        self.end(d, false);
        self.back_soon(d);
    }

    fn back_soon(&mut self, d: usize) {
        let back = self.rng.between(SEC / 2, 15 * SEC);
        self.add(back, Event::Restart { d });
    }

    pub fn cut_power(&mut self, share: f64) {
        for d in 0..self.devices.len() {
            if self.devices[d].node.is_some() && self.rng.happens(share) {
                self.tell(|_| format!("{d} has no power"));
                self.end(d, true);
                self.back_soon(d);
            }
        }
    }

    pub fn divide(&mut self, parts: u64) {
        for d in 0..self.devices.len() {
            self.net.side[d] = self.rng.below(parts) as u8;
        }
        self.tell(|house| format!("sides: {:?}", house.net.side));
    }

    fn cut_one_way(&mut self) {
        for from in 0..self.devices.len() {
            for to in 0..self.devices.len() {
                self.net.cut[from][to] = self.rng.happens(0.15);
            }
        }
    }

    fn cut_links(&mut self) {
        for a in 0..self.devices.len() {
            for b in 0..a {
                let cut = self.rng.happens(0.3);
                self.net.cut[a][b] = cut;
                self.net.cut[b][a] = cut;
            }
        }
    }

    /// Once a second together and apart.
    pub fn flap(&mut self, left: u32) {
        if left == 0 || self.menu.is_over {
            self.heal();
            return;
        }
        if left.is_multiple_of(2) {
            self.divide(2);
        } else {
            self.heal();
        }
        self.add(SEC, Event::Flap { left: left - 1 });
    }

    pub fn heal(&mut self) {
        self.tell(|_| "the network is whole".to_owned());
        self.net.heal();
        // What was announced meanwhile is asked for again.
        for from in 0..self.devices.len() {
            for to in 0..self.devices.len() {
                let delay = self.rng.between(SEC, 6 * SEC);
                if from != to {
                    self.add(delay, Event::Announced { from, to });
                }
            }
        }
    }

    fn hamper_disk(&mut self, fault: Fault, d: Option<usize>) {
        let Some(d) = d else { return };
        self.tell(|_| format!("{d}: {fault:?}"));
        let disk = &mut self.devices[d].disk;
        match fault {
            Fault::DiskFull => disk.is_full = true,
            _ => disk.slow_down(),
        }
        let mended = self.rng.between(2 * SEC, 20 * SEC);
        self.add(mended, Event::DiskMends { d });
    }

    pub fn mend_disk(&mut self, d: usize) {
        let disk = &mut self.devices[d].disk;
        disk.is_full = false;
        disk.slow_down_ends();
        if self.devices[d].node.is_some() {
            self.drive_disk(d);
        }
    }

    /// The device is off while somebody does that to its files.
    fn damage_disk(&mut self, fault: Fault, d: usize) {
        self.tell(|_| format!("{d}: {fault:?}"));
        self.end(d, false);
        match fault {
            Fault::RoomsLost => self.devices[d].disk.lose_rooms(),
            Fault::OlderRestored => {
                let _ = self.devices[d].disk.restore_older();
            }
            _ => {
                self.devices[d].disk.wipe();
                self.devices[d].take_new_key();
                let id = self.devices[d].id();
                self.whose.insert(id, d);
            }
        }
        // What it had told to have written, too, though nobody was told of it yet.
        self.disks_lost_at = self.now;
        self.disk_changed(d);
        self.back_soon(d);
    }

    /// A coordinator that is not ours: it puts something into the log that no rule lets in,
    /// signed by itself, and gives it to one member.
    fn order_against_the_rules(&mut self, leader: Option<usize>) {
        let Some(d) = leader else { return };
        let device = &self.devices[d];
        let Some((room, election)) =
            device.node.as_ref().and_then(|node| Some((node.room()?, node.election()?)))
        else {
            return;
        };
        let (log, term, id) = (room.log(), election.term(), room.id());
        let author = device.id();
        let name = OpId { author, boot: device.boot, seq: 1 << 40 | self.counts.faults };
        let body = OpBody::Volume { member: author, volume: 200 };
        let op = Op::signed(&device.key, id, name, log.last_at(), &body).expect("short");
        let at = log.last_at();
        let chain = codec::chain(&log.chain(), &term, at, &op);
        let (prev_idx, prev_chain) = (log.last_idx(), log.chain());
        let entry = Entry { idx: prev_idx + 1, term, at, op, chain };
        self.ledger.rogue.insert(chain);
        let message =
            Message::Append { room: id, term, prev_idx, prev_chain, entries: vec![entry] };
        let victims: Vec<_> = (0..self.devices.len())
            .filter(|&to| to != d && self.devices[to].role() == Some(Role::Follower))
            .map(|to| self.devices[to].id())
            .collect();
        let place = self.rng.below(victims.len() as u64) as usize;
        if let Some(victim) = victims.get(place) {
            self.send(d, *victim, message);
        }
    }

    /// Everybody is back, everything is whole, nobody acts any more.
    pub fn start_everybody(&mut self) {
        for d in 0..self.devices.len() {
            self.start(d);
        }
    }

    pub fn make_good(&mut self) {
        self.tell(|_| "all is made good".to_owned());
        self.menu.is_over = true;
        self.net.has_late_copies = false;
        self.people_come(0);
        self.heal();
        for d in 0..self.devices.len() {
            self.devices[d].radio.air = Air::Cable;
            self.mend_disk(d);
            self.wake(d);
            self.go_on(d);
            self.start(d);
        }
    }
}
