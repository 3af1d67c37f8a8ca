//! A power cut at any moment, at any byte: what is there afterwards is what the file was after
//! one of its commits, and never one before the last that was reported synced.
//!
//! The disk is played by copies of the files. What was written since the last sync reaches it
//! up to some byte, or in sectors of any selection: a card writes in the order that it likes.

use std::fs;
use std::path::Path;

use super::room_file::{self, RoomFile};
use super::tests::{entries_with, left_out, ops, position, snapshot_of};
use super::*;
use crate::base::limits::{LOG_KEPT_FOR, MAX_DROPPED};
use crate::base::rng::Rng;
use crate::base::{OpId, Span};

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// Between two entries: so that what is a week old goes while this runs.
const PACE: Span = Span::from_secs(6 * 3600);

/// A page of the database.
const PAGE: usize = 4096;

/// In memory where that can be: what a real disk does at a sync is no part of this, and thousands
/// of syncs take minutes.
fn directory() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    in_memory.expect("a directory")
}

/// The two files that hold a room. The index of the journal is made anew at every start.
#[derive(Clone, PartialEq, Default)]
struct Image {
    file: Vec<u8>,
    journal: Vec<u8>,
}

impl Image {
    fn of(rooms: &Path, room: RoomId) -> Image {
        let path = room_path(rooms, room);
        let journal = path.with_extension("db-wal");
        Image {
            file: fs::read(path).expect("a file"),
            journal: fs::read(journal).unwrap_or_default(),
        }
    }

    fn put(&self, rooms: &Path, room: RoomId) {
        let _ = fs::remove_dir_all(rooms);
        fs::create_dir_all(rooms).expect("a directory");
        let path = room_path(rooms, room);
        fs::write(path.with_extension("db-wal"), &self.journal).expect("written");
        fs::write(path, &self.file).expect("written");
    }
}

/// What tells two states of a file apart.
#[derive(Clone, PartialEq, Debug)]
struct Known {
    base: (u64, [u8; 16]),
    last: (u64, [u8; 16]),
    /// Places of what is kept, the state's own and those before it among them.
    kept: Vec<(u64, [u8; 16])>,
    outbox: Vec<OpId>,
    dropped: Vec<OpId>,
    position: Option<SavedPosition>,
}

impl Known {
    fn of(loaded: &LoadedRoom, log: &[Entry]) -> Known {
        let base = (loaded.snapshot.idx, loaded.snapshot.chain);
        Known {
            base,
            kept: places(log),
            dropped: loaded.dropped.iter().map(|op| op.id).collect(),
            last: loaded.entries.last().map_or(base, |entry| (entry.idx, entry.chain)),
            outbox: loaded.outbox.iter().map(|op| op.id).collect(),
            position: loaded.position,
        }
    }
}

fn places(log: &[Entry]) -> Vec<(u64, [u8; 16])> {
    log.iter().map(|entry| (entry.idx, entry.chain)).collect()
}

/// The log in the file, the state's part of it as well.
fn read_log(rooms: &Path, room: RoomId) -> Vec<Entry> {
    RoomReader { rooms: rooms.to_owned() }.log(room, u64::MAX, 100_000).expect("readable")
}

/// A file under test, and everything that it has been.
struct Life {
    rng: Rng,
    dir: tempfile::TempDir,
    file: RoomFile,
    room: RoomId,
    /// The whole log; what is written of it is rewound and written again in other words.
    log: Vec<Entry>,
    /// The first entry that is not too old.
    kept_from: u64,
    commits: Vec<Known>,
    /// The commit that was synced last, and what the disk had then.
    synced: (usize, Image),
}

impl Life {
    fn begin(seed: u64) -> Life {
        let dir = directory();
        let (base, room) = snapshot_of(&[], 0);
        let (mut file, _) = RoomFile::open(dir.path(), room).expect("opens");
        file.transact(|write| write.replace(&base)).expect("written");
        file.sync().expect("synced");
        let base = (base.idx, base.chain);
        let known = Known {
            base,
            last: base,
            kept: Vec::new(),
            outbox: Vec::new(),
            dropped: Vec::new(),
            position: None,
        };
        Life {
            rng: Rng::new(seed),
            room,
            log: Vec::new(),
            kept_from: 1,
            commits: vec![known],
            synced: (0, Image::of(dir.path(), room)),
            file,
            dir,
        }
    }

