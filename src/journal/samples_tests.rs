//! The sample records, octet for octet: from fields made by hand, and all the way from the attached original.

use super::record::{ArchiveOffers, BodyKind, render_record};
use super::*;
use crate::config::UnlistedRecipients;
use crate::mail::{Address, QueueId, RecordId, ReversePath, Timestamp};
use uuid::Uuid;

/// Tue, 10 Nov 2026 10:00:00 +0000
pub(super) const DATE: Timestamp = Timestamp::from_millis(1_794_304_800_000);
pub(super) const TO_ARCHIVE: &str = "archive@vault.example";

pub(super) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(super) fn recipient(label: Label, text: &str) -> Recipient {
    Recipient { label, address: address(text) }
}

pub(super) fn journaling_sender() -> Address {
    address("amazonjournaling@acme.awsapps.com")
}

/// The record of sample 20, of an original with these octets.
pub(super) fn fields() -> RecordFields {
    RecordFields {
        id: "01jcb4x5w0abcdef".parse::<RecordId>().unwrap(),
        organization: "acme".into(),
        original: Original {
            queue_id: "01jcb4x5w0qqqqqq".parse::<QueueId>().unwrap(),
            received: DATE,
            reverse_path: ReversePath::Address(address("alice@acme.example")),
            login: None,
            size: 612,
            sha256: [1; 32],
            identity: [2; 32],
            kind: OctetsKind::SevenBit,
            subject: Some("Quarterly numbers".into()),
            message_id: Some("<orig-1@acme.example>".into()),
            sender: "alice@acme.example".into(),
            on_behalf_of: None,
        },
        copy_of: None,
        replay: None,
        recipients: vec![
            recipient(Label::To, "bob@partner.example"),
            recipient(Label::Bcc, "eve.hidden@acme.example"),
            recipient(Label::Cc, "dave@acme.example"),
            recipient(Label::To, "carol@acme.example"),
        ],
        message_uuid: "020b9deb-2c5c-4011-bf92-a37cf3b38e95".parse().unwrap(),
        boundary: "956064a5-98a1-4040-8a5b-6f823d1e460b".parse().unwrap(),
        date: DATE,
        outcome_unknown: false,
        supplements: None,
        retry_came: false,
        owed: Vec::new(),
    }
}

struct Sample {
    octets: Vec<u8>,
    message_uuid: Uuid,
    boundary: Uuid,
}

impl Sample {
    fn read(name: &str) -> Self {
        let path = format!("{}/tests/journal-samples/{name}", env!("CARGO_MANIFEST_DIR"));
        let octets = std::fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&octets).into_owned();
        let between =
            |before: &str, after: &str| text.split_once(before).unwrap().1.split_once(after).unwrap().0.to_owned();
        Self {
            message_uuid: between("Message-ID: <", "@journal.").parse().unwrap(),
            boundary: between("boundary=\"_", "_\"").parse().unwrap(),
            octets,
        }
    }

    fn original(&self) -> &[u8] {
        const MARK: &[u8] = b"Content-Type: message/rfc822\r\n\r\n";
        let start = memchr::memmem::find(&self.octets, MARK).unwrap() + MARK.len();
        let end = self.octets.len() - format!("\r\n--_{}_--\r\n", self.boundary).len();
        &self.octets[start..end]
    }

    #[track_caller]
    fn is_reproduced_by(&self, fields: &RecordFields, archive: ArchiveOffers, body: BodyKind) {
        let (rendering, _) = render_record(fields, &journaling_sender(), &address(TO_ARCHIVE), archive, None);
        let record = [&rendering.prefix, self.original(), &rendering.suffix].concat();
        assert_eq!(String::from_utf8_lossy(&record), String::from_utf8_lossy(&self.octets));
        assert_eq!(record, self.octets);
        assert_eq!(rendering.body, body);
    }

    /// The whole way: the original observed, its header read, the sample's recipients labelled.
    fn fields(&self, accepted: &[&str]) -> RecordFields {
        let mut observer = Observer::new();
        self.original().chunks(7).for_each(|piece| observer.observe(piece));
        let observation = observer.finish();
        let facts = HeaderFacts::read(&observation.header);
        let made = fields();
        let relayed = Relayed {
            queue_id: made.original.queue_id,
            received: DATE,
            reverse_path: made.original.reverse_path.clone(),
            login: None,
        };
        let accepted: Vec<_> = accepted.iter().map(|text| address(text)).collect();
        RecordFields {
            original: original(&observation, &facts, relayed),
            recipients: label_recipients(&facts, &accepted, UnlistedRecipients::Bcc),
            message_uuid: self.message_uuid,
            boundary: self.boundary,
            ..made
        }
    }
}

