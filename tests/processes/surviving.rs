//! Pulled plugs: whatever goes, the music plays on where it can, nothing acknowledged is lost,
//! and the room is one again when it can be.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use groovebox::base::rng::Rng;
use groovebox::daemon::clock;
use groovebox::engine::status::{PlaybackState, QueueStatus};

use super::daemon::Daemon;
use super::house::{House, LONG};
use super::sound::{assert_in_sync, assert_no_gap, text, wait_heard, write_song};
use super::street::{Street, address};

/// Coordinators killed one after the other.
const KILLS: usize = 20;

#[test]
fn twenty_coordinators_die_and_nobody_hears_it() {
    if !Street::is_possible() {
        return;
    }
    let mut house = House::on_street(4);
    play_long(&house, 0);
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        let dead = house.coordinator();
        house.daemons[dead].kill();
        let since = Instant::now();
        let other = house.follower_of(dead);
        house.until("a command is accepted", LONG, |house| {
            (house.daemons[other].ask(&["volume", "90"]).code == 0).then_some(())
        });
        slowest = slowest.max(since.elapsed());
        let survivors: Vec<usize> = (0..4).filter(|&i| i != dead).collect();
        for &i in &survivors {
            let status = house.daemons[i].status().expect("it answers");
            assert_eq!(status.playback.state, PlaybackState::Playing, "{}", house.daemons[i].name);
        }
        house.daemons[dead].start();
        house.wait_together();
    }
    println!("the slowest command after a death took {slowest:?}");
    assert!(slowest < Duration::from_millis(2_500), "{slowest:?}");
    house.stop_all();
    // Each start has a recording of its own; the last ones are of daemons that heard others die.
    for daemon in &house.daemons {
        assert_no_gap(&daemon.name, &daemon.recording());
    }
}

