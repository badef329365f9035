//! The commands of a client as values, and how their lines are read (RFC 5321, section 4.1).

use crate::mail::{Address, ReversePath};

/// `BODY=` of MAIL (RFC 6152, RFC 3030).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// Not given, or `7BIT`.
    #[default]
    SevenBit,
    /// `8BITMIME`
    EightBitMime,
}

/// `KEYWORD=value` behind a path, as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The keyword.
    pub keyword: String,
    /// What stands behind the `=`, when there is one.
    pub value: Option<String>,
}

/// `MAIL FROM:<reverse-path> parameters`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Who sent.
    pub reverse_path: ReversePath,
    /// `SIZE=`: the octets the client expects to send.
    pub size: Option<u64>,
    /// `BODY=`
    pub body: Body,
    /// `SMTPUTF8` was given.
    pub smtp_utf8: bool,
    /// All parameters in their order, those above included.
    pub parameters: Vec<Parameter>,
}

/// `RCPT TO:<forward-path> parameters`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt {
    /// Who shall get it; a source route is gone (RFC 5321, section 4.1.1.3).
    pub forward_path: Address,
    /// All parameters in their order.
    pub parameters: Vec<Parameter>,
}
