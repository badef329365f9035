//! The one line that the relayed copy has in front of the client's octets (RFC 5321, section 4.4).

use crate::mail::{QueueId, Timestamp};
use crate::net::Agreed;
use std::borrow::Cow;
use std::io::Write;
use std::net::IpAddr;

/// Octets of the client's EHLO name that are shown; the rest is cut.
const MAX_NAME: usize = 255;

/// Octets that a line seldom has more of.
const ROOM: usize = 256;

/// How the message came, as `with` says it (RFC 3848; RFC 6531, section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Protocol {
    /// EHLO, not HELO.
    pub(super) extended: bool,
    /// SMTPUTF8 was asked for.
    pub(super) utf8: bool,
    /// What the handshake agreed on.
    pub(super) tls: Option<Agreed>,
    /// The client has authenticated; as whom is nobody's business behind us.
    pub(super) authenticated: bool,
}

impl Protocol {
    /// The protocol's registered name.
    pub(super) fn name(self) -> &'static str {
        match (self.utf8, self.tls.is_some(), self.authenticated) {
            // RFC 3848 has no name for HELO under TLS, and AUTH needs EHLO.
            (false, _, _) if !self.extended => "SMTP",
            (false, false, false) => "ESMTP",
            (false, false, true) => "ESMTPA",
            (false, true, false) => "ESMTPS",
            (false, true, true) => "ESMTPSA",
            (true, false, false) => "UTF8SMTP",
            (true, false, true) => "UTF8SMTPA",
            (true, true, false) => "UTF8SMTPS",
            (true, true, true) => "UTF8SMTPSA",
        }
    }

    /// The comment that names version and cipher.
    fn comment(self) -> String {
        self.tls.map_or_else(String::new, |Agreed { version, cipher }| format!(" ({version} {cipher})"))
    }
}

/// `Received: from name ([address]) by hostname with protocol (TLS) id queue-id; date` and CRLF, on one line. There is no `for`
/// clause: it would show a hidden recipient to the others.
pub(super) fn received_line(
    name: &str,
    client: IpAddr,
    hostname: &str,
    protocol: Protocol,
    queue_id: QueueId,
    now: Timestamp,
) -> Vec<u8> {
    let family = if client.to_canonical().is_ipv6() { "IPv6:" } else { "" };
    let mut line = Vec::with_capacity(ROOM);
    // Writing into memory does not fail.
    let _ = write!(
        line,
        "Received: from {} ([{family}{}]) by {hostname} with {}{} id {queue_id}; {}\r\n",
        shown(name),
        client.to_canonical(),
        protocol.name(),
        protocol.comment(),
        now.rfc5322()
    );
    line
}

/// The name as far as it is harmless: what could end the clause, open a comment or break the line becomes `?`.
fn shown(name: &str) -> Cow<'_, str> {
    let is_harmless =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | ':' | '[' | ']');
    if name.is_empty() {
        return Cow::Borrowed("unknown");
    }
    if name.len() <= MAX_NAME && name.chars().all(is_harmless) {
        return Cow::Borrowed(name);
    }
    let harmless = |letter: char| if is_harmless(letter) { letter } else { '?' };
    Cow::Owned(name.chars().take(MAX_NAME).map(harmless).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_794_304_800_123);

    fn line(name: &str, client: &str) -> String {
        let id = "0123456789abcdef".parse().unwrap();
        let protocol = Protocol { extended: true, ..Protocol::default() };
        String::from_utf8(received_line(name, client.parse().unwrap(), "relay.example.org", protocol, id, NOW)).unwrap()
    }

    #[test]
    fn it_says_from_whom_by_whom_how_and_when_on_one_line() {
        assert_eq!(
            line("client.example", "192.0.2.7"),
            "Received: from client.example ([192.0.2.7]) by relay.example.org with ESMTP id 0123456789abcdef; \
             Tue, 10 Nov 2026 10:00:00 +0000\r\n"
        );
        assert!(line("c", "2001:db8::1").contains("([IPv6:2001:db8::1])"));
        assert!(line("c", "::ffff:192.0.2.7").contains("([192.0.2.7])"));
    }

    #[test]
    fn no_name_breaks_or_forges_the_line() {
        let line = line("a\r\nBcc: x (by evil.example; (", "192.0.2.7");
        assert_eq!(line.matches("\r\n").count(), 1);
        assert_eq!(line.matches(';').count(), 1);
        assert!(line.starts_with("Received: from a??Bcc:?x??by?evil.example?"), "{line}");
    }

    #[test]
    fn the_protocol_is_named_as_registered() {
        assert_eq!(Protocol::default().name(), "SMTP");
        let tls = Some(Agreed { version: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256" });
        for (extended, utf8, tls, name) in [
            (true, true, None, "UTF8SMTP"),
            (true, true, tls, "UTF8SMTPS"),
            (true, false, tls, "ESMTPS"),
            (true, false, None, "ESMTP"),
        ] {
            let protocol = Protocol { extended, utf8, tls, authenticated: false };
            assert_eq!(protocol.name(), name);
            assert_eq!(Protocol { authenticated: true, ..protocol }.name(), format!("{name}A"));
            assert_eq!(Protocol { extended: false, utf8: false, ..protocol }.name(), "SMTP");
        }
    }
}