const PLAIN: ArchiveOffers =
    ArchiveOffers { eight_bit_mime: false, binary_mime: false, chunking: false, smtp_utf8: false };
const EIGHT_BIT: ArchiveOffers = ArchiveOffers { eight_bit_mime: true, ..PLAIN };
const ACCEPTED: [&str; 4] =
    ["eve.hidden@acme.example", "bob@partner.example", "carol@acme.example", "dave@acme.example"];
/// Those that sample 22 has besides.
const MORE: [&str; 2] = [
    "srs0=ab=cd=x.example=u@acme.example",
    "a.very.long.local.part.for.testing.soft.breaks.in.quoted.printable@subdomain.acme.example",
];

#[test]
fn sample_20_is_reproduced_from_fields() {
    let sample = Sample::read("20-ours-recommended-7bit.eml");
    sample.is_reproduced_by(&fields(), PLAIN, BodyKind::SevenBit);
}

#[test]
fn samples_21_and_22_are_reproduced_from_fields() {
    let mut fields = fields();
    fields.original.subject = Some("Grüße aus Köln – 日本語".into());
    fields.original.message_id = Some("<orig-2@acme.example>".into());
    fields.original.kind = OctetsKind::EightBit;
    let sample = Sample::read("21-ours-recommended-8bit.eml");
    (fields.message_uuid, fields.boundary) = (sample.message_uuid, sample.boundary);
    sample.is_reproduced_by(&fields, EIGHT_BIT, BodyKind::EightBitMime);

    let sample = Sample::read("22-ours-recommended-qp-fallback.eml");
    (fields.message_uuid, fields.boundary) = (sample.message_uuid, sample.boundary);
    fields.recipients.extend(MORE.map(|text| recipient(Label::Bcc, text)));
    sample.is_reproduced_by(&fields, PLAIN, BodyKind::SevenBit);
}

#[test]
fn sample_23_is_reproduced_from_fields() {
    let sample = Sample::read("23-ours-missing-headers.eml");
    let mut fields = fields();
    (fields.message_uuid, fields.boundary) = (sample.message_uuid, sample.boundary);
    fields.original.subject = None;
    fields.original.message_id = None;
    fields.original.sha256 =
        sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(sample.original())).into();
    fields.recipients =
        [ACCEPTED[1], ACCEPTED[2], ACCEPTED[3], ACCEPTED[0]].map(|text| recipient(Label::Recipient, text)).into();
    sample.is_reproduced_by(&fields, PLAIN, BodyKind::SevenBit);
}

#[test]
fn samples_are_reproduced_all_the_way_from_their_originals() {
    let sample = Sample::read("20-ours-recommended-7bit.eml");
    sample.is_reproduced_by(&sample.fields(&ACCEPTED), PLAIN, BodyKind::SevenBit);
    let sample = Sample::read("21-ours-recommended-8bit.eml");
    sample.is_reproduced_by(&sample.fields(&ACCEPTED), EIGHT_BIT, BodyKind::EightBitMime);
    let sample = Sample::read("22-ours-recommended-qp-fallback.eml");
    let accepted = [&ACCEPTED[..], &MORE].concat();
    sample.is_reproduced_by(&sample.fields(&accepted), PLAIN, BodyKind::SevenBit);
    let sample = Sample::read("23-ours-missing-headers.eml");
    let accepted = [ACCEPTED[1], ACCEPTED[2], ACCEPTED[3], ACCEPTED[0]];
    sample.is_reproduced_by(&sample.fields(&accepted), PLAIN, BodyKind::SevenBit);
}
