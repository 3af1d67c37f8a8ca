//! The content-addressed cache: blobs named by their BLAKE3 root, whole or still arriving.
//!
//! ```text
//!  blobs/ab/ab12...          the bytes
//!  blobs/ab/ab12....obao     the hash tree over groups of 16 KiB (bao), 0.4 % of the bytes
//!  blobs/ab/ab12....part     instead of the bytes: as long as they will be, with holes
//!  blobs/ab/ab12....ref      instead of the bytes: where a file of this device's owner has them
//!  tmp/                      trees and copies being made; emptied at start
//! ```
//!
//! With the tree a piece is verified against the name alone, whoever sent it, before anybody
//! sees it. Which pieces of a partial blob are here is nowhere written down: at start they are
//! verified again, which also finds what a power cut has lost.
//!
//! A file of the owner is not copied but referred to. It is looked at whenever it is opened, by
//! length and time of its last change, and verified like all else when a piece is sent on; one
//! that has changed or is gone is not here any more. One that cannot be reached (its disk is not
//! mounted) is remembered: its bytes may come from elsewhere meanwhile, and once it can be reached
//! it is referred to again.
//!
//! No lock is held while a file of the owner is looked at, which takes as long as a machine takes
//! to answer that is switched off.
//!
//! Copies keep within a limit: what was played longest ago makes way. What is pinned (it plays
//! or comes next) or is being read stays, even beyond the limit. What a piece is wanted for the
//! cache does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::{DecodeResponseIter, OutboardMut, WriteAt, encode_ranges_validated};
use bao_tree::io::{BaoContentItem, EncodeError};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};

use super::error::MediaError;
use super::reference::{Found, Reference};
use crate::base::BlobHash;
use crate::base::limits::{MAX_BLOB, MAX_ENCODED_PIECE, PIECE};

/// Groups of 16 KiB: a wrong byte is found within as many.
const GROUP: BlockSize = BlockSize::from_chunk_log(4);

/// Bytes of a BLAKE3 chunk.
const CHUNK: u64 = 1024;

/// How often somebody who waits for a piece says so again.
const NEED_AGAIN: Duration = Duration::from_secs(1);

/// How exactly it is noted when a file was there.
const NOTED_EVERY: Duration = Duration::from_hours(24);

/// How long a file may be out of reach until nobody counts on it any more.
const AWAY_FOR: Duration = Duration::from_hours(90 * 24);

/// Bytes that are freed at once when the disk is full.
const FREED_AT_ONCE: u64 = 64 * 1024 * 1024;

/// How much of a blob is here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holding {
    /// Nothing is known of it.
    None,
    /// Some pieces.
    Partial {
        /// One bit per piece, lowest bit of the first byte first, as in `Message::Have`.
        pieces: Vec<u8>,
    },
    /// All of it.
    Complete,
}

/// What became of a piece that was handed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// It was here already.
    Already,
    /// It is here now; others are missing.
    Stored,
    /// It was the last one missing.
    Completed,
}

/// Pieces of a blob of `size` bytes.
#[must_use]
pub fn piece_count(size: u64) -> u32 {
    u32::try_from(size.div_ceil(PIECE)).unwrap_or(u32::MAX)
}

/// The blobs of one directory.
pub struct Cache {
    dir: PathBuf,
    /// Bytes that copies may take.
    limit: u64,
    blobs: Mutex<BTreeMap<BlobHash, Arc<Blob>>>,
    pinned: Mutex<BTreeSet<BlobHash>>,
    /// One after the other: each counts on what the one before it will take.
    beginning: Mutex<()>,
}

