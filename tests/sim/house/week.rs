//! A room in ordinary use for a long time: people add and skip, devices come, go and are replaced,
//! coordinators change, halves part and meet. Nothing that a node or its disk holds may go on
//! growing. The whole week takes an hour of computing and is run by hand:
//!
//! ```text
//! cargo test --release --test sim -- house::week --ignored --nocapture
//! ```
//!
//! `GROOVEBOX_SIM_HOURS` makes it shorter. What runs always has as many operations in minutes.

use std::collections::BTreeMap;

use groovebox::base::limits::{LOG_TAIL, LOG_TAIL_BYTES, MAX_MEMBERS, MAX_OUTBOX, MAX_QUEUE};
use groovebox::base::{BlobHash, Span};
use groovebox::engine::Command;
use groovebox::engine::command::{SeekTo, VolumeChange};
use groovebox::engine::node::Node;
use groovebox::wire::Track;

use super::faults::Fault;
use super::tests::{number, report};
use super::{Clocks, House, Plan};
use crate::world::{Air, Chance, MS, SEC};

/// What happens beside what people order, each about as often. A wiped device comes back as one
/// that nobody knows.
const EVENTS: [Fault; 9] = [
    Fault::KillCoordinator,
    Fault::KillAny,
    Fault::Terminate,
    Fault::PowerStrip,
    Fault::Suspend,
    Fault::Partition,
    Fault::AccessPoint,
    Fault::RoomsLost,
    Fault::Wiped,
];

/// Operations between two looks at what everybody holds: encoding states is most of a look.
const LOOK_EVERY: u64 = 20;

/// Files that a device remembers three others to have: 2,048 of each, and some that it wants.
const FILES: usize = 3 * 2048 + 256;

/// Entries of a queue at which somebody empties it.
const LONG_QUEUE: usize = 40;

struct Use {
    length: i64,
    /// Between two commands, on average.
    pace: i64,
    /// Between two events of other kinds.
    calm: i64,
    /// How many looks at the sizes.
    samples: i64,
    /// Seconds of a song.
    song: u64,
}

/// The most of each that any node held, by look.
type Sizes = Vec<BTreeMap<&'static str, usize>>;

fn lived(seed: u64, how: &Use) -> (House, Sizes) {
    let plan = Plan {
        size: 4,
        air: Air::HomeWifi,
        wired: 1,
        clocks: Clocks::Rough,
        resumes: true,
        is_ideal: true,
        is_long: true,
        governs: false,
    };
    let mut house = House::new(seed, plan);
    house.run(8 * SEC);
    let begun = house.now;
    let (mut songs, mut next_event) = (0, begun + how.calm);
    let mut sizes = Sizes::new();
    for sample in 1..=how.samples {
        let until = begun + how.length / how.samples * sample;
        let mut most = BTreeMap::new();
        while house.now < until {
            let pause = house.rng.around(how.pace).max(MS);
            house.run(until.min(house.now + pause));
            sound(&house);
            act(&mut house, &mut songs, how.song);
            if house.now >= next_event {
                next_event = house.now + how.calm / 2 + house.rng.around(how.calm / 2);
                happen(&mut house);
            }
            if house.counts.asked.is_multiple_of(LOOK_EVERY) {
                measure(&house, &mut most);
            }
        }
        measure(&house, &mut most);
        sizes.push(most);
    }
    (house, sizes)
}

fn sound(house: &House) {
    if let Some(broken) = &house.broken {
        panic!("{}", report(house, broken));
    }
}

/// Something happens to the house, and is over a while later.
fn happen(house: &mut House) {
    let fault = EVENTS[house.rng.below(EVENTS.len() as u64) as usize];
    house.tell(|_| format!("fault: {fault:?}"));
    house.counts.faults += 1;
    house.suffer(fault);
    let lasts = house.rng.between(2 * SEC, 40 * SEC);
    house.run(house.now + lasts);
    sound(house);
    house.make_good();
}

/// A person orders something: mostly songs that were never heard before.
fn act(house: &mut House, songs: &mut u64, seconds: u64) {
    let d = house.rng.below(house.devices.len() as u64) as usize;
    if !house.devices[d].is_at_work() {
        return;
    }
    let room = house.devices[d].node.as_ref().and_then(|node| node.room());
    let queue = room.map_or(0, |room| room.state().queue().len());
    let command = match house.rng.below(20) {
        _ if queue > LONG_QUEUE => Command::Clear,
        0..8 => Command::Add { tracks: brought(house, d, songs, seconds) },
        8 => Command::Play { tracks: brought(house, d, songs, seconds) },
        9..13 => Command::Next,
        13 => Command::Toggle,
        14..16 => Command::Resume,
        16 => Command::Seek { to: SeekTo::Relative(Span::from_secs(-5)) },
        17 => Command::Volume { member: None, change: VolumeChange::To(40) },
        18 => Command::RoomVolume { change: VolumeChange::By(1) },
        _ => house.any_command(d),
    };
    house.ask(d, command, false);
}