#[test]
fn half_of_the_devices_go_at_once() {
    if !Street::is_possible() {
        return;
    }
    let mut house = House::on_street(6);
    play_long(&house, 0);
    let coordinator = house.coordinator();
    let mut dead: Vec<usize> = vec![coordinator];
    dead.extend((0..6).filter(|&i| i != coordinator).take(2));
    let killed_at = clock::now();
    for &i in &dead {
        house.daemons[i].kill();
    }
    let one = (0..6).find(|i| !dead.contains(i)).expect("half of them live");
    let ((), took) = house.until("a command is accepted", LONG, |house| {
        (house.daemons[one].ask(&["volume", "80"]).code == 0).then_some(())
    });
    println!("half of the house takes commands again after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    house.wait_together();
    let reply = house.daemons[one].order(&["volume", "85"]);
    assert_eq!(reply["level"], "replicated");
    wait_heard(killed_at, 8);
    house.stop_all();
    let alive: Vec<&Daemon> =
        (0..6).filter(|i| !dead.contains(i)).map(|i| &house.daemons[i]).collect();
    let recordings: Vec<_> = alive.iter().map(|daemon| daemon.recording()).collect();
    for recording in &recordings {
        assert_no_gap("survivor", recording);
    }
    assert_in_sync("survivors", &recordings[0], &recordings[1], killed_at, 8);
}

#[test]
fn a_street_in_two_halves_plays_on_both_sides_and_is_one_again() {
    if !Street::is_possible() {
        return;
    }
    let mut house = House::on_street(4);
    play_long(&house, 0);
    house.wait_all("it has played for a while", |status| status.playback.position_ms > 2_000);
    house.street().part();
    let halves = [[0, 2], [1, 3]];
    for half in halves {
        house.until("each half has a coordinator in it", LONG, |house| {
            let ids = half.map(|i| house.daemons[i].status().map(|s| s.node.id));
            let named = half.map(|i| coordinator_of(&house.daemons[i]));
            (named[0] == named[1] && ids.iter().any(|id| id.is_some() && *id == named[0]))
                .then_some(())
        });
    }
    let added = halves.map(|half| {
        let name = format!("from-{}", house.daemons[half[0]].name);
        let song = write_song(house.path(), &name, 20);
        let reply = house.daemons[half[0]].order(&["queue", "add", text(&song)]);
        assert_eq!(reply["level"], "replicated");
        name
    });
    // The clocks of the two halves drift apart meanwhile.
    let apart = Instant::now();
    house.until("half a minute apart", Duration::from_mins(1), |_| {
        (apart.elapsed() > Duration::from_secs(30)).then_some(())
    });
    let healed_at = Instant::now();
    house.street().heal();
    house.wait_together();
    println!("one room {:?} after the street was one again", healed_at.elapsed());
    house.wait_all("what both halves added is there", |status| {
        let titles: Vec<&str> =
            status.queue.iter().map(|entry| entry.track.title.as_str()).collect();
        added.iter().all(|name| titles.iter().filter(|title| *title == name).count() == 1)
    });
    house.wait_further(0, 5_000);
    let since = clock::now();
    wait_heard(since, 8);
    house.stop_all();
    let recordings: Vec<_> = house.daemons.iter().map(Daemon::recording).collect();
    for recording in &recordings {
        assert_no_gap("either half", recording);
    }
    assert_in_sync("both halves", &recordings[0], &recordings[1], since, 8);
}

#[test]
fn a_coordinator_that_slept_for_a_minute_follows_and_is_in_step() {
    if !Street::is_possible() {
        return;
    }
    let mut house = House::on_street(3);
    play_long(&house, 0);
    house.wait_all("it has played for a while", |status| status.playback.position_ms > 2_000);
    let sleeper = house.coordinator();
    let old = house.daemons[sleeper].status().expect("it answers").node.id;
    house.daemons[sleeper].freeze();
    let other = house.follower_of(sleeper);
    house.until("another coordinator", LONG, |house| {
        coordinator_of(&house.daemons[other]).filter(|id| *id != old)
    });
    let song = write_song(house.path(), "meanwhile", 20);
    house.daemons[other].order(&["queue", "add", text(&song)]);
    let asleep = Instant::now();
    house.until("a minute of sleep", Duration::from_secs(90), |_| {
        (asleep.elapsed() > Duration::from_mins(1)).then_some(())
    });
    house.daemons[sleeper].thaw();
    let woken = Instant::now();
    house.wait_together();
    println!("awake and in the room again after {:?}", woken.elapsed());
    house.wait_queue(&["meanwhile"]);
    house.wait_further(other, 4_000);
    let since = clock::now();
    wait_heard(since, 8);
    house.stop_all();
    let (a, b) = (house.daemons[other].recording(), house.daemons[sleeper].recording());
    assert_no_gap("the one awake", &a);
    assert_in_sync("awake again", &a, &b, since, 8);
}

#[test]
fn a_device_that_changes_its_address_plays_on_and_is_reached_again() {
    if !Street::is_possible() {
        return;
    }
    let mut house = House::on_street(3);
    play_long(&house, 0);
    house.wait_all("it has played for a while", |status| status.playback.position_ms > 2_000);
    let moving = house.follower();
    let station = moving + 1;
    let moved_at = Instant::now();
    house.street().take_address(station, address(station));
    house.street().give_address(station, Ipv4Addr::new(10, 78, 0, 200));
    let name = house.daemons[moving].name.clone();
    let coordinator = house.coordinator();
    // Which of its other addresses it is, the one that is new or that of its link, does not matter.
    let old = format!("{}:", address(station));
    house.until("it is reached at another address", LONG, |house| {
        let peer = house.daemons[coordinator].peer(&name).filter(|peer| peer.connected)?;
        peer.address.filter(|address| !address.starts_with(&old))
    });
    let took = moved_at.elapsed();
    println!("reached at another address after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    house.daemons[moving].order(&["volume", "70"]);
    house.wait_together();
    house.wait_further(moving, 4_000);
    let since = clock::now();
    wait_heard(since, 6);
    house.stop_all();
    let (a, b) = (house.daemons[coordinator].recording(), house.daemons[moving].recording());
    assert_no_gap("the one that moved", &b);
    assert_in_sync("moved", &a, &b, since, 6);
}

#[test]
fn a_copy_of_a_device_is_noticed_and_said() {
    if !Street::is_possible() {
        return;
    }
    let mut house = House::on_street(3);
    house.may_call_for_help = true;
    let original = house.follower();
    let (from, to) = (house.daemons[original].path("state"), house.path().join("attic/state"));
    std::fs::create_dir_all(&to).expect("a folder");
    // What a copied memory card is: the same files under another address.
    for name in ["node.db", "node.db-wal", "identity.txt"] {
        let _not_all_are_there = std::fs::copy(from.join(name), to.join(name));
    }
    let copy = house.add(&[]);
    let said = house.until("both say so", LONG, |house| {
        let twin = |i: usize| house.daemons[i].status()?.node.twin;
        twin(original).zip(twin(copy))
    });
    println!("noticed after {:?}", said.1);
    assert!(said.0.0.contains("10.78.0.4"), "{said:?}");
    let shown = house.daemons[original].say(&["status"]);
    assert!(shown.contains("uses this device's identity"), "{shown}");
}

/// A minute and a half of sound, and longer.
fn play_long(house: &House, i: usize) {
    let song = write_song(house.path(), "long", 400);
    // Everybody has it from the beginning: it is fetched no faster than is needed, and breaks off
    // if whoever is about to fail was the only one with the rest.
    for daemon in house.running() {
        daemon.order(&["queue", "add", text(&song)]);
    }
    house.daemons[i].order(&["queue", "clear"]);
    house.wait_queue(&[]);
    house.daemons[i].order(&["play", text(&song)]);
    house.wait_playing(500);
}

fn coordinator_of(daemon: &Daemon) -> Option<String> {
    daemon.status()?.room?.coordinator
}

/// Rounds of the scene below; `GROOVEBOX_ROUNDS` asks for more.
const ROUNDS: usize = 10;

#[test]
fn what_was_acknowledged_is_there_after_everybody_was_killed() {
    let rounds = std::env::var("GROOVEBOX_ROUNDS").ok().and_then(|n| n.parse().ok());
    let seed = std::env::var("GROOVEBOX_SEED").ok().and_then(|n| n.parse().ok());
    let mut moments = Rng::new(seed.unwrap_or_else(|| u64::from(std::process::id())));
    let mut house = House::together(4);
    play_long(&house, 0);
    let mut additions: Vec<Additions> = (0..4)
        .map(|i| Additions::of(write_song(house.path(), &format!("song-of-{i}"), 20)))
        .collect();
    for round in 0..rounds.unwrap_or(ROUNDS) {
        let moment = Duration::from_millis(100 + moments.below(1_400));
        add_until_all_are_dead(&house, &mut additions, moment);
        for daemon in &mut house.daemons {
            daemon.kill();
            daemon.start();
        }
        house.wait_together();
        house.wait_all("every acknowledged addition is there", |status| {
            additions.iter().all(|those| those.are_in(&status.queue))
        });
        for those in &mut additions {
            those.assert_each_once(&house.daemons[0].status().expect("it answers").queue);
        }
        let acknowledged: Vec<usize> = additions.iter().map(|those| those.acknowledged).collect();
        println!("round {round}, killed after {moment:?}: {acknowledged:?} of each are there");
        if acknowledged.iter().sum::<usize>() > 500 {
            house.daemons[0].order(&["queue", "clear"]);
            // What was begun and not acknowledged may wait in an outbox, and come after this.
            house.wait_all("an empty queue, but for late additions", |status| {
                status.queue.len() < 4 * 10
            });
            additions.iter_mut().for_each(Additions::were_cleared);
        }
    }
    let total: usize = additions.iter().map(|those| those.acknowledged + those.cleared).sum();
    assert!(
        total > 4 * rounds.unwrap_or(ROUNDS),
        "clients that add nothing prove nothing: {total}"
    );
}

/// What one client added of its song.
struct Additions {
    song: PathBuf,
    /// Begun, whatever came of them. What was not acknowledged may be there.
    begun: usize,
    /// Acknowledged since the queue was last cleared.
    acknowledged: usize,
    /// In the queue when it was cleared.
    cleared: usize,
    found: usize,
}

impl Additions {
    fn of(song: PathBuf) -> Additions {
        Additions { song, begun: 0, acknowledged: 0, cleared: 0, found: 0 }
    }

    fn count(&self, queue: &[QueueStatus]) -> usize {
        let title = self.song.file_stem().expect("a name").to_string_lossy();
        queue.iter().filter(|entry| entry.track.title == title).count()
    }

    fn are_in(&self, queue: &[QueueStatus]) -> bool {
        self.count(queue) >= self.acknowledged
    }

    fn assert_each_once(&mut self, queue: &[QueueStatus]) {
        self.found = self.count(queue);
        let once = self.found + self.cleared <= self.begun;
        assert!(once, "{} are there of {} that were begun", self.found, self.begun);
    }

    fn were_cleared(&mut self) {
        self.cleared += self.found;
        self.acknowledged = 0;
    }
}

/// A client at each daemon adds its song again and again; after this time all daemons are
/// killed in the midst of it.
fn add_until_all_are_dead(house: &House, additions: &mut [Additions], moment: Duration) {
    let are_dead = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (daemon, those) in house.daemons.iter().zip(additions) {
            let are_dead = &are_dead;
            scope.spawn(move || {
                while !are_dead.load(Ordering::Relaxed) {
                    those.begun += 1;
                    let done = daemon.ask(&["queue", "add", text(&those.song)]).code == 0;
                    those.acknowledged += usize::from(done);
                }
            });
        }
        std::thread::sleep(moment);
        house.daemons.iter().for_each(Daemon::strike);
        are_dead.store(true, Ordering::Relaxed);
    });
}
