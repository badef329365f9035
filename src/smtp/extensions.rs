//! What a server offers in its reply to EHLO (RFC 5321, section 4.1.1.1), as a value both sides share.

use super::sasl::Mechanism;

/// The service extensions of one server; all absent after HELO.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): the limit in octets; `Some(0)` when announced without one.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtp_utf8: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030).
    pub binary_mime: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// LIMITS (RFC 9422).
    pub limits: Limits,
    /// AUTH (RFC 4954): the mechanisms that can be passed on, in the server's order.
    pub auth: Vec<Mechanism>,
}

/// What one connection, and one transaction of it, may hold at most (RFC 9422, section 4); none is no limit that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// MAILMAX: transactions of a connection.
    pub mail_max: Option<u64>,
    /// RCPTMAX: recipients of a transaction.
    pub rcpt_max: Option<u64>,
    /// RCPTDOMAINMAX: different domains among the recipients of a transaction.
    pub rcpt_domain_max: Option<u64>,
}

impl Limits {
    /// Reads what stands behind the keyword. What is not known, is no number, or is zero, is no limit.
    pub fn read(text: &str) -> Self {
        let mut limits = Self::default();
        for word in text.split_ascii_whitespace() {
            let Some((name, value)) = word.split_once('=') else { continue };
            let limit = value.parse().ok().filter(|limit| *limit > 0);
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => limits.mail_max = limit,
                "RCPTMAX" => limits.rcpt_max = limit,
                "RCPTDOMAINMAX" => limits.rcpt_domain_max = limit,
                _ => {}
            }
        }
        limits
    }
}

/// As it is announced; empty without any.
impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [("MAILMAX", self.mail_max), ("RCPTMAX", self.rcpt_max), ("RCPTDOMAINMAX", self.rcpt_domain_max)];
        all.iter().try_for_each(|(name, limit)| limit.map_or(Ok(()), |limit| write!(f, " {name}={limit}")))
    }
}
