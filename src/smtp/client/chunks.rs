//! A message in chunks (RFC 3030, section 2): its octets as they are, their number said before them.
//!
//! Octets gather to chunks of [`CHUNK`] octets; what is left at the end is the last chunk, so that a smaller message is one
//! chunk. Each other chunk has a reply of its own, which nobody needs to wait for before the next one (section 4.2); how
//! many may be without one is for the caller to say.

use super::{Client, Encoder, Verb};

/// Octets from which on a chunk is made of what has gathered.
pub const CHUNK: usize = 64 * 1024;

/// How the message under way is said.
#[derive(Debug)]
pub(super) enum Content {
    /// Behind a 354.
    Data(Encoder),
    /// In chunks; what is to be the next one.
    Chunks(Vec<u8>),
}

impl Client {
    /// Begins a message in chunks. Tells whether its time had come: the server offers CHUNKING and took MAIL, and nothing is
    /// unanswered.
    #[must_use]
    pub fn begin_chunks(&mut self) -> bool {
        let may = self.offer.extensions().chunking && self.transaction_open && self.is_settled();
        if may {
            self.content = Some(Content::Chunks(Vec::new()));
            self.chunked = true;
        }
        may
    }

    /// Chunks that have no reply yet, the last one left aside.
    pub fn unanswered_chunks(&self) -> usize {
        self.unanswered.iter().filter(|one| one.verb == Verb::Chunk).count()
    }
}

/// Appends a chunk.
pub(super) fn write(octets: &[u8], last: bool, output: &mut Vec<u8>) {
    let last = if last { " LAST" } else { "" };
    output.extend_from_slice(format!("BDAT {}{last}\r\n", octets.len()).as_bytes());
    output.extend_from_slice(octets);
}
