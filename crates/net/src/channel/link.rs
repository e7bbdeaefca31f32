//! A channel's connection: whole frames out, frames in piece by piece, and the state machine asked
//! before either.
//!
//! Must never: write a frame in parts with something in between (one that is spliced is written in parts, and
//! nothing else may be put until it is whole), or deliver a payload that the state
//! machine calls waste.

use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use portcullis_model::Error;
use portcullis_proto::defaults::{FRAME_HEADER_BYTES, REASON_BYTES_MAX};
use portcullis_proto::frame::{decode_reason, encode_reason};
use portcullis_proto::{ChannelState, EdgeMessage, FrameType, Header, Incoming, Leg, Role, codec};
use tokio::io::ReadBuf;

use super::abort::Door;
use super::io::LinkIo;

/// A frame that arrived, with its payload unless that is data.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Open(Vec<u8>),
    Opened,
    Refused(Vec<u8>),
    /// Its payload is read with [`Link::poll_payload`].
    Data,
    End,
    Reset,
    Released,
    /// The peer goes on at another leg.
    Switch(Leg),
    /// Agent: an open begins that continues another leg.
    Resume(Leg),
}

/// What is being read.
pub(super) enum Reading {
    /// A header; so many bytes of it are there.
    Header([u8; FRAME_HEADER_BYTES], usize),
    /// Data; so many bytes of it are still to come.
    Data(usize),
    /// The payload of another frame, collected up to its length.
    Payload(Incoming, Vec<u8>, usize),
    /// A control message in place of the first frame: the edge refuses the channel.
    Refusal(Vec<u8>, usize),
}

/// One end of a channel.
pub(super) struct Link {
    pub(super) io: LinkIo,
    id: u64,
    pub(super) state: ChannelState,
    pub(super) reading: Reading,
    /// Bytes that a data frame still lacks whose header was written.
    pub(super) owed: usize,
    /// What reaches the current open from elsewhere.
    pub(super) door: Arc<Door>,
    /// Why the peer reset the current open, if it said so.
    pub(super) reason: Option<Error>,
    /// What is given back when the channel is gone.
    pub(super) place: Option<Box<dyn Any + Send + Sync>>,
    /// How the channel itself failed, once it did.
    failure: Option<io::ErrorKind>,
}

