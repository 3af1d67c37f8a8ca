//! A house of whole nodes: the very `engine::Node`s that the daemon drives, with everything
//! around them made of models. What a node says is carried out as the daemon does it; what
//! happens around it comes from one heap of events and one seed.
//!
//! | file | what |
//! |---|---|
//! | this one | devices, the order of events, what each output does |
//! | `network` | connections, messages in order, datagrams |
//! | `disk` | one writer, what survives which end |
//! | `speaker` | playouts as positions, caches |
//! | `watch` | raw clocks |
//! | `people` | who asks for what, and the answers |
//! | `faults` | what goes wrong |
//! | `ledger` | every log there ever was, replayed by the rules |
//! | `checks` | what must hold after every event |
//! | `week` | whether anything goes on growing |
//! | `tests` | the runs |

#![expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small counts and times of a simulation"
)]

mod checks;
mod disk;
mod faults;
mod keys;
mod ledger;
mod network;
mod people;
mod speaker;
mod tests;
mod watch;
mod week;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use groovebox::base::rng::Rng;
use groovebox::base::{BlobHash, LocalTime, NodeId, SegmentId, Span};
use groovebox::engine::election::{DeviceFacts, Role};
use groovebox::engine::membership::Intent;
use groovebox::engine::node::{Input, Node, NodeConfig, Notice, Output, PlayoutFacts};
use groovebox::engine::transfer::{Failure, Fetch, Have};
use groovebox::identity::{LocalUser, NodeKey};
use groovebox::wire::message::OutputState;
use groovebox::wire::{Announcement, Datagram, Message, RoomCard};

use crate::world::{Agenda, Air, Chance, MS, Radio, SEC, Trace, is_replay};
use checks::Looked;
use disk::{Disk, Job, Step, Told};
use faults::Menu;
use ledger::Ledger;
use network::{MINDED_EVERY, Network, address};
use people::People;
use speaker::{Blob, PIECE, Speaker, Stream};
use watch::Watch;

/// Lines of the story that a failure shows.
const TAIL: usize = 60;

/// The daemon ends by then, whatever the node still waits for.
const SHUTDOWN_DEADLINE: i64 = 1500 * MS;

/// Between two looks at everybody at once.
const LOOK_EVERY: i64 = 100 * MS;

/// How the run is made: few clock probes where clocks are not what is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clocks {
    /// One probe in five travels once a device knows the time: a fifth of the work.
    Rough,
    /// All of them.
    Exact,
}

/// What is to be done to a house.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub struct Plan {
    pub size: usize,
    pub air: Air,
    pub wired: usize,
    pub clocks: Clocks,
    /// After a short outage of the whole house the music goes on.
    pub resumes: bool,
    /// No device lacks data, is slow or full.
    pub is_ideal: bool,
    /// Too long a time for the ledger, which remembers everything.
    pub is_long: bool,
    /// Most devices are somebody's, and people govern as well as play.
    pub governs: bool,
}

pub enum Event {
    Timer { d: usize, life: u32 },
    Give { d: usize, life: u32, input: Box<Input> },
    Wrote { d: usize, life: u32, batch: Vec<Job> },
    Synced { d: usize, life: u32 },
    DiskWakes { d: usize, life: u32 },
    Decode { d: usize, life: u32, segment: SegmentId },
    Fetched { d: usize, life: u32, fetch: Fetch },
    Reports { d: usize, life: u32 },
    Ended { d: usize, life: u32 },
    Dialled { d: usize, life: u32, to: usize },
    Arrive { conn: u64, side: usize },
    Datagram { conn: u64, from: usize, to: usize, datagram: Box<Datagram> },
    Announced { from: usize, to: usize },
    Minded,
    Look,
    Person,
    Fault,
    Flap { left: u32 },
    Wake { d: usize },
    GoOn { d: usize },
    Restart { d: usize },
    DiskMends { d: usize },
    Heal,
}

