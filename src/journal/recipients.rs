//! How the envelope part calls each recipient, by what the header says of it.
//!
//! Promises: the recipients are those of the envelope and no others, in their order, each once; the cost is linear in
//! envelope and header, for thousands of recipients too.

use super::fields::{Label, Recipient};
use super::header::HeaderFacts;
use crate::config::UnlistedRecipients;
use crate::mail::{Address, Mailbox};
use std::collections::{HashMap, HashSet};

/// Labels the accepted RCPT TO addresses. Listed in To: `To`; else in Cc: `Cc`; else in list mail `Recipient`; else `Bcc`
/// when the header tells of recipients at all, else `Recipient`. A repeated address is kept where it came first.
pub fn label_recipients<'a>(
    facts: &HeaderFacts,
    accepted: impl IntoIterator<Item = &'a Address>,
    unlisted: UnlistedRecipients,
) -> Vec<Recipient> {
    let listed = Listed::new(facts);
    let others = match unlisted {
        UnlistedRecipients::Bcc if facts.names_recipients && !facts.list_mail => Label::Bcc,
        UnlistedRecipients::Bcc | UnlistedRecipients::Recipient => Label::Recipient,
    };
    let accepted = accepted.into_iter();
    let mut seen = HashSet::with_capacity(accepted.size_hint().0);
    accepted
        .filter(|address| seen.insert(address.mailbox()))
        .map(|address| Recipient { label: listed.label(address).unwrap_or(others), address: address.clone() })
        .collect()
}

/// The addresses in To and Cc, to be asked for.
struct Listed<'a> {
    exact: HashMap<Mailbox<'a>, Label>,
    without_case: HashMap<Mailbox<'a>, Label>,
}

impl<'a> Listed<'a> {
    fn new(facts: &'a HeaderFacts) -> Self {
        let size = facts.to.len() + facts.cc.len();
        let mut listed = Self { exact: HashMap::with_capacity(size), without_case: HashMap::with_capacity(size) };
        // To before Cc, and the first entry stays: To has precedence.
        for (label, addresses) in [(Label::To, &facts.to), (Label::Cc, &facts.cc)] {
            for mailbox in addresses.iter().map(Address::mailbox) {
                listed.exact.entry(mailbox.clone()).or_insert(label);
                listed.without_case.entry(mailbox.without_case()).or_insert(label);
            }
        }
        listed
    }

    fn label(&self, address: &Address) -> Option<Label> {
        // Who is listed exactly is listed without case, and hardly anybody else is.
        let label = self.without_case.get(&address.mailbox().without_case())?;
        Some(*self.exact.get(&address.mailbox()).unwrap_or(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn labels(header: &str, accepted: &[&str], unlisted: UnlistedRecipients) -> Vec<(Label, String)> {
        let facts = HeaderFacts::read(header.as_bytes());
        let accepted: Vec<_> = accepted.iter().map(|text| address(text)).collect();
        label_recipients(&facts, &accepted, unlisted)
            .into_iter()
            .map(|recipient| (recipient.label, recipient.address.as_str().to_owned()))
            .collect()
    }

    fn label(header: &str, accepted: &str) -> Label {
        labels(header, &[accepted], UnlistedRecipients::Bcc)[0].0
    }

    #[test]
    fn a_recipient_is_called_by_the_first_rule_that_fits() {
        let cases = [
            ("To: a@x.example\r\nCc: a@x.example\r\n", Label::To),
            ("Cc: a@x.example\r\nResent-To: a@x.example\r\n", Label::To),
            ("To: b@x.example\r\nCc: c@x.example, A <a@X.Example>\r\n", Label::Cc),
            ("Resent-Cc: a@x.example\r\n", Label::Cc),
            ("To: list@x.example\r\nList-Id: <l.x.example>\r\n", Label::Recipient),
            ("To: list@x.example\r\nPrecedence: List\r\n", Label::Recipient),
            ("To: a@x.example\r\nList-Id: <l.x.example>\r\n", Label::To),
            ("To: b@x.example\r\n", Label::Bcc),
            ("To: b@x.example\r\nPrecedence: bulk\r\n", Label::Bcc),
            ("To: undisclosed-recipients:;\r\n", Label::Bcc),
            ("Bcc: b@x.example\r\n", Label::Bcc),
            ("Bcc:\r\n", Label::Bcc),
            ("Bcc: a@x.example\r\n", Label::Bcc),
            ("To:\r\n", Label::Recipient),
            ("To: undisclosed recipients\r\n", Label::Recipient),
            ("Subject: nothing\r\n", Label::Recipient),
            ("", Label::Recipient),
        ];
        for (header, expected) in cases {
            assert_eq!(label(header, "a@x.example"), expected, "{header:?}");
        }
    }

    #[test]
    fn strict_readers_get_recipient_for_everybody_unlisted() {
        let header = "To: a@x.example\r\nCc: c@x.example\r\n";
        let labels = labels(header, &["b@x.example", "c@x.example"], UnlistedRecipients::Recipient);
        assert_eq!(labels[0].0, Label::Recipient);
        assert_eq!(labels[1].0, Label::Cc);
    }

    #[test]
    fn addresses_are_compared_as_mailboxes_and_then_without_case() {
        let cases = [
            ("To: \"odd one\"@x.example\r\n", "\"odd\\ one\"@X.EXAMPLE", Label::To),
            ("To: u@例え.example\r\n", "u@xn--r8jz45g.example", Label::To),
            ("To: Bob.Smith@x.example\r\n", "bob.smith@x.example", Label::To),
            // The exact one is the one meant.
            ("To: BOB@x.example\r\nCc: bob@x.example\r\n", "bob@x.example", Label::Cc),
        ];
        for (header, accepted, expected) in cases {
            assert_eq!(label(header, accepted), expected, "{header:?}");
        }
    }

    #[test]
    fn a_repeated_recipient_gets_one_line() {
        let accepted = ["b@x.example", "a@x.example", "\"b\"@X.example", "B@x.example"];
        let labels = labels("To: a@x.example\r\n", &accepted, UnlistedRecipients::Bcc);
        let texts: Vec<_> = labels.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["b@x.example", "a@x.example", "B@x.example"]);
    }

    #[test]
    fn ten_thousand_recipients_are_labelled_in_one_pass() {
        let to: String = (0..10_000).map(|n| format!("<u{n}@x.example>,\r\n ")).collect();
        let facts = HeaderFacts::read(format!("To: {to}\r\n").as_bytes());
        let accepted: Vec<_> = (0..20_000).map(|n| address(&format!("U{n}@x.example"))).collect();
        let labels = label_recipients(&facts, &accepted, UnlistedRecipients::Bcc);
        assert_eq!(labels.iter().filter(|recipient| recipient.label == Label::To).count(), 10_000);
        assert_eq!(labels.iter().filter(|recipient| recipient.label == Label::Bcc).count(), 10_000);
    }
}
