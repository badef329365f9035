//! How long a next hop is waited for, and how many idle connections are kept.

use crate::config::ClientIdentity;
use crate::net::{self, SharedNetwork};
use crate::smtp::client::Verb;
use std::time::Duration;

/// For a TCP connection to one address, and for the resolver.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For a TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// For the greeting (RFC 5321, section 4.5.3.2.1), and for EHLO, STARTTLS, AUTH and XCLIENT, which the RFC is silent about.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// For the reply to MAIL (RFC 5321, section 4.5.3.2.2), and to RSET.
pub const MAIL_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// For the reply to RCPT (RFC 5321, section 4.5.3.2.3).
pub const RCPT_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// For the reply to DATA (RFC 5321, section 4.5.3.2.4).
pub const DATA_TIMEOUT: Duration = Duration::from_secs(2 * 60);
/// For each block of the message to be taken (RFC 5321, section 4.5.3.2.5).
pub const DATA_BLOCK_TIMEOUT: Duration = Duration::from_secs(3 * 60);
/// For the reply to the final dot (RFC 5321, section 4.5.3.2.6).
pub const END_OF_DATA_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// For the farewell of all idle connections together.
pub const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept for one next hop.
pub const MAX_IDLE: usize = 100;
/// How long one is kept; servers close idle ones after 300 s (Postfix) or more.
pub const IDLE_TIME: Duration = Duration::from_secs(60);
/// Transactions over one connection of the pool. Servers have limits that they don't announce, and refuse recipients beyond
/// (OpenSMTPD after 100 by default): clients would hear that as long as the connection is in use.
pub const MAX_MAILS: u64 = 100;

/// How long what a next hop has offered is taken to be offered still.
pub const OFFER_HOLDS: Duration = Duration::from_secs(30);

/// Names, waits and limits of the conversations with one next hop.
#[derive(Clone)]
pub struct Settings {
    /// Where connections are made.
    pub network: SharedNetwork,
    /// What EHLO says.
    pub hello_name: String,
    /// How the server learns who our client is.
    pub identity: ClientIdentity,
    /// [`CONNECT_TIMEOUT`]
    pub connect: Duration,
    /// [`HANDSHAKE_TIMEOUT`]
    pub handshake: Duration,
    /// [`GREETING_TIMEOUT`]
    pub greeting: Duration,
    /// [`MAIL_TIMEOUT`]
    pub mail: Duration,
    /// [`RCPT_TIMEOUT`]
    pub rcpt: Duration,
    /// [`DATA_TIMEOUT`]
    pub data: Duration,
    /// [`DATA_BLOCK_TIMEOUT`]; also for the reply to a chunk.
    pub data_block: Duration,
    /// [`END_OF_DATA_TIMEOUT`]
    pub end_of_data: Duration,
    /// [`QUIT_TIMEOUT`]
    pub quit: Duration,
    /// [`MAX_IDLE`]
    pub max_idle: usize,
    /// [`IDLE_TIME`]
    pub idle_time: Duration,
    /// [`MAX_MAILS`]
    pub max_mails: u64,
    /// [`OFFER_HOLDS`]
    pub offer_holds: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            network: net::system(),
            hello_name: "localhost".to_owned(),
            identity: ClientIdentity::None,
            connect: CONNECT_TIMEOUT,
            handshake: HANDSHAKE_TIMEOUT,
            greeting: GREETING_TIMEOUT,
            mail: MAIL_TIMEOUT,
            rcpt: RCPT_TIMEOUT,
            data: DATA_TIMEOUT,
            data_block: DATA_BLOCK_TIMEOUT,
            end_of_data: END_OF_DATA_TIMEOUT,
            quit: QUIT_TIMEOUT,
            max_idle: MAX_IDLE,
            idle_time: IDLE_TIME,
            max_mails: MAX_MAILS,
            offer_holds: OFFER_HOLDS,
        }
    }
}

impl Settings {
    /// How long the reply to `verb` is waited for.
    pub(super) fn wait_for(&self, verb: Verb) -> Duration {
        match verb {
            Verb::Greeting | Verb::Ehlo | Verb::Helo | Verb::StartTls | Verb::Auth | Verb::Xclient => self.greeting,
            Verb::Xforward | Verb::Mail | Verb::Reset => self.mail,
            Verb::Rcpt => self.rcpt,
            Verb::Data => self.data,
            Verb::Chunk => self.data_block,
            Verb::EndOfData => self.end_of_data,
            Verb::Quit => self.quit,
        }
    }
}
