//! Whole nodes on a perfect network with honest disks: what becomes of the log when devices come,
//! go and meet again. Seeded faults of all kinds are the simulator's business (`tests/sim`).

mod friends;
mod locks;
mod people;
mod queue;
mod reopened;
mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::base::BlobHash;
use crate::engine::command::{Done, SeekTo};
use crate::engine::status::{OperationStatus, PlaybackState};
use crate::wire::message::{Accepted, Level};
use crate::wire::op::OpBody;
use crate::wire::{Codec, RefusalCode, codec};

/// From one node to another.
const WAY: Span = Span::from_millis(2);

/// From an order to write until it is written, and until it is synced.
const WRITE: Span = Span::from_millis(5);
const SYNC: Span = Span::from_millis(500);

/// A reign this old was not begun by a power cut: of two that meet the larger half goes on.
const A_WHILE: Span = Span::from_secs(60);

/// What is under way.
enum Event {
    Message(usize, usize, Message),
    Datagram(usize, usize, Datagram),
    Done(usize, Write),
    Input(usize, Input),
    Synced(usize, RoomId),
}

/// A write on its way to the disk.
enum Write {
    Room(Snapshot),
    Entries(RoomId, Vec<Entry>),
    Rewind(RoomId, u64),
    Compact(Snapshot),
    Keep(Vec<Op>),
    Let(Vec<OpId>),
    Dropped(DroppedOp),
}

/// What a device would find after a restart.
#[derive(Default, Clone)]
struct Disk {
    snapshot: Option<Snapshot>,
    entries: Vec<Entry>,
    outbox: Vec<Op>,
    dropped: Vec<DroppedOp>,
}

impl Disk {
    fn tip(&self) -> Option<(u64, [u8; 16])> {
        let base = self.snapshot.as_ref().map(|s| (s.idx, s.chain));
        self.entries.last().map(|entry| (entry.idx, entry.chain)).or(base)
    }

    /// Whether it fits what is there.
    fn write(&mut self, write: Write) -> bool {
        match write {
            Write::Room(snapshot) => {
                self.snapshot = Some(snapshot);
                self.entries.clear();
            }
            Write::Entries(_, entries) => {
                for entry in entries {
                    if self.tip().is_none_or(|(idx, _)| entry.idx > idx + 1) {
                        return false;
                    }
                    if self.tip().is_some_and(|(idx, _)| entry.idx == idx + 1) {
                        self.entries.push(entry);
                    }
                }
            }
            Write::Rewind(_, to) => {
                if self.snapshot.as_ref().is_none_or(|snapshot| snapshot.idx > to) {
                    return false;
                }
                self.entries.retain(|entry| entry.idx <= to);
            }
            Write::Compact(snapshot) => {
                self.entries.retain(|entry| entry.idx > snapshot.idx);
                self.snapshot = Some(snapshot);
            }
            Write::Keep(ops) => {
                let known = self.outbox.iter().map(|op| op.id).collect::<BTreeSet<_>>();
                self.outbox.extend(ops.into_iter().filter(|op| !known.contains(&op.id)));
            }
            Write::Let(ids) => self.outbox.retain(|op| !ids.contains(&op.id)),
            Write::Dropped(op) => self.dropped.push(op),
        }
        true
    }

    fn restored(&self) -> Option<RestoredRoom> {
        Some(RestoredRoom {
            snapshot: self.snapshot.clone()?,
            entries: self.entries.clone(),
            outbox: self.outbox.clone(),
            dropped: self.dropped.clone(),
            position: None,
        })
    }
}

struct Device {
    key: Arc<NodeKey>,
    boot: u32,
    disk: Disk,
    node: Option<Node>,
    notices: Vec<Notice>,
    history: Vec<Heard>,
    /// What its cache has nothing of.
    lacks: BTreeSet<BlobHash>,
    replies: BTreeMap<RequestId, CommandReply>,
    /// Whose it is, and what it knows of their friends; kept over a restart.
    user: Option<LocalUser>,
    friends: Option<SavedFriends>,
}

/// Devices, the way between them, and time.
struct House {
    devices: Vec<Device>,
    now: LocalTime,
    events: BTreeMap<(LocalTime, u64), Event>,
    count: u64,
    cut: BTreeSet<(usize, usize)>,
}

impl House {
    /// A device that was never switched on.
    fn new_device() -> Device {
        Device {
            key: Arc::new(outside::new_key()),
            boot: 0,
            disk: Disk::default(),
            node: None,
            notices: Vec::new(),
            history: Vec::new(),
            lacks: BTreeSet::new(),
            replies: BTreeMap::new(),
            user: None,
            friends: None,
        }
    }

    /// One more device is switched on, and comes into the room of the others.
    fn with_one_more(mut self) -> House {
        self.devices.push(House::new_device());
        self.start(self.devices.len() - 1);
        self.run_until_agreed(Span::from_secs(20));
        self
    }

    /// Devices that were told nothing, in one room.
    fn together(size: usize) -> House {
        let mut house = House {
            devices: (0..size).map(|_| House::new_device()).collect(),
            now: LocalTime(1_000_000_000),
            events: BTreeMap::new(),
            count: 0,
            cut: BTreeSet::new(),
        };
        for i in 0..size {
            house.start(i);
        }
        house.run_until_agreed(Span::from_secs(20));
        house
    }

    fn start(&mut self, i: usize) {
        let device = &mut self.devices[i];
        device.boot += 1;
        let config = NodeConfig {
            key: Arc::clone(&device.key),
            boot: device.boot,
            name: format!("d{i}"),
            user: device.user.clone(),
            friends: device.friends.clone(),
            version: "0".into(),
            seed: i as u64 * 100 + u64::from(device.boot),
            secret: [7; 32],
            trim: Span::ZERO,
            peers: vec![],
            remembered: vec![],
            known_rooms: Vec::new(),
            alone: false,
            resume: false,
            room: device.disk.restored(),
        };
        device.node = Some(Node::new(config, self.now));
        self.drain(i);
        for j in 0..self.devices.len() {
            self.connect(i, j);
        }
    }

    /// `kill -9`: what was on its way to the disk is lost.
    fn kill(&mut self, i: usize) {
        self.devices[i].node = None;
        self.events.retain(|_, event| !event.concerns(i));
        for j in 0..self.devices.len() {
            self.lose(j, i);
        }
    }

    fn is_cut(&self, i: usize, j: usize) -> bool {
        self.cut.contains(&(i.min(j), i.max(j)))
    }

    fn connect(&mut self, i: usize, j: usize) {
        if i == j || self.is_cut(i, j) {
            return;
        }
        for (here, there) in [(i, j), (j, i)] {
            let Some(other) = &self.devices[there].node else { return };
            let hello = Hello {
                node: other.me,
                boot: other.boot,
                name: other.name.clone(),
                version: "0".into(),
                port: 1,
                room: other.card_for_strangers(),
            };
            let address = format!("192.0.2.{}:1", there + 1).parse().expect("an address");
            if self.devices[here].node.is_some() {
                let input =
                    Input::PeerConnected { peer: hello.node, address, hello, channel: [0; 32] };
                self.input(here, input);
            }
        }
    }

