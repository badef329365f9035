//! Drives one session: feeds the state machine with what the client sends, does what its steps ask, writes its output.
//!
//! Commands are asked of the next hop as they come; their answers are collected, in order, when the client has nothing
//! more to say (`settle`). So a pipelined group of commands travels on as a group; when its replies are written says `wire`.

use super::auth::Authentication;
use super::crowd::Place;
use super::listener::{Parts, Setup};
use super::patience::Patience;
use super::peer::Peer;
use super::tls::TlsServer;
use super::transaction::{Ending, Transaction};
use super::{is_journaling_sender, is_trusted, may_relay, offers};
use crate::config::TlsMode;
use crate::mail::{Reply, SessionId};
use crate::net::{Stream, Transport};
use crate::smtp::{Auth, CloseReason, Mail, Rcpt, Session, Step};
use crate::watch;
use asks::Ask;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout_at};
use wire::{MAX_OUTPUT, feed, flush, meanwhile};

mod asks;
mod traced;
mod wire;

/// Why a session ended, when the state machine did not end it.
enum Gone {
    /// The client closed the connection, or the network did.
    Client,
    /// The client was silent for too long.
    Silent,
    /// The client did not take what it was told.
    Deaf,
    /// The daemon drains, and no transaction was open.
    Draining,
}

/// Serves one connection until it ends.
pub(super) async fn serve(
    stream: Stream,
    peer: Peer,
    id: SessionId,
    setup: watch::Receiver<Arc<Setup>>,
    parts: Arc<Parts>,
    place: Place,
) {
    // Its name can't change under it.
    let listener = setup.borrow().listener.name.clone();
    let hostname = setup.borrow().config.hostname.clone();
    let tls = setup.borrow().tls.clone();
    let limits = setup.borrow().listener.limits.clone();
    let mode = tls.as_ref().map(TlsServer::mode);
    let session = traced::session(&setup.borrow(), peer.address.ip());
    let mut driver = Driver {
        stream: Transport::Plain(stream),
        session,
        transaction: None,
        ending: None,
        asks: VecDeque::new(),
        peer,
        place,
        reported: 0,
        patience: Patience::new(),
        tls: None,
        auth: Authentication::new(id, setup.clone(), parts.files.clone()),
        id,
        setup,
        parts,
    };
    let begun = match tls.filter(|_| mode == Some(TlsMode::Implicit)) {
        Some(tls) => driver.encrypt(&tls).await.inspect(|()| driver.session.tls_started()),
        None => Ok(()),
    };
    let (client, proxy, label) =
        (driver.peer.address, driver.peer.proxy.map(tracing::field::display), driver.peer.tls_label());
    tracing::info!(event = "session.opened", session = %id, listener, %client, proxy, tls = label, "a client connected");
    let reason = match begun {
        Ok(()) if driver.talks_early(limits.greeting_delay).await => driver.send_away().await,
        Ok(()) => {
            driver.session.greet(Reply::new(220, format!("{hostname} ESMTP journal-relay")));
            driver.converse().await
        }
        Err(reason) => reason,
    };
    driver.has_erred_enough(false);
    // A message that is durable goes on whatever has become of its client.
    if let Some(ending) = driver.ending.take() {
        Box::pin(ending.hear(driver.transaction.as_deref_mut())).await;
    }
    // Dropping an open transaction closes the conversation with the next hop: without its final dot it is nothing.
    drop(driver.transaction.take());
    driver.auth.forget();
    driver.setup.borrow().next_hop.part_with(client);
    traced::tell(&mut driver.session, id, client);
    let label = driver.peer.tls_label();
    tracing::info!(event = "session.closed", session = %id, listener, %client, tls = label, reason, "the session is over");
}

