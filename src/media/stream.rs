//! A decoder thread per stream: it fills a window of PCM, waits for pieces that are still on
//! their way, and ends when its handle is dropped.
//!
//! It does not know the time, the sound card or where pieces come from.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use super::cache::Blob;
use super::error::MediaError;
use super::format::mix::Mix;
use super::format::{self, ByteSource, Decoder};
use crate::base::BlobHash;
use crate::base::limits::PIECE;
use crate::base::pcm::{BLOCK_FRAMES, CHANNELS, PcmBlock, PcmWriter};
use crate::wire::Track;

/// How long a decoder sleeps when its window is full: a block empties in about this time, and a
/// window is some hundred milliseconds at least.
const WINDOW_POLL: Duration = Duration::from_millis(20);

/// What a stream tells. Called from its thread.
pub struct StreamHooks {
    /// The decoder stands still for want of this piece. Said again every second.
    pub need: Box<dyn Fn(BlobHash, u32) + Send + Sync>,
    /// Half a second from the start on is in the window, or all there is, or the window is full.
    pub primed: Box<dyn FnOnce() + Send>,
    /// The stream cannot go on; a sentence for people. Not called after a drop of the handle.
    pub failed: Box<dyn FnOnce(String) + Send>,
}

/// Keeps a stream running. When it is dropped, the thread ends at its next step; it is not
/// waited for.
pub struct StreamHandle {
    stop: Arc<Stop>,
    thread: thread::JoinHandle<()>,
}

impl StreamHandle {
    /// Whether the thread has ended: all frames are in the window, or it has failed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.stop.request(self.thread.thread());
    }
}

/// The wish to stop, and whom to wake for it.
#[derive(Default)]
struct Stop {
    requested: AtomicBool,
    /// Once it has been found.
    blob: OnceLock<Arc<Blob>>,
}

impl Stop {
    fn request(&self, thread: &Thread) {
        self.requested.store(true, Ordering::SeqCst);
        if let Some(blob) = self.blob.get() {
            blob.wake();
        }
        thread.unpark();
    }

    fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }
}

/// Finds the bytes of a track; may wait for the disk.
pub type OpenBlob = Box<dyn FnOnce() -> Result<Arc<Blob>, MediaError> + Send>;

/// Starts the thread.
pub fn start(
    open: OpenBlob,
    track: Track,
    from: u64,
    writer: PcmWriter,
    hooks: StreamHooks,
) -> Result<StreamHandle, MediaError> {
    let stop = Arc::new(Stop::default());
    let StreamHooks { need, primed, failed } = hooks;
    let shared = Arc::clone(&stop);
    let body = move || {
        let filler = Filler::new(writer, &track, from, primed, Arc::clone(&shared));
        let decode = AssertUnwindSafe(|| decode(open, &track, from, filler, &shared, need));
        let outcome = catch_unwind(decode).unwrap_or_else(|_| {
            let why = "the decoder fails on it".into();
            Err(MediaError::Broken { name: track.title.clone(), why })
        });
        match outcome {
            Ok(()) | Err(MediaError::Stopped) => {}
            Err(_) if shared.is_requested() => {}
            Err(error) => failed(error.to_string()),
        }
    };
    let thread = thread::Builder::new()
        .name("decode".into())
        .spawn(body)
        .map_err(|e| MediaError::doing("starting a decoder", &e))?;
    Ok(StreamHandle { stop, thread })
}

fn decode(
    open: OpenBlob,
    track: &Track,
    from: u64,
    mut filler: Filler,
    stop: &Arc<Stop>,
    need: Box<dyn Fn(BlobHash, u32) + Send + Sync>,
) -> Result<(), MediaError> {
    if from >= track.frames {
        filler.finish();
        return Ok(());
    }
    let blob = open()?;
    let _ = stop.blob.set(Arc::clone(&blob));
    let source = BlobSource::open(blob, Arc::clone(stop), need)?;
    let named = |e: format::FormatError| e.of(&track.title);
    let mut decoder =
        format::open(track.codec, Box::new(source), Some(track.frames)).map_err(named)?;
    agree(decoder.as_ref(), track)?;
    decoder.seek(from).map_err(named)?;
    let mix = Mix::new(&decoder.layout());
    let mut samples = Vec::new();
    while filler.next < track.frames {
        let Some(first) = decoder.next(&mut samples).map_err(named)? else { break };
        filler.push(first, &samples, &mix)?;
    }
    filler.finish();
    Ok(())
}

/// The room places the track in time by what its author said; a file that is something else
/// would sound at the wrong speed.
fn agree(decoder: &dyn Decoder, track: &Track) -> Result<(), MediaError> {
    let found = decoder.layout();
    let said = (track.rate, track.channels, track.delay);
    if (found.rate, found.channels, found.delay) == said {
        return Ok(());
    }
    let why = "it is not what the room was told of it".into();
    Err(MediaError::Broken { name: track.title.clone(), why })
}

/// A blob as a file whose reads wait for their piece.
struct BlobSource {
    file: File,
    blob: Arc<Blob>,
    at: u64,
    stop: Arc<Stop>,
    need: Box<dyn Fn(BlobHash, u32) + Send + Sync>,
}

impl BlobSource {
    fn open(
        blob: Arc<Blob>,
        stop: Arc<Stop>,
        need: Box<dyn Fn(BlobHash, u32) + Send + Sync>,
    ) -> Result<BlobSource, MediaError> {
        Ok(BlobSource { file: blob.open()?, blob, at: 0, stop, need })
    }
}

