//! The record's Message-ID.
//!
//! It is derived, not drawn: every attempt and every node that holds the same record comes to the same one, so an archive
//! that drops what it has already got drops exactly the repeats. It differs where the recipients differ, so that a
//! supplementary record, which names recipients the first one didn't, is never taken for a repeat.

use super::fields::RecordFields;
use crate::mail::Sha256;
use uuid::Uuid;

/// Archives know a journal record by this domain in its Message-ID.
const DOMAIN: &str = "journal.report.generator";

/// Keeps these UUIDs apart from every other use of SHA-256; a new number means another way to compute them.
const UUID_DOMAIN: &[u8] = b"journal-relay record 1\0";

/// The UUID for a record's Message-ID (RFC 9562, section 5.8: version 8, from a SHA-256): from the organization, the
/// message's identity, the recipients whatever their order, and the Message-ID of the record it supplements.
///
/// An original without a Message-ID of its own is told apart by the record's id as well (a copy for another archive by that of
/// the first): two such messages of equal content
/// (a nightly report, say) are two messages, and nothing but the relay has seen that. They get no help against repeats by
/// another node.
pub fn message_uuid(fields: &RecordFields) -> Uuid {
    let mut recipients: Vec<&str> = fields.recipients.iter().map(|recipient| recipient.address.as_str()).collect();
    recipients.sort_unstable();
    recipients.dedup();
    let mut hashed = UUID_DOMAIN.to_vec();
    add(&mut hashed, fields.organization.as_bytes());
    add(&mut hashed, &fields.original.identity);
    hashed.extend_from_slice(&(recipients.len() as u64).to_be_bytes());
    recipients.iter().for_each(|recipient| add(&mut hashed, recipient.as_bytes()));
    add_option(&mut hashed, fields.supplements.as_deref());
    add_option(
        &mut hashed,
        fields.original.message_id.is_none().then(|| fields.copy_of.as_ref().unwrap_or(&fields.id).as_str()),
    );
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(Sha256::of(&hashed)).for_each(|(byte, digest)| *byte = digest);
    Uuid::new_v8(bytes)
}

/// The record's Message-ID, with its brackets.
pub fn message_id(uuid: Uuid) -> String {
    format!("<{}>", message_id_text(uuid))
}

/// The same without brackets.
pub(super) fn message_id_text(uuid: Uuid) -> String {
    format!("{uuid}@{DOMAIN}")
}

/// With its length before it, so that no two lists of values give the same octets.
fn add(hashed: &mut Vec<u8>, value: &[u8]) {
    hashed.extend_from_slice(&(value.len() as u64).to_be_bytes());
    hashed.extend_from_slice(value);
}

fn add_option(hashed: &mut Vec<u8>, value: Option<&str>) {
    hashed.push(u8::from(value.is_some()));
    add(hashed, value.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::samples_tests::{fields, recipient};
    use super::super::{Label, RecordFields};
    use super::*;
    use crate::mail::{OsEntropy, RecordId, Timestamp};

    fn changed(change: impl FnOnce(&mut RecordFields)) -> Uuid {
        let mut fields = fields();
        change(&mut fields);
        message_uuid(&fields)
    }

    fn another_id() -> RecordId {
        RecordId::new(Timestamp::from_millis(5), &OsEntropy)
    }

    #[test]
    fn the_same_record_has_the_same_uuid_on_every_node_and_attempt() {
        let uuid = message_uuid(&fields());
        assert_eq!(uuid.get_version_num(), 8);
        assert_eq!(changed(|fields| fields.id = another_id()), uuid);
        assert_eq!(changed(|fields| fields.boundary = Uuid::nil()), uuid);
        assert_eq!(changed(|fields| fields.date = Timestamp::from_millis(0)), uuid);
        assert_eq!(changed(|fields| fields.original.sha256 = [9; 32]), uuid, "another way here, another trace");
        assert_eq!(changed(|fields| fields.recipients.reverse()), uuid);
    }

    #[test]
    fn another_record_has_another_uuid() {
        let uuid = message_uuid(&fields());
        let others = [
            changed(|fields| fields.organization.push('x')),
            changed(|fields| fields.original.identity = [9; 32]),
            changed(|fields| drop(fields.recipients.pop())),
            changed(|fields| fields.recipients.push(recipient(Label::Bcc, "zoe@acme.example"))),
            changed(|fields| fields.supplements = Some("<first@journal.report.generator>".into())),
        ];
        for (number, other) in others.iter().enumerate() {
            assert_ne!(*other, uuid, "{number}");
        }
    }

    #[test]
    fn equal_messages_without_a_message_id_are_distinct_messages() {
        let uuid = changed(|fields| fields.original.message_id = None);
        assert_eq!(changed(|fields| fields.original.message_id = None), uuid);
        let other = changed(|fields| {
            fields.original.message_id = None;
            fields.id = another_id();
        });
        assert_ne!(other, uuid);
    }

    #[test]
    fn a_copy_for_another_archive_has_the_same_uuid() {
        for message_id in [None, Some("<m@acme.example>".to_owned())] {
            let first = changed(|fields| fields.original.message_id = message_id.clone());
            let copy = changed(|fields| {
                fields.original.message_id = message_id.clone();
                fields.copy_of = Some(std::mem::replace(&mut fields.id, another_id()));
            });
            assert_eq!(copy, first);
        }
    }

    #[test]
    fn the_message_id_has_the_domain_archives_look_for() {
        assert_eq!(message_id(Uuid::nil()), "<00000000-0000-0000-0000-000000000000@journal.report.generator>");
    }
}