    /// One commit of what a room writes.
    fn step(&mut self) {
        let draw = self.rng.below(12);
        let (n, seq) = (1 + self.rng.below(4), self.rng.below(1000));
        let body = usize::try_from(self.rng.below(60_000)).expect("small");
        let last = self.log.len() as u64;
        let mut known = self.commits.last().expect("one").clone();
        match draw {
            0..=5 => {
                let new = entries_with(&self.log, n, body, seq, PACE);
                self.log.extend(new.iter().cloned());
                self.file.transact(|write| new.iter().try_for_each(|e| write.append(e).map(drop)))
            }
            6 => {
                let to = known.base.0.max(last.saturating_sub(n));
                self.log.truncate(usize::try_from(to).expect("small"));
                let cut = ops(seq..seq + n);
                for op in &cut {
                    if !known.outbox.contains(&op.id) {
                        known.outbox.push(op.id);
                    }
                }
                self.file.transact(|write| {
                    write.save_outbox(&cut)?;
                    write.rewind(to).map(drop)
                })
            }
            7 => {
                let to = known.base.0.max(last.saturating_sub(2));
                let (snapshot, _) = snapshot_of(&self.log, to);
                known.base = (snapshot.idx, snapshot.chain);
                let end = self.log.last().map_or(0, |entry| entry.at.0);
                let old = |entry: &&Entry| entry.idx <= to && end - entry.at.0 > LOG_KEPT_FOR.0;
                let gone = self.log.iter().filter(old).map(|entry| entry.idx).max();
                self.kept_from = self.kept_from.max(gone.unwrap_or(0) + 1);
                self.file.transact(|write| write.compact(&snapshot))
            }
            8 => {
                let (drop_up_to, at) = (self.rng.below(1000), position(seq.cast_signed()));
                let offered: Vec<OpId> = ops(0..drop_up_to).iter().map(|op| op.id).collect();
                known.outbox.retain(|id| !offered.contains(id));
                known.position = Some(at);
                self.file.transact(|write| {
                    write.drop_outbox(&offered)?;
                    write.save_position(&at)
                })
            }
            9 => {
                let op = left_out(seq);
                if !known.dropped.contains(&op.id) {
                    known.dropped.push(op.id);
                    let beyond = known.dropped.len().saturating_sub(MAX_DROPPED);
                    known.dropped.drain(..beyond);
                }
                self.file.transact(|write| write.save_dropped(&op))
            }
            10 => {
                // The room is written again after trouble, from an earlier state on.
                let from = known.base.0 + self.rng.below(last - known.base.0 + 1);
                let (snapshot, _) = snapshot_of(&self.log, from);
                known.base = (snapshot.idx, snapshot.chain);
                let after = self.log.iter().filter(|entry| entry.idx > from);
                self.file.transact(|write| {
                    write.replace(&snapshot)?;
                    after.clone().try_for_each(|entry| write.append(entry).map(drop))
                })
            }
            _ => {
                self.file.sync().expect("synced");
                self.synced = (self.commits.len(), Image::of(self.dir.path(), self.room));
                Ok(())
            }
        }
        .expect("written");
        let kept = self.log.iter().filter(|entry| entry.idx >= self.kept_from);
        known.kept = kept.map(|entry| (entry.idx, entry.chain)).collect();
        known.last = self.log.last().map_or(known.base, |entry| (entry.idx, entry.chain));
        self.commits.push(known);
    }

    /// The disk after a cut of the power during the last step, and the commit that it must not
    /// be behind.
    fn cut(&mut self, before: &Image) -> (Image, usize) {
        let now = Image::of(self.dir.path(), self.room);
        let (commit, synced) = (self.synced.0, self.synced.1.clone());
        if now.file == before.file {
            let journal = self.torn(&synced.journal, &now.journal);
            return (Image { file: now.file, journal }, commit);
        }
        // The journal was carried over into the file, once it was synced. Then either some
        // pages have reached the disk, or all.
        let last = self.commits.len() - 1;
        let file = if self.rng.below(2) == 0 {
            self.mixed(&before.file, &now.file, PAGE)
        } else {
            now.file.clone()
        };
        self.synced = (last, now.clone());
        (Image { file, journal: now.journal }, last)
    }

