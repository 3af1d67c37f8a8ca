//! Some daemons of one test, and waiting for what they should come to.

use std::path::Path;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use groovebox::engine::Status;
use groovebox::engine::status::PlaybackState;
use tempfile::TempDir;

use super::daemon::{Daemon, pause};
use super::stalls;
use super::street::Street;

/// Long enough for a loaded machine: who waits so long has failed.
pub const LONG: Duration = Duration::from_secs(20);

/// How the daemons' crystals run, in ppm: far more apart than real ones.
const CRYSTALS: [i32; 5] = [40, -35, 15, -60, 80];

/// Tests that measure times hold it alone, the others share it.
static MACHINE: RwLock<()> = RwLock::new(());

/// Whether a test may run beside others.
enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// Daemons in folders of their own.
pub struct House {
    /// All of them, running or not.
    pub daemons: Vec<Daemon>,
    dir: TempDir,
    /// Their network, if it is not loopback. Taken down after they have ended.
    pub street: Option<Street>,
    /// Whether something happens here that an operator must hear of.
    pub may_call_for_help: bool,
    _turn: Turn,
}

impl House {
    /// An empty house, beside others.
    pub fn empty() -> House {
        // A test that failed leaves the lock poisoned; the machine is none the worse.
        let guard = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        House::with(Turn::Shared { _guard: guard })
    }

    /// An empty house, while no other test runs.
    pub fn alone() -> House {
        let guard = MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        House::with(Turn::Alone { _guard: guard })
    }

    fn with(turn: Turn) -> House {
        stalls::watch();
        let dir = tempfile::tempdir().expect("a temporary folder");
        House { daemons: Vec::new(), dir, street: None, may_call_for_help: false, _turn: turn }
    }

    /// A house of `n` daemons in one room, in step with each other.
    pub fn together(n: usize) -> House {
        House::empty().furnished(n)
    }

    /// Puts `n` daemons in, each told of the first, and waits until they are in one room.
    pub fn furnished(mut self, n: usize) -> House {
        for i in 0..n {
            let peers: &[usize] = if i == 0 { &[] } else { &[0] };
            self.add(peers);
        }
        self.wait_together();
        self
    }

    /// A house of `n` daemons with addresses of their own, in one room. Station `k` of its
    /// street is daemon `k - 1`.
    pub fn on_street(n: usize) -> House {
        let mut house = House::empty();
        house.street = Some(Street::new());
        house.furnished(n)
    }

    /// The street, where there is one.
    pub fn street(&self) -> &Street {
        self.street.as_ref().expect("a house on a street")
    }

    /// A place for files.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts one more daemon, told of those of these numbers; its number.
    pub fn add(&mut self, peers: &[usize]) -> usize {
        let i = self.daemons.len();
        let names = ["kitchen", "study", "bath", "attic", "hall"];
        let name = names.get(i).map_or_else(|| format!("box-{i}"), |name| (*name).to_owned());
        let (dir, ppm) = (self.dir.path().join(&name), CRYSTALS[i % CRYSTALS.len()]);
        self.daemons.push(if let Some(street) = &mut self.street {
            Daemon::in_namespace(dir, &name, ppm, street.add())
        } else {
            let peers = peers.iter().map(|&peer| self.daemons[peer].address()).collect();
            Daemon::new(dir, &name, ppm, peers)
        });
        self.daemons[i].start();
        i
    }

    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = &Daemon> {
        self.daemons.iter().filter(|daemon| daemon.runs())
    }

