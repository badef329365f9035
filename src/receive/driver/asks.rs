//! What a session asks and others answer, in order, and the end of a message among it.

use super::wire::{MAX_OUTPUT, meanwhile};
use super::{Driver, Gone};
use crate::mail::{Address, Reply};
use crate::smtp::Flaws;
use std::sync::Arc;

/// An answer that the session waits for.
pub(super) enum Ask {
    /// Known already.
    Answer(Reply),
    /// The next hop's to MAIL.
    Mail,
    /// The next hop's to RCPT.
    Rcpt(Address),
    /// The next hop's to DATA.
    Data,
    /// The next hop's verdict on a message that is durable.
    EndOfData,
}

impl Driver {
    /// Makes the message durable. The next hop hears of its end with what the client has said behind it, if anything.
    pub(super) async fn end_of_data(&mut self, flaws: Flaws) -> Result<(), Gone> {
        let Some(transaction) = self.transaction.take() else {
            self.session.answered(Reply::new(503, "5.5.1 no transaction"));
            return Ok(());
        };
        let current = Arc::clone(&self.setup.borrow().config);
        let ending = &mut self.ending;
        // Boxed, as the opening is: idle sessions, of which there are many, need not have the room.
        let keeping = Box::pin(async move {
            match transaction.keep(flaws, &current).await {
                Ok(kept) => {
                    *ending = Some(kept);
                    None
                }
                Err(reply) => Some(reply),
            }
        });
        match meanwhile(&mut self.stream, self.session.output(), keeping).await? {
            Some(reply) => self.session.answered(reply),
            None => self.asks.push_back(Ask::EndOfData),
        }
        Ok(())
    }

    /// Collects the answers to everything asked, in order.
    pub(super) async fn settle(&mut self) -> Result<(), Gone> {
        while let Some(ask) = self.asks.pop_front() {
            let (transaction, ending) = (&mut self.transaction, &mut self.ending);
            let answer = async {
                match (ask, transaction) {
                    (Ask::Answer(reply), _) => reply,
                    (Ask::EndOfData, next) => match ending.take() {
                        Some(ending) => Box::pin(ending.hear(next.as_deref_mut())).await,
                        None => Reply::new(503, "5.5.1 no message"),
                    },
                    (Ask::Mail, Some(transaction)) => transaction.answer_mail().await,
                    (Ask::Rcpt(forward_path), Some(transaction)) => transaction.answer_rcpt(forward_path).await,
                    (Ask::Data, Some(transaction)) => transaction.answer_data().await,
                    (_, None) => Reply::new(503, "5.5.1 no transaction"),
                }
            };
            let reply = meanwhile(&mut self.stream, self.session.output(), answer).await?;
            self.session.answered(reply);
            // It has ended the session: nobody waits for the others.
            if !self.session.has_outstanding() {
                self.asks.clear();
            }
            if self.session.output().len() > MAX_OUTPUT {
                self.flush().await?;
            }
        }
        if self.transaction.as_ref().is_some_and(|transaction| transaction.is_refused()) {
            self.drop_transaction();
        }
        Ok(())
    }
}
