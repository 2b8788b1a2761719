//! Bytes on their way to a socket: gathered, and written with as few system calls as possible.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Most chunks of one system call.
const SLICES_MAX: usize = 256;

/// Most bytes gathered ahead of the socket. Large answers stay with their makers until there is room here.
const BYTES_MAX: usize = 512 << 10;

/// Chunks in order, not yet in the kernel.
#[derive(Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// Lets `source` append chunks, up to about as many bytes as it is told. Returns the bytes it appended.
    pub(crate) fn fill(&mut self, source: impl FnOnce(&mut VecDeque<Bytes>, usize) -> usize) -> usize {
        if self.bytes >= BYTES_MAX / 2 {
            return 0;
        }
        let added = source(&mut self.chunks, BYTES_MAX - self.bytes);
        self.bytes += added;
        added
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// One system call. Ready with the bytes written, or an error: the connection is over.
    pub(crate) fn poll_write(
        &mut self,
        socket: Pin<&mut impl AsyncWrite>,
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, Error>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.chunks.len().min(SLICES_MAX);
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
        }
        let written = ready!(socket.poll_write_vectored(context, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(Error::from(ErrorKind::WriteZero)));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.chunks.front_mut() {
            if first.len() > written {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Takes at most `room` bytes a call.
    struct Narrow {
        room: usize,
        got: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<Result<usize, Error>> {
            let count = data.len().min(self.room);
            self.got.extend_from_slice(&data[..count]);
            Poll::Ready(Ok(count))
        }
        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<Result<usize, Error>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(context, &all)
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn partial_writes_lose_and_repeat_nothing() {
        let parts: Vec<Bytes> = (0..20u8).map(|n| Bytes::from(vec![n; usize::from(n) * 3 + 1])).collect();
        let whole = parts.concat();
        for room in [1, 2, 7, 50, 10_000] {
            let mut outbox = Outbox::default();
            let added = outbox.fill(|chunks, _| {
                chunks.extend(parts.iter().cloned());
                whole.len()
            });
            assert_eq!(added, whole.len());
            let mut socket = Narrow { room, got: Vec::new() };
            let mut context = Context::from_waker(Waker::noop());
            while !outbox.is_empty() {
                assert!(outbox.poll_write(Pin::new(&mut socket), &mut context).is_ready());
            }
            assert_eq!((socket.got.as_slice(), outbox.bytes), (whole.as_slice(), 0));
        }
    }

    #[test]
    fn a_socket_that_takes_nothing_stops_the_filling() {
        let mut outbox = Outbox::default();
        let chunk = |chunks: &mut VecDeque<Bytes>, room: usize| {
            chunks.push_back(Bytes::from(vec![0; room]));
            room
        };
        assert_eq!(outbox.fill(chunk), BYTES_MAX);
        assert_eq!(outbox.fill(chunk), 0, "memory does not grow while the peer does not read");
    }
}
