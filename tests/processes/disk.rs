//! A disk that takes nothing any more: the music and the room go on, and it is said.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use groovebox::engine::status::DiskState;

use super::house::{House, LONG};
use super::sound::{demo_song, text, write_song};

/// A disk of a few MiB; gone with its value.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// None for anybody but root, who alone may mount one.
    fn mounted(at: &Path) -> Option<SmallDisk> {
        if !rustix::process::geteuid().is_root() {
            println!("not run: only root can mount a small disk");
            return None;
        }
        fs::create_dir_all(at).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m,mode=0700", "groovebox-test"]).arg(at);
        let mounted = mount.status().is_ok_and(|status| status.success());
        assert!(mounted, "this is root and cannot mount a tmpfs: give the tests CAP_SYS_ADMIN");
        Some(SmallDisk { at: at.to_owned() })
    }

    /// Leaves not a byte of space.
    fn fill(&self) {
        let mut filler = File::create(self.at.join("filler")).expect("a file");
        for size in [65_536, 4096, 1] {
            while filler.write_all(&vec![7; size]).is_ok() {}
        }
    }

    fn make_space(&self) {
        fs::remove_file(self.at.join("filler")).expect("it was there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Daemons may still have files open there.
        let _it_is_gone_with_the_machine = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

#[test]
fn a_full_disk_stops_neither_music_nor_room_and_has_everything_once_there_is_space() {
    let mut house = House::empty();
    let Some(disk) = SmallDisk::mounted(&house.path().join("kitchen/state")) else { return };
    house.add(&[]);
    house.add(&[0]);
    house.add(&[0]);
    house.wait_together();
    let kitchen = |house: &House| house.daemons[0].status().expect("it answers");
    assert_eq!(kitchen(&house).node.disk, DiskState::Ok);
    house.daemons[1].order(&["play", text(&demo_song())]);
    house.wait_playing(500);

    disk.fill();
    let mut titles = Vec::new();
    while kitchen(&house).node.disk == DiskState::Ok {
        assert!(titles.len() < 200, "the full disk takes everything");
        let title = format!("song-{}", titles.len());
        let song = write_song(house.path(), &title, 3);
        // Whoever asks is answered: two others have written it, or all that can.
        let asked = titles.len() % 3;
        let reply = house.daemons[asked].order(&["queue", "add", text(&song)]);
        assert_eq!(reply["level"], "replicated", "{reply}");
        titles.push(title);
    }
    assert_eq!(kitchen(&house).node.disk, DiskState::Full);
    assert_eq!(house.daemons[1].status().expect("it answers").node.disk, DiskState::Ok);
    for asked in 0..3 {
        let reply = house.daemons[asked].order(&["volume", &format!("{}", 40 + asked)]);
        assert_eq!(reply["level"], "replicated", "{reply}");
    }
    let position = kitchen(&house).playback.position_ms;
    house.wait_playing(position + 1_500);
    let log = fs::read_to_string(house.daemons[0].path("log")).expect("a log");
    assert!(log.contains("the disk is full"), "its log does not say so");

    disk.make_space();
    let well = |house: &House| (kitchen(house).node.disk == DiskState::Ok).then_some(());
    let ((), took) = house.until("the disk is well", LONG, well);
    println!("well again {took:?} after there was space");
    // What its own disk has, with nobody there to ask.
    house.daemons[1].kill();
    house.daemons[2].kill();
    house.daemons[0].stop();
    house.daemons[0].start();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    house.wait_queue(&titles);
    house.wait_all("the volume", |status| {
        status.members.iter().any(|member| member.name == "kitchen" && member.volume == 40)
    });
}