    fn lose(&mut self, i: usize, j: usize) {
        let peer = self.devices[j].key.node_id();
        if i != j && self.devices[i].node.is_some() {
            self.input(i, Input::PeerLost { peer });
        }
    }

    /// Cuts the house in two: those named, and the others.
    fn split(&mut self, half: &[usize]) {
        for i in 0..self.devices.len() {
            for j in 0..i {
                if half.contains(&i) != half.contains(&j) {
                    self.cut.insert((j, i));
                    self.lose(i, j);
                    self.lose(j, i);
                }
            }
        }
    }

    fn heal(&mut self) {
        for (i, j) in std::mem::take(&mut self.cut) {
            self.connect(i, j);
        }
    }

    fn at(&mut self, when: LocalTime, event: Event) {
        self.count += 1;
        self.events.insert((when, self.count), event);
    }

    fn input(&mut self, i: usize, input: Input) {
        let now = self.now;
        if let Some(node) = &mut self.devices[i].node {
            node.handle_input(now, input);
            self.drain(i);
        }
    }

    fn drain(&mut self, i: usize) {
        loop {
            let node = self.devices[i].node.as_mut();
            let Some(output) = node.and_then(Node::poll_output) else { return };
            self.carry_out(i, output);
        }
    }

    fn index(&self, node: NodeId) -> usize {
        let found = self.devices.iter().position(|device| device.key.node_id() == node);
        found.expect("a device of the house")
    }

    fn carry_out(&mut self, i: usize, output: Output) {
        let (now, later) = (self.now, self.now + WAY);
        let soon = now + WRITE;
        match output {
            Output::Send { to, message } => {
                let frame = codec::encode_message(&message).expect("within its limit");
                assert_eq!(codec::decode_message(&frame[4..]).as_ref(), Ok(&message));
                let to = self.index(to);
                self.at(later, Event::Message(i, to, message));
            }
            Output::SendDatagram { to, mut datagram } => {
                match &mut datagram {
                    Datagram::Probe(probe) => probe.t1 = now,
                    Datagram::ProbeReply(reply) => reply.t3 = now,
                    _ => {}
                }
                let to = self.index(to);
                self.at(later, Event::Datagram(i, to, datagram));
            }
            Output::SaveRoom(snapshot) => {
                self.at(soon, Event::Done(i, Write::Room(*snapshot)));
            }
            Output::SaveEntries { room, entries } => {
                self.at(soon, Event::Done(i, Write::Entries(room, entries)));
            }
            Output::RewindRoom { room, to_idx } => {
                self.at(soon, Event::Done(i, Write::Rewind(room, to_idx)));
            }
            Output::CompactRoom(snapshot) => {
                self.at(soon, Event::Done(i, Write::Compact(*snapshot)));
            }
            Output::SaveOutbox { ops, .. } => self.at(soon, Event::Done(i, Write::Keep(ops))),
            Output::DropOutbox { ids, .. } => self.at(soon, Event::Done(i, Write::Let(ids))),
            Output::SaveDropped { dropped, .. } => {
                self.at(soon, Event::Done(i, Write::Dropped(dropped)));
            }
            Output::OpenBlob { hash, .. } => {
                let lacks = self.devices[i].lacks.contains(&hash);
                let have = if lacks { Have::Pieces(vec![0]) } else { Have::Complete };
                let input = Input::BlobOpened { hash, have };
                self.at(later, Event::Input(i, input));
            }
            Output::Prepare { segment, .. } => {
                self.at(later, Event::Input(i, Input::SegmentPrimed { segment }));
            }
            Output::Reply { id, reply } => {
                self.devices[i].replies.insert(id, reply);
            }
            Output::Stretch { id, room, password } => {
                let secret = Some(password.stretch(&room).expect("memory for it"));
                self.at(later, Event::Input(i, Input::Stretched { id, room, secret }));
            }
            Output::ReadRoom { room } => {
                let restored = self.devices[i].disk.restored().map(Box::new);
                self.at(later, Event::Input(i, Input::RoomRead { room, restored }));
            }
            Output::SaveHistory { rows, .. } => self.devices[i].history.extend(rows),
            Output::RememberUser(user) => self.devices[i].user = user,
            Output::RememberFriends(friends) => self.devices[i].friends = friends.map(|f| *f),
            Output::Tell(notice) => self.devices[i].notices.push(notice),
            _ => {}
        }
    }

    fn run(&mut self, span: Span) {
        let end = self.now + span;
        loop {
            let due = self.devices.iter().filter_map(|d| d.node.as_ref()).map(Node::poll_timeout);
            let due = due.min().unwrap_or(LocalTime::FAR).max(self.now);
            let next = self.events.keys().next().map_or(LocalTime::FAR, |(when, _)| *when);
            if due.min(next) > end {
                self.now = end;
                return;
            }
            self.now = due.min(next);
            if next <= due {
                let (_, event) = self.events.pop_first().expect("just seen");
                self.happen(event);
            } else {
                self.now = due;
                for i in 0..self.devices.len() {
                    self.time_passes(i);
                }
            }
        }
    }

    fn time_passes(&mut self, i: usize) {
        let now = self.now;
        if let Some(node) = self.devices[i].node.as_mut().filter(|n| n.poll_timeout() <= now) {
            node.handle_timeout(now);
            assert!(node.poll_timeout() > now, "a deadline that does not move");
            self.drain(i);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Message(from, to, _) | Event::Datagram(from, to, _) if self.is_cut(from, to) => {
            }
            Event::Message(from, to, message) => {
                let from = self.devices[from].key.node_id();
                self.input(to, Input::MessageReceived { from, message });
            }
            Event::Datagram(from, to, datagram) => {
                let (from, at) = (self.devices[from].key.node_id(), self.now);
                self.input(to, Input::DatagramReceived { from, datagram, at });
            }
            Event::Input(i, input) => self.input(i, input),
            Event::Done(i, write) => self.written(i, write),
            Event::Synced(i, room) => {
                let tip = self.devices[i].disk.tip();
                if let Some((idx, _)) = tip {
                    self.input(i, Input::Synced { room, idx });
                }
            }
        }
    }

    fn written(&mut self, i: usize, write: Write) {
        let room = match &write {
            Write::Room(snapshot) | Write::Compact(snapshot) => codec::room_id(&snapshot.genesis),
            Write::Entries(room, _) | Write::Rewind(room, _) => *room,
            Write::Keep(_) | Write::Let(_) | Write::Dropped(_) => {
                self.devices[i].disk.write(write);
                return;
            }
        };
        let disk = &mut self.devices[i].disk;
        let fits = disk.write(write);
        match disk.tip().filter(|_| fits) {
            Some((idx, chain)) => {
                self.input(i, Input::Written { room, idx, chain });
                let when = self.now + SYNC;
                self.at(when, Event::Synced(i, room));
            }
            None => self.input(i, Input::RoomNotWritten { room }),
        }
    }