struct Driver {
    stream: Transport,
    session: Session,
    transaction: Option<Box<Transaction>>,
    /// The message before, until its verdict is heard; an ask stands for it.
    ending: Option<Box<Ending>>,
    asks: VecDeque<Ask>,
    peer: Peer,
    place: Place,
    /// Errors of the client that its network's count has.
    reported: u32,
    patience: Patience,
    /// What STARTTLS was offered for.
    tls: Option<TlsServer>,
    auth: Authentication,
    id: SessionId,
    setup: watch::Receiver<Arc<Setup>>,
    parts: Arc<Parts>,
}

impl Driver {
    /// The conversation, to its end; why it ended.
    async fn converse(&mut self) -> &'static str {
        loop {
            match self.go_on().await {
                Ok(None) => {}
                Ok(Some(reason)) => return reason,
                Err(gone) => return self.leave(gone).await,
            }
        }
    }

    /// One step; why it was the last one.
    async fn go_on(&mut self) -> Result<Option<&'static str>, Gone> {
        traced::tell(&mut self.session, self.id, self.peer.address);
        if self.session.output().len() > MAX_OUTPUT {
            self.flush().await?;
        }
        match self.session.step() {
            Step::Content(octets, flaws) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.content(octets, flaws).await;
                    transaction.refuse_chunk(&mut self.session);
                }
            }
            // An answer may end the session: then nothing is waited for.
            Step::NeedInput if !self.asks.is_empty() => self.settle().await?,
            Step::NeedInput => self.exchange().await?,
            Step::AwaitAnswers => self.settle().await?,
            Step::Hello { name, extended } => {
                self.peer.name = name.to_owned();
                self.peer.extended = extended;
                self.hello().await;
            }
            Step::Mail(mail) => self.mail(mail).await?,
            Step::Rcpt(rcpt) => self.rcpt(rcpt).await?,
            Step::Data { chunked } => self.data(chunked),
            Step::EndOfData(flaws) => self.end_of_data(flaws).await?,
            Step::Auth(auth) => self.authenticate(auth).await?,
            Step::AuthResponse(response) => {
                let answer = self.auth.respond(response, &mut self.peer);
                let reply = meanwhile(&mut self.stream, self.session.output(), answer).await?;
                self.session.answered(reply);
            }
            Step::AuthAbort => self.auth.forget(),
            Step::Reset => {
                self.settle().await?;
                self.drop_transaction();
            }
            Step::StartTls => return Ok(self.start_tls().await.err()),
            Step::Close(reason) => return Ok(Some(self.close(reason).await)),
        }
        Ok(None)
    }

    async fn authenticate(&mut self, auth: Auth) -> Result<(), Gone> {
        // Another session of the client may have used up what it may guess.
        if self.has_erred_enough(true) {
            self.session.end_for_errors();
            return Ok(());
        }
        let answer = Box::pin(self.auth.begin(auth, &mut self.peer));
        let reply = meanwhile(&mut self.stream, self.session.output(), answer).await?;
        self.session.answered(reply);
        Ok(())
    }

    /// Whether a client that is not trusted says something before it is greeted (RFC 5321, section 4.3.1, forbids it), as
    /// programs do that send mail without listening.
    async fn talks_early(&mut self, delay: Duration) -> bool {
        if delay.is_zero() || is_trusted(&self.setup.borrow().listener, self.peer.address.ip()) {
            return false;
        }
        let drain = self.parts.drain.clone();
        let (stream, session) = (&mut self.stream, &mut self.session);
        tokio::select! {
            biased;
            () = drain.begun() => false,
            said = feed(stream, session) => said.is_ok_and(|octets| octets > 0),
            () = sleep(delay) => false,
        }
    }

    async fn send_away(&mut self) -> &'static str {
        // A load balancer that is not listed, or a browser, hears of it instead.
        if let Step::Close(reason) = self.session.step() {
            return self.close(reason).await;
        }
        self.session.output().clear();
        self.session.say(Reply::new(421, "4.7.0 you talk before you are greeted"));
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
        "pregreet"
    }

    /// The 220 goes out, and the handshake begins.
    async fn start_tls(&mut self) -> Result<(), &'static str> {
        if let Err(gone) = self.flush().await {
            return Err(self.leave(gone).await);
        }
        // Without an offer the session refuses the command by itself.
        let Some(tls) = self.tls.take() else { return Err("starttls") };
        self.encrypt(&tls).await?;
        self.auth.forget();
        self.session.tls_started();
        Ok(())
    }

    async fn encrypt(&mut self, tls: &TlsServer) -> Result<(), &'static str> {
        let drain = self.parts.drain.clone();
        let accepted = tokio::select! {
            biased;
            () = drain.begun() => return Err("draining"),
            accepted = tls.accept(&mut self.stream) => accepted,
        };
        match accepted {
            Ok(()) => {
                self.peer.encrypted(self.stream.agreed());
                let cipher = self.peer.tls.map_or("none", |agreed| agreed.cipher);
                tracing::debug!(event = "session.encrypted", session = %self.id, tls = self.peer.tls_label(), cipher, "TLS is on");
                Ok(())
            }
            Err(error) => {
                tracing::info!(event = "session.encrypted", session = %self.id, client = %self.peer.address, tls = "failed", %error, "the handshake with a client failed");
                Err("tls_failed")
            }
        }
    }

    /// Tells the client what the next hop and this relay can both do.
    async fn hello(&mut self) {
        let setup = Arc::clone(&self.setup.borrow());
        let next_hop = offers::of_next_hop(&setup.next_hop).await;
        self.tls = setup.tls.clone().filter(|tls| tls.mode() != TlsMode::Implicit);
        let offers = offers::to_client(&setup.listener, next_hop, self.tls.is_some(), &self.peer);
        self.session.announce(&offers);
    }

    async fn mail(&mut self, mut mail: Mail) -> Result<(), Gone> {
        self.drop_transaction();
        let mut setup = Arc::clone(&self.setup.borrow());
        let private = self.auth.private(&self.peer);
        if let Some(ending) = self.ending.as_deref_mut() {
            let goes_on = private.is_none() && ending.may_go_on(&setup, &mail) && ending.say();
            if !goes_on {
                Box::pin(self.settle()).await?;
                // The verdict has ended the session.
                if !self.session.has_outstanding() {
                    return Ok(());
                }
                // That may have taken its time.
                setup = Arc::clone(&self.setup.borrow());
            }
        }
        if self.parts.drain.has_begun() {
            self.asks.push_back(Ask::Answer(Reply::new(421, "4.3.2 the relay is shutting down, try again later")));
            return Ok(());
        }
        if let Err((reply, why)) = self.place.message(&setup.listener.limits) {
            self.refuse_rate(&setup, &reply, why);
            self.asks.push_back(Ask::Answer(reply));
            return Ok(());
        }
        if !self.peer.authenticated && !is_trusted(&setup.listener, self.peer.address.ip()) {
            mail.distrust_submitter();
        }
        let before = self.ending.as_deref_mut();
        let opening =
            Box::pin(Transaction::open(self.id, &self.peer, mail, setup, &self.parts, private.as_ref(), before));
        match meanwhile(&mut self.stream, self.session.output(), opening).await? {
            Ok(transaction) => {
                self.transaction = Some(transaction);
                self.asks.push_back(Ask::Mail);
            }
            Err(reply) => self.asks.push_back(Ask::Answer(reply)),
        }
        Ok(())
    }

    async fn rcpt(&mut self, rcpt: Rcpt) -> Result<(), Gone> {
        if is_journaling_sender(&self.setup.borrow().config, &rcpt.forward_path) {
            // Whether it comes alone is known once the next hop has answered for the others.
            Box::pin(self.settle()).await?;
            let refused = || Reply::new(503, "5.5.1 send MAIL first");
            let reply = self.transaction.as_mut().map_or_else(refused, |it| it.take_bounce(&rcpt.forward_path));
            self.asks.push_back(Ask::Answer(reply));
            return Ok(());
        }
        let ask = match &mut self.transaction {
            None => Ask::Answer(Reply::new(503, "5.5.1 send MAIL first")),
            Some(transaction) => {
                let setup = transaction.setup();
                // What an authenticated client may do the next hop decides.
                let trusted = self.peer.authenticated || is_trusted(&setup.listener, self.peer.address.ip());
                let allowed = may_relay(&setup.config, trusted, &rcpt.forward_path)
                    .and_then(|()| self.place.recipient(&setup.listener.limits));
                match allowed {
                    Ok(()) => match transaction.rcpt(&rcpt) {
                        Ok(()) => Ask::Rcpt(rcpt.forward_path),
                        Err(reply) => Ask::Answer(reply),
                    },
                    Err(reply) => {
                        transaction.log_refusal("RCPT", Some(&rcpt.forward_path), &reply);
                        Ask::Answer(reply)
                    }
                }
            }
        };
        self.asks.push_back(ask);
        Ok(())
    }

    /// Counts new errors of the client for its network; whether they are too many now, and where it `guesses` whether those of
    /// its other sessions are.
    fn has_erred_enough(&mut self, guesses: bool) -> bool {
        let new = self.session.errors().saturating_sub(self.reported);
        if new > 0 {
            self.reported = self.session.errors();
            self.place.errors(new);
        }
        (guesses || new > 0) && self.place.has_erred_enough(&self.setup.borrow().listener.limits)
    }

    fn refuse_rate(&self, setup: &Setup, reply: &Reply, why: &'static str) {
        tracing::warn!(
            event = "message.refused", session = %self.id, listener = setup.listener.name, client = %self.peer.address.ip(),
            stage = "MAIL", %reply, "{why}"
        );
    }

    fn data(&mut self, chunked: bool) {
        let asked = self.transaction.as_mut().is_some_and(|transaction| transaction.data(chunked));
        self.asks.push_back(if asked { Ask::Data } else { Ask::Answer(Reply::new(554, "5.5.1 no valid recipients")) });
    }

    fn drop_transaction(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            transaction.release();
        }
    }

    /// Writes what the client is to know, and feeds what it says next.
    async fn exchange(&mut self) -> Result<(), Gone> {
        if self.has_erred_enough(false) {
            self.session.end_for_errors();
            return Ok(());
        }
        let progressed = !self.session.output().is_empty();
        self.flush().await?;
        self.patience.look(self.session.in_data(), progressed);
        let until = self.patience.until();
        let idle = self.transaction.is_none();
        let drain = &self.parts.drain;
        let (stream, session) = (&mut self.stream, &mut self.session);
        tokio::select! {
            biased;
            () = drain.begun(), if idle => Err(Gone::Draining),
            read = timeout_at(until, feed(stream, session)) => match read {
                Ok(Ok(0) | Err(_)) => Err(Gone::Client),
                Ok(Ok(octets)) => {
                    self.patience.came(octets);
                    Ok(())
                }
                Err(_) => Err(Gone::Silent),
            },
        }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        flush(&mut self.stream, self.session.output()).await
    }

    /// The last words to a client that did not end the session itself.
    async fn leave(&mut self, gone: Gone) -> &'static str {
        let (text, reason) = match gone {
            Gone::Client => return "the client is gone",
            Gone::Deaf => return "timeout",
            Gone::Silent => ("4.4.2 no word from you for too long", "timeout"),
            Gone::Draining => ("4.3.2 the relay is shutting down, try again later", "draining"),
        };
        self.session.say(Reply::new(421, text));
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
        reason
    }

    async fn close(&mut self, reason: CloseReason) -> &'static str {
        let _ = self.settle().await;
        self.drop_transaction();
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
        reason.as_str()
    }
}
