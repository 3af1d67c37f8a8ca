//! The front of this folder: files go in, tracks come out; pieces go in and out; tracks become
//! sound. Every method may block on the disk and is called from threads that may.

use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::cache::{Accepted, Cache, Holding};
use super::error::MediaError;
use super::format::{self, Bytes, FileSource, Layout};
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
}

impl Library {
    /// Opens the cache in `cache_dir` and takes stock of it. Partial blobs are verified, which
    /// reads them once.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or read.
    pub fn open(cache_dir: &Path) -> Result<Library, MediaError> {
        Ok(Library { cache: Arc::new(Cache::open(cache_dir)?) })
    }

    /// Takes a file in: reads its tags and its exact audible length, hashes it and copies it
    /// into the cache. `progress` is told bytes done and bytes in all.
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
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let size = check(path)?;
        let about = examine(path, &name)?;
        let file = File::open(path).map_err(|e| MediaError::at(path, &e))?;
        let mut reader = Progress { file: file.take(size), done: 0, told: 0, size, tell: progress };
        let hash = self.cache.take_in(&mut reader, size).map_err(|error| match error {
            // The tree needs as many bytes as were promised.
            MediaError::Io { .. } if reader.done < size => MediaError::Broken {
                name: name.clone(),
                why: "it was cut short while it was being read".into(),
            },
            other => other,
        })?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let Layout { rate, channels, delay } = about.layout;
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
        self.cache.find(hash).ok_or(missing)?.accept(piece, encoded)
    }

    /// Starts a thread that decodes `track` from audible frame `from` on into `writer`, as fast
    /// as the window empties. Pieces that are not here yet are waited for.
    ///
    /// # Errors
    ///
    /// When the cache cannot make room for the track, or no thread can be started. Everything
    /// later is told through `hooks`.
    pub fn open_stream(
        &self,
        track: &Track,
        from: u64,
        writer: PcmWriter,
        hooks: StreamHooks,
    ) -> Result<StreamHandle, MediaError> {
        let blob = self.cache.begin(track.hash, track.size)?;
        stream::start(blob, track.clone(), from, writer, hooks)
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