impl Cache {
    /// Opens `dir`, making it if needed, and takes stock. Copies of up to `limit` bytes are kept.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path, limit: u64) -> Result<Cache, MediaError> {
        let (blobs, tmp) = (dir.join("blobs"), dir.join("tmp"));
        make_private(&blobs)?;
        // What was being taken in when the last run ended is of no use.
        let _ = fs::remove_dir_all(&tmp);
        make_private(&tmp)?;
        let (dir, pinned, beginning) = (dir.to_owned(), Mutex::default(), Mutex::default());
        let cache = Cache { dir, limit, blobs: Mutex::default(), pinned, beginning };
        cache.take_stock(&blobs)?;
        cache.make_room(0);
        Ok(cache)
    }

    /// The blob, if anything of it is here. One whose file has changed or is gone is let go.
    pub fn find(&self, hash: &BlobHash) -> Option<Arc<Blob>> {
        let blob = self.known(hash)?;
        if blob.is_usable() {
            return Some(blob);
        }
        if blob.is_gone() {
            self.forget(&blob);
        }
        None
    }

    fn known(&self, hash: &BlobHash) -> Option<Arc<Blob>> {
        lock(&self.blobs).get(hash).cloned()
    }

    /// Blobs that come, or came, from elsewhere because the owner's file could not be reached.
    pub fn away(&self) -> Vec<BlobHash> {
        let blobs = lock(&self.blobs);
        blobs.values().filter(|blob| lock(&blob.away).is_some()).map(|blob| blob.hash).collect()
    }

    /// Looks for the file of such a one. Whether it is there again, and referred to instead of what
    /// came.
    pub fn look_again(&self, hash: &BlobHash) -> bool {
        let reference = self.known(hash).and_then(|blob| lock(&blob.away).clone());
        let Some(reference) = reference else { return false };
        match reference.look() {
            Found::There => {}
            Found::Away => return false,
            Found::Changed => {
                if let Some(blob) = self.known(hash) {
                    blob.forget_reference(&reference);
                }
                return false;
            }
        }
        let blobs = lock(&self.blobs);
        // Whoever reads or fills one has a share of it, and goes on with the bytes that come.
        let blob = blobs.get(hash).filter(|blob| Arc::strong_count(blob) == 1);
        blob.is_some_and(|blob| blob.go_back(true))
    }

    /// Lets go of files that have changed or are gone, and of those that could not be reached for
    /// long.
    pub fn look_over(&self) {
        let referred = |blob: &Arc<Blob>| blob.is_referred().then_some(blob.hash);
        let all: Vec<_> = lock(&self.blobs).values().filter_map(referred).collect();
        for hash in all {
            if self.find(&hash).is_none()
                && let Some(blob) = self.known(&hash).filter(|blob| blob.is_long_away())
            {
                self.let_go(&blob);
            }
        }
    }

    /// Its files first: as long as it is known, nobody makes others of the same names.
    fn let_go(&self, blob: &Blob) {
        blob.discard();
        self.forget(blob);
    }

    fn forget(&self, blob: &Blob) {
        let mut blobs = lock(&self.blobs);
        if blobs.get(&blob.hash).is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), blob)) {
            blobs.remove(&blob.hash);
        }
    }

    /// Keeps a blob, whatever else needs room, until it is unpinned. It need not be here yet.
    pub fn pin(&self, hash: BlobHash) {
        lock(&self.pinned).insert(hash);
    }

    /// The blob may make way again.
    pub fn unpin(&self, hash: &BlobHash) {
        lock(&self.pinned).remove(hash);
    }

    /// Bytes that copies take at the moment, their trees left out.
    pub fn used(&self) -> u64 {
        lock(&self.blobs).values().map(|blob| blob.own_bytes()).sum()
    }

    /// Bytes that copies take, and will: what arrives is counted whole.
    fn claimed(&self) -> u64 {
        let pinned = lock(&self.pinned).clone();
        let blobs = lock(&self.blobs);
        let is_wanted =
            |blob: &Arc<Blob>| pinned.contains(&blob.hash) || Arc::strong_count(blob) > 1;
        let claim = |blob: &Arc<Blob>| {
            if blob.is_arriving() && is_wanted(blob) { blob.size } else { blob.own_bytes() }
        };
        blobs.values().map(claim).sum()
    }

    /// Lets copies go, the one played longest ago first, until `extra` more bytes are within the
    /// limit.
    fn make_room(&self, extra: u64) {
        let over = self.claimed().saturating_add(extra).saturating_sub(self.limit);
        let freed = self.evict(over);
        if freed < over {
            let (limit, over) = (self.limit, over - freed);
            tracing::info!(
                limit,
                over,
                "what plays and comes next needs more than the cache may take"
            );
        }
    }

    /// Lets copies go when the disk is full, though the limit allows them. False if there is none.
    pub fn free_some(&self) -> bool {
        self.evict(FREED_AT_ONCE) > 0
    }

    /// How many bytes became free; about `bytes` of them, if there are so many.
    fn evict(&self, bytes: u64) -> u64 {
        if bytes == 0 {
            return 0;
        }
        let pinned = lock(&self.pinned).clone();
        let mut blobs = lock(&self.blobs);
        // Whoever reads or fills a blob has a share of it.
        let is_idle = |blob: &Arc<Blob>| Arc::strong_count(blob) == 1;
        let mut idle: Vec<_> = blobs
            .values()
            .filter(|blob| is_idle(blob) && !pinned.contains(&blob.hash) && blob.own_bytes() > 0)
            .map(|blob| (*lock(&blob.used), blob.hash))
            .collect();
        idle.sort_unstable();
        let (mut freed, mut count) = (0, 0);
        for (_, hash) in idle {
            if freed >= bytes {
                break;
            }
            let Some(blob) = blobs.get(&hash) else { continue };
            freed += blob.own_bytes();
            count += 1;
            // The file that it is in elsewhere may be reached again.
            if !blob.go_back(false) {
                blob.discard();
                blobs.remove(&hash);
            }
        }
        if count > 0 {
            tracing::info!(tracks = count, bytes = freed, "made room in the music cache");
        }
        freed
    }

    /// The blob, or an empty one of this size to be filled.
    pub fn begin(&self, hash: BlobHash, size: u64) -> Result<Arc<Blob>, MediaError> {
        if size == 0 {
            return Err(MediaError::Broken { name: hash.short(), why: "it has no bytes".into() });
        }
        if size > MAX_BLOB {
            return Err(MediaError::TooLarge { name: hash.short(), size });
        }
        if let Some(blob) = self.find(&hash).filter(|blob| blob.size == size) {
            return Ok(blob);
        }
        let _first = lock(&self.beginning);
        self.make_room(size);
        let mut blobs = lock(&self.blobs);
        if let Some(blob) = blobs.get(&hash).filter(|blob| !blob.is_gone()) {
            if blob.size == size {
                blob.receive_meanwhile()?;
                return Ok(Arc::clone(blob));
            }
            // Somebody lied about the size. Only one size can ever verify, so whatever has
            // verified is right; an empty one makes way.
            if !blob.is_empty() || lock(&blob.away).is_some() {
                return Err(MediaError::Corrupt { hash, piece: 0 });
            }
            blob.discard();
        }
        let blob = Arc::new(Blob::new(&self.dir, hash, size));
        blob.reserve()?;
        blobs.insert(hash, Arc::clone(&blob));
        Ok(blob)
    }

    /// Refers to a file of the owner, hashing it on the way: `source` yields its `size` bytes. If
    /// the blob is arriving from elsewhere already, what is missing is copied.
    pub fn refer(
        &self,
        reference: Reference,
        source: &mut dyn io::Read,
        size: u64,
    ) -> Result<BlobHash, MediaError> {
        let temporary = Temporary::new(&self.dir);
        let doing = |e: io::Error| MediaError::doing("reading into the music cache", &e);
        let hash = hash(source, size, &temporary.tree).map_err(doing)?;
        if !reference.is_true() {
            let name = reference.path.display().to_string();
            return Err(MediaError::Changed(name));
        }
        if self.find(&hash).is_some_and(|blob| blob.size == size && blob.is_arriving()) {
            fs::copy(&reference.path, &temporary.data).map_err(doing)?;
            self.adopt(hash, size, &temporary.data, &temporary.tree).map_err(doing)?;
            if let Some(blob) = self.known(&hash) {
                blob.refer_elsewhere(reference).map_err(doing)?;
            }
            return Ok(hash);
        }
        let mut blobs = lock(&self.blobs);
        let known = blobs.get(&hash).filter(|blob| !blob.is_gone() && !blob.is_arriving());
        if let Some(blob) = known.filter(|blob| blob.size == size) {
            blob.refer_elsewhere(reference).map_err(doing)?;
            return Ok(hash);
        }
        let blob = Blob::new(&self.dir, hash, size);
        fs::create_dir_all(blob.folder()).map_err(doing)?;
        fs::rename(&temporary.tree, blob.path("obao")).map_err(doing)?;
        reference.write(&blob.path("ref")).map_err(doing)?;
        *blob.lock() = State::Referred(reference);
        blobs.insert(hash, Arc::new(blob));
        Ok(hash)
    }

    /// Whether a whole blob is here whose bytes were found in that file before. If it is only
    /// referred to, then from now on there: the file may have been moved.
    pub fn finds_in(&self, hash: &BlobHash, reference: Reference) -> bool {
        // Not by `find`, which would let a blob go whose file has moved.
        let Some(blob) = self.known(hash) else { return false };
        let is_whole = !blob.is_gone() && !blob.is_arriving();
        let is_here = is_whole && blob.refer_elsewhere(reference).is_ok();
        if !is_here {
            let _ = self.find(hash);
        }
        is_here
    }

    /// Moves finished files to their place.
    fn adopt(&self, hash: BlobHash, size: u64, data: &Path, tree: &Path) -> io::Result<()> {
        let blob = match self.known(&hash) {
            Some(blob) if blob.size == size => blob,
            _ => Arc::new(Blob::new(&self.dir, hash, size)),
        };
        let mut state = blob.lock();
        if !matches!(*state, State::Complete | State::Referred(_) | State::Away(_)) {
            fs::create_dir_all(blob.folder())?;
            if blob.path("part").exists() {
                // Streams that wait for pieces read this very file; it must not be another.
                io::copy(&mut File::open(data)?, &mut open_for_writing(&blob.path("part"))?)?;
                fs::rename(blob.path("part"), blob.path(""))?;
            } else {
                fs::rename(data, blob.path(""))?;
            }
            fs::rename(tree, blob.path("obao"))?;
            *state = State::Complete;
        }
        drop(state);
        blob.changed.notify_all();
        lock(&self.blobs).insert(hash, blob);
        Ok(())
    }

    /// Forgets a blob whose bytes on disk no longer match.
    pub fn discard(&self, blob: &Blob) {
        tracing::warn!(blob = %blob.hash.short(), "cached blob is damaged, removing it");
        if !blob.go_back(false) {
            self.let_go(blob);
        }
    }

    fn take_stock(&self, blobs: &Path) -> Result<(), MediaError> {
        let failed = |e| MediaError::at(blobs, &e);
        for folder in fs::read_dir(blobs).map_err(failed)?.flatten() {
            let Ok(files) = fs::read_dir(folder.path()) else { continue };
            for file in files.flatten() {
                self.take_stock_of(&file.path());
            }
        }
        tracing::info!(blobs = lock(&self.blobs).len(), "took stock of the music cache");
        Ok(())
    }

    fn keep_if_right(&self, blob: Blob, found: State) {
        let is_right = blob.size <= MAX_BLOB && blob.size > 0 && blob.verify(found);
        if !is_right && !blob.go_back(false) {
            return blob.discard();
        }
        lock(&self.blobs).insert(blob.hash, Arc::new(blob));
    }

    fn take_stock_of(&self, path: &Path) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let Ok(hash) = stem.parse::<BlobHash>() else { return remove(path) };
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let whole = path.with_extension("");
        match &*ending {
            // The whole one was finished another way, or is referred to.
            "part" if whole.exists() || path.with_extension("ref").exists() => remove(path),
            "" | "part" => {
                let about = fs::metadata(path).ok();
                let size = about.as_ref().map_or(0, fs::Metadata::len);
                let blob = Blob::new(&self.dir, hash, size);
                if let Some(used) = about.and_then(|about| about.modified().ok()) {
                    *lock(&blob.used) = used;
                }
                if ending.is_empty() {
                    *lock(&blob.away) = Reference::read(&path.with_extension("ref"));
                }
                let state = if ending.is_empty() { State::Complete } else { blob.empty() };
                self.keep_if_right(blob, state);
            }
            // Beside a copy it has been read with that.
            "ref" if whole.exists() => {}
            // It is looked at when it is asked for: its disk may come a little later.
            "ref" => match Reference::read(path).filter(|to| (1..=MAX_BLOB).contains(&to.size)) {
                Some(reference) => {
                    let blob = Blob::new(&self.dir, hash, reference.size);
                    *blob.lock() = State::Away(reference);
                    lock(&self.blobs).insert(hash, Arc::new(blob));
                }
                None => Blob::new(&self.dir, hash, 0).discard(),
            },
            "obao" if ["", "part", "ref"].iter().any(|e| path.with_extension(e).exists()) => {}
            _ => remove(path),
        }
    }
}

