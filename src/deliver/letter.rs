//! What is sent: an envelope, what stands before and behind the original, and the original's octets.
//!
//! The rendering depends on what the server offers and is made behind its EHLO; the octets are read from the spool while
//! they are sent. [`Slices`] gives them out, and says where they are not whole.

use crate::journal::{ArchiveOffers, BodyKind, Rendering, ReportRendering};
use crate::mail::{Address, RecordId, ReversePath};
use crate::spool::{Chunks, Octets};
use bytes::Bytes;
use std::io;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Octets given out at a time; each slice is copied to where it gathers with others.
const SLICE: usize = 64 * 1_024;

/// What stands around the original, and what MAIL must say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    /// Before it.
    pub(super) prefix: Vec<u8>,
    /// Behind it.
    pub(super) suffix: Vec<u8>,
    /// `BODY=8BITMIME`
    pub(super) eight_bit_mime: bool,
    /// `SMTPUTF8`
    pub(super) needs_smtp_utf8: bool,
    /// The octets ask for more than the server offers.
    pub(super) exceeds_offers: bool,
}

impl From<Rendering> for Rendered {
    fn from(record: Rendering) -> Self {
        Self {
            prefix: record.prefix,
            suffix: record.suffix,
            eight_bit_mime: record.body > BodyKind::SevenBit,
            needs_smtp_utf8: record.needs_smtp_utf8,
            exceeds_offers: record.exceeds_offers,
        }
    }
}

impl From<ReportRendering> for Rendered {
    fn from(report: ReportRendering) -> Self {
        Self {
            prefix: report.prefix,
            suffix: report.suffix,
            eight_bit_mime: report.body > BodyKind::SevenBit,
            needs_smtp_utf8: report.needs_smtp_utf8,
            // That was said when its record was sent.
            exceeds_offers: false,
        }
    }
}

/// Renders a letter for a server.
pub(super) type Render = Box<dyn Fn(ArchiveOffers) -> Rendered + Send + Sync>;

/// A record or a report, ready to be sent.
pub(super) struct Letter {
    /// The record, or the report.
    pub(super) id: RecordId,
    /// MAIL FROM.
    pub(super) reverse_path: ReversePath,
    /// RCPT TO.
    pub(super) forward_path: Address,
    /// What stands around the original.
    pub(super) render: Render,
    /// The original; empty in a report without a record.
    pub(super) original: Original,
    /// Whether the way is only tried out: the envelope is said, and no mail is sent.
    pub(super) is_trial: bool,
}

/// The octets between prefix and suffix.
pub(super) struct Original {
    /// How many there are.
    pub(super) length: u64,
    /// Begins to read them.
    pub(super) open: Box<dyn Fn() -> io::Result<Pieces> + Send + Sync>,
}

/// The pieces of an original, as they are read.
pub(super) type Pieces = Box<dyn Iterator<Item = io::Result<Bytes>> + Send>;

impl From<Option<Octets>> for Original {
    fn from(octets: Option<Octets>) -> Self {
        let length = octets.as_ref().map_or(0, Octets::len);
        let open = move || match &octets {
            Some(Octets::Inline(octets)) => Ok(Box::new(std::iter::once(Ok(octets.clone()))) as Pieces),
            Some(octets) => off_the_runtime(|| octets.chunks()).map(|chunks| Box::new(OffTheRuntime(chunks)) as Pieces),
            None => Ok(Box::new(std::iter::empty()) as Pieces),
        };
        Self { length, open: Box::new(open) }
    }
}

impl Letter {
    /// Whether an address of the envelope needs SMTPUTF8.
    pub(super) fn has_utf8_path(&self) -> bool {
        !self.forward_path.is_ascii() || !self.reverse_path.as_str().is_ascii()
    }
}

/// Pieces that are read where blocking is allowed.
struct OffTheRuntime(Chunks);

impl Iterator for OffTheRuntime {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        off_the_runtime(|| self.0.next())
    }
}

/// Reads from a file without holding up the other tasks of this thread, where the runtime has others to move them to. That
/// costs another thread its sleep: octets in memory are not worth it.
fn off_the_runtime<T>(read: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(read),
        _ => read(),
    }
}

/// The original's octets as they are sent: all of them, or it is said why not.
///
/// Only behind the last octet may the letter be ended: who sends it asks for the next piece until there is none.
pub(super) struct Slices {
    pieces: Pieces,
    piece: Bytes,
    /// Octets still to come.
    left: u64,
}

impl Slices {
    pub(super) fn new(pieces: Pieces, length: u64) -> Self {
        Self { pieces, piece: Bytes::new(), left: length }
    }

    /// The next octets of the original, at most [`SLICE`] of them; none when it is over.
    ///
    /// # Errors
    /// Why it is not whole: it can't be read, or its length is another.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, String> {
        while self.piece.is_empty() {
            match self.pieces.next() {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Err(format!("the original can't be read: {error}")),
                None if self.left > 0 => return Err(format!("the original lacks its last {} octets", self.left)),
                None => return Ok(None),
            }
        }
        let slice = self.piece.split_to(self.piece.len().min(SLICE));
        let left = self.left.checked_sub(slice.len() as u64);
        self.left = left.ok_or("the original has more octets than it should")?;
        Ok(Some(slice))
    }
}
