//! What an attempt came to, as a value: how far it got, what was said there, and what follows for the record.
//!
//! ```text
//!                                   5yz        4yz        lost, late
//! connect, TLS, greeting, EHLO,
//! AUTH, MAIL                        deferred   deferred   deferred     the route's fault
//! RCPT, DATA, end of data           refused    deferred   deferred     the record's, but for a lost connection
//! ```
//!
//! A domain that does not exist, or takes no mail (null MX, RFC 7505), is the route's fault for good: the domain is that of
//! the configuration, not of a message, and an organization's records are not for bouncing. They wait until `give_up`.
//!
//! A 5yz before RCPT is about us or the server's health, not about the record: refusing everything that waits because of a
//! wrong password would be wrong. MAIL tells the record's size, though: what is said of that is said of the record alone
//! (RFC 1870, section 6.1), and keeps no other record from the archive. So is what is said of its kind (`BODY=`, `SMTPUTF8`),
//! but that is no final word: an archive may learn it.

use crate::mail::{Reply, ReplyClass};
use std::fmt;

/// Octets of what is kept of a reply: it goes into each log line, the spool and reports.
const MAX_SAID: usize = 8 * 1_024;

/// How far a conversation got (RFC 5321, section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Looking up the server and connecting to it.
    Connect,
    /// The server's first reply.
    Greeting,
    /// EHLO
    Hello,
    /// STARTTLS and the handshake.
    Tls,
    /// AUTH
    Auth,
    /// MAIL
    Mail,
    /// RCPT
    Rcpt,
    /// DATA, and the octets behind it.
    Data,
    /// The final dot has been sent.
    EndOfData,
}

/// What stopped it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server's reply.
    Reply(Reply),
    /// The line failed or a wait was too long.
    Lost(String),
    /// Our own side could not do its part: the server had none in it.
    Ours(String),
    /// It can't work for this record, whenever it is tried.
    Never(String),
    /// The route as it is configured leads nowhere: a matter of the DNS or of the configuration, of no record.
    Nowhere(String),
}

/// An attempt that did not end with an acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    pub(super) cause: Cause,
}

impl Failure {
    pub(super) fn lost(stage: Stage, what: impl Into<String>) -> Self {
        Self { stage, cause: Cause::Lost(what.into()) }
    }

    /// Whether a connection that had been idle may simply have ended meanwhile: a new one is worth a try at once.
    pub(super) fn is_stale(&self) -> bool {
        self.stage == Stage::Mail
            && match &self.cause {
                Cause::Lost(_) => true,
                // RFC 5321, section 3.8: 421 comes at any time before the server closes.
                Cause::Reply(reply) => reply.code() == 421,
                Cause::Ours(_) | Cause::Never(_) | Cause::Nowhere(_) => false,
            }
    }

    /// Whether it is the answer to MAIL, RCPT or DATA, or the lack of one.
    pub(super) fn is_about_the_envelope(&self) -> bool {
        (Stage::Mail..=Stage::Data).contains(&self.stage) && matches!(self.cause, Cause::Reply(_) | Cause::Lost(_))
    }

    /// Whether the server still listens for another command.
    pub(super) fn leaves_connection(&self) -> bool {
        match &self.cause {
            Cause::Reply(reply) => reply.code() != 421,
            Cause::Never(_) => true,
            Cause::Lost(_) | Cause::Ours(_) | Cause::Nowhere(_) => false,
        }
    }

    /// Whether another of the domain's servers may do better: this one could not even be talked to.
    pub(super) fn is_about_this_server(&self) -> bool {
        self.stage < Stage::Mail && matches!(self.cause, Cause::Reply(_) | Cause::Lost(_))
    }
}

/// What was said, for logs and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// On one line.
    pub text: String,
    /// Whether it is the server's reply, not our description.
    pub is_smtp: bool,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whose fault it is that something was not taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Our own side could not do its part.
    Ours,
    /// 4yz to a recipient or to the data: the next record may be taken.
    Record,
    /// The server does not take mail from this sender.
    Sender {
        /// It says never.
        shut: bool,
    },
    /// The server can't be reached or talked to.
    Route {
        /// It refuses us for good: 5yz before MAIL, TLS that fails, no way to log in, a domain that takes no mail.
        shut: bool,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The final 2yz: it is theirs now.
    Accepted {
        /// Who took it: the URL of the server.
        archive: String,
        /// Its reply.
        reply: Said,
    },
    /// Not now.
    Deferred {
        /// What was said, or what went wrong.
        reply: Said,
        /// Whose fault it is.
        fault: Fault,
    },
    /// Never.
    Refused {
        /// What was said, or what can't work.
        reply: Said,
    },
}