/// What is to become a blob; removed in the end, wherever that is reached.
struct Temporary {
    data: PathBuf,
    tree: PathBuf,
}

impl Temporary {
    fn new(dir: &Path) -> Temporary {
        let data = tempname(dir);
        let tree = data.with_extension("obao");
        Temporary { data, tree }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.data);
        let _ = fs::remove_file(&self.tree);
    }
}

/// The name of what `source` yields; its tree is written to `tree`.
fn hash(source: &mut dyn io::Read, size: u64, tree: &Path) -> io::Result<BlobHash> {
    let mut outboard = new_outboard(create(tree)?, size);
    let root = bao_tree::io::sync::outboard(source, outboard.tree, &mut outboard)?;
    Ok(BlobHash(*root.as_bytes()))
}

/// One blob.
pub struct Blob {
    /// Its name.
    pub hash: BlobHash,
    /// Its bytes in all.
    pub size: u64,
    folder: PathBuf,
    state: Mutex<State>,
    /// Rung when a piece arrives and when somebody who waits shall look up.
    changed: Condvar,
    /// When it was last read or begun, by the wall clock, over restarts.
    used: Mutex<SystemTime>,
    /// The file of the owner that has it, where it comes or came from elsewhere because that one
    /// could not be reached.
    away: Mutex<Option<Reference>>,
}

enum State {
    Partial(Vec<u8>),
    Complete,
    /// All of it, in a file of the owner.
    Referred(Reference),
    /// The same, but nobody has looked yet whether it can be reached, or it could not be.
    Away(Reference),
    /// Removed; whoever waits gives up.
    Gone,
}

impl Blob {
    fn new(dir: &Path, hash: BlobHash, size: u64) -> Blob {
        let folder = dir.join("blobs").join(&hash.to_string()[..2]);
        let blob = Blob {
            hash,
            size,
            folder,
            state: Mutex::new(State::Gone),
            changed: Condvar::new(),
            used: Mutex::new(SystemTime::now()),
            away: Mutex::default(),
        };
        *blob.lock() = blob.empty();
        blob
    }

    /// As it is before a piece has come.
    fn empty(&self) -> State {
        State::Partial(vec![0; usize::try_from(piece_count(self.size).div_ceil(8)).unwrap_or(0)])
    }

    /// Whether more of it may come, from wherever.
    fn is_arriving(&self) -> bool {
        matches!(&*self.lock(), State::Partial(_))
    }

    fn is_gone(&self) -> bool {
        matches!(&*self.lock(), State::Gone)
    }

    /// Whether a file of the owner has it, within reach or not.
    fn is_referred(&self) -> bool {
        matches!(&*self.lock(), State::Referred(_) | State::Away(_))
    }

    /// False for one that has been removed or cannot be reached, and for one whose file has
    /// changed or is gone; that is removed.
    pub(super) fn is_usable(&self) -> bool {
        let reference = match &*self.lock() {
            State::Partial(_) | State::Complete => return true,
            State::Gone => return false,
            State::Referred(reference) | State::Away(reference) => reference.clone(),
        };
        let found = reference.look();
        let mut state = self.lock();
        match &*state {
            State::Referred(now) | State::Away(now) if *now == reference => {}
            // It is another one meanwhile.
            State::Gone => return false,
            _ => return true,
        }
        match found {
            Found::There => {
                *state = State::Referred(reference);
                self.note_there();
            }
            Found::Away => {
                if matches!(*state, State::Referred(_)) {
                    let path = reference.path.display();
                    tracing::warn!(%path, "a file cannot be reached; it is looked for again");
                }
                *state = State::Away(reference);
            }
            Found::Changed => {
                let path = reference.path.display();
                tracing::info!(blob = %self.hash.short(), %path, "a file that was referred to has changed or is gone");
                self.discard_from(&mut state);
                drop(state);
                self.changed.notify_all();
            }
        }
        found == Found::There
    }

