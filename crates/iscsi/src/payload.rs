//! Memory for payloads, given from outside so that data lands once in aligned buffers.

/// Where payload buffers come from.
///
/// A buffer is filled from the socket and then handed out as [`bytes::Bytes`] owning it.
pub trait PayloadPool {
    /// A buffer; its slice must keep its length and place for its whole life.
    type Buf: AsRef<[u8]> + AsMut<[u8]> + Send + 'static;

    /// A buffer of exactly `len` bytes of any content.
    fn take(&self, len: usize) -> Self::Buf;
}

/// Buffers from the ordinary heap, zeroed, of ordinary alignment: for tests and tools.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapPool;

impl PayloadPool for HeapPool {
    type Buf = Vec<u8>;

    fn take(&self, len: usize) -> Vec<u8> {
        vec![0; len]
    }
}
