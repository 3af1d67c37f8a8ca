//! What this device is fed by and connected with, as far as the system tells: Linux says so in
//! `/sys/class/net`, `/sys/class/power_supply` and `/proc/net/route`. Elsewhere nothing is
//! known, which costs nothing. A radio that sleeps between packets is kept awake while music
//! plays, where that is permitted.
//!
//! Who coordinates is not decided here but in `engine::election`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::Receiver;

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
    let (mut known, mut radio) = (None, Radio::default());
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let playing = status.borrow().playback.state == PlaybackState::Playing;
        let looked = tokio::task::spawn_blocking(move || {
            let mut facts = facts(Path::new("/"), coordinate);
            if facts.wired == Some(false) {
                facts.power_save = radio.mind(Path::new("/"), playing);
            }
            (facts, radio)
        });
        let Ok((facts, same_radio)) = looked.await else { return };
        radio = same_radio;
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
        let index = read(&root.join("sys/class/net").join(&name).join("ifindex"))?.parse().ok()?;
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

/// What the system under `root` tells, but for the radio's sleep.
fn facts(root: &Path, coordinate: Coordinate) -> DeviceFacts {
    let supplies = Supplies::of(&root.join("sys/class/power_supply"));
    DeviceFacts {
        coordinate,
        wired: default_interface(root).and_then(|interface| is_wired(root, &interface)),
        mains: supplies.mains(),
        battery_percent: supplies.battery_percent,
        power_save: None,
    }
}

/// The interface of the default route.
fn default_interface(root: &Path) -> Option<String> {
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

    fn take_in(&mut self, supply: &PathBuf) {
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
}
