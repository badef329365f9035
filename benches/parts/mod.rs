//! The pure parts of what the relay does with a message, each as something that can be run again and again: for the clock
//! (`benches/pure.rs`) and for a count of instructions (`tests/instructions.rs`).
//!
//! They stand on the crate's public API alone, and are the same at every run: ids, times and boundaries are fixed. Each checks
//! what came of it, so that nothing can be left out unseen.

use journal_relay::clock;
use journal_relay::config::{Config, Log, LogAddresses, LogFormat, Machine, UnlistedRecipients};
use journal_relay::journal::{
    ArchiveOffers, HeaderFacts, MacKey, Observer, RecordFields, Relayed, label_recipients, message_uuid, original,
    render,
};
use journal_relay::mail::{Address, Entropy, QueueId, RecordId, Reply, ReversePath, Timestamp};
use journal_relay::smtp::client::{Client, Command};
use journal_relay::smtp::data::Chunk;
use journal_relay::smtp::session::{Session, Settings, Step};
use journal_relay::smtp::{Decoder, Encoder, Extensions};
use journal_relay::telemetry::{HashKey, Telemetry};
use std::hint::black_box;
use std::path::Path;
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_millis(1_794_304_800_000);
/// Octets of content where a part reads or writes much of it.
const LARGE: usize = 100 * 1024;
/// What one call of the reply parser reads.
const REPLIES: usize = 50;

/// One part.
pub struct Part {
    pub name: &'static str,
    run: Box<dyn FnMut()>,
}

