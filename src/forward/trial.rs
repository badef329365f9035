//! Trying a next hop out: an envelope without a message, as far as its recipients (RFC 5321, section 3.3), and the
//! farewell. Nothing is relayed: DATA is never said.

use super::identity::ClientFacts;
use super::{Lost, NextHop, Unreachable, Way};
use crate::mail::{Address, Reply, ReversePath};
use crate::net::Agreed;
use crate::smtp::{Body, Mail, Rcpt};
use std::net::SocketAddr;
use std::sync::Arc;

/// What a next hop said.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Where it was reached; none where it is a directory.
    pub address: Option<SocketAddr>,
    /// What TLS was agreed on.
    pub tls: Option<Agreed>,
    /// The reply to MAIL.
    pub mail: Reply,
    /// The replies to RCPT, in the order of the recipients; none when MAIL was refused.
    pub rcpts: Vec<Reply>,
}

/// Why nothing can be told of a next hop.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// There is no conversation.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// It broke.
    #[error("{0}")]
    Lost(#[from] Lost),
    /// A maildir can't be written.
    #[error("{0}")]
    Directory(#[from] std::io::Error),
}

impl NextHop {
    /// Says MAIL and RCPT on a new connection, for `client` where the next hop is to learn who it is, and takes leave.
    ///
    /// # Errors
    /// [`TrialError`], by where it ended. A refusal is no error: it stands in the [`Trial`].
    pub async fn try_out(
        self: &Arc<Self>,
        client: ClientFacts,
        reverse_path: &ReversePath,
        forward_paths: &[Address],
    ) -> Result<Trial, TrialError> {
        if let Way::Maildir(maildir) = &self.way {
            let text =
                if maildir.is_writable().await? { "it can be written" } else { "it is made at the first message" };
            let fine = Reply::new(250, text);
            return Ok(Trial { address: None, tls: None, mail: fine.clone(), rcpts: vec![fine; forward_paths.len()] });
        }
        let mut leg = self.open_for(client, "trial").await?;
        let (address, tls) = leg.reached().map_or((None, None), |(address, tls)| (Some(address), tls));
        leg.mail(&Mail {
            reverse_path: reverse_path.clone(),
            size: None,
            body: Body::SevenBit,
            smtp_utf8: false,
            parameters: Vec::new(),
        });
        let mail = leg.reply().await?;
        let mut rcpts = Vec::new();
        if mail.is_completion() {
            // One by one: who refuses much is quick to end a conversation, and its last word is to be heard.
            for forward_path in forward_paths {
                leg.rcpt(&Rcpt { forward_path: forward_path.clone(), parameters: Vec::new() });
                rcpts.push(leg.reply().await?);
            }
        }
        leg.release();
        self.close_idle().await;
        Ok(Trial { address, tls, mail, rcpts })
    }
}
