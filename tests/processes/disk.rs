//! A disk that takes nothing any more: the music and the room go on, and it is said.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use groovebox::engine::Status;
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

/// A file system whose medium refuses what is new while `break_it` holds: a loop device upon a
/// file with holes in a full tmpfs. What has its place already can be written.
struct BadDisk {
    at: PathBuf,
    medium: SmallDisk,
}

impl BadDisk {
    fn mounted(at: &Path) -> Option<BadDisk> {
        // A container's kernel may have no loop devices to give.
        let mut free = Command::new("losetup");
        if !free.arg("-f").output().is_ok_and(|told| told.status.success()) {
            eprintln!("skipped: this machine has no loop devices");
            return None;
        }
        let medium = SmallDisk::mounted(&at.with_extension("medium"))?;
        let disk = BadDisk { at: at.to_owned(), medium };
        let image = File::create(disk.image()).expect("an image");
        image.set_len(32 << 20).expect("holes");
        must(Command::new("mke2fs").args(["-q", "-t", "ext2", "-b", "4096"]).arg(disk.image()));
        fs::create_dir_all(at).expect("a folder");
        disk.mount();
        Some(disk)
    }

    fn image(&self) -> PathBuf {
        self.medium.at.join("image")
    }

    fn mount(&self) {
        let mut mount = Command::new("mount");
        must(mount.args(["-o", "loop,errors=continue"]).arg(self.image()).arg(&self.at));
    }

    fn unmount(&self) {
        must(Command::new("umount").arg(&self.at));
    }