impl Part {
    fn new(name: &'static str, run: impl FnMut() + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// Once, for what is done only once: tables that are made at first use, buffers that grow.
    pub fn warm(&mut self) {
        (self.run)();
    }

    /// Once. It has a name of its own in the program, by which an instrument finds it.
    #[inline(never)]
    pub fn measured(&mut self) {
        (self.run)();
    }
}

/// All of them.
pub fn all() -> Vec<Part> {
    vec![
        transaction("session, 1 recipient", 1, false),
        transaction("session, 50 recipients", 50, false),
        transaction("session, BDAT", 1, true),
        decoder(),
        encoder(),
        header(),
        observer(),
        identity(),
        record("record, 1 recipient", 1),
        record("record, 50 recipients", 50),
        configuration(),
        log_line(),
        replies(),
    ]
}

/// The same chance at every run.
struct Zeros;

impl Entropy for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// Lines of text, every tenth of which begins with a dot.
fn text(octets: usize) -> Vec<u8> {
    let lines = b"The quick brown fox jumps over the lazy dog, and the relay keeps it all.\r\n".repeat(9);
    let ten = [&lines[..], b".a line that begins with a dot\r\n"].concat();
    ten.repeat(octets / ten.len() + 1)
}

fn stuffed(octets: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut encoder = Encoder::new();
    encoder.encode(&text(octets), &mut wire);
    encoder.finish(&mut wire);
    wire
}

fn recipient(number: usize) -> String {
    format!("recipient-{number}@example.net")
}

/// A header as mail on the way has it.
fn header_octets() -> Vec<u8> {
    let received = "Received: from mail-1.example.com (mail-1.example.com [192.0.2.1])\r\n\tby mx.example.org (Postfix) with \
        ESMTPS id 4d2XyZ0aBcz1\r\n\tfor <bob@example.net>; Tue, 10 Nov 2026 10:00:00 +0000 (UTC)\r\n";
    let signature = format!(
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=2026;\r\n\th=from:to:subject:date;\r\n\tb={}\r\n",
        ["bXkgc2lnbmF0dXJlIGlzIGxvbmcgYW5kIGZvbGRlZCBhbmQgZm9sZGVk"; 6].join("\r\n\t ")
    );
    format!(
        "{}{signature}From: Alice Example <alice@example.org>\r\nTo: Bob Example <bob@example.net>,\r\n \
         \"Carol, the other one\" <carol@example.net>\r\nCc: =?utf-8?q?D=C3=A4ve?= <dave@example.com>\r\n\
         Subject: =?utf-8?q?On_the_ninth_of_M=C3=A4rz=3A?= about many things\r\nDate: Tue, 10 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <1.20261110100000@mail.example.org>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n",
        received.repeat(3)
    )
    .into_bytes()
}

/// A whole session with one transaction of 4 KiB, as a good client pipelines it, each ask answered at once.
fn transaction(name: &'static str, recipients: usize, is_chunked: bool) -> Part {
    let rcpt: String = (0..recipients).map(|number| format!("RCPT TO:<{}>\r\n", recipient(number))).collect();
    let envelope = format!("MAIL FROM:<alice@example.org> BODY=8BITMIME\r\n{rcpt}");
    let content = [header_octets(), text(4_096)].concat();
    let pieces: Vec<Vec<u8>> = if is_chunked {
        let chunk = format!("{envelope}BDAT {} LAST\r\n", content.len());
        vec![[chunk.as_bytes(), &content].concat(), b"QUIT\r\n".to_vec()]
    } else {
        let mut wire = Vec::new();
        let mut encoder = Encoder::new();
        encoder.encode(&content, &mut wire);
        encoder.finish(&mut wire);
        vec![format!("{envelope}DATA\r\n").into_bytes(), wire, b"QUIT\r\n".to_vec()]
    };
    Part::new(name, move || {
        let mut session = Session::new(Settings {
            hostname: "relay.example.org".to_owned(),
            max_recipients: 1_000,
            max_errors: 20,
            requires_tls: false,
        });
        session.greet(Reply::new(220, "relay.example.org ESMTP"));
        let mut octets = converse(&mut session, b"EHLO client.example.com\r\n");
        for piece in &pieces {
            octets += converse(&mut session, piece);
        }
        assert_eq!(octets, content.len());
    })
}

/// Feeds, and answers every ask with yes; how many octets of content came.
fn converse(session: &mut Session, piece: &[u8]) -> usize {
    let mut octets = 0;
    session.feed(piece);
    loop {
        let code = match session.step() {
            Step::NeedInput | Step::Close(_) => break,
            Step::Content(content, _) => {
                octets += content.len();
                continue;
            }
            Step::Hello { .. } => {
                session.announce(&offers());
                continue;
            }
            Step::Mail(_) | Step::Rcpt(_) | Step::EndOfData(_) => 250,
            Step::Data { .. } => 354,
            step => panic!("nobody said what leads to {step:?}"),
        };
        session.answered(Reply::new(code, "2.0.0 yes"));
    }
    black_box(session.output()).clear();
    octets
}

fn offers() -> Extensions {
    Extensions {
        pipelining: true,
        size: Some(64 << 20),
        eight_bit_mime: true,
        enhanced_status_codes: true,
        chunking: true,
        ..Extensions::default()
    }
}

fn decoder() -> Part {
    let (wire, length) = (stuffed(LARGE), text(LARGE).len());
    Part::new("decoder, 100 KiB", move || {
        let (mut decoder, mut rest, mut octets) = (Decoder::new(), &wire[..], 0);
        loop {
            let (used, chunk) = decoder.decode(rest);
            rest = &rest[used..];
            match chunk {
                Chunk::Content(content) => octets += black_box(content).len(),
                Chunk::NeedInput => panic!("the end is missing"),
                Chunk::End => break,
            }
        }
        assert_eq!(octets, length);
    })
}

fn encoder() -> Part {
    let (content, length) = (text(LARGE), stuffed(LARGE).len());
    let mut wire = Vec::new();
    Part::new("encoder, 100 KiB", move || {
        wire.clear();
        let mut encoder = Encoder::new();
        encoder.encode(&content, &mut wire);
        encoder.finish(&mut wire);
        assert_eq!(black_box(&wire).len(), length);
    })
}

fn header() -> Part {
    let header = header_octets();
    Part::new("header", move || {
        let facts = HeaderFacts::read(black_box(&header));
        assert!(facts.subject.is_some() && facts.message_id.is_some());
    })
}

/// What is found out about octets as they arrive, their digests among it.
fn observer() -> Part {
    let octets = [header_octets(), text(LARGE)].concat();
    Part::new("observer, 100 KiB", move || {
        let mut observer = Observer::new();
        octets.chunks(32 * 1024).for_each(|chunk| observer.observe(chunk));
        assert_eq!(observer.finish().size, octets.len() as u64);
    })
}

fn fields(recipients: usize) -> RecordFields {
    let mut observer = Observer::new();
    observer.observe(&[header_octets(), text(4_096)].concat());
    let observation = observer.finish();
    let facts = HeaderFacts::read(&observation.header);
    let sender = ReversePath::try_from("alice@example.org".to_owned()).expect("an address");
    let relayed = Relayed { queue_id: QueueId::new(NOW, &Zeros), received: NOW, reverse_path: sender, login: None };
    let accepted: Vec<_> = (0..recipients).map(|number| address(&recipient(number))).collect();
    RecordFields {
        id: RecordId::new(NOW, &Zeros),
        organization: "acme".to_owned(),
        original: original(&observation, &facts, relayed),
        recipients: label_recipients(&facts, &accepted, UnlistedRecipients::Bcc),
        copy_of: None,
        replay: None,
        message_uuid: Uuid::nil(),
        boundary: Uuid::nil(),
        date: NOW,
        outcome_unknown: false,
        supplements: None,
        retry_came: false,
        owed: Vec::new(),
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

fn identity() -> Part {
    let fields = fields(50);
    Part::new("identity, 50 recipients", move || {
        assert!(!message_uuid(black_box(&fields)).is_nil());
    })
}

fn record(name: &'static str, recipients: usize) -> Part {
    let fields = fields(recipients);
    let (sender, archive) = (address("journal@example.org"), address("archive@vault.example"));
    let key = MacKey::from_bytes([7; 32]);
    let offers = ArchiveOffers { eight_bit_mime: true, ..ArchiveOffers::default() };
    Part::new(name, move || {
        let rendering = render(black_box(&fields), &sender, &archive, offers, Some(&key));
        assert!(rendering.prefix.len() > 30 * recipients);
    })
}

/// The example, which has every key.
fn configuration() -> Part {
    let machine = Machine { hostname: "relay.example.org".to_owned(), stderr_is_terminal: false };
    Part::new("configuration", move || {
        let text = include_str!("../../config/journal-relay.toml");
        let config = Config::parse(black_box(text), Path::new("journal-relay.toml"), &machine);
        assert!(config.is_ok());
    })
}

fn log_line() -> Part {
    let log = Log { format: LogFormat::Json, level: tracing::Level::INFO, addresses: LogAddresses::Full };
    let telemetry = Telemetry::to(Box::new(std::io::sink()), &log, &HashKey::from_bytes([1; 32]), clock::system());
    let subscriber = tracing::Dispatch::new(telemetry.subscriber());
    Part::new("log line", move || {
        tracing::dispatcher::with_default(&subscriber, || {
            let recipients = ["bob@example.net", "carol@example.net"];
            tracing::info!(target: "journal_relay::bench", event = "message.accepted", session = %"01m8br1kjnhm029d",
                queue_id = %"01m8br1kjnhm029d", listener = %"incoming", direction = "outgoing", client = %"192.0.2.1",
                trusted = true, sender = "alice@example.org", recipients = ?recipients, size = 10_000,
                next_hop = %"smtp://127.0.0.1:10025", reply = %"250 2.0.0 Ok: queued as 4d2XyZ0aBcz1", "relayed a message");
        });
    })
}

fn replies() -> Part {
    let wire = "250 2.1.5 Ok\r\n".repeat(REPLIES).into_bytes();
    Part::new("replies, 50", move || {
        let mut client = Client::new();
        client.feed(b"220 a.example\r\n");
        assert!(matches!(client.next_reply(), Ok(Some(_))));
        client.queue(Command::Hello("b.example".to_owned()));
        client.note_sent(client.output().len());
        client.feed(b"250-a.example\r\n250 PIPELINING\r\n");
        assert!(matches!(client.next_reply(), Ok(Some(_))));
        (0..REPLIES).for_each(|_| client.queue(Command::Reset));
        client.note_sent(client.output().len());
        client.feed(&wire);
        let read = std::iter::from_fn(|| client.next_reply().expect("replies")).count();
        assert_eq!(read, REPLIES);
    })
}