    /// Where its file cannot be reached: it may come from elsewhere. Its tree stays, which is right
    /// wherever the bytes come from.
    fn receive_meanwhile(&self) -> Result<(), MediaError> {
        let mut state = self.lock();
        let State::Away(reference) = &*state else { return Ok(()) };
        let make = || create(&self.path("part"))?.set_len(self.size);
        make().map_err(|e| MediaError::doing("making room in the music cache", &e))?;
        *lock(&self.away) = Some(reference.clone());
        *state = self.empty();
        Ok(())
    }

    /// What came from elsewhere makes way; the owner's file has it, which is within reach or not.
    /// False where no file is known.
    fn go_back(&self, within_reach: bool) -> bool {
        let mut state = self.lock();
        if !matches!(*state, State::Partial(_) | State::Complete) {
            return false;
        }
        let Some(reference) = lock(&self.away).take() else { return false };
        *state = if within_reach {
            tracing::info!(path = %reference.path.display(), "a file can be reached again");
            State::Referred(reference)
        } else {
            State::Away(reference)
        };
        for ending in ["", "part"] {
            remove(&self.path(ending));
        }
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Its file is another one by now.
    fn forget_reference(&self, reference: &Reference) {
        let _state = self.lock();
        if lock(&self.away).take_if(|away| away == reference).is_some() {
            remove(&self.path("ref"));
        }
    }

    /// Its file was found at this time, to within a day.
    fn note_there(&self) {
        let note = self.path("ref");
        let noted = fs::metadata(&note).and_then(|about| about.modified());
        if noted.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > NOTED_EVERY)) {
            let _ = open_for_writing(&note).and_then(|file| file.set_modified(SystemTime::now()));
        }
    }

    fn is_long_away(&self) -> bool {
        let found = fs::metadata(self.path("ref")).and_then(|about| about.modified());
        matches!(&*self.lock(), State::Away(_))
            && found.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > AWAY_FOR))
    }

    /// Another file has the same bytes. Where there is a copy it stays until nobody reads it.
    fn refer_elsewhere(&self, elsewhere: Reference) -> io::Result<()> {
        let mut state = self.lock();
        if let State::Referred(reference) | State::Away(reference) = &*state {
            if *reference != elsewhere {
                elsewhere.write(&self.path("ref"))?;
            }
            *state = State::Referred(elsewhere);
        } else if matches!(*state, State::Complete) {
            elsewhere.write(&self.path("ref"))?;
            *lock(&self.away) = Some(elsewhere);
        }
        Ok(())
    }

    /// Bytes that it takes in the cache, its tree left out.
    fn own_bytes(&self) -> u64 {
        match &*self.lock() {
            State::Partial(bits) => {
                let pieces: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
                (u64::from(pieces) * PIECE).min(self.size)
            }
            State::Complete => self.size,
            State::Referred(_) | State::Away(_) | State::Gone => 0,
        }
    }

    /// It is going to be played: it makes way later than what was played before.
    pub fn note_use(&self) {
        let now = SystemTime::now();
        *lock(&self.used) = now;
        let state = self.lock();
        let ending = match &*state {
            State::Complete => "",
            State::Partial(_) => "part",
            State::Referred(_) | State::Away(_) | State::Gone => return,
        };
        // Only the order of what makes way depends on it.
        let _ = open_for_writing(&self.path(ending)).and_then(|file| file.set_modified(now));
    }

    /// How much of it is here.
    pub fn holding(&self) -> Holding {
        match &*self.lock() {
            State::Partial(bits) => Holding::Partial { pieces: bits.clone() },
            State::Complete | State::Referred(_) => Holding::Complete,
            State::Away(_) | State::Gone => Holding::None,
        }
    }

    /// Opens the bytes for reading; holes read as zeros.
    pub fn open(&self) -> Result<File, MediaError> {
        // Under the lock, so that the file is not renamed meanwhile.
        let state = self.lock();
        let path = match &*state {
            State::Referred(reference) | State::Away(reference) => {
                let reference = reference.clone();
                drop(state);
                return reference.open();
            }
            State::Complete => self.path(""),
            State::Partial(_) | State::Gone => self.path("part"),
        };
        File::open(&path).map_err(|e| MediaError::at(&path, &e))
    }

    /// Returns once `piece` is here. `need` is called at once if it is not, and again every
    /// second; `stopped` is asked whenever [`Blob::wake`] has been called.
    pub fn wait(
        &self,
        piece: u32,
        stopped: &dyn Fn() -> bool,
        need: &dyn Fn(),
    ) -> Result<(), MediaError> {
        let mut state = self.lock();
        while !state.has(piece) {
            if stopped() {
                return Err(MediaError::Stopped);
            }
            let is_lost = matches!(*state, State::Gone | State::Away(_));
            drop(state);
            // Also of what is lost: whoever fetches still takes it for whole.
            need();
            if is_lost {
                return Err(MediaError::Missing { hash: self.hash, piece });
            }
            state = self.lock();
            if state.has(piece) || stopped() {
                continue;
            }
            state = match self.changed.wait_timeout(state, NEED_AGAIN) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        Ok(())
    }

    /// Lets everybody who waits look up. Does not wait itself: one who was just about to wait, or
    /// for the disk, looks up within a second.
    pub fn wake(&self) {
        drop(self.state.try_lock());
        self.changed.notify_all();
    }

    /// The bytes of `piece` with the hashes that prove them.
    pub fn encode(&self, piece: u32) -> Result<Vec<u8>, MediaError> {
        let missing = MediaError::Missing { hash: self.hash, piece };
        if piece >= piece_count(self.size) || !self.lock().has(piece) {
            return Err(missing);
        }
        let data = self.open()?;
        let mut encoded = Vec::with_capacity(MAX_ENCODED_PIECE);
        match self.encode_into(&data, piece, &mut encoded) {
            Ok(()) => Ok(encoded),
            // What is shorter than it was has been spoiled; all else may pass.
            Err(EncodeError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Err(MediaError::doing("reading a track", &error))
            }
            Err(_) => Err(MediaError::Corrupt { hash: self.hash, piece }),
        }
    }

    /// Verifies a piece and, if it is right, keeps it.
    pub fn accept(&self, piece: u32, encoded: &[u8]) -> Result<Accepted, MediaError> {
        let corrupt = MediaError::Corrupt { hash: self.hash, piece };
        if piece >= piece_count(self.size) || encoded.len() > MAX_ENCODED_PIECE {
            return Err(corrupt);
        }
        if self.lock().has(piece) {
            return Ok(Accepted::Already);
        }
        let items = self.decode(piece, encoded).ok_or(corrupt)?;
        match self.write(&items) {
            Ok(()) => Ok(self.mark(piece)?),
            // Another thread may have completed it in between.
            Err(_) if self.lock().has(piece) => Ok(Accepted::Already),
            Err(e) => Err(MediaError::doing("writing to the music cache", &e)),
        }
    }

    fn decode(&self, piece: u32, mut encoded: &[u8]) -> Option<Vec<BaoContentItem>> {
        let ranges = piece_ranges(piece);
        let root = blake3::Hash::from(self.hash.0);
        let tree = BaoTree::new(self.size, GROUP);
        let items: Result<Vec<_>, _> =
            DecodeResponseIter::new(root, tree, &mut encoded, &ranges).collect();
        // Nothing may follow.
        items.ok().filter(|_| encoded.is_empty())
    }

    fn write(&self, items: &[BaoContentItem]) -> io::Result<()> {
        let mut data = open_for_writing(&self.path("part"))?;
        let tree = open_for_writing(&self.path("obao"))?;
        let mut outboard = new_outboard(tree, self.size);
        for item in items {
            match item {
                BaoContentItem::Parent(parent) => outboard.save(parent.node, &parent.pair)?,
                BaoContentItem::Leaf(leaf) => data.write_all_at(leaf.offset, &leaf.data)?,
            }
        }
        Ok(())
    }

    /// Makes a written piece visible, and the blob complete with the last one.
    fn mark(&self, piece: u32) -> Result<Accepted, MediaError> {
        let mut state = self.lock();
        let accepted = match &mut *state {
            State::Partial(bits) => {
                set(bits, piece);
                if (0..piece_count(self.size)).all(|piece| has(bits, piece)) {
                    fs::rename(self.path("part"), self.path(""))
                        .map_err(|e| MediaError::doing("completing a blob", &e))?;
                    *state = State::Complete;
                    Accepted::Completed
                } else {
                    Accepted::Stored
                }
            }
            State::Complete | State::Referred(_) => Accepted::Already,
            State::Away(_) | State::Gone => {
                return Err(MediaError::Missing { hash: self.hash, piece });
            }
        };
        drop(state);
        self.changed.notify_all();
        Ok(accepted)
    }

    /// Makes the files of an empty blob.
    fn reserve(&self) -> Result<(), MediaError> {
        let make = || -> io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            create(&self.path("part"))?.set_len(self.size)?;
            create(&self.path("obao"))?.set_len(BaoTree::new(self.size, GROUP).outboard_size())
        };
        make().map_err(|e| MediaError::doing("making room in the music cache", &e))
    }

    /// Looks at what is on disk after a start. A whole blob is believed if its length, the root
    /// of its tree and its first and last piece are right (each piece is verified again when it
    /// is sent); of a partial one every piece is verified.
    fn verify(&self, found: State) -> bool {
        *self.lock() = found;
        let Ok(data) = self.open() else { return false };
        let right = |piece| self.encode_into(&data, piece, &mut io::sink()).is_ok();
        let count = piece_count(self.size);
        let mut state = self.lock();
        let State::Partial(bits) = &mut *state else { return right(0) && right(count - 1) };
        (0..count).filter(|piece| right(*piece)).for_each(|piece| set(bits, piece));
        bits.iter().any(|byte| *byte != 0)
    }

    fn encode_into(
        &self,
        data: &File,
        piece: u32,
        to: &mut dyn io::Write,
    ) -> Result<(), EncodeError> {
        let mut outboard = new_outboard(File::open(self.path("obao"))?, self.size);
        outboard.root = blake3::Hash::from(self.hash.0);
        encode_ranges_validated(data, &outboard, &piece_ranges(piece), to)
    }

    fn discard(&self) {
        self.discard_from(&mut self.lock());
        self.changed.notify_all();
    }

    /// Under the lock: once it is seen to be gone, another may make files of the same names.
    fn discard_from(&self, state: &mut State) {
        if matches!(state, State::Gone) {
            return;
        }
        for ending in ["", "part", "ref", "obao"] {
            remove(&self.path(ending));
        }
        *state = State::Gone;
    }

    fn is_empty(&self) -> bool {
        matches!(&*self.lock(), State::Partial(bits) if bits.iter().all(|byte| *byte == 0))
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.folder.join(self.hash.to_string()).with_extension(ending)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn has(&self, piece: u32) -> bool {
        match self {
            State::Partial(bits) => has(bits, piece),
            State::Complete | State::Referred(_) => true,
            State::Away(_) | State::Gone => false,
        }
    }
}

