//! The content-addressed cache: blobs named by their BLAKE3 root, whole or still arriving.
//!
//! ```text
//!  blobs/ab/ab12...          the bytes
//!  blobs/ab/ab12....obao     the hash tree over groups of 16 KiB (bao), 0.4 % of the bytes
//!  blobs/ab/ab12....part     instead of the bytes: as long as they will be, with holes
//!  tmp/                      files being taken in; emptied at start
//! ```
//!
//! With the tree a piece is verified against the name alone, whoever sent it, before anybody
//! sees it. Which pieces of a partial blob are here is nowhere written down: at start they are
//! verified again, which also finds what a power cut has lost.
//!
//! It does not evict and does not know what a piece is wanted for.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bao_tree::io::BaoContentItem;
use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::{DecodeResponseIter, OutboardMut, WriteAt, encode_ranges_validated};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};

use super::error::MediaError;
use crate::base::BlobHash;
use crate::base::limits::{MAX_BLOB, MAX_ENCODED_PIECE, PIECE};

/// Groups of 16 KiB: a wrong byte is found within as many.
const GROUP: BlockSize = BlockSize::from_chunk_log(4);

/// Bytes of a BLAKE3 chunk.
const CHUNK: u64 = 1024;

/// How often somebody who waits for a piece says so again.
const NEED_AGAIN: Duration = Duration::from_secs(1);

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
    blobs: Mutex<BTreeMap<BlobHash, Arc<Blob>>>,
}

impl Cache {
    /// Opens `dir`, making it if needed, and takes stock.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path) -> Result<Cache, MediaError> {
        let (blobs, tmp) = (dir.join("blobs"), dir.join("tmp"));
        make_private(&blobs)?;
        // What was being taken in when the last run ended is of no use.
        let _ = fs::remove_dir_all(&tmp);
        make_private(&tmp)?;
        let cache = Cache { dir: dir.to_owned(), blobs: Mutex::default() };
        cache.take_stock(&blobs)?;
        Ok(cache)
    }

    /// The blob, if anything of it is here.
    pub fn find(&self, hash: &BlobHash) -> Option<Arc<Blob>> {
        lock(&self.blobs).get(hash).cloned()
    }

    /// The blob, or an empty one of this size to be filled.
    pub fn begin(&self, hash: BlobHash, size: u64) -> Result<Arc<Blob>, MediaError> {
        if size == 0 {
            return Err(MediaError::Broken { name: hash.short(), why: "it has no bytes".into() });
        }
        if size > MAX_BLOB {
            return Err(MediaError::TooLarge { name: hash.short(), size });
        }
        let mut blobs = lock(&self.blobs);
        if let Some(blob) = blobs.get(&hash) {
            if blob.size == size {
                return Ok(Arc::clone(blob));
            }
            // Somebody lied about the size. Only one size can ever verify, so whatever has
            // verified is right; an empty one makes way.
            if !blob.is_empty() {
                return Err(MediaError::Corrupt { hash, piece: 0 });
            }
            blob.discard();
        }
        let blob = Arc::new(Blob::new(&self.dir, hash, size));
        blob.reserve()?;
        blobs.insert(hash, Arc::clone(&blob));
        Ok(blob)
    }

    /// Copies what `source` yields into the cache, hashing on the way. `size` is how many bytes
    /// it will be.
    pub fn take_in(&self, source: &mut dyn io::Read, size: u64) -> Result<BlobHash, MediaError> {
        let what = "copying into the music cache";
        let temporary = tempname(&self.dir);
        let tree_path = temporary.with_extension("obao");
        let result = (|| {
            let data = File::create_new(&temporary)?;
            let mut outboard = new_outboard(create(&tree_path)?, size);
            let copy = Copy { source, target: data };
            let root = bao_tree::io::sync::outboard(copy, outboard.tree, &mut outboard)?;
            Ok(BlobHash(*root.as_bytes()))
        })()
        .map_err(|e: io::Error| MediaError::doing(what, &e))
        .and_then(|hash| {
            self.adopt(hash, size, &temporary, &tree_path)
                .map_err(|e| MediaError::doing(what, &e))?;
            Ok(hash)
        });
        let _ = fs::remove_file(&temporary);
        let _ = fs::remove_file(&tree_path);
        result
    }

    /// Moves finished files to their place.
    fn adopt(&self, hash: BlobHash, size: u64, data: &Path, tree: &Path) -> io::Result<()> {
        let mut blobs = lock(&self.blobs);
        let blob = match blobs.get(&hash) {
            Some(blob) if blob.size == size => Arc::clone(blob),
            _ => Arc::new(Blob::new(&self.dir, hash, size)),
        };
        let mut state = blob.lock();
        if !matches!(*state, State::Complete) {
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
        blobs.insert(hash, blob);
        Ok(())
    }

    /// Forgets a blob whose bytes on disk no longer match.
    pub fn discard(&self, blob: &Blob) {
        tracing::warn!(blob = %blob.hash.short(), "cached blob is damaged, removing it");
        lock(&self.blobs).remove(&blob.hash);
        blob.discard();
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

    fn take_stock_of(&self, path: &Path) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let Ok(hash) = stem.parse::<BlobHash>() else { return remove(path) };
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let whole = path.with_extension("");
        match &*ending {
            // The whole one was finished another way.
            "part" if whole.exists() => remove(path),
            "" | "part" => {
                let size = fs::metadata(path).map_or(0, |about| about.len());
                let blob = Blob::new(&self.dir, hash, size);
                if size > MAX_BLOB || size == 0 || !blob.verify(ending.is_empty()) {
                    return blob.discard();
                }
                lock(&self.blobs).insert(hash, Arc::new(blob));
            }
            "obao" if whole.exists() || path.with_extension("part").exists() => {}
            _ => remove(path),
        }
    }
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
}

