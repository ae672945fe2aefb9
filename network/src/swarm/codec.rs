//! Frames on a request's stream: a length as u32 LE, that many bytes, the end. One codec for control and blobs.

use crate::metrics::{Counters, add};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What was wrong with a request's frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadFrame(pub(crate) String);

/// Room for long frames, shared by every connection; a permit is a KiB.
pub(crate) type Budget = Arc<Semaphore>;

/// Frames up to this length need no room from the budget, so that nobody who fills it stops the short ones.
const SHORT_LEN: usize = 64 * 1024;

/// The budget for frames of `len_bytes` in all.
pub(crate) fn budget(len_bytes: usize) -> Budget {
    Arc::new(Semaphore::new((len_bytes / 1024).clamp(1, Semaphore::MAX_PERMITS)))
}

/// A request, as it goes out or came in.
#[derive(Debug)]
pub(crate) struct Request {
    /// A bad frame is a value and no error, because libp2p does not report errors that occur before a request is read: nobody
    /// would be counted for them.
    pub(crate) bytes: Result<Vec<u8>, BadFrame>,
    /// Outgoing: the longest response to it.
    pub(crate) response_len_max: usize,
    /// Incoming: its room, for as long as it is held.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Request {
    pub(crate) fn outgoing(bytes: Vec<u8>, response_len_max: usize) -> Request {
        Request { bytes: Ok(bytes), response_len_max, room: None }
    }
}

/// Reads and writes frames of bounded length.
#[derive(Debug, Clone)]
pub(crate) struct FrameCodec {
    pub(crate) request_len_max: usize,
    pub(crate) response_len_max: usize,
    pub(crate) budget: Budget,
    pub(crate) counters: Arc<Counters>,
}

/// A frame that is wrong by itself, unlike one that merely did not arrive.
fn malformed(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Whether an error is the sender's fault.
pub(crate) fn is_malformed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

impl FrameCodec {
    /// Reads one frame, once there is room for it.
    async fn read<T: AsyncRead + Unpin + Send>(
        &self,
        io: &mut T,
        len_max: usize,
    ) -> io::Result<(Vec<u8>, Option<OwnedSemaphorePermit>)> {
        let mut prefix = [0u8; 4];
        io.read_exact(&mut prefix).await?;
        let len = u32::from_le_bytes(prefix) as usize;
        if len > len_max {
            return Err(malformed(format!("a frame of {len} bytes, where {len_max} are allowed")));
        }
        let room = match len > SHORT_LEN {
            // All of it at once: frames that took it bit by bit could wait for one another.
            true => Some(
                self.budget.clone().acquire_many_owned(len.div_ceil(1024) as u32).await.map_err(io::Error::other)?,
            ),
            false => None,
        };
        let mut bytes = Vec::with_capacity(len.min(SHORT_LEN));
        io.take(len as u64).read_to_end(&mut bytes).await?;
        if bytes.len() != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if io.read(&mut [0u8; 1]).await? != 0 {
            return Err(malformed("bytes after the frame".to_owned()));
        }
        add(&self.counters.received_bytes, (4 + len) as u64);
        Ok((bytes, room))
    }

    async fn write<T: AsyncWrite + Unpin + Send>(&self, io: &mut T, bytes: &[u8], len_max: usize) -> io::Result<()> {
        if bytes.len() > len_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a frame of {} bytes, where {len_max} are allowed", bytes.len()),
            ));
        }
        io.write_all(&(bytes.len() as u32).to_le_bytes()).await?;
        io.write_all(bytes).await?;
        add(&self.counters.sent_bytes, (4 + bytes.len()) as u64);
        Ok(())
    }
}

impl Codec for FrameCodec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Request> {
        let incoming = |bytes, room| Request { bytes, response_len_max: 0, room };
        match self.read(io, self.request_len_max).await {
            Ok((bytes, room)) => Ok(incoming(Ok(bytes), room)),
            Err(error) if is_malformed(&error) => Ok(incoming(Err(BadFrame(error.to_string())), None)),
            // Whoever asks has sent all of it before it closes its side: a request that ends early is malformed, where a
            // response that does may be one that will not come.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(incoming(Err(BadFrame("a request that ends early".to_owned())), None))
            }
            Err(error) => Err(error),
        }
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        // The room is free again at once: what this node asks for is bounded by its asking.
        Ok(self.read(io, self.response_len_max).await?.0)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Request,
    ) -> io::Result<()> {
        let bytes = request.bytes.map_err(|BadFrame(what)| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        // libp2p reads the response with the codec that wrote the request.
        self.response_len_max = self.response_len_max.min(request.response_len_max);
        self.write(io, &bytes, self.request_len_max).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()> {
        self.write(io, &response, self.response_len_max).await
    }
}
