//! What this device is fed by and connected with, how busy and how hot it is, as far as the system
//! tells: Linux says so in `/sys/class/net`, `/sys/class/power_supply`, `/sys/class/thermal`,
//! `/proc/net/route` and `/proc/stat`. Elsewhere nothing is known, which costs nothing. A radio that sleeps between packets is kept awake while music
//! plays, where that is permitted.
//!
//! Who coordinates is not decided here but in `engine::election`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::Receiver;

use super::clock;
use super::event_loop::EventSender;
use super::wifi::Radios;
use crate::engine::Status;
use crate::engine::election::{Coordinate, DeviceFacts};
use crate::engine::node::Input;
use crate::engine::status::PlaybackState;

/// Between two looks: a plug that is pulled is no hurry, a battery lasts for minutes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Tells the loop what it finds, whenever that changes, until the loop ends.
pub async fn watch(coordinate: Coordinate, status: Receiver<Arc<Status>>, events: EventSender) {
    let (mut known, mut radio, mut load) = (None, Radio::default(), Load::default());
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let playing = status.borrow().playback.state == PlaybackState::Playing;
        let looked = tokio::task::spawn_blocking(move || {
            let mut facts = facts(Path::new("/"), coordinate);
            facts.busy_percent = load.look(Path::new("/"));
            facts.wall_clock_synced = clock::wall_is_synced();
            if facts.wired == Some(false) {
                facts.power_save = radio.mind(Path::new("/"), playing);
            }
            (facts, radio, load)
        });
        let Ok((facts, same_radio, same_load)) = looked.await else { return };
        (radio, load) = (same_radio, same_load);
        if known.replace(facts) != Some(facts) {
            tracing::debug!(?facts, "this device");
            if events.send(Input::FitnessKnown(facts).into()).await.is_err() {
                return;
            }
        }
    }
}

/// The radio of the default route, kept awake while music plays.
#[derive(Debug, Default)]
struct Radio {
    /// It is awake because of this program.
    woken: bool,
    /// That it may not be woken has been said.
    said: bool,
}

impl Radio {
    /// Whether it sleeps between packets, after what can be done about it.
    fn mind(&mut self, root: &Path, playing: bool) -> Option<bool> {
        let name = default_interface(root)?;
        let index = index_of(root, &name)?;
        let radios = Radios::open().ok()?;
        let sleeps = radios.power_save(index).ok()?;
        let wanted = if playing { false } else { self.woken };
        if wanted == sleeps || (!playing && !self.woken) {
            return Some(sleeps);
        }
        match radios.set_power_save(index, wanted) {
            Ok(()) => {
                tracing::info!(interface = name, on = wanted, "switched the radio's power save");
                self.woken = playing;
                Some(wanted)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.said, true) {
                    tracing::warn!(
                        interface = name, %error,
                        "the radio sleeps between packets and may not be kept awake, so music may \
                         start late; `iw dev {name} set power_save off` as root helps"
                    );
                }
                Some(sleeps)
            }
        }
    }
}

/// Whether the radio of that interface sleeps between packets, if it tells.
pub(super) fn power_save(root: &Path, interface: &str) -> Option<bool> {
    Radios::open().ok()?.power_save(index_of(root, interface)?).ok()
}

/// The number by which the kernel knows an interface.
fn index_of(root: &Path, interface: &str) -> Option<u32> {
    read(&root.join("sys/class/net").join(interface).join("ifindex"))?.parse().ok()
}

/// What the system under `root` tells, but for the radio's sleep.
pub(super) fn facts(root: &Path, coordinate: Coordinate) -> DeviceFacts {
    let supplies = Supplies::of(&root.join("sys/class/power_supply"));
    DeviceFacts {
        coordinate,
        wired: default_interface(root).and_then(|interface| is_wired(root, &interface)),
        mains: supplies.mains(),
        battery_percent: supplies.battery_percent,
        throttled: is_throttled(&root.join("sys/class/thermal")),
        ..DeviceFacts::default()
    }
}

/// How busy all cores together were between two looks.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    /// Ticks of work and of all, since the system started.
    before: Option<(u64, u64)>,
}