    /// The second part of a file cannot be read any more: where its blocks are is garbage.
    fn spoil(&self, file: &str) {
        let mut debugfs = Command::new("debugfs");
        let told = debugfs.args(["-R", &format!("stat {file}")]).arg(self.image()).output();
        let told = String::from_utf8_lossy(&told.expect("debugfs runs").stdout).into_owned();
        let block = told.split("(IND):").nth(1).and_then(|rest| rest.split([',', '\n']).next());
        let block: u64 = block.and_then(|text| text.trim().parse().ok()).expect("a long file");
        let image = File::options().write(true).open(self.image()).expect("the image");
        image.write_all_at(&[0xFE; 4096], block * 4096).expect("spoiled");
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        let _it_is_gone_with_the_machine = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn must(command: &mut Command) {
    let status = command.status().expect("it starts");
    assert!(status.success(), "{command:?}");
}

/// What the device with the disk shows.
fn kitchen(house: &House) -> Status {
    house.daemons[0].status().expect("it answers")
}

#[test]
fn a_medium_that_fails_is_said_and_has_everything_once_it_works_again() {
    let mut house = House::empty();
    let Some(disk) = BadDisk::mounted(&house.path().join("kitchen/state")) else { return };
    house = house.furnished(3);
    let id = kitchen(&house).node.id;
    disk.medium.fill();
    let mut titles = Vec::new();
    while kitchen(&house).node.disk == DiskState::Ok {
        assert!(titles.len() < 200, "the medium takes everything");
        let title = format!("song-{}", titles.len());
        let song = write_song(house.path(), &title, 3);
        let reply = house.daemons[titles.len() % 3].order(&["queue", "add", text(&song)]);
        assert_eq!(reply["level"], "replicated", "{reply}");
        titles.push(title);
    }
    assert_eq!(kitchen(&house).node.disk, DiskState::Failed);
    let log = fs::read_to_string(house.daemons[0].path("log")).expect("a log");
    assert!(log.contains("the disk is failing"), "its log does not say so");
    let reply = house.daemons[0].order(&["volume", "40"]);
    assert_eq!(reply["level"], "replicated", "{reply}");

    disk.medium.make_space();
    let well = |house: &House| (kitchen(house).node.disk == DiskState::Ok).then_some(());
    let ((), took) = house.until("the disk is well", LONG, well);
    println!("well again {took:?} after the medium was");
    let reply = house.daemons[0].order(&["volume", "41", "--durable"]);
    assert_eq!(reply["level"], "durable", "{reply}");
    // What the medium has, and not what memory remembers of it.
    house.daemons[1].kill();
    house.daemons[2].kill();
    house.daemons[0].kill();
    disk.unmount();
    disk.mount();
    house.daemons[0].start();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    house.wait_queue(&titles);
    assert_eq!(kitchen(&house).node.id, id);
    house.wait_all("the volume", |status| {
        status.members.iter().any(|member| member.name == "kitchen" && member.volume == 41)
    });
}

#[test]
fn a_room_file_that_cannot_be_read_is_set_aside_and_comes_from_the_others() {
    // Alone: a device on a street has a view of all mounts of its own, and what it still sees the
    // kernel does not read again.
    let mut house = House::alone();
    let Some(disk) = BadDisk::mounted(&house.path().join("kitchen/state")) else { return };
    house = house.furnished(3);
    let songs = (0..30).map(|n| write_song(house.path(), &format!("song-{n}"), 1));
    let songs = songs.collect::<Vec<_>>();
    let add = ["queue", "add"].into_iter().chain(songs.iter().map(|song| text(song)));
    let add = add.collect::<Vec<_>>();
    // Several times, so that the file has a second part, and whatever is read at a start is in it.
    for _ in 0..10 {
        house.daemons[0].order(&add);
    }
    let queue = |house: &House, i: usize| house.daemons[i].status().expect("it answers").queue;
    let kept = |house: &House| (queue(house, 0).len() == 300).then_some(());
    house.until("the queue", LONG, kept);
    let (id, room) = (kitchen(&house).node.id, house.room().expect("one room"));
    house.daemons[0].stop();
    disk.unmount();
    disk.spoil(&format!("rooms/{room}.db"));
    disk.mount();
    house.daemons[0].start();
    house.wait_together();
    house.until("the queue", LONG, kept);
    let node = kitchen(&house).node;
    assert_eq!((node.id, house.room()), (id, Some(room)));
    let notice = node.disk_notice.expect("it says so");
    assert!(notice.contains("set aside"), "{notice}");
    house.until("the disk is well", LONG, |house| {
        (kitchen(house).node.disk == DiskState::Ok).then_some(())
    });
}

#[test]
fn a_device_starts_from_a_full_disk_under_a_number_that_is_new() {
    let mut house = House::empty();
    let Some(disk) = SmallDisk::mounted(&house.path().join("kitchen/state")) else { return };
    house = house.furnished(3);
    let song = write_song(house.path(), "kept", 3);
    house.daemons[0].order(&["queue", "add", text(&song)]);
    house.wait_queue(&["kept"]);
    let mut boots = Vec::new();
    for volume in 41..44 {
        if volume == 42 {
            house.daemons[0].stop();
        } else {
            house.daemons[0].kill();
        }
        disk.fill();
        house.daemons[0].start();
        house.wait_together();
        assert_eq!(kitchen(&house).node.disk, DiskState::Full);
        let reply = house.daemons[0].order(&["volume", &volume.to_string()]);
        boots.push(reply["op"]["boot"].as_u64().expect("an operation"));
        house.wait_all("the volume", |status| {
            let mut members = status.members.iter();
            members.any(|member| member.name == "kitchen" && member.volume == volume)
        });
        house.wait_queue(&["kept"]);
    }
    assert!(boots.windows(2).all(|two| two[0] < two[1]), "{boots:?}");
    disk.make_space();
    let well = |house: &House| (kitchen(house).node.disk == DiskState::Ok).then_some(());
    let ((), took) = house.until("the disk is well", LONG, well);
    println!("well again {took:?} after there was space");
    // What its own disk has, with nobody there to ask.
    house.daemons[1].kill();
    house.daemons[2].kill();
    house.daemons[0].stop();
    house.daemons[0].start();
    house.wait_queue(&["kept"]);
    let reply = house.daemons[0].order(&["queue", "add", text(&song)]);
    assert!(reply["op"]["boot"].as_u64() > boots.last().copied(), "{reply}");
}

#[test]
fn a_full_disk_stops_neither_music_nor_room_and_has_everything_once_there_is_space() {
    let mut house = House::empty();
    let Some(disk) = SmallDisk::mounted(&house.path().join("kitchen/state")) else { return };
    house = house.furnished(3);
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
