//! The marked message (RFC 5322), as octets. Its field `X-Journal-Test` has a UUID, and so has its Message-ID; `Auto-Submitted`
//! (RFC 3834) keeps vacation programs from answering.

use crate::config::Organization;
use crate::mail::{Address, Entropy, Timestamp};
use uuid::Uuid;

/// The message that is sent.
pub(super) struct Letter {
    /// From and to whom.
    pub(super) mailbox: Address,
    /// With its angle brackets.
    pub(super) message_id: String,
    /// When it was written.
    pub(super) written: Timestamp,
    /// With CRLF.
    pub(super) octets: Vec<u8>,
}

impl Letter {
    pub(super) fn new(
        organization: &Organization,
        mailbox: &Address,
        hostname: &str,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Self {
        let mut chance = [0; 16];
        entropy.fill(&mut chance);
        let mark = uuid::Builder::from_random_bytes(chance).into_uuid();
        let message_id = format!("<journal-test-{mark}@{hostname}>");
        let octets = text(organization, mailbox, mark, &message_id, now).into_bytes();
        Self { mailbox: mailbox.clone(), message_id, written: now, octets }
    }
}

fn text(organization: &Organization, mailbox: &Address, mark: Uuid, message_id: &str, now: Timestamp) -> String {
    let name = &organization.name;
    let archives = organization.archives().map(|(address, _)| format!("    {address}"));
    let lines = [
        format!("Date: {}", now.rfc5322()),
        format!("From: <{mailbox}>"),
        format!("To: <{mailbox}>"),
        format!("Subject: Test of the journal of {name}"),
        format!("Message-ID: {message_id}"),
        "Auto-Submitted: auto-generated".to_owned(),
        format!("X-Journal-Test: {mark}"),
        "MIME-Version: 1.0".to_owned(),
        "Content-Type: text/plain; charset=utf-8".to_owned(),
        "Content-Transfer-Encoding: 8bit".to_owned(),
        String::new(),
        "This message was sent by \"journal-relay test-send\", to see whether the journal works.".to_owned(),
        "Nobody needs to do anything.".to_owned(),
        String::new(),
        "Its record goes to".to_owned(),
        archives.collect::<Vec<_>>().join("\r\n"),
        String::new(),
    ];
    lines.join("\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Machine};
    use crate::mail::OsEntropy;
    use std::path::Path;

    #[test]
    fn each_message_is_marked_and_no_two_alike() {
        let file = "[[listener]]\nname = \"in\"\naddress = \"127.0.0.1:25\"\nnext_hop = \"maildir:x\"\n[[organization]]\n\
                    name = \"acme\"\ndomains = [\"a.example\"]\njournaling_address = \"j@b.example\"\nreport_address = \"p@a.example\"\n";
        let machine = Machine { hostname: "relay.example".to_owned(), stderr_is_terminal: false };
        let config = Config::parse(file, Path::new("c.toml"), &machine).unwrap();
        let acme = &config.organizations[0];
        let now = Timestamp::from_millis(1_794_304_800_000);
        let [one, two] = [(), ()].map(|()| Letter::new(acme, &acme.report_address, "relay.example", now, &OsEntropy));
        assert_ne!((&one.message_id, &one.octets), (&two.message_id, &two.octets));
        let text = String::from_utf8(one.octets).unwrap();
        let mark = one.message_id.trim_start_matches("<journal-test-").split('@').next().unwrap();
        assert!(text.contains(&format!("\r\nX-Journal-Test: {mark}\r\n")), "{text}");
        assert!(text.contains("\r\nFrom: <p@a.example>\r\nTo: <p@a.example>\r\n") && text.ends_with("\r\n"), "{text}");
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }
}