#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub struct Device {
    number: usize,
    pub name: String,
    pub key: Arc<NodeKey>,
    /// Of the pool, how many keys it has used up.
    keys_used: u32,
    pub boot: u32,
    /// Counts starts and ends; events of another life are void.
    pub life: u32,
    pub node: Option<Node>,
    /// No power.
    pub is_off: bool,
    pub asleep_since: Option<i64>,
    /// The process stands still while its clock runs on.
    pub is_paused: bool,
    /// It was told to end, and has not yet.
    is_stopping: bool,
    pub at_work_since: i64,
    /// What came while it slept or stood still.
    pub frozen: Vec<Event>,
    pub watch: Watch,
    pub radio: Radio,
    pub disk: Disk,
    pub speaker: Speaker,
    pub card: Option<RoomCard>,
    pub output: OutputState,
    timer_at: Option<i64>,
    looked: Looked,
    /// The person whose device it is.
    pub user: Option<LocalUser>,
    /// It was sent out of its room.
    pub is_sent_out: bool,
    /// Rows of the history that it has given out in this life.
    heard: BTreeSet<SegmentId>,
}

/// What stopped a run.
#[derive(Debug, Clone)]
pub struct Broken {
    pub rule: &'static str,
    pub what: String,
}

#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub terms: u64,
    pub events: u64,
    pub faults: u64,
    pub asked: u64,
    pub answered: u64,
    pub acknowledged: u64,
    pub replicated: u64,
    pub forgotten_by_policy: u64,
    pub lost_with_all_disks: u64,
    pub lost_within_states: u64,
    pub cut_off: u64,
    pub sounds: u64,
    pub heard: u64,
    pub changes_heard: u64,
    pub busiest: u32,
}

pub struct House {
    pub seed: u64,
    pub now: i64,
    pub rng: Rng,
    pub plan: Plan,
    agenda: Agenda<Event>,
    pub devices: Vec<Device>,
    pub net: Network,
    pub ledger: Ledger,
    pub people: People,
    pub menu: Menu,
    /// Which device a node is.
    whose: BTreeMap<NodeId, usize>,
    /// When somebody began to coordinate, and who.
    pub leads: Vec<(i64, usize)>,
    pub counts: Counts,
    /// When a disk last lost something that it had.
    pub disks_lost_at: i64,
    /// When nobody in the house knew the room's time.
    pub dark_at: i64,
    pub trace: Trace,
    pub tail: VecDeque<String>,
    pub broken: Option<Broken>,
}

/// Every fourth device is a speaker without a person; two of every eight are one person's.
fn person_of(device: usize) -> Option<LocalUser> {
    match device % 4 {
        3 => None,
        _ if device % 8 == 4 => Some(keys::user(u32::try_from(device - 4).expect("small"))),
        _ => Some(keys::user(u32::try_from(device).expect("small"))),
    }
}

impl Device {
    fn new(number: usize, plan: &Plan, rng: &mut Rng) -> Device {
        let air = if number < plan.wired { Air::Cable } else { plan.air };
        let is_deaf = !plan.is_ideal && rng.happens(0.1);
        let depth = Span(rng.between(15 * MS, 90 * MS));
        let mut disk = Disk::new(rng);
        if plan.is_ideal {
            disk.write = MS;
            disk.fsync = 20 * MS;
        }
        let mute = !plan.is_ideal && rng.happens(0.1);
        Device {
            number,
            name: format!("Device {number}"),
            key: keys::key(u32::try_from(number).expect("small")),
            keys_used: 1,
            boot: 0,
            life: 0,
            node: None,
            is_off: false,
            asleep_since: None,
            is_paused: false,
            is_stopping: false,
            at_work_since: 0,
            frozen: Vec::new(),
            watch: Watch::new(0, rng),
            radio: Radio::new(air, rng),
            disk,
            speaker: Speaker::new(is_deaf, depth),
            card: None,
            output: if mute { OutputState::None } else { OutputState::Ok },
            timer_at: None,
            looked: Looked::default(),
            user: plan.governs.then(|| person_of(number)).flatten(),
            is_sent_out: false,
            heard: BTreeSet::new(),
        }
    }