impl Link {
    pub(super) fn new(id: u64, io: LinkIo, role: Role) -> Box<Self> {
        Box::new(Self {
            io,
            id,
            state: ChannelState::new(role),
            reading: Reading::Header([0; FRAME_HEADER_BYTES], 0),
            owed: 0,
            door: Arc::default(),
            reason: None,
            place: None,
            failure: None,
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The number of the current open; 0 when there is none.
    pub(super) fn open(&self) -> u32 {
        self.state.current().unwrap_or(0)
    }

    pub(super) fn peer_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.io.peer_addr()
    }

    /// Begins an open's own state: a late abort of the last one must not hit it.
    pub(super) fn renew(&mut self) {
        self.door = Arc::default();
        self.reason = None;
    }

    /// Writes a frame, whole, behind what TLS has buffered.
    pub(super) fn put(
        &mut self,
        cx: &mut Context<'_>,
        kind: FrameType,
        payload: &[u8],
    ) -> io::Result<()> {
        let open = self.state.current().unwrap_or(0);
        let header = Header::new(kind, open, payload.len()).map_err(violation)?;
        self.state.on_send(&header).map_err(violation)?;
        self.put_raw(cx, header, payload)
    }

    /// Writes the OPEN frame of the next open.
    pub(super) fn put_open(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
        first_bytes: usize,
    ) -> io::Result<()> {
        let open = self.state.open_next().map_err(violation)?;
        self.state.note_first_bytes(first_bytes);
        self.renew();
        let header = Header::new(FrameType::Open, open, payload.len()).map_err(violation)?;
        self.put_raw(cx, header, payload)
    }

    /// Writes the RESUME frame of the next open, which continues another leg.
    pub(super) fn put_resume(&mut self, cx: &mut Context<'_>, from: Leg) -> io::Result<()> {
        let open = self.state.resume_next().map_err(violation)?;
        self.renew();
        let payload = from.encode();
        let header = Header::new(FrameType::Resume, open, payload.len()).map_err(violation)?;
        self.put_raw(cx, header, &payload)
    }

    /// Writes SWITCH: this side's direction goes on at another leg.
    pub(super) fn put_switch(&mut self, cx: &mut Context<'_>, to: Leg) -> io::Result<()> {
        let payload = self.state.switch(to).map_err(violation)?.encode();
        let open = self.open();
        let header = Header::new(FrameType::Switch, open, payload.len()).map_err(violation)?;
        self.put_raw(cx, header, &payload)
    }

    /// Writes a RESET or REFUSED frame with its reason.
    pub(super) fn put_reason(
        &mut self,
        cx: &mut Context<'_>,
        kind: FrameType,
        why: Option<&Error>,
    ) -> io::Result<()> {
        let payload = why
            .map(encode_reason)
            .transpose()
            .map_err(violation)?
            .unwrap_or_default();
        self.put(cx, kind, &payload)
    }

    fn put_raw(&mut self, cx: &mut Context<'_>, header: Header, payload: &[u8]) -> io::Result<()> {
        if self.is_mid_frame() {
            return Err(self.fail(io::ErrorKind::InvalidInput.into()));
        }
        let header = header.encode();
        let parts = [IoSlice::new(&header), IoSlice::new(payload)];
        match self.io.put(cx, &parts) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Waits until everything that was written has gone to the socket.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.io.poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    /// The next frame. Data that nobody took is thrown away.
    ///
    /// An error closes the channel; its end is `UnexpectedEof`.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        if self.state.is_closed() {
            return Poll::Ready(Err(self.failure.unwrap_or(io::ErrorKind::Other).into()));
        }
        match ready!(self.poll_next(cx)) {
            Ok(event) => Poll::Ready(Ok(event)),
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        loop {
            match &mut self.reading {
                Reading::Header(bytes, have) => {
                    *have += ready!(self.io.poll_read(cx, &mut bytes[*have..]))?;
                    if *have == FRAME_HEADER_BYTES {
                        let bytes = *bytes;
                        if let Some(event) = self.on_header(bytes)? {
                            return Poll::Ready(Ok(event));
                        }
                    }
                }
                Reading::Data(left) => {
                    *left -= ready!(poll_skip(&mut self.io, cx, *left))?;
                    if *left == 0 {
                        self.reading = Reading::Header([0; FRAME_HEADER_BYTES], 0);
                    }
                }
                Reading::Payload(_, payload, length) | Reading::Refusal(payload, length) => {
                    ready!(poll_collect(&mut self.io, cx, payload, *length))?;
                    return Poll::Ready(self.on_payload());
                }
            }
        }
    }

    fn on_header(&mut self, bytes: [u8; FRAME_HEADER_BYTES]) -> io::Result<Option<Event>> {
        // No frame has type 0, but the length of a control message begins with one.
        if bytes[0] == 0 && self.state.role() == Role::Agent && self.state.is_free() {
            return self.on_refusal(bytes).map(|()| None);
        }
        let header = Header::decode(bytes).map_err(violation)?;
        let incoming = self.state.on_recv(&header).map_err(violation)?;
        let length = usize::from(header.length);
        self.reading = match incoming {
            Incoming::Deliver | Incoming::Discard => Reading::Data(length),
            incoming if length > 0 => Reading::Payload(incoming, Vec::new(), length),
            _ => Reading::Header([0; FRAME_HEADER_BYTES], 0),
        };
        Ok(match incoming {
            Incoming::Deliver => Some(Event::Data),
            Incoming::Discard => None,
            _ if length > 0 => None,
            incoming => Some(event(incoming, Vec::new())?),
        })
    }

    fn on_refusal(&mut self, bytes: [u8; FRAME_HEADER_BYTES]) -> io::Result<()> {
        let [l0, l1, l2, l3, rest @ ..] = bytes;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length < rest.len() || length > REASON_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.reading = Reading::Refusal(rest.to_vec(), length);
        Ok(())
    }

    fn on_payload(&mut self) -> io::Result<Event> {
        match std::mem::replace(
            &mut self.reading,
            Reading::Header([0; FRAME_HEADER_BYTES], 0),
        ) {
            Reading::Payload(Incoming::Reset, payload, _) => {
                self.reason = decode_reason(FrameType::Reset, &payload).map_err(violation)?;
                Ok(Event::Reset)
            }
            Reading::Payload(Incoming::Switch, payload, _) => {
                let leg = self.state.on_switch(&payload).map_err(violation)?;
                Ok(Event::Switch(leg))
            }
            Reading::Payload(incoming, payload, _) => event(incoming, payload),
            Reading::Refusal(body, _) => match codec::decode(&body) {
                Ok(EdgeMessage::Error(fatal)) => {
                    self.reason = Some(Error::new(fatal.code, fatal.message));
                    Err(io::ErrorKind::ConnectionRefused.into())
                }
                _ => Err(io::ErrorKind::InvalidData.into()),
            },
            Reading::Header(..) | Reading::Data(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Bytes of the data frame that is being read; `None` when it has no more.
    pub(super) fn poll_payload(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Option<()>>> {
        let Reading::Data(left) = &mut self.reading else {
            return Poll::Ready(Ok(None));
        };
        if self.state.is_discarding() {
            return Poll::Ready(Ok(None));
        }
        let room = buf.remaining().min(*left);
        let space = &mut buf.initialize_unfilled()[..room];
        match ready!(self.io.poll_read(cx, space)) {
            Ok(read) => {
                buf.advance(read);
                self.took_data(read);
                Poll::Ready(Ok(Some(())))
            }
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    /// So many bytes of the data frame that is being read were taken.
    pub(super) fn took_data(&mut self, bytes: usize) {
        if let Reading::Data(left) = &mut self.reading {
            *left -= bytes;
            if *left == 0 {
                self.reading = Reading::Header([0; FRAME_HEADER_BYTES], 0);
            }
        }
    }

    /// Bytes of the data frame that is being read, into a buffer that grows; `false` when it has no more.
    pub(super) fn poll_collect(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
    ) -> Poll<io::Result<bool>> {
        let Reading::Data(left) = &mut self.reading else {
            return Poll::Ready(Ok(false));
        };
        let whole = into.len() + *left;
        let collected = poll_collect(&mut self.io, cx, into, whole);
        *left = whole - into.len();
        match ready!(collected) {
            Ok(()) => {
                self.reading = Reading::Header([0; FRAME_HEADER_BYTES], 0);
                Poll::Ready(Ok(true))
            }
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    /// Ready when the connection below died, whether or not anyone reads.
    pub(super) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let error = ready!(self.io.poll_broken(cx));
        Poll::Ready(self.fail(error))
    }

    /// The channel is of no more use: its drop is a reset. A reset of the channel's own connection is
    /// not one of the client connection that it carries, and gets another kind.
    pub(super) fn fail(&mut self, error: io::Error) -> io::Error {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        self.state.close();
        self.io.reset();
        let error = match error.kind() {
            ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected => {
                io::Error::other(Lost(error))
            }
            _ => error,
        };
        self.failure.get_or_insert(error.kind());
        error
    }
}

/// The channel's connection broke.
#[derive(Debug, thiserror::Error)]
#[error("the channel was lost")]
struct Lost(#[source] io::Error);

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("channel", &self.id)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Drop for Link {
    /// Dropped in the middle of an open, the channel must not look cleanly ended.
    fn drop(&mut self) {
        if self.state.current().is_some() {
            self.io.reset();
        }
    }
}

fn event(incoming: Incoming, payload: Vec<u8>) -> io::Result<Event> {
    Ok(match incoming {
        Incoming::Open => Event::Open(payload),
        Incoming::Opened => Event::Opened,
        Incoming::Refused => Event::Refused(payload),
        Incoming::Deliver | Incoming::Discard => Event::Data,
        Incoming::End => Event::End,
        Incoming::Reset => Event::Reset,
        Incoming::Released => Event::Released,
        Incoming::Resume => Event::Resume(Leg::decode(&payload).map_err(violation)?),
        Incoming::Credit | Incoming::Switch | Incoming::Move => {
            return Err(io::ErrorKind::InvalidData.into());
        }
    })
}

pub(super) fn violation(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn poll_skip(io: &mut LinkIo, cx: &mut Context<'_>, left: usize) -> Poll<io::Result<usize>> {
    let skipped = ready!(io.poll_fill(cx))?.len().min(left);
    io.consume(skipped);
    Poll::Ready(Ok(skipped))
}

fn poll_collect(
    io: &mut LinkIo,
    cx: &mut Context<'_>,
    payload: &mut Vec<u8>,
    length: usize,
) -> Poll<io::Result<()>> {
    while payload.len() < length {
        let there = ready!(io.poll_fill(cx))?;
        let taken = there.len().min(length - payload.len());
        payload.extend_from_slice(&there[..taken]);
        io.consume(taken);
    }
    Poll::Ready(Ok(()))
}
