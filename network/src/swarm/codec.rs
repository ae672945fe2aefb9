//! Frames on a request's stream: a length as u32 LE, that many bytes, the end. One codec for control and blobs.

use crate::metrics::{Counters, add};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use std::io;
use std::sync::Arc;

/// What a frame can hold before its sender has sent as much: a claimed length alone reserves no more than this.
const RESERVE_MAX: usize = 64 * 1024;

/// Reads and writes frames of bounded length.
#[derive(Debug, Clone)]
pub(crate) struct FrameCodec {
    pub(crate) request_len_max: usize,
    pub(crate) response_len_max: usize,
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
    async fn read<T: AsyncRead + Unpin + Send>(&self, io: &mut T, len_max: usize) -> io::Result<Vec<u8>> {
        let mut prefix = [0u8; 4];
        io.read_exact(&mut prefix).await?;
        let len = u32::from_le_bytes(prefix) as usize;
        if len > len_max {
            return Err(malformed(format!("a frame of {len} bytes, where {len_max} are allowed")));
        }
        let mut bytes = Vec::with_capacity(len.min(RESERVE_MAX));
        io.take(len as u64).read_to_end(&mut bytes).await?;
        if bytes.len() != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if io.read(&mut [0u8; 1]).await? != 0 {
            return Err(malformed("bytes after the frame".to_owned()));
        }
        add(&self.counters.received_bytes, (4 + len) as u64);
        Ok(bytes)
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
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        self.read(io, self.request_len_max).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        self.read(io, self.response_len_max).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        self.write(io, &request, self.request_len_max).await
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
