//! Puts together what the records of one message have in common.

use super::fields::Original;
use super::header::HeaderFacts;
use super::observer::Observation;
use super::text::one_line;
use crate::mail::{Address, QueueId, ReversePath, Timestamp};

/// Stands in the `Sender:` line where nobody is known: Microsoft's reader refuses `<>`. The domain can't exist (RFC 2606,
/// section 2).
pub const UNKNOWN_SENDER: &str = "unknown@sender.invalid";

/// What the relay knows of a message besides its octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// The relayed message.
    pub queue_id: QueueId,
    /// When its last octet had arrived.
    pub received: Timestamp,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// The login name, when the client authenticated.
    pub login: Option<String>,
}

/// What is known of an original. The `Sender:` line names the header's Sender, else the first author, else MAIL FROM, else
/// [`UNKNOWN_SENDER`]; the `On-Behalf-Of:` line the author for whom another one sent.
pub fn original(observation: &Observation, facts: &HeaderFacts, relayed: Relayed) -> Original {
    let sender = facts
        .sender
        .as_deref()
        .or(facts.from.as_deref())
        .or_else(|| relayed.reverse_path.address().map(Address::as_str))
        .unwrap_or(UNKNOWN_SENDER)
        .to_owned();
    let on_behalf_of = facts.from.clone().filter(|from| facts.sender.is_some() && !same(from, &sender));
    Original {
        queue_id: relayed.queue_id,
        received: relayed.received,
        reverse_path: relayed.reverse_path,
        login: relayed.login.map(|login| one_line(&login).into_owned()),
        size: observation.size,
        sha256: observation.sha256,
        identity: observation.identity,
        kind: observation.kind,
        subject: facts.subject.clone(),
        message_id: facts.message_id.clone(),
        sender,
        on_behalf_of,
    }
}

fn same(one: &str, two: &str) -> bool {
    match (Address::parse(one), Address::parse(two)) {
        (Ok(one), Ok(two)) => one.same_mailbox_ignoring_case(&two),
        _ => one.eq_ignore_ascii_case(two),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Observer;
    use super::*;
    use crate::mail::OsEntropy;

    fn read(header: &str, reverse_path: &str) -> Original {
        let mut observer = Observer::new();
        observer.observe(header.as_bytes());
        let observation = observer.finish();
        let now = Timestamp::from_millis(1_794_304_800_000);
        let relayed = Relayed {
            queue_id: QueueId::new(now, &OsEntropy),
            received: now,
            reverse_path: ReversePath::try_from(reverse_path.to_owned()).unwrap(),
            login: Some("alice\r\nX-Forged: yes".into()),
        };
        original(&observation, &HeaderFacts::read(&observation.header), relayed)
    }

    #[test]
    fn the_sender_is_the_first_who_is_known() {
        let cases = [
            ("Sender: s@x.example\r\nFrom: f@x.example\r\n", "m@x.example", "s@x.example", Some("f@x.example")),
            ("Sender: F@x.example\r\nFrom: f@x.example\r\n", "m@x.example", "F@x.example", None),
            ("From: F <f@x.example>, g@x.example\r\n", "m@x.example", "f@x.example", None),
            ("Sender: s@x.example\r\n", "m@x.example", "s@x.example", None),
            ("Sender: nobody\r\nFrom: f@x.example\r\n", "m@x.example", "f@x.example", None),
            ("From: nobody\r\n", "m@x.example", "m@x.example", None),
            ("Subject: x\r\n", "", UNKNOWN_SENDER, None),
        ];
        for (header, reverse_path, sender, on_behalf_of) in cases {
            let original = read(header, reverse_path);
            assert_eq!(
                (original.sender.as_str(), original.on_behalf_of.as_deref()),
                (sender, on_behalf_of),
                "{header:?}"
            );
        }
    }

    #[test]
    fn a_login_name_is_kept_on_one_line() {
        assert_eq!(read("", "").login.as_deref(), Some("alice  X-Forged: yes"));
    }
}