impl Load {
    /// Percent since the look before, in steps of ten: less is noise, and not worth telling.
    fn look(&mut self, root: &Path) -> Option<u8> {
        let now = ticks(&root.join("proc/stat"))?;
        let (work, all) = self.before.replace(now)?;
        let (work, all) = (now.0.checked_sub(work)?, now.1.checked_sub(all)?);
        let tenths = (10 * work + all / 2).checked_div(all)?;
        u8::try_from(10 * tenths.min(10)).ok()
    }
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. Waiting
/// for a disk is no work.
fn ticks(stat: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(stat).ok()?;
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks = fields.take(8).map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    let idle = ticks.get(3)?.checked_add(ticks.get(4).copied().unwrap_or(0))?;
    let all = ticks.iter().try_fold(0_u64, |sum, ticks| sum.checked_add(*ticks))?;
    Some((all.checked_sub(idle)?, all))
}

/// Whether some part is beyond the temperature from which the system slows it down; unknown where
/// it has no thermometer with such a mark.
fn is_throttled(thermal: &Path) -> Option<bool> {
    let zones = fs::read_dir(thermal).ok()?.flatten().map(|entry| entry.path());
    let states = zones.filter_map(|zone| {
        let now: i64 = read(&zone.join("temp"))?.parse().ok()?;
        Some(now >= slowed_from(&zone)?)
    });
    states.reduce(|any, hot| any || hot)
}

/// The lowest passive or hot trip point of a thermal zone, in thousandths of a degree.
fn slowed_from(zone: &Path) -> Option<i64> {
    /// Zones of phones have up to a dozen.
    const MAX_TRIPS: usize = 16;
    let kind = |n| read(&zone.join(format!("trip_point_{n}_type")));
    let trips = (0..MAX_TRIPS).map_while(|n| kind(n).map(|kind| (n, kind)));
    let slowing = trips.filter(|(_, kind)| kind == "passive" || kind == "hot");
    let marks = slowing
        .filter_map(|(n, _)| read(&zone.join(format!("trip_point_{n}_temp")))?.parse::<i64>().ok());
    // Some firmware says 0 or less of a trip point that is not used.
    marks.filter(|mark| *mark > 0).min()
}

/// The interface of the default route.
pub(super) fn default_interface(root: &Path) -> Option<String> {
    let routes = fs::read_to_string(root.join("proc/net/route")).ok()?;
    let mut lines = routes.lines().skip(1).map(str::split_ascii_whitespace);
    lines.find_map(|mut fields| {
        let (interface, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then(|| interface.to_owned())
    })
}

/// A cable or a radio; a tunnel is neither.
fn is_wired(root: &Path, interface: &str) -> Option<bool> {
    let folder = root.join("sys/class/net").join(interface);
    let is_radio = folder.join("wireless").exists() || folder.join("phy80211").exists();
    // ARPHRD_ETHER.
    let is_ethernet = read(&folder.join("type")).as_deref() == Some("1");
    if is_radio { Some(false) } else { is_ethernet.then_some(true) }
}

/// What feeds the device.
#[derive(Debug, Default)]
struct Supplies {
    is_plugged_in: bool,
    is_discharging: bool,
    battery_percent: Option<u8>,
    is_known: bool,
}

impl Supplies {
    fn of(folder: &Path) -> Supplies {
        let Ok(entries) = fs::read_dir(folder) else { return Supplies::default() };
        let mut supplies = Supplies { is_known: true, ..Supplies::default() };
        for entry in entries.flatten() {
            supplies.take_in(&entry.path());
        }
        supplies
    }

    fn take_in(&mut self, supply: &Path) {
        // The battery of a mouse or of a headset feeds nobody else.
        if read(&supply.join("scope")).as_deref() == Some("Device") {
            return;
        }
        if read(&supply.join("type")).as_deref() == Some("Battery") {
            self.battery_percent =
                read(&supply.join("capacity")).and_then(|text| text.parse().ok());
            self.is_discharging |= read(&supply.join("status")).as_deref() == Some("Discharging");
        } else {
            self.is_plugged_in |= read(&supply.join("online")).as_deref() == Some("1");
        }
    }

    /// Something without a battery that runs is fed from somewhere.
    fn mains(&self) -> Option<bool> {
        match self.battery_percent {
            _ if !self.is_known => None,
            None => Some(true),
            Some(_) => Some(self.is_plugged_in || !self.is_discharging),
        }
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        root
    }

    fn facts_of(files: &[(&str, &str)]) -> DeviceFacts {
        facts(system(files).path(), Coordinate::Auto)
    }

    const ROUTE: &str =
        "Iface\tDestination\tGateway\nlan0\t0001A8C0\t00000000\nlan0\t00000000\t0101A8C0\n";

    #[test]
    fn a_cable_is_told_from_a_radio() {
        let ethernet = [("proc/net/route", ROUTE), ("sys/class/net/lan0/type", "1\n")];
        assert_eq!(facts_of(&ethernet).wired, Some(true));
        let radio = [ethernet[0], ethernet[1], ("sys/class/net/lan0/wireless/x", "")];
        assert_eq!(facts_of(&radio).wired, Some(false));
        assert_eq!(facts_of(&[]).wired, None);
    }

    #[test]
    fn a_battery_is_told_from_the_mains() {
        let battery = |status: &str, online: &str| {
            facts_of(&[
                ("sys/class/power_supply/BAT0/type", "Battery\n"),
                ("sys/class/power_supply/BAT0/capacity", "17\n"),
                ("sys/class/power_supply/BAT0/status", status),
                ("sys/class/power_supply/AC/type", "Mains\n"),
                ("sys/class/power_supply/AC/online", online),
                ("sys/class/power_supply/mouse/type", "Battery\n"),
                ("sys/class/power_supply/mouse/scope", "Device\n"),
                ("sys/class/power_supply/mouse/capacity", "3\n"),
            ])
        };
        let running_out = battery("Discharging\n", "0\n");
        assert_eq!((running_out.mains, running_out.battery_percent), (Some(false), Some(17)));
        assert_eq!(battery("Charging\n", "1\n").mains, Some(true));
        let board = facts_of(&[("sys/class/power_supply/readme", "")]);
        assert_eq!((board.mains, board.battery_percent), (Some(true), None));
        assert_eq!(facts_of(&[]).mains, None);
    }

    #[test]
    fn heat_is_told_by_the_mark_from_which_the_system_slows_down() {
        let zone = |temp: &str, kind: &str, mark: &str| {
            facts_of(&[
                ("sys/class/thermal/thermal_zone0/temp", temp),
                ("sys/class/thermal/thermal_zone0/trip_point_0_type", "critical\n"),
                ("sys/class/thermal/thermal_zone0/trip_point_0_temp", "50000\n"),
                ("sys/class/thermal/thermal_zone0/trip_point_1_type", kind),
                ("sys/class/thermal/thermal_zone0/trip_point_1_temp", mark),
                ("sys/class/thermal/cooling_device0/type", "Fan\n"),
            ])
            .throttled
        };
        assert_eq!(zone("81000\n", "passive\n", "80000\n"), Some(true));
        assert_eq!(zone("79000\n", "hot\n", "80000\n"), Some(false));
        assert_eq!(zone("79000\n", "active\n", "40000\n"), None, "a fan slows nothing down");
        assert_eq!(zone("79000\n", "passive\n", "0\n"), None, "a mark that is not used");
        assert_eq!(facts_of(&[]).throttled, None);
    }

    #[test]
    fn load_is_what_happened_between_two_looks() {
        let root = system(&[("proc/stat", "cpu  100 0 100 800 100 0 0 0 0 0\ncpu0 1 1 1 1\n")]);
        let mut load = Load::default();
        assert_eq!(load.look(root.path()), None, "one look shows nothing");
        let write = |text: &str| fs::write(root.path().join("proc/stat"), text).expect("a file");
        write("cpu  160 0 120 810 110 0 0 0 0 0\n");
        assert_eq!(load.look(root.path()), Some(80));
        assert_eq!(load.look(root.path()), None, "no time has passed");
        for nonsense in ["", "cpu \n", "cpu x\n", "cpu 1 2 3\n", "cpu  1 1 1 1 1 1 1 1\n"] {
            write(nonsense);
            assert_eq!(load.look(root.path()), None, "{nonsense:?}");
        }
        assert_eq!(Load::default().look(system(&[]).path()), None);
    }
}