enum State {
    Partial(Vec<u8>),
    Complete,
    /// Removed; whoever waits gives up.
    Gone,
}

impl Blob {
    fn new(dir: &Path, hash: BlobHash, size: u64) -> Blob {
        let folder = dir.join("blobs").join(&hash.to_string()[..2]);
        let bitmap = vec![0; usize::try_from(piece_count(size).div_ceil(8)).unwrap_or(0)];
        Blob {
            hash,
            size,
            folder,
            state: Mutex::new(State::Partial(bitmap)),
            changed: Condvar::new(),
        }
    }

    /// How much of it is here.
    pub fn holding(&self) -> Holding {
        match &*self.lock() {
            State::Partial(bits) => Holding::Partial { pieces: bits.clone() },
            State::Complete => Holding::Complete,
            State::Gone => Holding::None,
        }
    }

    /// Opens the bytes for reading; holes read as zeros.
    pub fn open(&self) -> Result<File, MediaError> {
        // Under the lock, so that the file is not renamed meanwhile.
        let state = self.lock();
        let ending = if matches!(*state, State::Complete) { "" } else { "part" };
        let path = self.path(ending);
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
            if matches!(*state, State::Gone) {
                return Err(MediaError::Missing { hash: self.hash, piece });
            }
            drop(state);
            need();
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

    /// Lets everybody who waits look up.
    pub fn wake(&self) {
        // Whoever is between its check and its wait holds the lock; so it is not missed.
        drop(self.lock());
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
        self.encode_into(&data, piece, &mut encoded)
            .map_err(|_| MediaError::Corrupt { hash: self.hash, piece })?;
        Ok(encoded)
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
            State::Complete => Accepted::Already,
            State::Gone => return Err(MediaError::Missing { hash: self.hash, piece }),
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
    fn verify(&self, is_whole: bool) -> bool {
        let path = self.path(if is_whole { "" } else { "part" });
        let Ok(data) = File::open(path) else { return false };
        let right = |piece| self.encode_into(&data, piece, &mut io::sink()).is_ok();
        let count = piece_count(self.size);
        let mut state = self.lock();
        if is_whole {
            *state = State::Complete;
            return right(0) && right(count - 1);
        }
        let State::Partial(bits) = &mut *state else { return false };
        (0..count).filter(|piece| right(*piece)).for_each(|piece| set(bits, piece));
        bits.iter().any(|byte| *byte != 0)
    }

    fn encode_into(&self, data: &File, piece: u32, to: &mut dyn io::Write) -> io::Result<()> {
        let mut outboard = new_outboard(File::open(self.path("obao"))?, self.size);
        outboard.root = blake3::Hash::from(self.hash.0);
        encode_ranges_validated(data, &outboard, &piece_ranges(piece), to)
            .map_err(|e| io::Error::other(e.to_string()))
    }

    fn discard(&self) {
        *self.lock() = State::Gone;
        for ending in ["", "part", "obao"] {
            remove(&self.path(ending));
        }
        self.changed.notify_all();
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
            State::Complete => true,
            State::Gone => false,
        }
    }
}

/// A reader that writes what it reads somewhere else too.
struct Copy<'a> {
    source: &'a mut dyn io::Read,
    target: File,
}

impl io::Read for Copy<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        use io::Write;
        let len = self.source.read(buf)?;
        self.target.write_all(&buf[..len])?;
        Ok(len)
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

    fn full(dir: &Path, data: &[u8]) -> (Cache, Arc<Blob>) {
        let cache = Cache::open(dir).expect("opens");
        let hash = cache.take_in(&mut &data[..], data.len() as u64).expect("taken in");
        assert_eq!(hash.0, *blake3::hash(data).as_bytes());
        let blob = cache.find(&hash).expect("is there");
        (cache, blob)
    }

    fn empty(dir: &Path, like: &Blob) -> (Cache, Arc<Blob>) {
        let cache = Cache::open(dir).expect("opens");
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
            let again = Cache::open(b.path()).expect("opens");
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
        let again = Cache::open(b.path()).expect("opens");
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
        cache.take_in(&mut &data[..], LEN as u64).expect("taken in");
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
        let again = Cache::open(dir.path()).expect("opens");
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
        let again = Cache::open(dir.path()).expect("opens");
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
        let cache = Cache::open(dir.path()).expect("opens");
        let hash = BlobHash([7; 32]);
        assert!(cache.begin(hash, 0).is_err());
        assert!(cache.begin(hash, MAX_BLOB + 1).is_err());
        cache.begin(hash, 1000).expect("begins");
        // The first size was a lie; nothing had verified.
        cache.begin(hash, 2000).expect("begins again");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_look_into_the_cache() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("dir");
        let cache = dir.path().join("cache");
        Cache::open(&cache).expect("opens");
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