impl Read for BlobSource {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let blob = &self.blob;
        if self.stop.is_requested() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if self.at >= blob.size || buf.is_empty() {
            return Ok(0);
        }
        let piece = u32::try_from(self.at / PIECE).map_err(io::Error::other)?;
        let waited =
            blob.wait(piece, &|| self.stop.is_requested(), &|| (self.need)(blob.hash, piece));
        match waited {
            Ok(()) => {}
            // Not `Interrupted`, which readers take as a wish to try again.
            Err(MediaError::Stopped) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Err(error) => return Err(io::Error::other(error)),
        }
        // Never beyond this piece: the next one may be far away.
        let left = (u64::from(piece) + 1) * PIECE - self.at;
        let len = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read =
            self.file.seek(SeekFrom::Start(self.at)).and_then(|_| self.file.read(&mut buf[..len]));
        if read.is_err() && !blob.is_usable() {
            // Its disk was taken out. Whoever fetches still takes it for whole.
            (self.need)(blob.hash, piece);
        }
        let len = read?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for BlobSource {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.blob.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl ByteSource for BlobSource {
    fn size(&self) -> u64 {
        self.blob.size
    }
}

/// Cuts decoded frames into blocks and puts them into the window.
struct Filler {
    writer: PcmWriter,
    block: Option<PcmBlock>,
    /// The next frame that is wanted.
    next: u64,
    /// The frame after the last one that is wanted.
    end: u64,
    /// When this frame is in the window, the stream is primed.
    primed_at: u64,
    primed: Option<Box<dyn FnOnce() + Send>>,
    stop: Arc<Stop>,
}

impl Filler {
    fn new(
        writer: PcmWriter,
        track: &Track,
        from: u64,
        primed: Box<dyn FnOnce() + Send>,
        stop: Arc<Stop>,
    ) -> Filler {
        let primed_at = from.saturating_add(u64::from(track.rate / 2));
        let (end, primed) = (track.frames, Some(primed));
        Filler { writer, block: None, next: from, end, primed_at, primed, stop }
    }

    /// Takes decoded frames; those before the wanted one and behind the end are dropped.
    fn push(&mut self, first: i64, samples: &[f32], mix: &Mix) -> Result<(), MediaError> {
        for (place, frame) in (first..).zip(samples.chunks_exact(mix.channels())) {
            match u64::try_from(place) {
                Ok(place) if (self.next..self.end).contains(&place) => {
                    self.push_frame(place, mix.apply(frame))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn push_frame(&mut self, place: u64, frame: [f32; CHANNELS]) -> Result<(), MediaError> {
        // Blocks may leave a hole between them, never in them.
        if place > self.next {
            self.flush();
        }
        let mut block = match self.block.take() {
            Some(block) => block,
            None => self.empty_block(place)?,
        };
        let at = block.frames * CHANNELS;
        block.samples[at..at + CHANNELS].copy_from_slice(&frame);
        block.frames += 1;
        self.next = place + 1;
        let is_full = block.frames == BLOCK_FRAMES;
        self.block = Some(block);
        if is_full {
            self.flush();
        }
        Ok(())
    }

    /// Waits for a place in the window.
    fn empty_block(&mut self, first: u64) -> Result<PcmBlock, MediaError> {
        loop {
            if self.stop.is_requested() || self.writer.is_abandoned() {
                return Err(MediaError::Stopped);
            }
            if let Some(mut block) = self.writer.take() {
                block.first = first;
                block.frames = 0;
                return Ok(block);
            }
            self.tell_primed();
            thread::park_timeout(WINDOW_POLL);
        }
    }

    fn flush(&mut self) {
        if let Some(block) = self.block.take() {
            self.writer.put(block);
            if self.next >= self.primed_at {
                self.tell_primed();
            }
        }
    }

    fn finish(mut self) {
        self.flush();
        self.tell_primed();
    }

    fn tell_primed(&mut self) {
        if let Some(primed) = self.primed.take() {
            primed();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::sync::Mutex;

    use super::super::cache::Cache;
    use super::super::reference::Reference;
    use super::*;

    #[test]
    fn a_file_that_can_be_read_no_more_is_asked_for() {
        let (dir, music) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let cache = Cache::open(dir.path(), u64::MAX).expect("opens");
        let song = music.path().join("song");
        fs::write(&song, [7; 1000]).expect("writes");
        let reference = Reference::to(&song).expect("is there");
        let hash = cache.refer(reference, &mut &[7; 1000][..], 1000).expect("hashed");
        let blob = cache.find(&hash).expect("is there");
        // One that cannot be read stands for one whose disk is gone.
        let file = OpenOptions::new().append(true).open(&song).expect("opens");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&asked);
        let need = Box::new(move |hash, piece| note.lock().expect("one").push((hash, piece)));
        let mut source = BlobSource { file, blob, at: 0, stop: Arc::default(), need };
        assert!(source.read(&mut [0; 10]).is_err());
        assert!(asked.lock().expect("one").is_empty(), "the file itself is there");
        fs::remove_dir_all(music.path()).expect("taken out");
        assert!(source.read(&mut [0; 10]).is_err());
        assert_eq!(*asked.lock().expect("one"), [(hash, 0)]);
    }
}
