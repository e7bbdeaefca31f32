//! Control messages over a byte stream: length-prefixed JSON, its size checked before it is read.
//! Both ends are cancel safe, so that a session can `select!` over them.
//!
//! Must never: hold more than one incoming message, or an unbounded queue of outgoing ones.

use std::io;

use bytes::{Buf as _, BytesMut};
use portcullis_model::{Code, Error};
use portcullis_proto::codec::{self, CodecError};
use portcullis_proto::{Decoder, Message};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::defaults::{CONTROL_QUEUE_BYTES_MAX, CONTROL_READ_BYTES};

/// Why a control connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The connection broke.
    #[error("the control connection failed")]
    Io(#[from] io::Error),
    /// The peer sent what is no message.
    #[error("the peer sent a message that cannot be read")]
    Codec(#[from] CodecError),
    /// The connection ended within a message.
    #[error("the control connection ended within a message")]
    Cut,
    /// The peer reads too slowly.
    #[error("the peer does not read its control connection")]
    Clogged,
}

impl From<ControlError> for Error {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Codec(codec) => codec.into(),
            ControlError::Io(source) => {
                Self::new(Code::ServerUnreachable, "the control connection failed")
                    .with_internal(source)
            }
            other @ (ControlError::Cut | ControlError::Clogged) => {
                Self::new(Code::ServerUnreachable, other.to_string())
            }
        }
    }
}

/// The incoming half.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    decoder: Decoder,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads messages from `io`.
    pub fn new(io: R) -> Self {
        Self {
            io,
            decoder: Decoder::new(),
            buffer: BytesMut::new(),
        }
    }

    /// The next message; `None` at a clean end.
    ///
    /// # Errors
    /// The connection's, or a message that cannot be read: the connection is of no more use then.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next<M: Message>(&mut self) -> Result<Option<M>, ControlError> {
        loop {
            if !self.buffer.is_empty() {
                let mut input: &[u8] = &self.buffer;
                let message = self.decoder.next(&mut input)?;
                let taken = self.buffer.len() - input.len();
                self.buffer.advance(taken);
                if let Some(message) = message {
                    return Ok(Some(message));
                }
            }
            // What is buffered is used up here, so an idle session keeps no more than the decoder does.
            self.buffer = BytesMut::new();
            if self.fill().await? == 0 {
                return if self.decoder.is_partial() {
                    Err(ControlError::Cut)
                } else {
                    Ok(None)
                };
            }
        }
    }

    /// One read, through the future's own small buffer: an idle session holds no other.
    async fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0_u8; CONTROL_READ_BYTES];
        let read = self.io.read(&mut chunk).await?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read)
    }

    /// The stream, when nothing was read beyond the last message.
    ///
    /// # Errors
    /// `PTC_PROTOCOL_VIOLATION` when the peer sent more than the message.
    pub fn into_inner(self) -> Result<R, Error> {
        if self.buffer.is_empty() && !self.decoder.is_partial() {
            Ok(self.io)
        } else {
            Err(Error::new(
                Code::ProtocolViolation,
                "the peer sent bytes behind its first message",
            ))
        }
    }
}

/// The outgoing half.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
    queue: BytesMut,
    /// What `io` took may still be in its own buffer: TLS has one.
    unflushed: bool,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes messages to `io`.
    pub fn new(io: W) -> Self {
        Self {
            io,
            queue: BytesMut::new(),
            unflushed: false,
        }
    }

    /// Puts a message behind those that wait; [`Self::flush`] sends them.
    ///
    /// # Errors
    /// A message that is too large, which is not queued, or a peer that reads too slowly.
    pub fn queue<M: Message>(&mut self, message: &M) -> Result<(), ControlError> {
        let bytes = codec::encode(message)?;
        if self.queue.len() + bytes.len() > CONTROL_QUEUE_BYTES_MAX {
            return Err(ControlError::Clogged);
        }
        self.queue.extend_from_slice(&bytes);
        Ok(())
    }

    /// Whether messages wait, here or in a buffer below.
    pub fn is_pending(&self) -> bool {
        !self.queue.is_empty() || self.unflushed
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// The connection's.
    ///
    /// # Cancel safety
    /// What was not sent stays queued when the future is dropped.
    pub async fn flush(&mut self) -> Result<(), ControlError> {
        while !self.queue.is_empty() {
            self.unflushed = true;
            if self.io.write_buf(&mut self.queue).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
        }
        self.queue = BytesMut::new();
        self.io.flush().await?;
        self.unflushed = false;
        Ok(())
    }

    /// Queues a message and sends everything that waits.
    ///
    /// # Errors
    /// See [`Self::queue`] and [`Self::flush`].
    ///
    /// # Cancel safety
    /// The message stays queued, whole, when the future is dropped.
    pub async fn send<M: Message>(&mut self, message: &M) -> Result<(), ControlError> {
        self.queue(message)?;
        self.flush().await
    }

    /// Sends what waits, then says that no more comes.
    ///
    /// # Errors
    /// The connection's.
    pub async fn close(&mut self) -> Result<(), ControlError> {
        self.flush().await?;
        Ok(self.io.shutdown().await?)
    }

    /// The stream.
    pub fn into_inner(self) -> W {
        self.io
    }
}

#[cfg(test)]
mod tests;
