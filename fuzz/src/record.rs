//! A journal record and an independent reader of it. The first octet of the input says what the archive offers, lines up to an
//! empty one name recipients, the rest is the original.
//!
//! Whatever stands in the original and in the addresses: mail-parser finds two parts, an envelope whose recipients are those
//! that were accepted and no others, and the original octet for octet.

use journal_relay::config::UnlistedRecipients;
use journal_relay::journal::{
    ArchiveOffers, HeaderFacts, MacKey, Observer, RecordFields, Relayed, label_recipients, message_uuid, original,
    render,
};
use journal_relay::mail::{Address, OsEntropy, QueueId, RecordId, ReversePath, Timestamp};
use mail_parser::{MessageParser, MimeHeaders, PartType};
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_millis(1_794_304_800_000);
const MAX_RECIPIENTS: usize = 20;

/// An address as its line may show it: what breaks a line somewhere is a blank (docs of the record's format).
fn one_line(address: &str) -> String {
    let breaks = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    address.chars().map(|letter| if breaks(letter) { ' ' } else { letter }).collect::<String>().trim().to_owned()
}

/// Stops where it doesn't hold.
pub fn check(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    let (names, octets) = match rest.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&rest[..end], &rest[end + 2..]),
        None => (&b""[..], rest),
    };
    let names =
        names.split(|octet| *octet == b'\n').take(MAX_RECIPIENTS).filter_map(|name| std::str::from_utf8(name).ok());
    let mut accepted: Vec<Address> = Vec::new();
    for address in names.filter_map(|name| Address::parse(name).ok()).chain(Address::parse("hidden@acme.example")) {
        // A mailbox has one line, however often its address is written otherwise.
        if !accepted.iter().any(|earlier| earlier.same_mailbox(&address)) {
            accepted.push(address);
        }
    }
    let offers = ArchiveOffers {
        eight_bit_mime: flags & 1 != 0,
        binary_mime: flags & 2 != 0,
        chunking: flags & 4 != 0,
        smtp_utf8: flags & 8 != 0,
    };
    let fields = fields_of(octets, &accepted, flags & 16 != 0);
    let (sender, archive) = (address("amazonjournaling@acme.awsapps.com"), address("archive@vault.example"));
    let rendering = render(&fields, &sender, &archive, offers, Some(&MacKey::from_bytes([7; 32])));
    let record = [&rendering.prefix[..], octets, &rendering.suffix].concat();
    check_record(&record, octets, &accepted);
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

fn fields_of(octets: &[u8], accepted: &[Address], strict: bool) -> RecordFields {
    let mut observer = Observer::new();
    observer.observe(octets);
    let observation = observer.finish();
    let facts = HeaderFacts::read(&observation.header);
    let relayed = Relayed {
        queue_id: QueueId::new(NOW, &OsEntropy),
        received: NOW,
        reverse_path: ReversePath::Null,
        login: None,
    };
    let unlisted = if strict { UnlistedRecipients::Recipient } else { UnlistedRecipients::Bcc };
    let mut fields = RecordFields {
        id: RecordId::new(NOW, &OsEntropy),
        organization: "acme".to_owned(),
        original: original(&observation, &facts, relayed),
        recipients: label_recipients(&facts, accepted, unlisted),
        copy_of: None,
        replay: None,
        message_uuid: Uuid::nil(),
        // Drawn once the octets are in, as the relay does it: an input can't hold it.
        boundary: Uuid::new_v4(),
        date: NOW,
        outcome_unknown: false,
        supplements: None,
        retry_came: false,
        owed: Vec::new(),
    };
    fields.message_uuid = message_uuid(&fields);
    fields
}

fn check_record(record: &[u8], octets: &[u8], accepted: &[Address]) {
    let message = MessageParser::default().parse(record).expect("the record is a message");
    let root = message.parts.first().expect("a root");
    let PartType::Multipart(parts) = &root.body else { panic!("no multipart: {:?}", root.body) };
    assert_eq!(parts.len(), 2, "an envelope and an original");
    let part = |number: usize| message.parts.get(parts[number] as usize).expect("a part");
    let text = part(0).text_contents().expect("the envelope is text");
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let (label, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
        let value = value.strip_prefix(' ').unwrap_or_else(|| panic!("no blank: {line:?}"));
        match label {
            "To" | "Cc" | "Bcc" | "Recipient" => found.push(value.trim().to_owned()),
            "Sender" | "On-Behalf-Of" | "Subject" | "Message-Id" => seen.push(label.to_owned()),
            _ => panic!("an unknown field: {line:?}"),
        }
    }
    let count = |label: &str| seen.iter().filter(|one| *one == label).count();
    assert!(
        count("Sender") == 1 && count("Subject") == 1 && count("Message-Id") == 1 && count("On-Behalf-Of") <= 1,
        "{text}"
    );
    let mut expected: Vec<String> = accepted.iter().map(|address| one_line(address.as_str())).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{text}");
    let attached = part(1);
    assert!(attached.content_type().is_some_and(|kind| kind.ctype() == "message" && kind.subtype() == Some("rfc822")));
    let start = attached.offset_body as usize;
    assert_eq!(record.get(start..start + octets.len()), Some(octets), "the original stands where the part begins");
}