    pub fn id(&self) -> NodeId {
        self.key.node_id()
    }

    pub fn is_wired(&self) -> bool {
        self.radio.air == Air::Cable
    }

    /// Runs, and neither sleeps nor stands still.
    pub fn is_at_work(&self) -> bool {
        self.node.is_some() && self.asleep_since.is_none() && !self.is_paused
    }

    pub fn role(&self) -> Option<Role> {
        self.node.as_ref()?.election().map(groovebox::engine::election::Election::role)
    }

    /// Another identity: its state directory was wiped.
    fn take_new_key(&mut self) {
        let number = u32::try_from(self.number).expect("small") + 100 * self.keys_used;
        self.key = keys::key(number);
        self.keys_used += 1;
    }
}

impl House {
    /// Everybody is off; the first events start them.
    pub fn new(seed: u64, plan: Plan) -> House {
        let mut rng = Rng::new(seed);
        let devices: Vec<Device> =
            (0..plan.size).map(|d| Device::new(d, &plan, &mut rng)).collect();
        let mut house = House {
            seed,
            now: 0,
            plan,
            agenda: Agenda::new(),
            net: Network::new(plan.size),
            ledger: Ledger::default(),
            people: People::new(&mut rng),
            menu: Menu::nothing(),
            whose: devices.iter().map(|device| (device.id(), device.number)).collect(),
            devices,
            leads: Vec::new(),
            counts: Counts::default(),
            disks_lost_at: -1,
            dark_at: 0,
            trace: Trace(seed),
            tail: VecDeque::new(),
            broken: None,
            rng,
        };
        for d in 0..plan.size {
            // The first makes the room, the others find it.
            let at = if d == 0 { 0 } else { house.rng.between(1500 * MS, 3 * SEC) };
            house.add(at, Event::Restart { d });
        }
        house.add(MINDED_EVERY, Event::Minded);
        house.add(LOOK_EVERY, Event::Look);
        house
    }

    pub fn add(&mut self, delay: i64, event: Event) {
        self.agenda.add(self.now + delay, event);
    }