    /// Polls until there is an answer; how long it took comes with it.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut(&House) -> Option<T>,
    ) -> (T, Duration) {
        let since = Instant::now();
        loop {
            if let Some(found) = probe(self) {
                return (found, since.elapsed());
            }
            assert!(since.elapsed() < limit, "not within {limit:?}: {what}");
            pause();
        }
    }

    /// Waits until every running daemon's status is as it should be.
    pub fn wait_all(&self, what: &str, condition: impl Fn(&Status) -> bool) -> Duration {
        let all = |house: &House| {
            let fits = |daemon: &Daemon| daemon.status().is_some_and(|s| condition(&s));
            house.running().all(fits).then_some(())
        };
        self.until(what, LONG, all).1
    }

    /// Waits until all that run are in one room, see each other there and name one coordinator.
    pub fn wait_together(&self) -> Duration {
        self.until("all in one room", LONG, |house| house.room().map(drop)).1
    }

    /// The id of the room that all running daemons are in, if they agree on everything.
    pub fn room(&self) -> Option<String> {
        let n = self.running().count();
        let mut common = None;
        for daemon in self.running() {
            let status = daemon.status()?;
            let here = status.members.iter().filter(|member| member.online).count();
            let room = status.room?;
            let view = (room.id, room.coordinator?);
            if here != n || common.get_or_insert_with(|| view.clone()) != &view {
                return None;
            }
        }
        common.map(|(room, _)| room)
    }

    /// The number of the daemon that coordinates, as all see it.
    pub fn coordinator(&self) -> usize {
        let named = |house: &House| {
            let status = house.running().next()?.status()?;
            let id = status.room?.coordinator?;
            let name = status.members.into_iter().find(|member| member.id == id)?.name;
            house.daemons.iter().position(|daemon| daemon.name == name && daemon.runs())
        };
        self.until("a coordinator", LONG, named).0
    }

    /// A daemon that runs and does not coordinate.
    pub fn follower(&self) -> usize {
        let coordinator = self.coordinator();
        (0..self.daemons.len())
            .find(|&i| i != coordinator && self.daemons[i].runs())
            .expect("more than one daemon")
    }

    /// One that runs and is not `i`.
    pub fn follower_of(&self, i: usize) -> usize {
        let other = (0..self.daemons.len()).find(|&j| j != i && self.daemons[j].runs());
        other.expect("more than one daemon")
    }

    /// Waits until daemon `i` has played so much more of its track.
    pub fn wait_further(&self, i: usize, ms: i64) {
        let position = || self.daemons[i].status().map(|s| s.playback.position_ms);
        let (from, _) = self.until("it answers", LONG, |_| position());
        self.until("it plays on", LONG, |_| position().filter(|p| *p >= from + ms));
    }

    /// Waits until it plays everywhere, at least `ms` into the track.
    pub fn wait_playing(&self, ms: i64) {
        self.wait_all("it plays", |status| {
            status.playback.state == PlaybackState::Playing && status.playback.position_ms >= ms
        });
    }

    /// Waits until playback is in this state everywhere.
    pub fn wait_state(&self, state: PlaybackState) {
        self.wait_all(&format!("{state:?}"), |status| status.playback.state == state);
    }

    /// Waits until all show these titles in the queue.
    pub fn wait_queue(&self, titles: &[&str]) {
        self.wait_all(&format!("queue {titles:?}"), |status| {
            status.queue.iter().map(|entry| entry.track.title.as_str()).eq(titles.iter().copied())
        });
    }

    /// Ends all that run, so that their recordings are complete.
    pub fn stop_all(&mut self) {
        for daemon in self.daemons.iter_mut().filter(|daemon| daemon.runs()) {
            let (status, _) = daemon.stop();
            assert!(status.success(), "{} ended with {status}", daemon.name);
        }
    }
}

impl House {
    fn show_logs(&self) {
        for daemon in &self.daemons {
            eprintln!("{}", daemon.log());
        }
    }
}

impl Drop for House {
    /// In hardly any scene has a daemon a reason to call for its operator.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return self.show_logs();
        }
        let calls = |daemon: &&Daemon| daemon.calls_for_help() && !self.may_call_for_help;
        let complained = self.daemons.iter().find(calls);
        if let Some(daemon) = complained {
            self.show_logs();
            panic!("{} has logged an error", daemon.name);
        }
    }
}
