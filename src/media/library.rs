//! The front of this folder: files go in, tracks come out; pieces go in and out; tracks become
//! sound. Every method may block on the disk and is called from threads that may, but for
//! [`Library::pin`], [`Library::unpin`] and [`Library::open_stream`].

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::cache::{Accepted, Cache, Holding};
use super::error::MediaError;
use super::format::{self, Bytes, FileSource, Layout};
use super::index::Index;
use super::reference::Reference;
use super::stream::{self, StreamHandle, StreamHooks};
use super::tags::{Tags, clean};
use crate::base::BlobHash;
use crate::base::limits::MAX_BLOB;
use crate::base::pcm::PcmWriter;
use crate::wire::{Codec, Track};

/// Bytes between two reports of progress.
const PROGRESS_STEP: u64 = 1024 * 1024;

/// The music that this device holds. Clones share it.
#[derive(Clone)]
pub struct Library {
    cache: Arc<Cache>,
    index: Arc<Index>,
}

/// What changes when a file's content does: device, inode, size, and the times at which its
/// content and its entry were last changed, in ns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct FileMark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileMark {
    fn of(path: &Path) -> Option<FileMark> {
        let about = std::fs::metadata(path).ok()?;
        Some(FileMark {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}

impl FileMark {
    /// As the index has it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let unsigned = [self.device, self.inode, self.size].map(u64::to_be_bytes);
        let times = [self.modified.0, self.modified.1, self.changed.0, self.changed.1];
        [unsigned.concat(), times.map(i64::to_be_bytes).concat()].concat()
    }
}

impl Library {
    /// Opens the cache in `cache_dir` and takes stock of it. Partial blobs are verified, which
    /// reads them once. `limit` is how many bytes copies may take.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or read.
    pub fn open(cache_dir: &Path, limit: u64) -> Result<Library, MediaError> {
        let cache = Arc::new(Cache::open(cache_dir, limit)?);
        Ok(Library { cache, index: Arc::new(Index::open(cache_dir)) })
    }

    /// Takes a file in where it is: reads its tags and its exact audible length, and hashes it.
    /// `progress` is told bytes done and bytes in all. A file that was taken in before and has
    /// not changed since is known at once, after a restart too.
    ///
    /// # Errors
    ///
    /// When it is not there, not readable, no audio, damaged beyond its first part, too large,
    /// or the disk is full. The error's text is for people.
    pub fn import(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Track, MediaError> {
        let mark = FileMark::of(path);
        if let Some(track) = mark.and_then(|mark| self.recall(&mark, path)) {
            return Ok(track);
        }
        let track = self.read(path, progress)?;
        // A mark taken before the reading: a change meanwhile gives another one.
        if let Some(mark) = mark {
            self.index.remember(&mark, &track);
        }
        Ok(track)
    }

    /// The track of a file that has not changed, if the cache still knows it.
    fn recall(&self, mark: &FileMark, path: &Path) -> Option<Track> {
        let track = self.index.recall(mark)?;
        let reference = Reference::to(path).ok()?;
        self.cache.finds_in(&track.hash, reference).then_some(track)
    }

    fn read(&self, path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Track, MediaError> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let size = check(path)?;
        let reference = Reference::to(path).map_err(|e| MediaError::at(path, &e))?;
        let about = examine(path, &name)?;
        let file = File::open(path).map_err(|e| MediaError::at(path, &e))?;
        let mut reader = Progress { file: file.take(size), done: 0, told: 0, size, tell: progress };
        let hash = self.cache.refer(reference, &mut reader, size).map_err(|error| match error {
            // The tree needs as many bytes as were promised.
            MediaError::Io { .. } if reader.done < size => MediaError::Broken {
                name: name.clone(),
                why: "it was cut short while it was being read".into(),
            },
            other => other,
        })?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let Layout { rate, channels, delay, .. } = about.layout;
        Ok(Track {
            hash,
            size,
            codec: about.codec,
            rate,
            channels,
            frames: about.frames,
            delay,
            title: about.tags.title.unwrap_or_else(|| clean(&stem)),
            artists: about.tags.artists,
            album: about.tags.album,
        })
    }

    /// How much of a blob is here.
    #[must_use]
    pub fn holds(&self, hash: &BlobHash) -> Holding {
        self.cache.find(hash).map_or(Holding::None, |blob| blob.holding())
    }

    /// Keeps a blob, whatever else needs room, until it is unpinned. It need not be here yet.
    pub fn pin(&self, hash: BlobHash) {
        self.cache.pin(hash);
    }

    /// The blob may make way for others again.
    pub fn unpin(&self, hash: &BlobHash) {
        self.cache.unpin(hash);
    }

    /// Prepares to receive a blob. Nothing happens if that is done already.
    ///
    /// # Errors
    ///
    /// When the size is out of bounds or the disk is full.
    pub fn begin(&self, hash: BlobHash, size: u64) -> Result<(), MediaError> {
        self.cache.begin(hash, size).map(|_| ())
    }

    /// A piece with the hashes that prove it, at most
    /// [`MAX_ENCODED_PIECE`](crate::base::limits::MAX_ENCODED_PIECE) bytes.
    ///
    /// # Errors
    ///
    /// [`MediaError::Missing`] when it is not here; [`MediaError::Corrupt`] when the disk has
    /// spoiled it, in which case the blob is removed from the cache.
    pub fn encode_piece(&self, hash: &BlobHash, piece: u32) -> Result<Vec<u8>, MediaError> {
        let missing = MediaError::Missing { hash: *hash, piece };
        let blob = self.cache.find(hash).ok_or(missing)?;
        let encoded = blob.encode(piece);
        if matches!(encoded, Err(MediaError::Corrupt { .. })) {
            self.cache.discard(&blob);
        }
        encoded
    }

    /// Verifies a piece against the blob's name and keeps it.
    ///
    /// # Errors
    ///
    /// [`MediaError::Corrupt`] when a byte is wrong: whoever sent it is not to be trusted with
    /// this blob. [`MediaError::Missing`] when [`Library::begin`] was not called.
    pub fn accept_piece(
        &self,
        hash: &BlobHash,
        piece: u32,
        encoded: &[u8],
    ) -> Result<Accepted, MediaError> {
        let missing = MediaError::Missing { hash: *hash, piece };
        let blob = self.cache.find(hash).ok_or(missing)?;
        match blob.accept(piece, encoded) {
            Err(MediaError::DiskFull) if self.cache.free_some() => blob.accept(piece, encoded),
            outcome => outcome,
        }
    }

    /// Starts a thread that decodes `track` from audible frame `from` on into `writer`, as fast
    /// as the window empties. Pieces that are not here yet are waited for. Does not itself wait for
    /// the disk.
    ///
    /// # Errors
    ///
    /// When no thread can be started. Everything later is told through `hooks`.
    pub fn open_stream(
        &self,
        track: &Track,
        from: u64,
        writer: PcmWriter,
        hooks: StreamHooks,
    ) -> Result<StreamHandle, MediaError> {
        let (cache, hash, size) = (Arc::clone(&self.cache), track.hash, track.size);
        let open = move || {
            let blob = cache.begin(hash, size)?;
            blob.note_use();
            Ok(blob)
        };
        stream::start(Box::new(open), track.clone(), from, writer, hooks)
    }

    /// Blobs that come from elsewhere because the owner's file could not be reached. Does not wait.
    #[must_use]
    pub fn away(&self) -> Vec<BlobHash> {
        self.cache.away()
    }

    /// Looks for the file of such a one; whether it is there again.
    #[must_use]
    pub fn look_again(&self, hash: &BlobHash) -> bool {
        self.cache.look_again(hash)
    }

    /// Looks at every file of the owner that is known: what has changed or is gone is forgotten.
    pub fn look_over(&self) {
        self.cache.look_over();
    }
}

/// What a file turned out to be.
struct About {
    codec: Codec,
    layout: Layout,
    frames: u64,
    tags: Tags,
}

/// The size of a file that may be taken in.
fn check(path: &Path) -> Result<u64, MediaError> {
    let about = std::fs::metadata(path).map_err(|e| MediaError::at(path, &e))?;
    let name = path.display().to_string();
    if !about.is_file() {
        return Err(MediaError::Unsupported { name, found: "not a file".into() });
    }
    if about.len() > MAX_BLOB {
        return Err(MediaError::TooLarge { name, size: about.len() });
    }
    Ok(about.len())
}

fn examine(path: &Path, name: &str) -> Result<About, MediaError> {
    // Decoders are other people's code and the file may be anybody's.
    let result = catch_unwind(AssertUnwindSafe(|| examine_format(path, name)));
    result.unwrap_or_else(|_| {
        Err(MediaError::Broken { name: name.into(), why: "the decoder fails on it".into() })
    })
}

fn examine_format(path: &Path, name: &str) -> Result<About, MediaError> {
    let open = || -> Result<Bytes, MediaError> {
        let source = File::open(path).and_then(FileSource::new);
        Ok(Box::new(source.map_err(|e| MediaError::at(path, &e))?))
    };
    let codec = format::recognise(open()?.as_mut()).map_err(|e| e.of(name))?;
    let mut decoder = format::open(codec, open()?, None).map_err(|e| e.of(name))?;
    let frames = decoder.count().map_err(|e| e.of(name))?;
    if frames == 0 {
        return Err(MediaError::Broken { name: name.into(), why: "it holds no sound".into() });
    }
    Ok(About { codec, layout: decoder.layout(), frames, tags: Tags::read(codec, open()?) })
}

struct Progress<'a> {
    file: io::Take<File>,
    done: u64,
    told: u64,
    size: u64,
    tell: &'a mut dyn FnMut(u64, u64),
}

impl Read for Progress<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(buf)?;
        self.done += len as u64;
        if self.done - self.told >= PROGRESS_STEP || self.done == self.size {
            self.told = self.done;
            (self.tell)(self.done, self.size);
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::{bytes, decode_from, fixture};
    use super::*;
    use crate::base::limits::PIECE;
    use crate::base::pcm::{self, PcmReader};
    use std::path::PathBuf;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Duration;

    /// What a stream said.
    #[derive(Debug, PartialEq, Eq)]
    enum Said {
        Need(u32),
        Primed,
        Failed(String),
    }

    fn hooks() -> (StreamHooks, Receiver<Said>) {
        let (said, heard): (Sender<Said>, _) = mpsc::channel();
        let (a, b, c) = (said.clone(), said.clone(), said);
        let hooks = StreamHooks {
            need: Box::new(move |_, piece| drop(a.send(Said::Need(piece)))),
            primed: Box::new(move || drop(b.send(Said::Primed))),
            failed: Box::new(move |why| drop(c.send(Said::Failed(why)))),
        };
        (hooks, heard)
    }

    fn heard(said: &Receiver<Said>) -> Said {
        said.recv_timeout(Duration::from_secs(20)).expect("the stream says something")
    }

    fn path(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media").join(name)
    }

    fn library() -> (Library, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("dir");
        (Library::open(dir.path(), u64::MAX).expect("opens"), dir)
    }

    #[test]
    fn a_file_is_read_again_only_when_it_has_changed() {
        let (library, dir) = library();
        let file = dir.path().join("song.flac");
        let bytes_read = |library: &Library| {
            let mut told = 0;
            let track = library.import(&file, &mut |done, _| told = done).expect("a song");
            (track, told)
        };
        std::fs::copy(path("stereo.flac"), &file).expect("copied");
        let (first, read) = bytes_read(&library);
        assert_eq!(read, first.size);
        assert_eq!(bytes_read(&library), (first.clone(), 0));
        std::fs::copy(path("mono24.flac"), &file).expect("copied");
        let (second, read) = bytes_read(&library);
        assert_ne!(second.hash, first.hash);
        assert_eq!(read, second.size);
    }

    #[test]
    fn a_file_is_known_after_a_restart_unless_the_index_or_the_blob_is_lost() {
        let (library, dir) = library();
        let file = dir.path().join("song.flac");
        std::fs::copy(path("stereo.flac"), &file).expect("copied");
        let bytes_read = |library: &Library| {
            let mut told = 0;
            let track = library.import(&file, &mut |done, _| told = done).expect("a song");
            (track, told)
        };
        let (track, _) = bytes_read(&library);
        drop(library);
        let reopened = || Library::open(dir.path(), u64::MAX).expect("opens");
        assert_eq!(bytes_read(&reopened()), (track.clone(), 0));
        let index = dir.path().join("media.db");
        let spoil: [&dyn Fn(); 3] = [
            &|| std::fs::remove_file(&index).expect("removed"),
            &|| std::fs::write(&index, vec![0xA5; 20_000]).expect("spoiled"),
            &|| {
                let later = rusqlite::Connection::open(&index).expect("opens");
                later.pragma_update(None, "user_version", 99).expect("raised");
            },
        ];
        for spoil in spoil {
            spoil();
            assert_eq!(bytes_read(&reopened()), (track.clone(), track.size), "read again");
            assert_eq!(bytes_read(&reopened()), (track.clone(), 0), "and known again");
        }
        let blob = reopened().cache.find(&track.hash).expect("is there");
        reopened().cache.discard(&blob);
        assert_eq!(bytes_read(&reopened()), (track.clone(), track.size), "the blob is gone");
    }

    fn import(library: &Library, name: &str) -> Result<Track, MediaError> {
        library.import(&path(name), &mut |_, _| {})
    }

    /// A WAV of noise, `pieces` pieces long and a little more.
    fn noise_wav(dir: &Path, pieces: u64) -> PathBuf {
        let path = dir.join("Noise.wav");
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 48_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut rng = crate::base::rng::Rng::new(1);
        let mut writer = hound::WavWriter::create(&path, spec).expect("writes");
        for _ in 0..pieces * PIECE / 2 + 600 {
            let sample = i16::from_ne_bytes([rng.next_u64().to_ne_bytes()[0], 3]);
            writer.write_sample(sample).expect("writes");
        }
        writer.finalize().expect("writes");
        path
    }

    /// Reads everything from `from` on, as a playout thread would.
    fn drain(reader: &mut PcmReader, from: u64, frames: u64) -> Vec<f32> {
        let mut all = vec![0.0; usize::try_from(frames - from).expect("small") * 2];
        let mut next = from;
        while next < frames {
            let is_last = reader.is_abandoned();
            let place = usize::try_from(next - from).expect("small") * 2;
            let step = all[place..].len().min(2048);
            let end = reader.end().unwrap_or(0).min(frames);
            if end > next {
                let step = step.min(usize::try_from(end - next).expect("small") * 2);
                next += reader.read(next, &mut all[place..place + step]) as u64;
            } else if is_last {
                break;
            } else {
                std::thread::yield_now();
            }
        }
        all.truncate(usize::try_from(next - from).expect("small") * 2);
        all
    }

    #[test]
    fn an_imported_track_says_what_it_is() {
        let (library, _dir) = library();
        let mut progress = Vec::new();
        let track = library
            .import(&path("stereo.flac"), &mut |done, all| progress.push((done, all)))
            .expect("imports");
        let data = fixture("stereo.flac");
        assert_eq!(track.hash.0, *blake3::hash(&data).as_bytes());
        assert_eq!((track.size, track.codec), (data.len() as u64, Codec::Flac));
        assert_eq!((track.rate, track.channels, track.frames), (44_100, 2, 66_150));
        assert_eq!((track.delay, track.title.as_str()), (0, "Rising and falling"));
        assert_eq!(track.artists, ["First", "Second"]);
        assert_eq!(track.album, "Fixtures");
        assert_eq!(progress.last(), Some(&(track.size, track.size)));
        assert_eq!(library.holds(&track.hash), Holding::Complete);
        // A second time is no trouble.
        assert_eq!(import(&library, "stereo.flac"), Ok(track));
    }

    #[test]
    fn without_a_title_the_files_name_serves() {
        let (library, _dir) = library();
        assert_eq!(import(&library, "mono24.flac").expect("imports").title, "mono24");
    }

    #[test]
    fn encoder_delay_and_exact_length_are_in_the_track() {
        let (library, _dir) = library();
        let track = import(&library, "cbr.mp3").expect("imports");
        assert_eq!((track.frames, track.delay), (110_250, 529 + 576));
        assert_eq!(import(&library, "cut.flac").expect("imports").frames % 1152, 0);
    }

    #[test]
    fn what_is_no_music_is_refused_with_a_sentence() {
        let (library, dir) = library();
        let error = import(&library, "text.mp3").expect_err("refused");
        assert_eq!(error.to_string(), "\"text.mp3\" cannot be played: it is a text file");
        assert!(matches!(import(&library, "none.mp3"), Err(MediaError::NotFound(_))));
        let empty = dir.path().join("empty.flac");
        std::fs::write(&empty, b"").expect("writes");
        let error = library.import(&empty, &mut |_, _| {}).expect_err("refused");
        assert!(error.to_string().contains("an empty file"), "{error}");
        let short = dir.path().join("short.flac");
        std::fs::write(&short, &fixture("stereo.flac")[..60]).expect("writes");
        assert!(matches!(library.import(&short, &mut |_, _| {}), Err(MediaError::Broken { .. })));
        assert!(library.import(dir.path(), &mut |_, _| {}).is_err());
    }

    #[test]
    fn a_stream_gives_what_the_decoder_gives_from_any_frame() {
        let (library, _dir) = library();
        for name in ["stereo.flac", "mono24.flac", "cbr.mp3"] {
            let track = import(&library, name).expect("imports");
            let mut decoder =
                format::open(track.codec, bytes(&fixture(name)), None).expect("opens");
            let mut whole = decode_from(decoder.as_mut(), 0);
            if track.channels == 1 {
                whole = whole.iter().flat_map(|sample| [*sample, *sample]).collect();
            }
            for from in [0, 12_345] {
                let (writer, mut reader) = pcm::window(8 * pcm::BLOCK_FRAMES);
                let (hooks, said) = hooks();
                let _handle = library.open_stream(&track, from, writer, hooks).expect("starts");
                let all = drain(&mut reader, from, track.frames);
                let place = usize::try_from(from * 2).expect("small");
                let end = usize::try_from(track.frames * 2).expect("small");
                let error = format::tests::rms(&all, &whole[place..end]);
                let bound = if track.codec == Codec::Mp3 { 1e-4 } else { 0.0 };
                assert!(error <= bound, "{name} from {from}: {error}");
                assert_eq!(heard(&said), Said::Primed);
            }
        }
    }

    #[test]
    fn a_stream_from_beyond_the_end_is_primed_and_empty() {
        let (library, _dir) = library();
        let track = import(&library, "stereo.flac").expect("imports");
        let (writer, mut reader) = pcm::window(4096);
        let (hooks, said) = hooks();
        let _handle = library.open_stream(&track, 9_999_999, writer, hooks).expect("starts");
        assert_eq!(heard(&said), Said::Primed);
        while !reader.is_abandoned() {
            std::thread::yield_now();
        }
        assert_eq!(reader.end(), None);
    }

    #[test]
    fn a_stream_starts_with_the_head_and_waits_for_the_rest() {
        let (owner, dir) = library();
        let track = owner.import(&noise_wav(dir.path(), 3), &mut |_, _| {}).expect("imports");
        let (member, _dir) = library();
        let (writer, mut reader) = pcm::window(400_000);
        let (hooks, said) = hooks();
        let handle = member.open_stream(&track, 0, writer, hooks).expect("starts");
        assert_eq!(heard(&said), Said::Need(0));
        let give = |piece| {
            let encoded = owner.encode_piece(&track.hash, piece).expect("encodes");
            member.accept_piece(&track.hash, piece, &encoded).expect("right")
        };
        assert_eq!(give(0), Accepted::Stored);
        assert_eq!(heard(&said), Said::Primed);
        assert_eq!(heard(&said), Said::Need(1));
        assert_eq!(give(2), Accepted::Stored);
        assert_eq!(give(3), Accepted::Stored);
        assert_eq!(give(1), Accepted::Completed);
        assert_eq!(drain(&mut reader, 0, track.frames).len() as u64, track.frames * 2);
        // On a slow machine the same need was told more than once.
        assert!(said.try_iter().all(|said| said == Said::Need(1)));
        drop(handle);
    }

    #[test]
    fn the_end_of_a_file_is_not_read_to_begin() {
        let (owner, dir) = library();
        for file in ["stereo.flac", "mono24.flac", "cbr.mp3", "vbr.mp3"] {
            // What follows the sound is far away.
            let mut data = fixture(file);
            data.resize(usize::try_from(3 * PIECE).expect("small"), 0);
            data.extend(b"TAG");
            data.resize(data.len() + 125, 0);
            let path = dir.path().join(file);
            std::fs::write(&path, &data).expect("writes");
            let track = owner.import(&path, &mut |_, _| {}).expect("imports");
            let (member, _dir) = library();
            member.begin(track.hash, track.size).expect("begins");
            let encoded = owner.encode_piece(&track.hash, 0).expect("encodes");
            member.accept_piece(&track.hash, 0, &encoded).expect("right");
            let (writer, mut reader) = pcm::window(30_000);
            let (hooks, said) = hooks();
            let _handle = member.open_stream(&track, 0, writer, hooks).expect("starts");
            assert_eq!(heard(&said), Said::Primed, "{file}");
            assert!(reader.end().is_some_and(|end| end > 10_000), "{file}");
        }
    }

    #[test]
    fn a_dropped_handle_ends_a_blocked_stream() {
        let (owner, dir) = library();
        let track = owner.import(&noise_wav(dir.path(), 2), &mut |_, _| {}).expect("imports");
        // One waits for a piece, the other for its full window to empty.
        let (member, _dir) = library();
        for library in [member, owner] {
            let (writer, reader) = pcm::window(2 * pcm::BLOCK_FRAMES);
            let (hooks, said) = hooks();
            let handle = library.open_stream(&track, 0, writer, hooks).expect("starts");
            let _ = heard(&said);
            drop(handle);
            while !reader.is_abandoned() {
                std::thread::yield_now();
            }
            assert!(!matches!(said.recv(), Ok(Said::Failed(_))));
        }
    }

    #[test]
    fn a_track_that_is_not_what_was_said_fails() {
        let (library, _dir) = library();
        let mut track = import(&library, "stereo.flac").expect("imports");
        for wrong in [
            Track { rate: 48_000, ..track.clone() },
            Track { channels: 1, ..track.clone() },
            Track { codec: Codec::Mp3, ..track.clone() },
            Track { codec: Codec::Wav, ..track.clone() },
        ] {
            let (writer, _reader) = pcm::window(4096);
            let (hooks, said) = hooks();
            let _handle = library.open_stream(&wrong, 0, writer, hooks).expect("starts");
            assert!(matches!(heard(&said), Said::Failed(why) if why.contains("Rising")));
        }
        track.size += 1;
        let (writer, _reader) = pcm::window(4096);
        let (hooks, said) = hooks();
        let _handle = library.open_stream(&track, 0, writer, hooks).expect("starts");
        assert!(matches!(heard(&said), Said::Failed(_)), "of another size");
    }

    #[test]
    fn a_rotten_blob_is_removed_when_it_is_asked_for() {
        let (owner, _dir) = library();
        let track = import(&owner, "stereo.flac").expect("imports");
        let (library, dir) = library();
        library.begin(track.hash, track.size).expect("begins");
        for piece in 0..u32::try_from(track.size.div_ceil(PIECE)).expect("few") {
            let encoded = owner.encode_piece(&track.hash, piece).expect("encodes");
            library.accept_piece(&track.hash, piece, &encoded).expect("right");
        }
        let name = track.hash.to_string();
        let file = dir.path().join("blobs").join(&name[..2]).join(&name);
        let mut data = std::fs::read(&file).expect("reads");
        data[30_000] ^= 1;
        std::fs::write(&file, data).expect("writes");
        assert!(matches!(library.encode_piece(&track.hash, 0), Err(MediaError::Corrupt { .. })));
        assert_eq!(library.holds(&track.hash), Holding::None);
        assert!(!file.exists());
    }
}
