//! All that a record's rendering needs besides the original's octets. It is stored with the entry as JSON; every field
//! is fixed once the record is sealed, so that rendering is a pure function of the stored entry.

use crate::mail::{Address, QueueId, RecordId, ReversePath, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How the envelope part calls a recipient; the order here is the order there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Label {
    /// Listed in To or Resent-To.
    To,
    /// Listed in Cc or Resent-Cc.
    Cc,
    /// Not listed though there are lists.
    Bcc,
    /// Known from the envelope alone.
    Recipient,
}

/// A recipient that the next hop accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Its label.
    pub label: Label,
    /// The RCPT TO address.
    pub address: Address,
}

/// What the original's octets ask of a transport (RFC 2045, section 2.7 to 2.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OctetsKind {
    /// ASCII, lines of 998 octets at most.
    SevenBit,
    /// Octets above 127.
    EightBit,
    /// NUL, a bare CR or LF, or a line over 998 octets.
    Binary,
}

/// What is known of an original; the same for every organization's record of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// The relayed message.
    pub queue_id: QueueId,
    /// When its last octet had arrived.
    pub received: Timestamp,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// The login name, when the client authenticated.
    pub login: Option<String>,
    /// Octets.
    pub size: u64,
    /// SHA-256 of the octets as received.
    #[serde(with = "digest")]
    pub sha256: [u8; 32],
    /// The identity of the message: equal for all transactions of one message.
    #[serde(with = "digest")]
    pub identity: [u8; 32],
    /// What its octets ask of a transport.
    pub kind: OctetsKind,
    /// The decoded subject on one line; none without the header field.
    pub subject: Option<String>,
    /// The Message-ID on one line, with its brackets; none without the header field.
    pub message_id: Option<String>,
    /// The `Sender:` line's address.
    pub sender: String,
    /// The `On-Behalf-Of:` line's address.
    pub on_behalf_of: Option<String>,
}

/// One record: an original and an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordFields {
    /// The record.
    pub id: RecordId,
    /// The organization's name.
    pub organization: String,
    /// The original.
    pub original: Original,
    /// Who got it, in RCPT order (rendering sorts by label).
    pub recipients: Vec<Recipient>,
    /// The organization's first record of the same transaction, of which this is the copy for another archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<RecordId>,
    /// That it has been delivered before, and is sent once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// The UUID in the record's Message-ID; fixed at sealing.
    pub message_uuid: Uuid,
    /// The UUID in the boundary.
    pub boundary: Uuid,
    /// The record's Date; fixed at sealing.
    pub date: Timestamp,
    /// The next hop's verdict was lost.
    pub outcome_unknown: bool,
    /// The Message-ID of the first record, on a supplementary one.
    pub supplements: Option<String>,
    /// The client's retry after a lost verdict has come; not rendered.
    #[serde(default)]
    pub retry_came: bool,
    /// The retries that are to come, for messages without a Message-ID; not rendered.
    #[serde(default)]
    pub owed: Vec<OwedRetry>,
}

impl RecordFields {
    /// Since when the record is to be delivered: the arrival of its original, or an operator's wish for it to be sent again.
    pub fn since(&self) -> Timestamp {
        self.replay.as_ref().map_or(self.original.received, |replay| replay.at)
    }
}

/// Of a record that is sent again, though an archive has taken it: which one it was, and when that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The record that was delivered.
    pub of: RecordId,
    /// When an operator asked for it.
    pub at: Timestamp,
}

/// A transaction whose verdict was lost: its client was told to come again with the same octets, sender and recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedRetry {
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// RCPT TO, those that concern the record's organization.
    pub recipients: Vec<Address>,
    /// When its octets had come.
    pub received: Timestamp,
}

/// A digest as it is stored: hexadecimal digits. Earlier versions stored a list of numbers, which took four times the room.
mod digest {
    use crate::mail::{read_hex, write_hex};
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;

    pub(super) fn serialize<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = [0; 64];
        write_hex(digest, &mut digits);
        serializer.serialize_str(std::str::from_utf8(&digits).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        deserializer.deserialize_any(Digest)
    }

    struct Digest;

    impl<'de> Visitor<'de> for Digest {
        type Value = [u8; 32];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("64 hexadecimal digits, or 32 numbers")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<[u8; 32], E> {
            read_hex(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<[u8; 32], A::Error> {
            let mut digest = [0; 32];
            for (place, octet) in digest.iter_mut().enumerate() {
                *octet = numbers.next_element()?.ok_or_else(|| A::Error::invalid_length(place, &self))?;
            }
            match numbers.next_element::<u8>()? {
                Some(_) => Err(A::Error::invalid_length(33, &self)),
                None => Ok(digest),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use serde::{Deserialize, Serialize};

        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Holder(#[serde(with = "super")] [u8; 32]);

        #[test]
        fn a_digest_is_written_in_digits_and_read_in_either_form() {
            let holder = Holder(std::array::from_fn(|place| u8::try_from(place * 8 + 3).unwrap()));
            let text = serde_json::to_string(&holder).unwrap();
            assert!(text.starts_with("\"030b131b") && text.len() == 66, "{text}");
            assert_eq!(serde_json::from_str::<Holder>(&text).unwrap(), holder);
            let numbers = serde_json::to_string(&holder.0).unwrap();
            assert_eq!(serde_json::from_str::<Holder>(&numbers).unwrap(), holder);
        }

        #[test]
        fn what_is_too_short_or_too_long_or_has_other_letters_is_no_digest() {
            let numbers = |count: usize| serde_json::to_string(&vec![1; count]).unwrap();
            let digits = |text: &str| format!("\"{text}\"");
            let wrong = [
                numbers(31),
                numbers(33),
                digits(&"ab".repeat(31)),
                digits(&"ab".repeat(33)),
                digits(&"x".repeat(64)),
                digits(&"a".repeat(63)),
            ];
            for text in wrong {
                assert!(serde_json::from_str::<Holder>(&text).is_err(), "{text}");
            }
        }
    }
}
