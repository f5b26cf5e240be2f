//! The body of a served file: as many bytes as the head announced, never more.
//!
//! A file that is replaced keeps its old content for those who are reading it. One that is cut
//! short while it is read breaks the answer off: ending it cleanly would pass off a part as the
//! whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead as _, ReadBuf};

/// The body of a served file.
pub struct FileBody(Kind);

enum Kind {
    /// Everything, in memory; nothing once it was sent.
    Bytes(Option<Bytes>),
    /// So much of an open file.
    File { file: File, left: u64, buffer: Vec<u8> },
}

impl FileBody {
    /// None.
    pub(super) fn empty() -> Self {
        Self(Kind::Bytes(None))
    }

    /// What was read already.
    pub(super) fn bytes(bytes: Vec<u8>) -> Self {
        Self(Kind::Bytes(
            Some(Bytes::from(bytes)).filter(|bytes| !bytes.is_empty()),
        ))
    }

    /// The next `left` bytes of an open file.
    pub(super) fn file(file: std::fs::File, left: u64) -> Self {
        let mut file = File::from_std(file);
        file.set_max_buf_size(CHUNK);
        Self(Kind::File {
            file,
            left,
            buffer: Vec::new(),
        })
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let (file, left, buffer) = match &mut self.get_mut().0 {
            Kind::Bytes(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::File { left: 0, .. } => return Poll::Ready(None),
            Kind::File { file, left, buffer } => (file, left, buffer),
        };
        if buffer.is_empty() {
            let wanted = usize::try_from(*left).unwrap_or(CHUNK).min(CHUNK);
            buffer.resize(wanted, 0);
        }
        let mut filled = ReadBuf::new(buffer);
        let count = match ready!(Pin::new(file).poll_read(cx, &mut filled)) {
            Ok(()) => filled.filled().len(),
            Err(error) => {
                *left = 0;
                return Poll::Ready(Some(Err(error)));
            }
        };
        if count == 0 {
            *left = 0;
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        let mut chunk = std::mem::take(buffer);
        chunk.truncate(count);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.is_none(),
            Kind::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Kind::Bytes(bytes) => bytes
                .as_ref()
                .map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Kind::File { left, .. } => *left,
        })
    }
}

/// What is read at a time. Twice this is held for every answer that is not read by its client, of
/// which one HTTP/2 connection can have hundreds.
const CHUNK: usize = 16 * 1024;
