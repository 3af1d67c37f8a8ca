//! One frame out of a stream: what every control connection reads, whatever bytes come.

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::base::limits::MAX_FRAME;
use crate::wire::codec::{self, FRAME_HEADER};
use crate::wire::{Message, WireError};

/// Why no message came out of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The stream or the connection ended.
    End,
    /// What came is no message.
    Wire(WireError),
}

/// Reads a whole frame of at most `max` bytes. Memory is taken as bytes arrive, not as a
/// header promises.
///
/// # Errors
///
/// When the stream ends within a frame, or the frame is too long or holds no message.
pub async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> Result<Message, FrameError> {
    let mut header = [0; FRAME_HEADER];
    stream.read_exact(&mut header).await.map_err(|_| FrameError::End)?;
    let len = codec::frame_len(header).map_err(FrameError::Wire)?;
    if len > max {
        return Err(FrameError::Wire(WireError::TooLong { len, max }));
    }
    let mut body = Vec::with_capacity(len.min(MAX_FRAME));
    stream.take(len as u64).read_to_end(&mut body).await.map_err(|_| FrameError::End)?;
    if body.len() < len {
        return Err(FrameError::End);
    }
    codec::decode_message(&body).map_err(FrameError::Wire)
}