    /// What was to be `new` where there was `old`.
    fn torn(&mut self, old: &[u8], new: &[u8]) -> Vec<u8> {
        if self.rng.below(3) == 0 {
            return self.mixed(old, new, SECTOR);
        }
        let unsynced = new.iter().zip(old).take_while(|(new, old)| new == old).count();
        let span = (new.len() - unsynced) as u64 + 1;
        let cut = unsynced + usize::try_from(self.rng.below(span)).expect("a length");
        let rest = old.get(cut..).unwrap_or_default();
        [&new[..cut], rest].concat()
    }

    fn mixed(&mut self, old: &[u8], new: &[u8], unit: usize) -> Vec<u8> {
        let mut mixed = new.to_vec();
        for (i, chunk) in mixed.chunks_mut(unit).enumerate() {
            if self.rng.below(2) == 0 {
                let from = old.get(i * unit..).unwrap_or_default();
                let n = from.len().min(chunk.len());
                chunk[..n].copy_from_slice(&from[..n]);
                // What never was on the disk is there as nothing.
                chunk[n..].fill(0);
            }
        }
        mixed
    }
}

/// What the disk has after it: which commit that is.
fn read_back(image: &Image, life: &Life, at_least: usize, what: &str) -> usize {
    let after = directory();
    image.put(after.path(), life.room);
    let (loaded, notice) = room_file::load(after.path(), life.room).expect("loads");
    assert_eq!(notice, None, "{what}: a cut is no damage");
    let loaded = loaded.unwrap_or_else(|| panic!("{what}: no room"));
    let known = Known::of(&loaded, &read_log(after.path(), life.room));
    let commit = life.commits.iter().rposition(|commit| *commit == known);
    let commit = commit.unwrap_or_else(|| panic!("{what}: never was {known:?}"));
    assert!(commit >= at_least, "{what}: commit {commit}, synced was {at_least}");
    // And it can go on from there.
    let (mut file, _) = RoomFile::open(after.path(), life.room).expect("opens");
    file.transact(|write| write.save_position(&position(1))).expect("writes");
    commit
}

#[test]
fn a_power_cut_at_any_byte_leaves_a_state_that_was_and_nothing_synced_is_lost() {
    let (mut n_cuts, mut n_lost, mut n_carried) = (0, 0, 0);
    for seed in 0..3 {
        let mut life = Life::begin(seed);
        for step in 0..100 {
            let before = Image::of(life.dir.path(), life.room);
            life.step();
            let what = format!("seed {seed}, step {step}");
            let (image, at_least) = life.cut(&before);
            n_carried += usize::from(image.file != before.file);
            let commit = read_back(&image, &life, at_least, &what);
            n_lost += usize::from(commit + 1 < life.commits.len());
            n_cuts += 1;
        }
    }
    println!("{n_cuts} cuts, {n_lost} of them lost something, {n_carried} amid a checkpoint");
    assert!(n_lost > 100 && n_carried > 4, "{n_lost} {n_carried}");
}

#[test]
fn a_disk_that_lies_about_its_syncs_loses_more_and_still_leaves_a_state_that_was() {
    for seed in 100..103 {
        let mut life = Life::begin(seed);
        let begun = Image::of(life.dir.path(), life.room).file;
        let mut whole = Image::default();
        // A checkpoint upon such a disk is beyond help: pages of the file are then newer than
        // the journal that goes on top of them.
        for _ in 0..40 {
            life.step();
            let now = Image::of(life.dir.path(), life.room);
            if now.file != begun {
                break;
            }
            whole = now;
        }
        for n in 0..50 {
            let cut = life.rng.below(whole.journal.len() as u64 + 1);
            let journal = whole.journal[..usize::try_from(cut).expect("a length")].to_vec();
            let image = Image { file: whole.file.clone(), journal };
            let after = directory();
            image.put(after.path(), life.room);
            let what = format!("seed {seed}, cut {n} at {cut}");
            let (loaded, notice) = room_file::load(after.path(), life.room).expect("loads");
            assert_eq!(notice, None, "{what}");
            // Before the first commit there was no room yet.
            let Some(loaded) = loaded else { continue };
            let known = Known::of(&loaded, &read_log(after.path(), life.room));
            assert!(life.commits.contains(&known), "{what}: never was {known:?}");
        }
    }
}