    /// Until then, or until something is broken.
    pub fn run(&mut self, until: i64) {
        while self.broken.is_none() {
            let Some((at, event)) = self.agenda.next(until) else {
                self.now = until;
                return;
            };
            self.now = at;
            self.counts.events += 1;
            self.trace.add(at as u64);
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some((d, life)) = event.owner() {
            let device = &mut self.devices[d];
            if device.life != life {
                return;
            }
            if !device.is_at_work() {
                device.frozen.push(event);
                return;
            }
        }
        match event {
            Event::Timer { d, .. } => self.timer(d),
            Event::Give { d, input, .. } => self.give(d, *input),
            Event::Wrote { d, batch, .. } => self.disk_wrote(d, batch),
            Event::Synced { d, .. } => {
                self.devices[d].disk.finish_sync();
                if let Some((room, idx)) = self.devices[d].disk.room_in_use() {
                    self.give(d, Input::Synced { room, idx });
                }
                self.drive_disk(d);
            }
            Event::DiskWakes { d, .. } => self.drive_disk(d),
            Event::Decode { d, segment, .. } => self.decode(d, segment),
            Event::Fetched { d, fetch, .. } => self.fetched(d, fetch),
            Event::Reports { d, .. } => self.playout_reports(d),
            Event::Ended { d, .. } => self.ended(d),
            Event::Dialled { d, to, .. } => self.dialled(d, to),
            Event::Arrive { conn, side } => self.arrive(conn, side),
            Event::Datagram { conn, from, to, datagram } => {
                self.datagram_arrives(conn, from, to, *datagram);
            }
            Event::Announced { from, to } => self.announced(from, to),
            Event::Minded => self.mind_connections(),
            Event::Look => self.look(),
            Event::Person => self.person_acts(),
            Event::Fault => self.fault(),
            Event::Flap { left } => self.flap(left),
            Event::Wake { d } => self.wake(d),
            Event::GoOn { d } => self.go_on(d),
            Event::Restart { d } => self.start(d),
            Event::DiskMends { d } => self.mend_disk(d),
            Event::Heal => self.heal(),
        }
    }

    // The life of a process.

    pub fn start(&mut self, d: usize) {
        if self.devices[d].node.is_some() {
            return;
        }
        let seed = self.rng.next_u64();
        let now = self.now;
        let device = &mut self.devices[d];
        device.life += 1;
        device.is_off = false;
        device.at_work_since = now;
        device.timer_at = None;
        device.looked = Looked::default();
        device.heard.clear();
        device.boot = device.disk.next_boot();
        let files = &device.disk.written;
        let restored = match files.intent {
            Intent::Room(room) => files.rooms.get(&room),
            _ => None,
        };
        let tip = restored.map(|file| file.tip().1);
        let config = NodeConfig {
            key: device.key.clone(),
            boot: device.boot,
            name: device.name.clone(),
            user: device.user.clone(),
            friends: None,
            version: "sim".into(),
            seed,
            secret: [7; 32],
            trim: Span::ZERO,
            peers: Vec::new(),
            remembered: files
                .peers
                .iter()
                .map(|(node, (name, address))| (*node, name.clone(), vec![*address]))
                .collect(),
            known_rooms: Vec::new(),
            alone: files.intent == Intent::Alone,
            resume: self.plan.resumes,
            room: restored.map(|file| file.restored(now)),
        };
        let node = Node::new(config, device.watch.local(now));
        let life = device.life;
        self.devices[d].node = Some(node);
        self.tell(|house| format!("{d} starts, boot {}", house.devices[d].boot));
        self.check_restart(d, tip);
        self.with(d, |_, _| {});
        let first = self.rng.between(200 * MS, SEC);
        self.add(first, Event::Reports { d, life });
        let wired = Some(self.devices[d].is_wired());
        self.give(d, Input::FitnessKnown(DeviceFacts { wired, ..DeviceFacts::default() }));
        self.announce(d);
        for other in 0..self.devices.len() {
            self.announce_to(other, d);
        }
    }

    /// The process ends without a word. With the power, what the disk had not synced may be
    /// gone too.
    pub fn end(&mut self, d: usize, with_power: bool) {
        let device = &mut self.devices[d];
        device.life += 1;
        device.node = None;
        device.asleep_since = None;
        device.is_paused = false;
        device.is_stopping = false;
        device.frozen.clear();
        device.card = None;
        device.speaker.process_died();
        device.watch.go_on(self.now);
        if with_power {
            device.is_off = true;
            if device.disk.power_cut(&mut self.rng) {
                self.disks_lost_at = self.now;
            }
        } else {
            device.disk.process_died();
        }
        self.hang_up(d);
        self.people.process_died(d);
        self.disk_changed(d);
    }

    /// SIGTERM: it hands over, says goodbye, writes what is queued, and ends.
    pub fn stop(&mut self, d: usize) {
        if !self.devices[d].is_at_work() || self.devices[d].is_stopping {
            return;
        }
        self.tell(|_| format!("{d} is stopped"));
        self.devices[d].is_stopping = true;
        let life = self.devices[d].life;
        self.add(SHUTDOWN_DEADLINE, Event::Ended { d, life });
        self.give(d, Input::ShutdownRequested);
    }

    fn ended(&mut self, d: usize) {
        self.tell(|_| format!("{d} has ended"));
        self.close_all(d);
        self.devices[d].disk.process_ended();
        let device = &mut self.devices[d];
        device.life += 1;
        device.node = None;
        device.is_stopping = false;
        device.card = None;
        device.speaker.process_died();
        self.hang_up(d);
        self.people.process_died(d);
        self.disk_changed(d);
        let back = self.rng.between(SEC / 2, 15 * SEC);
        self.add(back, Event::Restart { d });
    }

    pub fn sleep(&mut self, d: usize, length: i64) {
        self.tell(|_| format!("{d} sleeps for {} s", length / SEC));
        let now = self.now;
        let device = &mut self.devices[d];
        device.asleep_since = Some(now);
        device.watch.stop(now);
        self.add(length, Event::Wake { d });
    }

    pub fn wake(&mut self, d: usize) {
        let now = self.now;
        let Some(since) = self.devices[d].asleep_since.take() else { return };
        self.devices[d].watch.go_on(now);
        if self.devices[d].node.is_none() {
            return;
        }
        self.tell(|_| format!("{d} wakes"));
        self.slept(d, now - since);
        // The driver looks for sleep twice a second of its own clock.
        let noticed = self.rng.between(0, 500 * MS);
        let (life, gap) = (self.devices[d].life, Span(now - since));
        self.add(noticed, Event::Give { d, life, input: Box::new(Input::Suspended { gap }) });
        self.thaw(d);
    }

    /// SIGSTOP, swapping, a hypervisor: the process stands, its clock does not.
    pub fn pause(&mut self, d: usize, length: i64) {
        self.tell(|_| format!("{d} stands still for {} s", length / SEC));
        self.devices[d].is_paused = true;
        self.add(length, Event::GoOn { d });
    }

    pub fn go_on(&mut self, d: usize) {
        if std::mem::take(&mut self.devices[d].is_paused) && self.devices[d].node.is_some() {
            self.tell(|_| format!("{d} goes on"));
            self.thaw(d);
        }
    }

    fn thaw(&mut self, d: usize) {
        self.devices[d].at_work_since = self.now;
        for event in std::mem::take(&mut self.devices[d].frozen) {
            let delay = self.rng.between(0, MS);
            self.add(delay, event);
        }
    }

    // Driving a node, as the daemon does.

    pub fn local(&self, d: usize) -> LocalTime {
        self.devices[d].watch.local(self.now)
    }

    pub fn device_of(&self, node: NodeId) -> Option<usize> {
        self.whose.get(&node).copied()
    }

    pub fn give(&mut self, d: usize, input: Input) {
        self.with(d, |node, now| node.handle_input(now, input));
    }

    fn give_later(&mut self, d: usize, delay: i64, input: Input) {
        let life = self.devices[d].life;
        self.add(delay, Event::Give { d, life, input: Box::new(input) });
    }

    fn with(&mut self, d: usize, act: impl FnOnce(&mut Node, LocalTime)) {
        let now = self.local(d);
        let device = &mut self.devices[d];
        if !device.is_at_work() {
            return;
        }
        let Some(node) = &mut device.node else { return };
        act(node, now);
        while let Some(output) = self.devices[d].node.as_mut().and_then(Node::poll_output) {
            self.carry_out(d, output);
        }
        // Whatever an operation changes in the plan, it changes at once.
        self.devices[d].speaker.is_told = false;
        self.check(d);
        if self.devices[d].node.as_ref().is_some_and(Node::is_finished) {
            return self.ended(d);
        }
        self.set_timer(d);
    }

    fn set_timer(&mut self, d: usize) {
        let now = self.now;
        let device = &mut self.devices[d];
        let Some(node) = &device.node else { return };
        let due = device.watch.true_at(node.poll_timeout()).max(now);
        if device.timer_at.is_none_or(|set| due < set) {
            // A loaded machine wakes a little late.
            let late = self.rng.between(0, MS);
            device.timer_at = Some(due);
            let life = device.life;
            self.agenda.add(due + late, Event::Timer { d, life });
        }
    }

    fn timer(&mut self, d: usize) {
        let (now, rng) = (self.now, &mut self.rng);
        let device = &mut self.devices[d];
        device.timer_at = None;
        device.watch.walk(now, rng);
        let local = device.watch.local(now);
        if device.node.as_ref().is_some_and(|node| local >= node.poll_timeout()) {
            self.with(d, Node::handle_timeout);
        } else {
            self.set_timer(d);
        }
    }

    fn carry_out(&mut self, d: usize, output: Output) {
        match output {
            Output::Send { to, message } => {
                if let Message::Dropped { dropped, .. } = &message
                    && !self.plan.is_long
                {
                    self.ledger.dropped.extend(dropped.iter().map(|op| op.id));
                }
                self.trace.add(2);
                self.send(d, to, message);
            }
            Output::SendDatagram { to, datagram } => self.send_datagram(d, to, &datagram),
            Output::Dial { address, node } => self.dial(d, address, node),
            Output::AskGateway => self.ask_gateway(d),
            Output::ShowRoom(card) => {
                self.devices[d].card = card;
                self.announce(d);
            }
            Output::SetClock(model) => self.clock_set(d, model),
            Output::SetPlan(plan) => self.plan_set(d, plan),
            Output::Prepare { segment, track, from } => {
                let byte = u128::from(from) * u128::from(track.size) / u128::from(track.frames);
                let first_piece = u32::try_from(byte / u128::from(PIECE)).expect("small files");
                let stream = Stream { hash: track.hash, primed: false, asked: false, first_piece };
                self.devices[d].speaker.streams.insert(segment, stream);
                let life = self.devices[d].life;
                let delay = self.rng.between(5 * MS, 60 * MS);
                self.add(delay, Event::Decode { d, life, segment });
            }
            Output::Release { segment } => self.released(d, segment),
            Output::OpenBlob { hash, size } => self.open_blob(d, hash, size),
            Output::FetchPiece(fetch) => self.fetch(d, fetch),
            Output::ThrottleBulk { .. }
            | Output::CloseBlob { .. }
            | Output::Admit(_)
            | Output::Stretch { .. }
            | Output::RememberUser(_)
            | Output::RememberFriends(_)
            | Output::RememberRoom(_)
            | Output::ReadRoom { .. }
            | Output::ForgetRoom(_)
            | Output::SaveChat { .. } => {}
            Output::SaveRoom(snapshot) => {
                let snapshot = Rc::new(*snapshot);
                self.room_replaced(d, &snapshot);
                self.save(d, Job::Replace(snapshot));
            }
            Output::SaveEntries { room, entries } => {
                let entries: Vec<_> = entries.into_iter().map(Rc::new).collect();
                self.entries_taken(d, room, &entries);
                self.save(d, Job::Entries(room, entries));
            }
            Output::RewindRoom { room, to_idx } => {
                self.devices[d].speaker.is_told = true;
                self.save(d, Job::Rewind(room, to_idx));
            }
            Output::SaveDropped { room, dropped } => {
                // Whoever it concerns may be off now; it is written down for them.
                if !self.plan.is_long {
                    self.ledger.dropped.insert(dropped.id);
                }
                self.save(d, Job::Dropped(room, dropped));
            }
            Output::SavePosition { room, position } => {
                self.save(d, Job::Position(room, position, self.now));
            }
            Output::SaveHistory { room, rows, .. } => {
                self.history_given(d, room, &rows);
                self.save(d, Job::History(room, rows));
            }
            Output::SaveOutbox { room, ops } => self.save(d, Job::Hold(room, ops)),
            Output::DropOutbox { room, ids } => {
                self.let_go(d, &ids);
                self.save(d, Job::LetGo(room, ids));
            }
            Output::CompactRoom(snapshot) => self.save(d, Job::Compact(Rc::new(*snapshot))),
            Output::RememberIntent(intent) => self.save(d, Job::Intent(intent)),
            Output::RememberPeer { node, name, address } => {
                self.save(d, Job::Peer(node, name, address));
            }
            Output::Reply { id, reply } => self.replied(d, id, reply),
            Output::Tell(notice) => self.noticed(d, &notice),
        }
    }

    fn noticed(&mut self, d: usize, notice: &Notice) {
        self.trace.add(3);
        if let Notice::Coordinator { here: true, .. } = notice {
            self.leads.push((self.now, d));
            self.counts.terms += 1;
        }
        if matches!(notice, Notice::SentOut { .. }) {
            self.devices[d].is_sent_out = true;
        }
        if let Notice::BranchCut { operations } = notice {
            self.counts.cut_off += *operations as u64;
        }
        self.tell(|_| format!("{d} says {notice:?}"));
    }

    // Its disk.

    fn save(&mut self, d: usize, job: Job) {
        self.devices[d].disk.enqueue(job);
        self.drive_disk(d);
    }

    pub fn drive_disk(&mut self, d: usize) {
        let now = self.now;
        let life = self.devices[d].life;
        match self.devices[d].disk.step(now) {
            Step::Write(batch, takes) => self.add(takes, Event::Wrote { d, life, batch }),
            Step::Sync(takes) => self.add(takes, Event::Synced { d, life }),
            Step::WaitUntil(at) => self.add(at - now, Event::DiskWakes { d, life }),
            Step::Rest => {}
        }
    }

    fn disk_wrote(&mut self, d: usize, batch: Vec<Job>) {
        let told = self.devices[d].disk.finish_write(self.now, batch);
        self.disk_changed(d);
        for told in told {
            let input = match told {
                Told::Written(room, idx, chain) => Input::Written { room, idx, chain },
                Told::NeedsRoom(room) => {
                    // It may give out again what the disk did not take.
                    self.devices[d].heard.clear();
                    Input::RoomNotWritten { room }
                }
            };
            self.give(d, input);
        }
        self.drive_disk(d);
    }

    // Its tracks.

    fn open_blob(&mut self, d: usize, hash: BlobHash, size: u64) {
        let delay = self.rng.between(MS, 15 * MS);
        let blob = self.devices[d].speaker.cache.entry(hash).or_insert(Blob::new(size, false));
        let have = if blob.is_complete() { Have::Complete } else { Have::Pieces(blob.bits()) };
        self.give_later(d, delay, Input::BlobOpened { hash, have });
    }

    fn fetch(&mut self, d: usize, fetch: Fetch) {
        let life = self.devices[d].life;
        let delay = self.rng.between(15 * MS, 150 * MS);
        self.add(delay, Event::Fetched { d, life, fetch });
    }

    fn fetched(&mut self, d: usize, fetch: Fetch) {
        let Fetch { hash, piece, from, patience } = fetch;
        let failed = |failure| Input::PieceFailed { hash, piece, from, failure };
        let peer = self.device_of(from);
        let place = piece as usize;
        let there = peer.filter(|&p| self.devices[p].is_at_work() && self.is_open(p, d));
        let Some(peer) = there.filter(|&p| self.is_open(d, p)) else {
            let input = failed(Failure::Timeout);
            return self.give_later(d, patience.0.clamp(0, 10 * SEC), input);
        };
        let held = self.devices[peer].speaker.cache.get(&hash);
        let has = held.is_some_and(|blob| blob.pieces.get(place) == Some(&true));
        let speaker = &mut self.devices[d].speaker;
        if !has || speaker.is_deaf {
            return self.give(d, failed(Failure::Refused));
        }
        if let Some(here) = speaker.cache.get_mut(&hash).and_then(|b| b.pieces.get_mut(place)) {
            *here = true;
        }
        self.give(d, Input::PieceArrived { hash, piece, bytes: PIECE, from });
    }

    fn decode(&mut self, d: usize, segment: SegmentId) {
        let speaker = &mut self.devices[d].speaker;
        let Some(stream) = speaker.streams.get_mut(&segment) else { return };
        let (hash, piece) = (stream.hash, stream.first_piece);
        let held = speaker.cache.get(&hash);
        let has = held.is_some_and(|blob| blob.pieces.get(piece as usize) == Some(&true));
        if has {
            stream.primed = true;
            return self.give(d, Input::SegmentPrimed { segment });
        }
        let asks = !std::mem::replace(&mut stream.asked, true);
        let life = self.devices[d].life;
        self.add(80 * MS, Event::Decode { d, life, segment });
        if asks {
            self.give(d, Input::PieceNeeded { hash, piece });
        }
    }

    fn playout_reports(&mut self, d: usize) {
        let device = &self.devices[d];
        let life = device.life;
        let facts = PlayoutFacts {
            output: device.output.clone(),
            buffer_ms: 900.0,
            depth: device.speaker.depth,
            locked: true,
            ..PlayoutFacts::default()
        };
        self.give(d, Input::PlayoutReported(facts));
        self.add(SEC, Event::Reports { d, life });
    }

    // Being found.

    fn announce(&mut self, d: usize) {
        for to in 0..self.devices.len() {
            self.announce_to(d, to);
        }
    }

    fn announce_to(&mut self, from: usize, to: usize) {
        if from != to && self.devices[from].node.is_some() {
            let delay = self.rng.between(20 * MS, 900 * MS);
            self.add(delay, Event::Announced { from, to });
        }
    }

    fn announced(&mut self, from: usize, to: usize) {
        if !self.is_open(from, to) || !self.devices[from].is_at_work() {
            return;
        }
        let device = &self.devices[from];
        let room = device.card.as_ref().map(|card| groovebox::wire::announce::AnnouncedRoom {
            id_prefix: card.id.short(),
            name: card.name.clone(),
            code: card.code.clone(),
        });
        let announcement = Announcement { node: device.id(), port: 7447, room };
        self.give(to, Input::PeerDiscovered { announcement, addresses: vec![address(from)] });
    }

    /// Once its clock is known, a device asks more than a rough run needs.
    fn is_thinned_out(&mut self, d: usize, datagram: &Datagram) -> bool {
        let is_probe = matches!(datagram, Datagram::Probe(_));
        let is_new = self.devices[d].looked.followed_for(self.now) < 2 * SEC;
        is_probe && !is_new && self.plan.clocks == Clocks::Rough && self.rng.happens(0.8)
    }

    // The story.

    pub fn tell(&mut self, what: impl FnOnce(&House) -> String) {
        let line = format!("{:9.3} {}", self.now as f64 / SEC as f64, what(self));
        if is_replay() {
            eprintln!("{line}");
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// A rule is broken; the run ends here.
    pub fn broke(&mut self, rule: &'static str, what: impl FnOnce(&House) -> String) {
        if self.broken.is_none() {
            let what = what(self);
            self.tell(|_| format!("BROKEN {rule}: {what}"));
            self.broken = Some(Broken { rule, what });
        }
    }

    /// Whoever coordinates, among those at work.
    pub fn coordinators(&self) -> Vec<usize> {
        let leads =
            |device: &&Device| device.is_at_work() && device.role() == Some(Role::Coordinator);
        self.devices.iter().filter(leads).map(|device| device.number).collect()
    }
}

impl Event {
    /// What belongs to one life of a process.
    fn owner(&self) -> Option<(usize, u32)> {
        match self {
            Event::Timer { d, life }
            | Event::Give { d, life, .. }
            | Event::Wrote { d, life, .. }
            | Event::Synced { d, life }
            | Event::DiskWakes { d, life }
            | Event::Decode { d, life, .. }
            | Event::Fetched { d, life, .. }
            | Event::Reports { d, life }
            | Event::Ended { d, life }
            | Event::Dialled { d, life, .. } => Some((*d, *life)),
            _ => None,
        }
    }
}