fn has(bits: &[u8], piece: u32) -> bool {
    let byte = usize::try_from(piece / 8).ok().and_then(|place| bits.get(place));
    byte.is_some_and(|byte| byte >> (piece % 8) & 1 == 1)
}

fn set(bits: &mut [u8], piece: u32) {
    let place = usize::try_from(piece / 8).expect("checked against the size");
    bits[place] |= 1 << (piece % 8);
}

fn piece_ranges(piece: u32) -> ChunkRanges {
    let chunks = PIECE / CHUNK;
    let first = u64::from(piece) * chunks;
    ChunkRanges::from(ChunkNum(first)..ChunkNum(first + chunks))
}

fn new_outboard(data: File, size: u64) -> PreOrderOutboard<File> {
    let root = blake3::Hash::from([0; 32]);
    PreOrderOutboard { root, tree: BaoTree::new(size, GROUP), data }
}

fn open_for_writing(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).open(path)
}

fn tempname(dir: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    dir.join("tmp").join(NEXT.fetch_add(1, Ordering::Relaxed).to_string())
}

fn make_private(dir: &Path) -> Result<(), MediaError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(dir).map_err(|e| MediaError::at(dir, &e))
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a file from the cache");
        }
        _ => {}
    }
}

/// What the locks here guard is changed in single steps, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    /// Three and a half pieces of noise.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut rng = Rng::new(seed);
        (0..len.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).take(len).collect()
    }

    /// As if all of it had come from elsewhere.
    fn take_in(cache: &Cache, data: &[u8]) -> BlobHash {
        let temporary = Temporary::new(&cache.dir);
        fs::write(&temporary.data, data).expect("writes");
        let size = data.len() as u64;
        let hash = hash(&mut &data[..], size, &temporary.tree).expect("hashes");
        cache.adopt(hash, size, &temporary.data, &temporary.tree).expect("taken in");
        hash
    }

    fn full(dir: &Path, data: &[u8]) -> (Cache, Arc<Blob>) {
        let cache = Cache::open(dir, u64::MAX).expect("opens");
        let hash = take_in(&cache, data);
        assert_eq!(hash.0, *blake3::hash(data).as_bytes());
        let blob = cache.find(&hash).expect("is there");
        (cache, blob)
    }

    /// A file of the owner, which the cache refers to.
    fn referred(cache: &Cache, file: &Path, data: &[u8]) -> BlobHash {
        fs::write(file, data).expect("writes");
        let reference = Reference::to(file).expect("is there");
        cache.refer(reference, &mut &data[..], data.len() as u64).expect("hashed")
    }

    fn empty(dir: &Path, like: &Blob) -> (Cache, Arc<Blob>) {
        let cache = Cache::open(dir, u64::MAX).expect("opens");
        let blob = cache.begin(like.hash, like.size).expect("begins");
        (cache, blob)
    }

    const LEN: usize = 3 * 262_144 + 100_001;

    #[test]
    fn pieces_travel_in_any_order_and_give_the_blob() {
        let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        for len in [1, 1024, 16_384, 16_385, 262_144, 262_145, LEN] {
            let data = noise(1, len);
            let (_from, source) = full(a.path(), &data);
            let (cache, target) = empty(b.path(), &source);
            let count = piece_count(source.size);
            for piece in (0..count).rev() {
                let encoded = source.encode(piece).expect("encodes");
                assert!(encoded.len() <= MAX_ENCODED_PIECE);
                let wanted = if piece == 0 { Accepted::Completed } else { Accepted::Stored };
                assert_eq!(target.accept(piece, &encoded), Ok(wanted), "piece {piece} of {len}");
                assert_eq!(target.accept(piece, &encoded), Ok(Accepted::Already));
            }
            assert_eq!(target.holding(), Holding::Complete);
            assert_eq!(fs::read(target.path("")).expect("reads"), data);
            // It serves in its turn, and after a restart.
            assert!(target.encode(0).is_ok());
            drop(cache);
            let again = Cache::open(b.path(), u64::MAX).expect("opens");
            let blob = again.find(&source.hash).expect("is there");
            assert_eq!(blob.holding(), Holding::Complete);
            assert_eq!(blob.encode(count - 1), source.encode(count - 1));
        }
    }

    #[test]
    fn a_wrong_byte_anywhere_is_refused_and_leaves_nothing() {
        let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let (_from, source) = full(a.path(), &noise(2, LEN));
        let (_cache, target) = empty(b.path(), &source);
        let encoded = source.encode(1).expect("encodes");
        let corrupt = Err(MediaError::Corrupt { hash: source.hash, piece: 1 });
        for place in [0, 63, 64, 700, 20_000, encoded.len() - 1] {
            let mut wrong = encoded.clone();
            wrong[place] ^= 1;
            assert_eq!(target.accept(1, &wrong), corrupt, "byte {place}");
        }
        let longer = [&encoded[..], &[0]].concat();
        for wrong in [&encoded[..encoded.len() - 1], &longer, &[]] {
            assert_eq!(target.accept(1, wrong), corrupt);
        }
        // A piece in the wrong place, and one that does not exist.
        assert_eq!(target.accept(1, &source.encode(0).expect("encodes")), corrupt);
        assert!(target.accept(99, &encoded).is_err());
        assert_eq!(target.holding(), Holding::Partial { pieces: vec![0] });
        assert_eq!(target.accept(1, &encoded), Ok(Accepted::Stored));
    }

    #[test]
    fn a_partial_blob_serves_what_it_has_and_resumes_after_a_restart() {
        let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let (_from, source) = full(a.path(), &noise(3, LEN));
        let (cache, target) = empty(b.path(), &source);
        for piece in [0, 2] {
            target.accept(piece, &source.encode(piece).expect("encodes")).expect("right");
        }
        assert_eq!(target.encode(2), source.encode(2));
        assert_eq!(target.encode(1), Err(MediaError::Missing { hash: source.hash, piece: 1 }));
        drop(cache);
        // A power cut has lost the second half of piece 2.
        let mut part = OpenOptions::new().write(true).open(target.path("part")).expect("opens");
        part.write_all_at(2 * PIECE + 150_000, &[0; 1000]).expect("writes");
        let again = Cache::open(b.path(), u64::MAX).expect("opens");
        let blob = again.find(&source.hash).expect("is there");
        assert_eq!(blob.holding(), Holding::Partial { pieces: vec![0b0001] });
    }

    #[test]
    fn a_file_taken_in_completes_the_blob_that_was_arriving() {
        use std::io::Read;
        let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let data = noise(8, LEN);
        let (_from, source) = full(a.path(), &data);
        let (cache, target) = empty(b.path(), &source);
        target.accept(1, &source.encode(1).expect("encodes")).expect("right");
        // Somebody reads it already.
        let mut reader = target.open().expect("opens");
        assert_eq!(referred(&cache, &a.path().join("song"), &data), target.hash);
        assert_eq!(target.holding(), Holding::Complete);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("reads");
        assert!(read == data);
        assert_eq!(target.encode(3), source.encode(3));
    }

    #[test]
    fn left_overs_that_do_not_verify_are_removed() {
        let dir = tempfile::tempdir().expect("dir");
        let (cache, blob) = full(dir.path(), &noise(4, LEN));
        drop(cache);
        let file = OpenOptions::new().write(true).open(blob.path("")).expect("opens");
        file.set_len(LEN as u64 - 5000).expect("cuts");
        fs::write(blob.folder().join("strange"), b"?").expect("writes");
        fs::write(dir.path().join("tmp/7"), b"?").expect("writes");
        let again = Cache::open(dir.path(), u64::MAX).expect("opens");
        assert!(again.find(&blob.hash).is_none());
        assert_eq!(fs::read_dir(blob.folder()).expect("reads").count(), 0);
        assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("reads").count(), 0);
    }

    #[test]
    fn a_left_over_part_does_not_cost_the_whole_blob() {
        let dir = tempfile::tempdir().expect("dir");
        let (cache, blob) = full(dir.path(), &noise(9, LEN));
        drop(cache);
        fs::write(blob.path("part"), vec![0; LEN]).expect("writes");
        let again = Cache::open(dir.path(), u64::MAX).expect("opens");
        assert_eq!(again.find(&blob.hash).map(|blob| blob.holding()), Some(Holding::Complete));
        assert!(!blob.path("part").exists());
    }

    #[test]
    fn bytes_that_rot_on_disk_are_not_passed_on() {
        let dir = tempfile::tempdir().expect("dir");
        let (_cache, blob) = full(dir.path(), &noise(5, LEN));
        let mut file = OpenOptions::new().write(true).open(blob.path("")).expect("opens");
        file.write_all_at(300_000, b"rot").expect("writes");
        assert!(blob.encode(0).is_ok());
        assert_eq!(blob.encode(1), Err(MediaError::Corrupt { hash: blob.hash, piece: 1 }));
    }

    #[test]
    fn sizes_out_of_bounds_are_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let cache = Cache::open(dir.path(), u64::MAX).expect("opens");
        let hash = BlobHash([7; 32]);
        assert!(cache.begin(hash, 0).is_err());
        assert!(cache.begin(hash, MAX_BLOB + 1).is_err());
        cache.begin(hash, 1000).expect("begins");
        // The first size was a lie; nothing had verified.
        cache.begin(hash, 2000).expect("begins again");
    }

    #[test]
    fn a_file_of_the_owner_is_read_where_it_is_and_never_removed() {
        let (dir, music) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let cache = Cache::open(dir.path(), 0).expect("opens");
        let (data, file) = (noise(10, LEN), music.path().join("song"));
        let hash = referred(&cache, &file, &data);
        let encoded = cache.find(&hash).expect("is there").encode(1).expect("encodes");
        assert_eq!(cache.used(), 0, "nothing was copied");
        // Over a restart, and moved.
        drop(cache);
        let cache = Cache::open(dir.path(), 0).expect("opens");
        assert_eq!(cache.find(&hash).expect("is there").encode(1), Ok(encoded));
        let moved = music.path().join("moved");
        fs::rename(&file, &moved).expect("moved");
        assert!(cache.finds_in(&hash, Reference::to(&moved).expect("is there")));
        let blob = cache.find(&hash).expect("is there");
        assert!(blob.encode(0).is_ok());
        // Changed: it is another song now, and whoever reads hears of it.
        fs::write(&moved, noise(11, LEN + 1)).expect("writes");
        assert!(matches!(blob.open(), Err(MediaError::Changed(_))));
        assert!(cache.find(&hash).is_none());
        assert_eq!(blob.holding(), Holding::None);
        assert!(moved.exists());
        assert_eq!(fs::read_dir(blob.folder()).expect("reads").count(), 0);
        // It may come from somebody who has it still.
        let again = cache.begin(hash, LEN as u64).expect("begins");
        assert_eq!(again.holding(), Holding::Partial { pieces: vec![0] });
    }

    #[test]
    fn a_file_on_a_disk_that_is_not_mounted_is_known_again_once_it_is() {
        let (dir, music) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let cache = Cache::open(dir.path(), u64::MAX).expect("opens");
        let (mount, away) = (music.path().join("stick"), music.path().join("away"));
        fs::create_dir(&mount).expect("made");
        let data = noise(50, LEN);
        let hash = referred(&cache, &mount.join("song"), &data);
        let encoded = cache.find(&hash).expect("is there").encode(1).expect("encodes");
        // Taken out, and the device started without it: as a folder that is gone, and as an empty
        // one.
        drop(cache);
        fs::rename(&mount, &away).expect("taken out");
        let cache = Cache::open(dir.path(), u64::MAX).expect("opens");
        assert!(cache.find(&hash).is_none());
        fs::create_dir(&mount).expect("made");
        assert!(cache.find(&hash).is_none());
        assert_eq!(cache.away(), [], "nobody wants it");
        fs::remove_dir(&mount).expect("removed");
        fs::rename(&away, &mount).expect("put in");
        let blob = cache.find(&hash).expect("is there again");
        assert_eq!(blob.encode(1), Ok(encoded.clone()));
        // Taken out while it runs, and wanted: it may come from somebody else.
        fs::rename(&mount, &away).expect("taken out");
        assert!(cache.find(&hash).is_none());
        assert!(matches!(blob.wait(0, &|| false, &|| ()), Err(MediaError::Missing { .. })));
        drop(blob);
        let blob = cache.begin(hash, LEN as u64).expect("begins");
        assert_eq!(blob.accept(1, &encoded), Ok(Accepted::Stored));
        assert_eq!(blob.encode(1), Ok(encoded.clone()));
        cache.look_over();
        assert!(!cache.look_again(&hash));
        fs::rename(&away, &mount).expect("put in");
        assert!(!cache.look_again(&hash), "somebody reads it");
        drop(blob);
        assert_eq!(cache.away(), [hash]);
        assert!(cache.look_again(&hash));
        let blob = cache.find(&hash).expect("is there again");
        assert_eq!((blob.holding(), cache.used()), (Holding::Complete, 0));
        assert!(!blob.path("part").exists());
        let pieces: Vec<_> = (0..4).map(|piece| blob.encode(piece).expect("encodes")).collect();
        // All of it came from elsewhere: a copy, until it makes way or the file is there again.
        drop(blob);
        fs::rename(&mount, &away).expect("taken out");
        let come = |cache: &Cache| {
            assert!(cache.find(&hash).is_none());
            let blob = cache.begin(hash, LEN as u64).expect("begins");
            for (piece, encoded) in (0..).zip(&pieces) {
                blob.accept(piece, encoded).expect("right");
            }
            assert_eq!((blob.holding(), cache.used()), (Holding::Complete, LEN as u64));
        };
        come(&cache);
        assert!(cache.free_some());
        assert_eq!(cache.used(), 0);
        come(&cache);
        drop(cache);
        let cache = Cache::open(dir.path(), u64::MAX).expect("opens");
        assert_eq!(cache.find(&hash).expect("a copy").holding(), Holding::Complete);
        fs::rename(&away, &mount).expect("put in");
        assert!(cache.look_again(&hash));
        assert_eq!((cache.find(&hash).is_some(), cache.used()), (true, 0));
    }

    #[test]
    fn a_file_that_was_here_as_a_copy_takes_its_place_until_it_changes() {
        let (dir, music) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let cache = Cache::open(dir.path(), u64::MAX).expect("opens");
        let data = noise(53, LEN);
        let hash = take_in(&cache, &data);
        let song = music.path().join("song");
        assert_eq!(referred(&cache, &song, &data), hash);
        assert_eq!((cache.away(), cache.used()), (vec![hash], LEN as u64));
        assert!(cache.look_again(&hash));
        assert_eq!((cache.find(&hash).is_some(), cache.used()), (true, 0));
        // And where it changed before anybody looked, the copy stays and nobody looks again.
        let copy = noise(54, LEN);
        let hash = take_in(&cache, &copy);
        assert_eq!(referred(&cache, &song, &copy), hash);
        fs::write(&song, b"another").expect("writes");
        assert!(!cache.look_again(&hash));
        assert_eq!((cache.away(), cache.used()), (vec![], LEN as u64));
        let blob = cache.find(&hash).expect("a copy");
        assert!(!blob.path("ref").exists());
        // A copy that has rotted goes back to a file that is out of reach.
        fs::write(&song, &copy).expect("writes");
        assert_eq!(referred(&cache, &song, &copy), hash);
        fs::remove_dir_all(music.path()).expect("taken out");
        fs::write(blob.path(""), b"rot").expect("writes");
        cache.discard(&blob);
        assert!(cache.find(&hash).is_none() && blob.path("ref").exists());
        // Twice discarded is discarded once: its successor's files stay.
        cache.let_go(&blob);
        let again = cache.begin(hash, LEN as u64).expect("begins");
        blob.discard();
        assert!(again.path("part").exists());
    }

    #[test]
    fn a_file_is_given_up_a_season_after_it_was_there_last() {
        let (dir, music) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let cache = Cache::open(dir.path(), u64::MAX).expect("opens");
        let (mount, away) = (music.path().join("stick"), music.path().join("away"));
        fs::create_dir(&mount).expect("made");
        let hash = referred(&cache, &mount.join("song"), &noise(52, LEN));
        let note = cache.find(&hash).expect("is there").path("ref");
        let season_ago = || {
            let file = open_for_writing(&note).expect("opens");
            file.set_modified(SystemTime::now() - 2 * AWAY_FOR).expect("set");
        };
        // Taken in long ago, and there all the time.
        season_ago();
        cache.look_over();
        fs::rename(&mount, &away).expect("taken out");
        cache.look_over();
        assert!(note.exists());
        season_ago();
        cache.look_over();
        assert!(!note.exists());
    }

    #[test]
    fn a_start_amid_a_fetch_goes_back_to_the_file() {
        let (dir, music) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let cache = Cache::open(dir.path(), u64::MAX).expect("opens");
        let (mount, away) = (music.path().join("stick"), music.path().join("away"));
        fs::create_dir(&mount).expect("made");
        let hash = referred(&cache, &mount.join("song"), &noise(51, LEN));
        fs::rename(&mount, &away).expect("taken out");
        assert!(cache.find(&hash).is_none());
        let part = cache.begin(hash, LEN as u64).expect("begins").path("part");
        assert!(part.exists());
        drop(cache);
        fs::rename(&away, &mount).expect("put in");
        let cache = Cache::open(dir.path(), u64::MAX).expect("opens");
        let blob = cache.find(&hash).expect("is there again");
        assert!(blob.encode(2).is_ok() && !part.exists());
    }

    #[test]
    fn what_is_on_its_way_counts_as_if_it_were_here() {
        let dir = tempfile::tempdir().expect("dir");
        let size = LEN as u64;
        let cache = Cache::open(dir.path(), 6 * size).expect("opens");
        let songs: Vec<_> = (60..65).map(|seed| take_in(&cache, &noise(seed, LEN))).collect();
        // Five are wanted at once, and none has a byte yet.
        for n in 0..5 {
            let hash = BlobHash([n; 32]);
            cache.pin(hash);
            cache.begin(hash, size).expect("begins");
        }
        let left = songs.iter().filter(|hash| cache.find(hash).is_some()).count();
        assert_eq!(left, 1);
    }

    #[test]
    fn a_reference_that_is_not_true_any_more_is_forgotten() {
        let (dir, music) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        fs::write(music.path().join("beside"), b"another").expect("writes");
        let cache = Cache::open(dir.path(), 0).expect("opens");
        for seed in 20..24 {
            let file = music.path().join(seed.to_string());
            let hash = referred(&cache, &file, &noise(seed, LEN));
            let blob = cache.find(&hash).expect("is there");
            let note = blob.path("ref");
            match seed {
                20 => fs::remove_file(&file).expect("removed"),
                21 => fs::write(&file, b"another").expect("writes"),
                22 => fs::write(&note, b"5 x").expect("writes"),
                _ => fs::write(&note, vec![b'7'; 20_000]).expect("writes"),
            }
            let again = Cache::open(dir.path(), 0).expect("opens");
            again.look_over();
            assert!(again.find(&hash).is_none());
            assert_eq!(fs::read_dir(blob.folder()).expect("reads").count(), 0);
        }
    }

    #[test]
    fn what_was_played_longest_ago_makes_way_for_what_comes() {
        let dir = tempfile::tempdir().expect("dir");
        let size = LEN as u64;
        let open = || Cache::open(dir.path(), 3 * size + 1000).expect("opens");
        let cache = open();
        let songs: Vec<_> = (30..33).map(|seed| take_in(&cache, &noise(seed, LEN))).collect();
        let is_here = |cache: &Cache| songs.iter().map(|hash| cache.find(hash).is_some()).collect();
        assert_eq!(cache.used(), 3 * size);
        let at = |cache: &Cache, song: usize| cache.find(&songs[song]).expect("is there");
        // In the order in which they were played, also after a restart.
        for song in [0, 2, 1, 0] {
            at(&cache, song).note_use();
        }
        drop(cache);
        let cache = open();
        let here: Vec<bool> = is_here(&cache);
        assert_eq!(here, [true; 3]);
        cache.begin(BlobHash([9; 32]), size).expect("begins");
        let here: Vec<bool> = is_here(&cache);
        assert_eq!(here, [true, true, false]);
        // What is pinned or being read stays, even beyond the limit.
        cache.pin(songs[1]);
        let reader = at(&cache, 0);
        cache.begin(BlobHash([8; 32]), 3 * size).expect("begins");
        let here: Vec<bool> = is_here(&cache);
        assert_eq!(here, [true, true, false]);
        cache.unpin(&songs[1]);
        drop(reader);
        assert!(cache.free_some());
        let here: Vec<bool> = is_here(&cache);
        assert_eq!(here, [false; 3]);
        assert!(!cache.free_some());
        assert_eq!(cache.used(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_look_into_the_cache() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("dir");
        let cache = dir.path().join("cache");
        Cache::open(&cache, u64::MAX).expect("opens");
        for folder in [cache.clone(), cache.join("blobs"), cache.join("tmp")] {
            let mode = fs::metadata(folder).expect("is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
    }

    #[test]
    fn whoever_waits_is_told_of_the_piece_and_of_the_stop() {
        use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
        let (a, b) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let (_from, source) = full(a.path(), &noise(6, LEN));
        let (_cache, target) = empty(b.path(), &source);
        let (stop, asked) = (AtomicBool::new(false), AtomicU32::new(0));
        let stopped = || stop.load(Ordering::SeqCst);
        let need = || {
            asked.fetch_add(1, Ordering::SeqCst);
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| target.wait(0, &stopped, &need));
            let second = scope.spawn(|| target.wait(1, &stopped, &need));
            while asked.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
            target.accept(0, &source.encode(0).expect("encodes")).expect("right");
            assert_eq!(first.join().expect("no panic"), Ok(()));
            stop.store(true, Ordering::SeqCst);
            target.wake();
            assert_eq!(second.join().expect("no panic"), Err(MediaError::Stopped));
        });
    }
}