impl Verdict {
    /// The verdict of a conversation with `archive`.
    pub(super) fn of(result: Result<Reply, Failure>, archive: &str) -> Self {
        let failure = match result {
            Ok(reply) => return Self::Accepted { archive: archive.to_owned(), reply: smtp(&reply) },
            Err(failure) => failure,
        };
        match failure.cause {
            Cause::Never(what) => Self::Refused { reply: ours(what) },
            Cause::Ours(what) => Self::Deferred { reply: ours(what), fault: Fault::Ours },
            // One wrong change of the DNS must not fail all that waits; waiting does not mend it, either.
            Cause::Nowhere(what) => Self::Deferred { reply: ours(what), fault: Fault::Route { shut: true } },
            Cause::Lost(what) => {
                // A certificate does not get better by waiting, nor does a server that lacks what the route requires.
                let shut = matches!(failure.stage, Stage::Tls | Stage::Auth);
                Self::Deferred { reply: ours(format!("{what} ({})", failure.stage)), fault: Fault::Route { shut } }
            }
            Cause::Reply(reply) => {
                let shut = reply.class() == ReplyClass::Permanent;
                match failure.stage {
                    Stage::Mail if is_about_size(&reply) && shut => Self::Refused { reply: smtp(&reply) },
                    Stage::Mail if is_about_size(&reply) || is_about_content(&reply) => {
                        Self::Deferred { reply: smtp(&reply), fault: Fault::Record }
                    }
                    Stage::Rcpt | Stage::Data | Stage::EndOfData if shut => Self::Refused { reply: smtp(&reply) },
                    Stage::Rcpt | Stage::Data | Stage::EndOfData => {
                        Self::Deferred { reply: smtp(&reply), fault: Fault::Record }
                    }
                    Stage::Mail => Self::Deferred { reply: smtp(&reply), fault: Fault::Sender { shut } },
                    _ => Self::Deferred { reply: smtp(&reply), fault: Fault::Route { shut } },
                }
            }
        }
    }

    /// What was said.
    pub fn reply(&self) -> &Said {
        match self {
            Self::Accepted { reply, .. } | Self::Deferred { reply, .. } | Self::Refused { reply } => reply,
        }
    }
}

/// RFC 1870, section 6.1: the answers to a size that is declared at MAIL. RFC 3463, section 3.4, has words for them; a 552
/// that has another one is about something else, a quota perhaps.
fn is_about_size(reply: &Reply) -> bool {
    let first = first_word(reply);
    let is_enhanced = first.split('.').count() == 3 && first.starts_with(['4', '5']);
    matches!(first, "5.3.4" | "4.3.4") || reply.code() == 452 || (reply.code() == 552 && !is_enhanced)
}

/// RFC 3463, section 3.7 (x.6.z: the content or its conversion), and RFC 6531, section 3.5 (x.6.7, x.6.9: no SMTPUTF8).
fn is_about_content(reply: &Reply) -> bool {
    let mut parts = first_word(reply).split('.');
    matches!(parts.next(), Some("4" | "5")) && parts.next() == Some("6") && parts.next().is_some()
}

fn first_word(reply: &Reply) -> &str {
    reply.lines().first().and_then(|line| line.split(' ').next()).unwrap_or_default()
}

fn smtp(reply: &Reply) -> Said {
    Said { text: shortened(reply.to_string()), is_smtp: true }
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_SAID {
        text.truncate(text.floor_char_boundary(MAX_SAID));
        text.push('…');
    }
    text
}

