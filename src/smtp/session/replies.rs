//! Texts of the replies that the session makes itself. All have an enhanced code but those to HELO and EHLO (RFC 2034,
//! section 4).

use crate::mail::Reply;
use crate::smtp::{Extensions, Limits};

/// The reply to EHLO (RFC 5321, section 4.1.1.1): a line for each extension offered.
pub(super) fn ehlo(hostname: &str, name: &str, offers: &Extensions) -> Reply {
    let mut lines = vec![format!("{hostname} greets {name}")];
    let mut offer = |offered: bool, line: &str| {
        if offered {
            lines.push(line.to_owned());
        }
    };
    offer(offers.pipelining, "PIPELINING");
    // RFC 1870, section 4: without a number the limit is not told; zero would say that there is none.
    let size =
        offers.size.filter(|limit| *limit > 0).map_or_else(|| "SIZE".to_owned(), |limit| format!("SIZE {limit}"));
    offer(offers.size.is_some(), &size);
    offer(offers.eight_bit_mime, "8BITMIME");
    offer(offers.smtp_utf8, "SMTPUTF8");
    offer(offers.enhanced_status_codes, "ENHANCEDSTATUSCODES");
    offer(offers.starttls, "STARTTLS");
    let mechanisms = offers.auth.iter().fold("AUTH".to_owned(), |line, mechanism| line + " " + mechanism.as_str());
    offer(!offers.auth.is_empty(), &mechanisms);
    offer(offers.dsn, "DSN");
    offer(offers.chunking, "CHUNKING");
    offer(offers.require_tls, "REQUIRETLS");
    let limits = format!("LIMITS{}", offers.limits);
    offer(offers.limits != Limits::default(), &limits);
    Reply::multiline(250, lines)
}

pub(super) fn helo(hostname: &str, name: &str) -> Reply {
    Reply::new(250, format!("{hostname} greets {name}"))
}

pub(super) fn ok() -> Reply {
    Reply::new(250, "2.0.0 Ok")
}

pub(super) fn chunk_taken(octets: u64) -> Reply {
    Reply::new(250, format!("2.0.0 Ok: {octets} octets"))
}

pub(super) fn goodbye() -> Reply {
    Reply::new(221, "2.0.0 Bye")
}

/// RFC 5321, section 7.3: who is here is not told, and not denied either.
pub(super) fn cannot_verify() -> Reply {
    Reply::new(252, "2.0.0 Cannot VRFY user, but will take mail for it and try to deliver it")
}

pub(super) fn help() -> Reply {
    Reply::new(214, "2.0.0 Commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP STARTTLS QUIT (RFC 5321)")
}

pub(super) fn ready_for_tls() -> Reply {
    Reply::new(220, "2.0.0 Ready to start TLS")
}

/// RFC 3207, section 4.
pub(super) fn tls_required() -> Reply {
    Reply::new(530, "5.7.0 Must issue a STARTTLS command first")
}

pub(super) fn not_implemented() -> Reply {
    Reply::new(502, "5.5.1 Error: command not implemented")
}

pub(super) fn bad_sequence(why: &str) -> Reply {
    Reply::new(503, format!("5.5.1 Error: {why}"))
}

pub(super) fn no_valid_recipients() -> Reply {
    Reply::new(554, "5.5.1 Error: no valid recipients")
}

/// RFC 5321, section 4.5.3.1.10.
pub(super) fn too_many_recipients() -> Reply {
    Reply::new(452, "4.5.3 Error: too many recipients")
}

pub(super) fn line_too_long() -> Reply {
    Reply::new(500, "5.5.2 Error: line too long")
}

/// RFC 4954, section 4.
pub(super) fn unknown_mechanism() -> Reply {
    Reply::new(504, "5.5.4 Error: this mechanism is not offered")
}

/// RFC 4954, section 4.
pub(super) fn not_base64() -> Reply {
    Reply::new(501, "5.5.2 Error: this is not base64")
}

/// RFC 4954, sections 4 and 6.
pub(super) fn response_too_long() -> Reply {
    Reply::new(500, "5.5.6 Error: the response is too long")
}

pub(super) fn too_many_errors(hostname: &str) -> Reply {
    Reply::new(421, format!("4.7.0 {hostname} Error: too many errors"))
}

pub(super) fn not_a_web_server(hostname: &str) -> Reply {
    Reply::new(421, format!("4.7.0 {hostname} Error: this is a mail server"))
}

/// For now: whoever runs both will list the load balancer, and its clients' mail must not bounce for that.
pub(super) fn no_proxy_header(hostname: &str) -> Reply {
    Reply::new(421, format!("4.7.0 {hostname} Error: no PROXY header is expected from you"))
}
