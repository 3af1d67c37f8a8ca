//! What this device is fed by and connected with, as far as the system tells: Linux says so in
//! `/sys/class/net`, `/sys/class/power_supply` and `/proc/net/route`. Elsewhere nothing is
//! known, which costs nothing.
//!
//! Decides nothing: `engine::election` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::event_loop::EventSender;
use crate::engine::election::{Coordinate, DeviceFacts};
use crate::engine::node::Input;

/// Between two looks: a plug that is pulled is no hurry, a battery lasts for minutes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Tells the loop what it finds, whenever that changes, until the loop ends.
pub async fn watch(coordinate: Coordinate, events: EventSender) {
    let mut known = None;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let Ok(facts) =
            tokio::task::spawn_blocking(move || facts(Path::new("/"), coordinate)).await
        else {
            return;
        };
        if known.replace(facts) != Some(facts) {
            tracing::debug!(?facts, "this device");
            if events.send(Input::FitnessKnown(facts).into()).await.is_err() {
                return;
            }
        }
    }
}

/// What the system under `root` tells.
fn facts(root: &Path, coordinate: Coordinate) -> DeviceFacts {
    let supplies = Supplies::of(&root.join("sys/class/power_supply"));
    DeviceFacts {
        coordinate,
        wired: default_interface(root).map(|interface| is_wired(root, &interface)),
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

fn is_wired(root: &Path, interface: &str) -> bool {
    let folder = root.join("sys/class/net").join(interface);
    let is_radio = folder.join("wireless").exists() || folder.join("phy80211").exists();
    // ARPHRD_ETHER; a telephone's link or a tunnel is another.
    let is_ethernet = read(&folder.join("type")).as_deref() == Some("1");
    is_ethernet && !is_radio
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
