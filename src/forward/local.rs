//! The next hop that is a directory: a conversation with a server that takes everything and keeps it in a maildir.

use crate::mail::Reply;
use crate::maildir::{Delivery, Maildir};
use crate::smtp::client::Offer;
use std::collections::VecDeque;
use std::io;

/// What a maildir offers: whatever changes nothing about how octets are kept.
pub(super) fn offer() -> Offer {
    let lines = ["maildir", "PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING"];
    Offer::from_ehlo(&Reply::multiline(250, lines.map(str::to_owned).to_vec()))
}

/// One transaction into a maildir.
pub(super) struct MaildirLeg {
    maildir: Maildir,
    offer: Offer,
    unanswered: VecDeque<Question>,
    /// From the 354 to the end of data.
    delivery: Option<Delivery>,
    /// What went wrong meanwhile; told at the end of data.
    failure: Option<io::Error>,
}

/// What waits for its reply.
enum Question {
    Mail,
    Rcpt,
    Data,
}

impl MaildirLeg {
    pub(super) fn new(maildir: Maildir) -> Self {
        Self { maildir, offer: offer(), unanswered: VecDeque::new(), delivery: None, failure: None }
    }

    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    pub(super) fn mail(&mut self) {
        self.unanswered.push_back(Question::Mail);
    }

    pub(super) fn rcpt(&mut self) {
        self.unanswered.push_back(Question::Rcpt);
    }

    pub(super) fn data(&mut self) {
        self.unanswered.push_back(Question::Data);
    }

    /// None when nothing was asked.
    pub(super) async fn reply(&mut self) -> Option<Reply> {
        Some(match self.unanswered.pop_front()? {
            Question::Mail => Reply::new(250, "2.1.0 Ok"),
            Question::Rcpt => Reply::new(250, "2.1.5 Ok"),
            Question::Data => self.begin().await,
        })
    }

    /// Begins to keep a message: a 354, or a refusal.
    pub(super) async fn begin(&mut self) -> Reply {
        match self.maildir.begin().await {
            Ok(delivery) => {
                self.delivery = Some(delivery);
                self.failure = None;
                Reply::new(354, "End data with <CR><LF>.<CR><LF>")
            }
            Err(error) => self.failing(&error),
        }
    }

    /// Tells whether the octets were asked for.
    pub(super) async fn content(&mut self, octets: &[u8]) -> bool {
        let Some(delivery) = &mut self.delivery else { return false };
        if self.failure.is_none() {
            self.failure = delivery.write(octets).await.err();
        }
        true
    }

    /// None when no message was asked for.
    pub(super) async fn finish(&mut self) -> Option<Reply> {
        let delivery = self.delivery.take()?;
        let kept = match self.failure.take() {
            None => delivery.finish().await,
            Some(error) => Err(error),
        };
        Some(match kept {
            Ok(name) => Reply::new(250, format!("2.0.0 Ok: kept as {name}")),
            Err(error) => self.failing(&error),
        })
    }

    pub(super) fn abandon(&mut self) {
        self.delivery = None;
        self.unanswered.clear();
    }

    /// The disk's fault, not the message's (RFC 3463, X.3.0).
    fn failing(&self, error: &io::Error) -> Reply {
        let route = self.maildir.path().display();
        tracing::error!(event = "route.state", route = %format_args!("maildir:{route}"), state = "failing", %error, "a message could not be kept");
        Reply::new(451, "4.3.0 the message could not be kept, try again later")
    }
}