fn ours(text: String) -> Said {
    Said { text: shortened(text), is_smtp: false }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Greeting => "waiting for the greeting",
            Self::Hello => "in reply to EHLO",
            Self::Tls => "starting TLS",
            Self::Auth => "in reply to AUTH",
            Self::Mail => "in reply to MAIL",
            Self::Rcpt => "in reply to RCPT",
            Self::Data => "sending the data",
            Self::EndOfData => "in reply to the end of data",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: [Stage; 9] = [
        Stage::Connect,
        Stage::Greeting,
        Stage::Hello,
        Stage::Tls,
        Stage::Auth,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::EndOfData,
    ];

    fn verdict(stage: Stage, cause: Cause) -> Verdict {
        Verdict::of(Err(Failure { stage, cause }), "smtp://archive.example:25")
    }

    #[test]
    fn a_permanent_refusal_counts_for_the_record_only_from_rcpt_on() {
        for stage in STAGES {
            let verdict = verdict(stage, Cause::Reply(Reply::new(550, "5.7.1 no")));
            assert_eq!(matches!(verdict, Verdict::Refused { .. }), stage >= Stage::Rcpt, "{stage:?}");
        }
    }

    #[test]
    fn a_transient_refusal_and_a_lost_connection_defer_at_every_stage() {
        for stage in STAGES {
            for cause in
                [Cause::Reply(Reply::new(451, "later")), Cause::Lost("reset".into()), Cause::Ours("disk".into())]
            {
                assert!(matches!(verdict(stage, cause.clone()), Verdict::Deferred { .. }), "{stage:?} {cause:?}");
            }
        }
    }

    #[test]
    fn the_fault_is_the_route_s_when_it_never_came_to_a_recipient_or_the_line_broke() {
        let fault = |stage, cause| match verdict(stage, cause) {
            Verdict::Deferred { fault, .. } => fault,
            other => panic!("{other:?}"),
        };
        let reply = |code, text: &str| Cause::Reply(Reply::new(code, text));
        for (stage, cause, expected) in [
            (Stage::Mail, reply(550, "who are you"), Fault::Sender { shut: true }),
            (Stage::Mail, reply(451, "later"), Fault::Sender { shut: false }),
            (Stage::Auth, reply(535, "bad password"), Fault::Route { shut: true }),
            (Stage::Auth, reply(454, "later"), Fault::Route { shut: false }),
            (Stage::Auth, Cause::Lost("the server offers no TLS".into()), Fault::Route { shut: true }),
            (Stage::Tls, Cause::Lost("expired".into()), Fault::Route { shut: true }),
            (Stage::Greeting, reply(554, "no"), Fault::Route { shut: true }),
            (Stage::Connect, Cause::Lost("refused".into()), Fault::Route { shut: false }),
            (Stage::EndOfData, Cause::Lost("reset".into()), Fault::Route { shut: false }),
            (Stage::Rcpt, reply(452, "mailbox full"), Fault::Record),
            (Stage::EndOfData, reply(451, "later"), Fault::Record),
            (Stage::Data, Cause::Ours("disk".into()), Fault::Ours),
        ] {
            assert_eq!(fault(stage, cause.clone()), expected, "{stage:?} {cause:?}");
        }
    }

    #[test]
    fn what_mail_is_told_of_the_size_is_about_the_record_alone() {
        let mail = |code, text: &str| verdict(Stage::Mail, Cause::Reply(Reply::new(code, text)));
        for (code, text) in [(552, "too big"), (552, "5.3.4 too big"), (554, "5.3.4 too big"), (550, "5.3.4 no")] {
            assert!(matches!(mail(code, text), Verdict::Refused { .. }), "{code} {text}");
        }
        for (code, text) in [(452, "4.3.1 insufficient system storage"), (451, "4.3.4 too big just now")] {
            assert!(matches!(mail(code, text), Verdict::Deferred { fault: Fault::Record, .. }), "{code} {text}");
        }
        for (code, text) in [(550, "5.7.1 not in 5.3.4"), (552, "5.2.2 over quota")] {
            assert!(
                matches!(mail(code, text), Verdict::Deferred { fault: Fault::Sender { shut: true }, .. }),
                "{text}"
            );
        }
    }

    #[test]
    fn what_mail_is_told_of_the_content_shuts_no_way_and_fails_nothing() {
        let mail = |code, text: &str| verdict(Stage::Mail, Cause::Reply(Reply::new(code, text)));
        for (code, text) in [(550, "5.6.7 no SMTPUTF8"), (554, "5.6.3 no BODY=8BITMIME"), (451, "4.6.9 not now")] {
            assert!(matches!(mail(code, text), Verdict::Deferred { fault: Fault::Record, .. }), "{code} {text}");
        }
        for (code, text) in [(555, "5.5.4 what is SIZE"), (550, "5.7.1 not 5.6.7"), (550, "5.6"), (550, "SMTPUTF8")] {
            assert!(matches!(mail(code, text), Verdict::Deferred { fault: Fault::Sender { .. }, .. }), "{code} {text}");
        }
    }

    #[test]
    fn an_endless_reply_is_cut_between_characters() {
        let refused = verdict(Stage::Rcpt, Cause::Reply(Reply::new(550, "\u{fc}".repeat(MAX_SAID))));
        let text = &refused.reply().text;
        assert!(text.ends_with("\u{fc}…") && text.len() <= MAX_SAID + 3, "{} octets", text.len());
    }

    #[test]
    fn only_the_servers_own_words_are_called_a_reply() {
        assert!(verdict(Stage::Rcpt, Cause::Reply(Reply::new(550, "no"))).reply().is_smtp);
        let lost = verdict(Stage::Data, Cause::Lost("reset".into()));
        assert_eq!(lost.reply(), &Said { text: "reset (sending the data)".into(), is_smtp: false });
    }
}