    fn command(&mut self, i: usize, command: Command) -> RequestId {
        self.count += 1;
        let id = RequestId(self.count);
        self.input(i, Input::CommandReceived { id, command });
        id
    }

    /// The answer to a command that is given now.
    fn ask(&mut self, i: usize, command: Command) -> CommandReply {
        let id = self.command(i, command);
        for _ in 0..700 {
            self.run(Span::from_millis(10));
            if let Some(reply) = self.devices[i].replies.remove(&id) {
                return reply;
            }
        }
        panic!("no answer");
    }

    fn order(&mut self, i: usize, command: Command) -> Done {
        self.ask(i, command).unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    fn node(&self, i: usize) -> &Node {
        self.devices[i].node.as_ref().expect("it runs")
    }

    fn room(&self, i: usize) -> &Room {
        self.node(i).room.as_ref().expect("it is in a room")
    }

    fn coordinator(&self) -> usize {
        let found = (0..self.devices.len())
            .find(|i| self.devices[*i].node.as_ref().is_some_and(Node::is_coordinator));
        found.expect("somebody coordinates")
    }

    fn others(&self) -> Vec<usize> {
        let lead = self.coordinator();
        (0..self.devices.len()).filter(|i| *i != lead).collect()
    }

    /// Whether all that run have one coordinator, one log and one state, and nothing waits.
    fn agree(&self) -> bool {
        let running = self.devices.iter().filter_map(|device| device.node.as_ref());
        let view = |node: &Node| {
            let room = node.room.as_ref()?;
            let done = node.replication.outbox.is_empty();
            let members = room.state().members().len() == self.devices.len();
            (done && members).then_some(())?;
            Some((node.coordinator()?, room.log().end(), room.state().hash()))
        };
        let views = running.map(view).collect::<Vec<_>>();
        views.iter().all(|view| view.is_some() && *view == views[0])
    }

    fn run_until_agreed(&mut self, within: Span) {
        let end = self.now + within;
        while self.now < end {
            self.run(Span::from_millis(50));
            if self.agree() {
                return;
            }
        }
        for device in &self.devices {
            let Some(node) = &device.node else { continue };
            eprintln!("{}: {:#?}", node.name, node.log(100));
        }
        panic!("they do not agree");
    }

    fn titles(&self, i: usize) -> Vec<String> {
        let state = self.room(i).state();
        let mut titles: Vec<_> = state.queue().iter().map(|e| e.track.title.clone()).collect();
        titles.sort();
        titles
    }

    fn notices(&mut self, i: usize) -> Vec<Notice> {
        std::mem::take(&mut self.devices[i].notices)
    }
}

impl Event {
    fn concerns(&self, device: usize) -> bool {
        match self {
            Event::Message(from, to, _) | Event::Datagram(from, to, _) => {
                *from == device || *to == device
            }
            Event::Done(i, _) | Event::Input(i, _) | Event::Synced(i, _) => *i == device,
        }
    }
}

fn track(title: &str) -> Track {
    Track {
        hash: BlobHash(*blake3::hash(title.as_bytes()).as_bytes()),
        size: 1_000_000,
        codec: Codec::Flac,
        rate: 48_000,
        channels: 2,
        frames: 48_000 * 200,
        delay: 0,
        title: title.into(),
        artists: vec![],
        album: String::new(),
    }
}

fn add(titles: &[&str]) -> Command {
    Command::Add { tracks: titles.iter().map(|title| track(title)).collect() }
}

fn play(titles: &[&str]) -> Command {
    Command::Play { tracks: titles.iter().map(|title| track(title)).collect() }
}

fn volume(volume: u8) -> Command {
    Command::Volume { member: None, change: crate::engine::command::VolumeChange::To(volume) }
}

#[test]
fn what_was_done_in_both_halves_is_there_when_they_meet() {
    let mut house = House::together(4);
    house.order(0, add(&["before"]));
    house.split(&[0, 1]);
    house.run(Span::from_secs(8));
    house.order(0, add(&["left"]));
    house.order(1, volume(30));
    house.order(2, add(&["right"]));
    house.order(3, volume(40));
    house.heal();
    house.run_until_agreed(Span::from_secs(30));
    for i in 0..4 {
        assert_eq!(house.titles(i), ["before", "left", "right"]);
        let volumes = [1, 3].map(|of| {
            let id = house.node(of).me;
            house.room(i).state().member(&id).map(|member| member.volume)
        });
        assert_eq!(volumes, [Some(30), Some(40)]);
    }
    let told: Vec<_> = (0..4).flat_map(|i| house.notices(i)).collect();
    assert!(told.iter().any(|notice| matches!(notice, Notice::BranchCut { .. })), "{told:?}");
    assert!(!told.iter().any(|notice| matches!(notice, Notice::Dropped { .. })), "{told:?}");
}

#[test]
fn a_skip_from_the_half_that_gives_way_is_left_out_and_its_author_is_told() {
    let mut house = House::together(3);
    house.order(0, play(&["a", "b", "c"]));
    house.run(A_WHILE);
    house.split(&[2]);
    house.run(Span::from_secs(8));
    // The larger half does more, so its history goes on.
    for volume in 10..30 {
        house.order(0, self::volume(volume));
    }
    house.order(2, Command::Next);
    house.order(2, Command::Pause);
    house.run(Span::from_secs(6));
    house.heal();
    house.run_until_agreed(Span::from_secs(30));
    let status = house.node(0).status(house.now);
    let playing = status.playback.track.expect("it plays on");
    assert_eq!((status.playback.state, playing.title.as_str()), (PlaybackState::Playing, "a"));
    let dropped = |notice: &Notice| match notice {
        Notice::Dropped { what, .. } => Some(what.clone()),
        _ => None,
    };
    let told = house.notices(2).iter().filter_map(dropped).collect::<Vec<_>>();
    assert_eq!(told, ["skipped to the next track", "paused"]);
    assert!(house.notices(0).iter().find_map(dropped).is_none());
    for i in 0..3 {
        let log = house.node(i).log(100);
        assert_eq!(log.dropped.len(), 2, "everybody can look it up");
        assert!(log.dropped.iter().all(|op| op.author == "d2" && !op.why.is_empty()));
    }
    // After a restart as well, and nobody is told a second time.
    let before = house.node(2).log(100).dropped;
    house.notices(2);
    house.kill(2);
    house.start(2);
    house.run(Span::from_secs(5));
    assert_eq!(house.node(2).log(100).dropped, before);
    assert!(house.notices(2).iter().find_map(dropped).is_none());
}

#[test]
fn whoever_asked_is_answered_when_the_coordinator_dies() {
    let mut house = House::together(4);
    let lead = house.coordinator();
    let author = house.others()[0];
    let id = house.command(author, add(&["song"]));
    house.run(Span::from_millis(1));
    house.kill(lead);
    house.run(Span::from_secs(4));
    let reply = house.devices[author].replies.remove(&id).expect("an answer");
    assert_eq!(reply.expect("it was done").level, Level::Replicated);
    let alive = house.others().into_iter().find(|i| *i != lead).expect("one");
    assert_eq!(house.titles(alive), ["song"]);
    house.start(lead);
    house.run_until_agreed(Span::from_secs(20));
    assert_eq!(house.titles(lead), ["song"], "once");
}

#[test]
fn a_coordinator_that_has_to_yield_answers_its_own_people() {
    let mut house = House::together(3);
    let lead = house.coordinator();
    house.split(&[lead]);
    // It still believes the others to be there; nobody writes what it orders now.
    let id = house.command(lead, add(&["mine"]));
    house.run(Span::from_secs(2));
    let other = (lead + 1) % 3;
    house.order(other, add(&["theirs"]));
    house.order(other, volume(5));
    house.order(other, volume(6));
    house.heal();
    house.run_until_agreed(Span::from_secs(20));
    assert_eq!(house.titles(lead), ["mine", "theirs"]);
    let reply = house.devices[lead].replies.remove(&id).expect("an answer");
    assert!(reply.is_ok(), "{reply:?}");
}

#[test]
fn a_device_that_was_first_after_a_power_cut_takes_over_what_another_knows() {
    let mut house = House::together(2);
    house.kill(1);
    house.run(Span::from_secs(6));
    house.order(0, add(&["last"]));
    house.run(Span::from_secs(1));
    let (end, term) = (house.room(0).log().end(), house.room(0).log().last_term());
    house.kill(0);
    house.start(1);
    house.run(Span::from_secs(8));
    assert!(house.node(1).is_coordinator() && house.room(1).log().last_idx() < end.idx);
    house.start(0);
    house.run_until_agreed(Span::from_secs(20));
    assert_eq!(house.room(1).log().chain_at(end.idx), Some(end.chain), "as it was");
    assert_eq!(house.room(1).log().entry(end.idx).map(|entry| entry.term), Some(term));
    assert_eq!(house.titles(1), ["last"]);
    let told = house.notices(0);
    assert!(!told.iter().any(|notice| matches!(notice, Notice::BranchCut { .. })), "{told:?}");
}

#[test]
fn once_something_was_ordered_a_longer_tail_is_cut_and_merged() {
    let mut house = House::together(2);
    house.kill(1);
    house.run(Span::from_secs(6));
    for title in ["x", "y", "z"] {
        house.order(0, add(&[title]));
    }
    house.kill(0);
    house.start(1);
    house.run(Span::from_secs(8));
    house.order(1, add(&["new"]));
    house.start(0);
    house.run_until_agreed(Span::from_secs(20));
    for i in 0..2 {
        assert_eq!(house.titles(i), ["new", "x", "y", "z"]);
    }
}

#[test]
fn what_waits_survives_a_restart() {
    let mut house = House::together(3);
    let author = house.others()[0];
    house.order(author, play(&["a", "b"]));
    house.run(Span::from_secs(2));
    // Cut off, it proposes into the void, and dies before it can lead itself.
    house.split(&[author]);
    house.command(author, add(&["kept"]));
    house.command(author, Command::Next);
    house.run(Span::from_millis(100));
    assert_eq!(house.node(author).log(100).waiting.len(), 2);
    let (boot, seq) = (house.node(author).boot, house.node(author).last_op.1);
    let waits = OperationStatus { idx: None, level: Level::Local };
    assert_eq!(house.node(author).operation(boot, seq), Some(waits));
    house.kill(author);
    assert_eq!(house.devices[author].disk.outbox.len(), 2);
    house.heal();
    house.start(author);
    house.run_until_agreed(Span::from_secs(20));
    for i in 0..3 {
        assert_eq!(house.titles(i), ["b", "kept"], "the skip came too late");
    }
    house.run(Span::from_millis(100));
    assert!(house.devices[author].disk.outbox.is_empty());
    let told = house.notices(author);
    assert!(told.iter().any(|notice| matches!(notice, Notice::Dropped { .. })), "{told:?}");
}

#[test]
fn a_member_that_comes_back_with_less_counts_for_less() {
    let mut house = House::together(3);
    let lead = house.coordinator();
    let others = house.others();
    house.order(lead, add(&["one"]));
    house.run(Span::from_secs(1));
    let old = house.devices[others[0]].disk.clone();
    house.order(lead, add(&["two"]));
    house.run(Span::from_secs(1));
    // The file of last week is put back.
    house.kill(others[0]);
    house.devices[others[0]].disk = old;
    house.start(others[0]);
    house.kill(others[1]);
    // What it lacks does not count as written by it, and it gets it.
    house.run(Span::from_secs(3));
    let done = house.order(lead, add(&["three"]));
    assert_eq!(done.level, Level::Replicated);
    let disk = &house.devices[others[0]].disk;
    assert!(disk.tip().is_some_and(|(idx, _)| Some(idx) >= done.idx), "acknowledged means written");
}

#[test]
fn reports_of_entries_that_made_way_do_not_count() {
    let mut house = House::together(2);
    let lead = house.coordinator();
    let member = 1 - lead;
    house.order(lead, add(&["one"]));
    house.run(Span::from_secs(1));
    let end = house.room(member).log().end();
    let (room, idx) = (house.room(member).id(), end.idx + 1);
    let written = |house: &House| {
        let me = house.node(member).me;
        house.node(lead).replication.progress.get(&me).copied()
    };
    let before = format!("{:?}", written(&house));
    house.input(member, Input::Written { room, idx, chain: [9; 16] });
    house.input(member, Input::Written { room, idx: end.idx, chain: [9; 16] });
    house.run(Span::from_millis(50));
    assert_eq!(format!("{:?}", written(&house)), before);
    // Nor does a member's word for another history.
    let term = house.node(lead).election.as_ref().expect("in a room").term();
    let place = LogPlace { idx: end.idx, chain: [9; 16] };
    let message = Message::Appended { room, term, written: place, synced: end.idx };
    let from = house.node(member).me;
    house.input(lead, Input::MessageReceived { from, message });
    assert!(format!("{:?}", written(&house)).contains("written: 0"));
}

#[test]
fn an_entry_becomes_durable_everywhere_once_the_disks_have_synced() {
    let mut house = House::together(3);
    let done = house.order(0, add(&["song"]));
    let idx = done.idx.expect("it has a place");
    let level = |house: &House, i: usize| {
        let log = house.node(i).log(100);
        log.entries.iter().find(|entry| entry.idx == idx).map(|entry| entry.level)
    };
    let lead = house.coordinator();
    assert_eq!(level(&house, lead), Some(Level::Replicated));
    // Its author can ask by name.
    let name = done.op.expect("an operation");
    let operation = |house: &House, i: usize| house.node(i).operation(name.boot, name.seq);
    let known = operation(&house, 0).expect("its own");
    assert_eq!(known.idx, Some(idx));
    assert!(known.level < Level::Durable, "the answer came before the sync");
    assert_eq!(operation(&house, 1), None, "it is not its own");
    house.run(Span::from_secs(2));
    for i in 0..3 {
        assert_eq!(level(&house, i), Some(Level::Durable));
        assert!(house.node(i).status(house.now).room.expect("in it").durable_idx >= idx);
    }
    let durable = OperationStatus { idx: Some(idx), level: Level::Durable };
    assert_eq!(operation(&house, 0), Some(durable));
    // A member that comes back is told without anything new happening.
    let member = house.others()[0];
    house.kill(member);
    house.start(member);
    house.run(Span::from_secs(5));
    assert_eq!(level(&house, member), Some(Level::Durable));
}

#[test]
fn a_device_with_another_state_of_the_same_log_is_given_the_coordinators() {
    let mut house = House::together(3);
    house.order(0, volume(50));
    house.run(Span::from_secs(1));
    let member = house.others()[0];
    let lead = house.coordinator();
    house.kill(member);
    // A fault of its memory: the log is right and the state is not.
    let author = house.devices[lead].key.node_id();
    let disk = &mut house.devices[member].disk;
    let restored = disk.restored().expect("it was in a room");
    let room = Room::restore(&restored.snapshot, &restored.entries).expect("sound");
    let mut state = room.state().clone();
    let body = OpBody::Volume { member: author, volume: 77 };
    let op = Op {
        room: room.id(),
        id: OpId { author, boot: 9, seq: 9 },
        created: RoomTime(0),
        kind: body.kind(),
        body: codec::encode_body(&body).expect("short"),
        signature: ([0; 32], [0; 32]),
    };
    let term = room.log().last_term();
    let entry = Entry { idx: 1, term, at: room.log().last_at(), op, chain: [0; 16] };
    state.apply(&entry).expect("it stands");
    let state = codec::encode_state(&state).expect("small");
    let snapshot = Snapshot { state, ..room.snapshot(term).expect("small") };
    *disk = Disk { snapshot: Some(snapshot), ..Disk::default() };
    house.start(member);
    house.run(Span::from_secs(3));
    assert!(!house.agree(), "nothing else shows it");
    house.run_until_agreed(Span::from_secs(20));
    // Mended once, it stays so.
    house.run(Span::from_secs(20));
    let disagreed = Notice::Disagreed { name: format!("d{member}") };
    let times = house.notices(lead).into_iter().filter(|notice| *notice == disagreed).count();
    assert_eq!(times, 1);
    let hash = |i: usize| house.node(i).state_hash(house.room(i));
    assert_eq!(hash(member), hash(lead));
}

#[test]
fn a_device_put_back_to_what_it_was_some_starts_ago_is_heard_all_the_same() {
    let mut house = House::together(3);
    let lead = house.coordinator();
    let device = house.others()[0];
    let image = house.devices[device].disk.clone();
    let boot = house.devices[device].boot;
    for title in ["one", "two", "three", "four", "five"] {
        house.kill(device);
        house.start(device);
        house.run(Span::from_secs(3));
        house.order(device, add(&[title]));
    }
    // The start counter, too, is in the image; and one start behind it was lost as well.
    for starts in [0, 1] {
        house.kill(device);
        house.devices[device].disk = image.clone();
        house.devices[device].boot = boot + starts;
        house.start(device);
        house.run(Span::from_secs(3));
        let before = house.titles(lead).len();
        house.order(device, add(&["six"]));
        assert_eq!(house.titles(lead).len(), before + 1, "it was taken for an earlier one");
    }
    house.run_until_agreed(Span::from_secs(10));
}

#[test]
fn a_device_set_up_anew_with_its_old_key_comes_in_again() {
    for is_member in [true, false] {
        let mut house = House::together(3);
        let device = house.others()[0];
        let lead = house.coordinator();
        for title in ["one", "two", "three", "four", "five"] {
            house.kill(device);
            house.start(device);
            house.run(Span::from_secs(3));
            house.order(device, add(&[title]));
        }
        let room = house.room(lead).id();
        if !is_member {
            // What it says first then was said before, and the room remembers it as such.
            house.order(device, Command::LeaveRoom);
            house.run(Span::from_secs(2));
            assert_eq!(house.room(lead).state().members().len(), 2);
        }
        house.kill(device);
        // The image of the day on which it was set up.
        house.devices[device].disk = Disk::default();
        house.devices[device].boot = 1;
        house.start(device);
        house.run(Span::from_secs(30));
        assert_eq!(house.room(device).id(), room, "member: {is_member}");
        house.order(device, add(&["six"]));
        house.run_until_agreed(Span::from_secs(10));
        assert_eq!(house.titles(lead).len(), 6);
    }
}

#[test]
fn what_waits_with_a_number_keeps_it_over_a_restart() {
    let mut house = House::together(3);
    let device = house.others()[0];
    let lead = house.coordinator();
    let image = house.devices[device].disk.clone();
    let boot = house.devices[device].boot;
    for title in ["one", "two"] {
        house.kill(device);
        house.start(device);
        house.run(Span::from_secs(3));
        house.order(device, add(&[title]));
    }
    house.kill(device);
    house.devices[device].disk = image;
    house.devices[device].boot = boot;
    house.start(device);
    house.run(Span::from_secs(3));
    // Cut off, it gives what is to be done the same new start, twice.
    house.split(&[device]);
    for title in ["three", "four"] {
        house.command(device, add(&[title]));
        house.run(Span::from_millis(100));
        house.kill(device);
        house.start(device);
    }
    house.heal();
    house.run_until_agreed(Span::from_secs(30));
    assert_eq!(house.titles(lead).len(), 4, "{:?}", house.titles(lead));
}

#[test]
fn only_who_was_asked_can_say_what_became_of_an_operation() {
    let mut house = House::together(3);
    let (author, other) = (house.others()[0], house.others()[1]);
    let request = house.command(author, add(&["song"]));
    let node = house.node(author);
    let (boot, seq) = node.last_op;
    let id = OpId { author: node.me, boot, seq };
    let outcome = Err(crate::wire::Refusal::new(RefusalCode::NotAllowed, "no", "no"));
    let from = house.node(other).me;
    house
        .input(author, Input::MessageReceived { from, message: Message::Proposed { id, outcome } });
    assert!(!house.devices[author].replies.contains_key(&request));
    house.run(Span::from_secs(1));
    assert!(house.devices[author].replies.remove(&request).is_some_and(|reply| reply.is_ok()));
}

#[test]
fn a_person_can_have_a_device_take_the_state_anew() {
    let mut house = House::together(3);
    let lead = house.coordinator();
    for i in 0..3 {
        let member = format!("d{}", house.others()[0]);
        let done = house.order(i, Command::Resync { member: Some(member) });
        assert!(done.message.expect("a sentence").contains("to one device"));
        house.run(Span::from_secs(1));
    }
    let done = house.order(lead, Command::Resync { member: Some(format!("d{lead}")) });
    assert!(done.message.expect("a sentence").contains("the one that counts"));
    house.order(0, Command::Resync { member: None });
    house.run(Span::from_secs(1));
    assert!(house.agree());
    house.order(1, add(&["and it goes on"]));
    house.run_until_agreed(Span::from_secs(5));
}

#[test]
fn a_device_far_behind_gets_the_state_and_offers_only_what_the_others_lack() {
    let mut house = House::together(3);
    let away = house.others()[0];
    house.order(0, add(&["known to all"]));
    house.run(Span::from_secs(1));
    house.split(&[away]);
    house.run(Span::from_secs(8));
    house.order(away, add(&["only here"]));
    let other = (0..3).find(|i| *i != away).expect("one");
    // More than any device remembers by place.
    let busy = house.node(other).coordinator().expect("somebody");
    let busy = house.index(busy);
    for i in 0..5000_u32 {
        let volume = u8::try_from(i % 101).expect("below 101");
        house.command(busy, self::volume(volume));
        house.devices[busy].replies.clear();
        house.run(Span::from_millis(3));
    }
    house.heal();
    house.run_until_agreed(Span::from_secs(60));
    for i in 0..3 {
        assert_eq!(house.titles(i), ["known to all", "only here"]);
    }
}

#[test]
fn what_a_member_had_is_offered_again_when_the_state_that_covered_it_makes_way() {
    let mut house = House::together(3);
    house.run(Span::from_secs(1));
    let member = house.others()[0];
    let earlier = house.room(member).clone();
    house.order(member, add(&["song"]));
    house.run(Span::from_secs(1));
    let room = house.room(member);
    let id = room.log().entries().last().expect("the song").op.id;
    let later = room.snapshot(room.log().last_term()).expect("small");
    // The state of another half has the song, and then nobody has the entry any more.
    let (now, later) = (house.now, Room::from_snapshot(&later).expect("sound"));
    let node = house.devices[member].node.as_mut().expect("it runs");
    node.replace_state(now, later.clone());
    node.replace_state(now, later);
    assert!(!node.replication.outbox.contains(id));
    // A device that starts again has the state only, and what lies beside it.
    house.run(Span::from_secs(1));
    house.kill(member);
    house.start(member);
    let now = house.now;
    let node = house.devices[member].node.as_mut().expect("it runs");
    node.replace_state(now, earlier);
    assert!(node.replication.outbox.contains(id));
    assert!(node.replication.covered.drain().iter().all(|op| op.id != id));
}

/// What those who stay notice of their coordinator's leaving: how long a command takes that is
/// given at the same time, whether anybody missed a coordinator, and who is a member still.
fn leaves(house: &mut House, command: Command) -> (Span, usize) {
    let lead = house.coordinator();
    let stays = (0..house.devices.len()).filter(|i| *i != lead);
    let stays = stays.filter(|i| house.room(*i).id() == house.room(lead).id()).collect::<Vec<_>>();
    for i in &stays {
        drop(house.notices(*i));
    }
    let id = house.command(lead, command);
    house.run(Span::from_millis(1));
    let begun = house.now;
    house.order(stays[0], volume(33));
    let pause = house.now - begun;
    house.run(Span::from_secs(2));
    assert!(house.devices[lead].replies.remove(&id).expect("an answer").is_ok());
    assert!(house.node(lead).condition.flaps().is_empty(), "it wanted that");
    for i in &stays {
        let notices = house.notices(*i);
        assert!(!notices.contains(&Notice::Leaderless), "{notices:?}");
    }
    let members = house.room(stays[0]).state().members();
    assert!(!members.contains_key(&house.node(lead).me), "it has said that it leaves");
    (pause, lead)
}

#[test]
fn whoever_stays_hardly_notices_that_the_coordinator_leaves_the_room() {
    let mut house = House::together(4);
    house.order(0, play(&["song"]));
    let (pause, lead) = leaves(&mut house, Command::LeaveRoom);
    assert!(pause < Span::from_millis(300), "{pause:?}");
    assert!(house.node(lead).room.is_none());
}

#[test]
fn whoever_stays_hardly_notices_that_the_coordinator_makes_or_joins_another_room() {
    let mut house = House::together(5);
    house.order(0, add(&["song"]));
    let create = Command::CreateRoom { name: Some("Attic".into()), password: None };
    let (pause, away) = leaves(&mut house, create);
    assert!(pause < Span::from_millis(300), "{pause:?}");
    let attic = house.room(away).id();
    let lead = (0..5).find(|i| *i != away && house.node(*i).is_coordinator()).expect("one");
    let others = (0..5).filter(|i| *i != away && *i != lead).collect::<Vec<_>>();
    let begun = house.now;
    let id = house.command(lead, Command::JoinRoom { room: "attic".into(), password: None });
    while house.node(lead).room_id() != Some(attic) {
        house.run(Span::from_millis(1));
        assert!(house.now - begun < Span::from_secs(1));
    }
    house.order(others[0], volume(20));
    assert!(house.now - begun < Span::from_millis(300), "{:?}", house.now - begun);
    house.run(Span::from_secs(1));
    assert!(house.devices[lead].replies.remove(&id).expect("an answer").is_ok());
    assert_eq!(house.node(lead).coordinator(), Some(house.node(away).me));
    for i in others {
        assert!(!house.notices(i).contains(&Notice::Leaderless));
    }
}

#[test]
fn a_coordinator_alone_leaves_at_once_and_whoever_is_on_the_way_out_is_not_asked_twice() {
    let mut house = House::together(1);
    let id = house.command(0, Command::LeaveRoom);
    assert!(house.devices[0].replies.remove(&id).expect("an answer").is_ok());
    let mut house = House::together(2);
    let lead = house.coordinator();
    let first = house.command(lead, Command::LeaveRoom);
    let second = house.command(lead, Command::CreateRoom { name: None, password: None });
    let refused = house.devices[lead].replies.remove(&second).expect("an answer");
    assert_eq!(refused.expect_err("not now").retry_after_ms, Some(1000));
    house.run(Span::from_secs(1));
    assert!(house.devices[lead].replies.remove(&first).expect("an answer").is_ok());
}

#[test]
fn a_coordinator_orders_nothing_before_its_reign_has_begun() {
    let mut house = House::together(2);
    house.run(Span::from_secs(5));
    let lead = house.coordinator();
    let heir = 1 - lead;
    house.kill(lead);
    house.command(heir, add(&["song"]));
    // It is kept waiting: its election and everything else are due at one time.
    house.now += Span::from_millis(900);
    let now = house.now;
    let node = house.devices[heir].node.as_mut().expect("it runs");
    node.handle_timeout(now);
    assert!(node.is_coordinator());
    let term = node.election.as_ref().expect("in a room").term();
    let log = node.room.as_ref().expect("in a room").log();
    assert_eq!(log.last_term(), term, "what waited has its place");
    let reign = node.replication.reign.as_ref().expect("it leads");
    assert!(reign.has_ordered, "nobody's tail may come behind that");
}

/// Two devices, each in a room that made itself, meet. Which of them wants into the other's room,
/// and the instant at which it has asked and not been answered.
fn on_the_way_into_the_others_room() -> (House, usize) {
    let mut house = House::together(1);
    house.devices.extend(House::together(1).devices);
    house.cut.insert((0, 1));
    house.devices[1].node = None;
    house.devices[1].disk = Disk::default();
    house.start(1);
    house.run(Span::from_secs(5));
    assert_ne!(house.room(0).id(), house.room(1).id());
    house.heal();
    for _ in 0..100 {
        if let Some(moves) = (0..2).find(|i| house.node(*i).joining.is_some()) {
            return (house, moves);
        }
        house.run(Span::from_micros(100));
    }
    panic!("they stay apart");
}

#[test]
fn a_room_in_which_somebody_has_just_acted_is_not_left_for_another() {
    let (mut house, moves) = on_the_way_into_the_others_room();
    let mine = house.room(moves).id();
    // The answer to its wish is on the way while a person acts here.
    house.order(moves, add(&["song"]));
    house.run(Span::from_secs(10));
    for i in 0..2 {
        assert_eq!(house.room(i).id(), mine, "the other one comes instead");
        assert_eq!(house.titles(i), ["song"]);
        assert_eq!(house.room(i).state().members().len(), 2);
    }
    assert_eq!((house.node(0).coordinator(), house.node(1).coordinator()), {
        let lead = Some(house.node(house.coordinator()).me);
        (lead, lead)
    });
}

#[test]
fn a_room_in_which_nobody_has_acted_is_left_for_another() {
    let (mut house, moves) = on_the_way_into_the_others_room();
    let theirs = house.room(1 - moves).id();
    house.run(Span::from_secs(10));
    assert_eq!(house.room(moves).id(), theirs);
}

/// An entry behind the end of everybody's log as only a later version could have ordered it.
fn of_a_later_version(house: &House, lead: usize) -> (LogPlace, Entry) {
    let (node, room) = (house.node(lead), house.room(lead));
    let end = room.log().end();
    let id = OpId { author: node.me, boot: node.boot, seq: 1_000_000 };
    let mut op = Op::signed(&node.key, room.id(), id, Op::NO_TIME, &OpBody::Clear).expect("short");
    (op.kind, op.body) = (999, vec![1, 2, 3]);
    let bytes = codec::signed_bytes(&op.room, &op.id, op.created, op.kind, &op.body);
    op.signature = node.key.sign(&bytes);
    let term = node.election.as_ref().expect("in a room").term();
    let at = node.room_now(house.now);
    let chain = codec::chain(&end.chain, &term, at, &op);
    (end, Entry { idx: end.idx + 1, term, at, op, chain })
}

#[test]
fn a_device_that_meets_an_unknown_operation_stops_there_says_so_and_plays_on() {
    let mut house = House::together(3);
    house.order(0, play(&["song"]));
    house.run(Span::from_secs(3));
    let lead = house.coordinator();
    let (old, other) = (house.others()[0], house.others()[1]);
    let state = house.room(old).state().hash();
    let (previous, entry) = of_a_later_version(&house, lead);
    let message = Message::Append {
        room: entry.op.room,
        term: entry.term,
        prev_idx: previous.idx,
        prev_chain: previous.chain,
        entries: vec![entry],
    };
    let from = house.node(lead).me;
    house.notices(old);
    house.input(old, Input::MessageReceived { from, message: message.clone() });
    assert_eq!(house.room(old).log().end(), previous, "as far as it knows, and no further");
    assert_eq!(house.room(old).state().hash(), state);
    assert_eq!(house.notices(old), [Notice::Outdated { kind: 999 }]);
    let status = house.node(old).status(house.now);
    assert!(status.node.outdated.expect("it says so").contains("update"));
    assert_eq!(status.playback.state, PlaybackState::Playing);
    house.input(old, Input::MessageReceived { from, message });
    assert_eq!(house.notices(old), [], "once");
    // It does not hold up what the others acknowledge, and does not coordinate if it need not.
    house.run(Span::from_millis(500));
    assert!(!house.node(lead).counts(&house.node(old).me));
    house.kill(lead);
    house.run(Span::from_secs(3));
    assert!(house.node(other).is_coordinator());
    // The branch that goes on does not have it.
    house.order(other, add(&["next"]));
    house.run(Span::from_millis(100));
    assert_eq!(house.node(old).status(house.now).node.outdated, None);
    assert_eq!(house.titles(old), ["next"]);
    assert!(house.node(other).counts(&house.node(old).me));
}

#[test]
fn what_a_later_version_has_written_is_kept_when_an_earlier_one_is_started() {
    let mut house = House::together(2);
    house.order(0, add(&["song"]));
    house.run(Span::from_secs(1));
    let lead = house.coordinator();
    let old = 1 - lead;
    let (previous, entry) = of_a_later_version(&house, lead);
    let id = entry.op.id;
    house.kill(old);
    house.devices[old].disk.entries.push(entry.clone());
    house.start(old);
    assert_eq!(house.room(old).log().end(), previous);
    assert!(house.node(old).outdated_notice().is_some());
    house.run(Span::from_secs(10));
    // Nobody who is here knows it: it waits for somebody who does, whoever coordinates.
    assert!(house.node(old).replication.outbox.contains(id));
    assert!(house.devices[old].disk.outbox.iter().any(|op| op.id == id));
    house.kill(lead);
    house.run(Span::from_secs(5));
    assert!(house.node(old).is_coordinator());
    assert!(house.node(old).replication.outbox.contains(id));
    assert!(house.devices[old].disk.outbox.iter().any(|op| op.id == id));
}

#[test]
fn what_a_coordinator_accepted_is_kept_until_the_entry_is_here() {
    let mut house = House::together(3);
    let (lead, member) = (house.coordinator(), house.others()[0]);
    let request = house.command(member, add(&["song"]));
    let id = house.node(member).replication.outbox.iter().next().expect("it waits").id;
    // The answer is here before the entry, and the only disk that has the entry goes.
    house.kill(lead);
    let accepted = Accepted { idx: 9, level: Level::Local, effective_at: RoomTime(0) };
    let message = Message::Proposed { id, outcome: Ok(accepted) };
    let from = house.devices[lead].key.node_id();
    house.input(member, Input::MessageReceived { from, message });
    assert!(matches!(house.devices[member].replies.get(&request), Some(Ok(_))));
    house.run(Span::from_secs(5));
    house.run_until_agreed(Span::from_secs(20));
    for i in [member, house.coordinator()] {
        assert_eq!(house.titles(i), ["song"]);
    }
    assert!(house.devices[member].disk.outbox.is_empty());
}

#[test]
fn what_one_half_did_outlives_a_room_written_anew_and_a_restart() {
    let mut house = House::together(3);
    house.run(Span::from_secs(2));
    house.split(&[0]);
    house.run(Span::from_secs(6));
    house.order(0, add(&["mine"]));
    let room = house.room(0).id();
    // Writes were lost on a full disk, which takes them again now.
    house.input(0, Input::RoomNotWritten { room });
    house.run(Span::from_secs(1));
    house.kill(0);
    for _ in 0..3 {
        house.order(1, add(&["theirs"]));
    }
    house.start(0);
    house.heal();
    house.run_until_agreed(Span::from_secs(20));
    assert_eq!(house.titles(0), ["mine", "theirs", "theirs", "theirs"]);
}

#[test]
fn what_waits_outlives_a_room_written_anew_and_a_restart() {
    let mut house = House::together(3);
    let author = house.others()[0];
    house.split(&[author]);
    house.command(author, add(&["kept"]));
    house.run(Span::from_millis(100));
    // The file was found damaged, and another one begun.
    house.devices[author].disk = Disk::default();
    let room = house.room(author).id();
    house.input(author, Input::RoomNotWritten { room });
    house.run(Span::from_millis(100));
    assert_eq!(house.devices[author].disk.outbox.len(), 1);
    house.kill(author);
    house.heal();
    house.start(author);
    house.run_until_agreed(Span::from_secs(20));
    assert_eq!(house.titles(author), ["kept"]);
}

#[test]
fn a_coordinator_whose_disk_fails_gives_the_lead_to_one_that_writes() {
    let mut house = House::together(3);
    house.run(A_WHILE);
    let lead = house.coordinator();
    for i in 0..3 {
        house.notices(i);
    }
    house.input(lead, Input::DiskReported(DiskState::Failed));
    let begun = house.now;
    house.run(Span::from_millis(1));
    house.order(lead, add(&["song"]));
    assert!(house.now - begun < Span::from_millis(300), "{:?}", house.now - begun);
    house.run(Span::from_millis(300));
    let next = house.coordinator();
    assert_ne!(next, lead);
    assert_eq!(house.node(lead).coordinator(), Some(house.node(next).me));
    for i in 0..3 {
        assert!(!house.notices(i).contains(&Notice::Leaderless));
    }
    // It does not come back by itself while others write.
    house.run(Span::from_secs(400));
    assert_eq!(house.coordinator(), next);
}

#[test]
fn planted_faults_do_what_they_say() {
    use crate::engine::planted::{Bug, plant};
    plant(Some(Bug::ForgottenOrphans));
    let mut house = House::together(3);
    house.run(A_WHILE);
    house.split(&[2]);
    house.run(Span::from_secs(8));
    for volume in 10..30 {
        house.order(0, self::volume(volume));
    }
    house.order(2, add(&["forgotten"]));
    house.heal();
    house.run_until_agreed(Span::from_secs(30));
    plant(None);
    assert!(house.titles(0).is_empty());
}

#[test]
fn every_command_of_the_playback_names_what_it_is_for() {
    let mut house = House::together(1);
    house.order(0, play(&["a", "b"]));
    house.run(Span::from_secs(2));
    let playing = house.room(0).state().guard();
    assert!(playing.segment.is_some());
    house.order(0, Command::Seek { to: SeekTo::Absolute(Span::from_secs(9)) });
    let seeks = house.room(0).log().entries().filter(|entry| entry.op.kind == 23);
    let entry = seeks.last().expect("it is in the log");
    let body = codec::decode_body(&entry.op).expect("ours");
    assert_eq!(body.guard(), Some(&playing));
    house.run(Span::from_secs(2));
    let id = house.room(0).state().queue()[0].id;
    house.order(0, Command::Remove { entries: vec![id] });
    let refused = house.ask(0, Command::Remove { entries: vec![id] }).expect_err("it is gone");
    assert!(refused.message.contains(&format!("no entry {}", id.0)), "{refused}");
}

/// Cuts, deaths, returns and people, drawn by a seed; at the end all are there again.
fn evening(seed: u64) {
    let mut rng = Rng::new(seed);
    let size = 3 + usize::try_from(rng.below(3)).expect("small");
    let mut house = House::together(size);
    let mut pick = move |n: usize| usize::try_from(rng.below(n as u64)).expect("small");
    let mut asked = BTreeMap::new();
    for step in 0..60 {
        let i = pick(size);
        let runs = house.devices[i].node.is_some();
        match pick(13) {
            0 => house.split(&(0..size).filter(|_| pick(2) == 0).collect::<Vec<_>>()),
            1 | 2 => house.heal(),
            3 if runs => house.kill(i),
            4 | 5 if !runs => house.start(i),
            6 if runs => drop(house.command(i, Command::Next)),
            7 if runs => drop(house.command(i, volume(u8::try_from(step).expect("small")))),
            _ if runs => {
                let title = format!("{step}");
                let id = house.command(i, add(&[&title]));
                asked.insert((i, id), title);
                // Sometimes the plug is pulled just then.
                if pick(8) == 0 {
                    house.run(Span::from_millis(1));
                    house.kill(i);
                }
            }
            _ => {}
        }
        house.run(Span::from_millis(i64::try_from(1 + pick(40) * pick(40)).expect("small")));
    }
    house.heal();
    for i in 0..size {
        if house.devices[i].node.is_none() {
            house.start(i);
        }
    }
    house.run_until_agreed(Span::from_secs(90));
    let there = house.titles(0);
    for ((i, id), title) in &asked {
        let times = there.iter().filter(|there| *there == title).count();
        let done = house.devices[*i].replies.get(id).is_some_and(Result::is_ok);
        assert!(times <= 1, "seed {seed}: {title} was added {times} times");
        assert!(!done || times == 1, "seed {seed}: {title} was acknowledged and is gone");
    }
    for i in 0..size {
        let room = house.room(i);
        let mut ids = BTreeSet::new();
        let refused = room.log().entries().filter(|entry| !ids.insert(entry.op.id)).count();
        assert_eq!(refused, 0, "seed {seed}: an operation has two places");
    }
}

#[test]
fn whatever_happens_what_was_acknowledged_is_there_once() {
    for seed in 0..outside::evenings() {
        evening(seed);
    }
}

#[test]
fn evenings_notice_what_they_are_for() {
    use crate::engine::planted::{Bug, plant};
    for bug in [Bug::ForgottenOrphans, Bug::AcknowledgeBeforeWrite] {
        let noticed = (0..60).any(|seed| {
            plant(Some(bug));
            let outcome = std::panic::catch_unwind(|| evening(seed));
            plant(None);
            outcome.is_err()
        });
        assert!(noticed, "{bug:?}");
    }
}

/// What only the world outside has.
#[cfg(test)]
mod outside {
    use crate::identity::NodeKey;

    pub fn new_key() -> NodeKey {
        NodeKey::generate(&ring::rand::SystemRandom::new()).expect("random numbers")
    }

    /// How many evenings to play; `GROOVEBOX_EVENINGS=1000` for a long look.
    pub fn evenings() -> u64 {
        let text = std::env::var("GROOVEBOX_EVENINGS").ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(12)
    }
}