fn brought(house: &mut House, d: usize, songs: &mut u64, seconds: u64) -> Vec<Track> {
    let count = 1 + house.rng.below(3);
    let tracks = (0..count).map(|_| {
        *songs += 1;
        let mut hash = [0x50; 32];
        hash[..8].copy_from_slice(&songs.to_le_bytes());
        let like = house.people.track(0);
        let frames = seconds * u64::from(like.rate);
        Track { hash: BlobHash(hash), frames, title: format!("Song {songs}"), ..like }
    });
    let tracks = tracks.collect::<Vec<_>>();
    for track in &tracks {
        house.bring(d, track);
    }
    tracks
}

fn measure(house: &House, most: &mut BTreeMap<&'static str, usize>) {
    for device in &house.devices {
        let node = device.node.as_ref().map(Node::sizes).unwrap_or_default();
        let files = &device.disk.written;
        let rooms = files.rooms.values();
        let disk = [
            ("disk: entries after the state", rooms.clone().map(|f| f.entries.len()).max()),
            ("disk: outbox", rooms.clone().map(|file| file.outbox.len()).max()),
            ("disk: left out", rooms.map(|file| file.dropped.len()).max()),
            ("disk: peers", Some(files.peers.len())),
        ];
        let disk = disk.into_iter().map(|(name, n)| (name, n.unwrap_or(0)));
        for (name, n) in node.into_iter().chain(disk) {
            let so_far = most.entry(name).or_insert(0);
            *so_far = n.max(*so_far);
        }
    }
}

/// What must never be passed, however long.
fn within_limits(sizes: &BTreeMap<&'static str, usize>) {
    let limits = [
        ("entries in memory", LOG_TAIL),
        ("bytes of their bodies", LOG_TAIL_BYTES),
        ("states to wind back to", 4),
        ("members", MAX_MEMBERS),
        ("queue", MAX_QUEUE),
        ("bytes of the state", 512 * 1024),
        ("outbox", MAX_OUTBOX),
        ("operations left out", 64),
        ("people who wait", 500),
        ("outputs", 0),
        ("transfer", FILES),
        ("disk: entries after the state", 2500),
        ("disk: left out", 64),
    ];
    for (name, limit) in limits {
        let held = sizes.get(name).copied().expect("measured");
        assert!(held <= limit, "{name}: {held}, at most {limit}");
    }
}

/// The second half holds no more than the first did, give or take what chance does.
fn is_flat(sizes: &Sizes) {
    let (first, second) = sizes.split_at(sizes.len() / 2);
    let most = |half: &[BTreeMap<&'static str, usize>], name| {
        half.iter().filter_map(|sizes| sizes.get(name)).copied().max().unwrap_or(0)
    };
    for name in sizes[0].keys() {
        let (before, after) = (most(first, name), most(second, name));
        // It has a limit that is not reached in minutes.
        if *name == "transfer" && before < FILES / 2 {
            continue;
        }
        let allowed = before + before / 4 + 64;
        assert!(after <= allowed, "{name} goes on growing: {before}, then {after}");
    }
}

fn print(sizes: &Sizes) {
    for name in sizes[0].keys() {
        print!("{name:<32}");
        for sizes in sizes {
            print!("{:>9}", sizes[name]);
        }
        println!();
    }
}

fn check(seed: u64, how: &Use) {
    let begun = std::time::Instant::now();
    let (mut house, sizes) = lived(seed, how);
    print(&sizes);
    let counts = &house.counts;
    println!(
        "{} s in {:.0} s: {} operations, {} terms, {} other events",
        how.length / SEC,
        begun.elapsed().as_secs_f64(),
        counts.acknowledged,
        counts.terms,
        counts.faults,
    );
    sizes.iter().for_each(within_limits);
    is_flat(&sizes);
    // And it is a room in which things still work: a new song gets everywhere.
    house.make_good();
    house.run(house.now + 30 * SEC);
    let mut songs = u64::MAX / 2;
    let tracks = brought(&mut house, 0, &mut songs, how.song);
    let hash = tracks[0].hash;
    house.ask(0, Command::Play { tracks }, false);
    house.run(house.now + 20 * SEC);
    sound(&house);
    for device in &house.devices {
        let blob = device.speaker.cache.get(&hash);
        assert!(blob.is_some_and(super::Blob::is_complete), "{} lacks the song", device.name);
    }
}

#[test]
fn many_operations_leave_nothing_behind_that_grows() {
    // By the middle of it the log has as many entries as it keeps.
    check(1, &Use { length: 1800 * SEC, pace: 90 * MS, calm: 60 * SEC, samples: 6, song: 6 });
}

#[test]
#[ignore = "takes many minutes; the module's front page has the command"]
fn a_week_of_ordinary_use_leaves_nothing_behind_that_grows() {
    let hours = number("GROOVEBOX_SIM_HOURS").unwrap_or(7 * 24).cast_signed();
    check(
        2,
        &Use {
            length: hours * 3600 * SEC,
            pace: 40 * SEC,
            calm: 1800 * SEC,
            samples: 14,
            song: 200,
        },
    );
}
