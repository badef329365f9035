//! A client that authenticates at the next hop, through us (RFC 4954).
//!
//! The client's lines are passed on as they are and the next hop's replies come back as they are; whether the client is who
//! it says the next hop alone decides. The connection on which it did so is the client's own from then on: all its
//! transactions go over it, nobody else's do, and it ends with the session. When it is lost the client is sent away with a
//! 421, since nobody but the client can authenticate again.
//!
//! What may hold a password is neither logged nor kept.

use super::files::{Files, Piece};
use super::listener::Setup;
use super::peer::Peer;
use super::transaction::OPEN_TIMEOUT;
use crate::forward::Private;
use crate::mail::{Reply, SessionId};
use crate::smtp::{Auth, Login, Mechanism, Secret};
use crate::watch;
use std::sync::Arc;
use tokio::time::timeout;

/// How far one session's client has come.
pub(super) struct Authentication {
    session: SessionId,
    setup: watch::Receiver<Arc<Setup>>,
    /// Where it authenticates, or has.
    private: Option<Arc<Private>>,
    /// The share of open files that this takes.
    piece: Option<Piece>,
    files: Files,
    /// What it has said of itself, until it is answered for good.
    under_way: Option<(Mechanism, Login)>,
}

impl Authentication {
    /// A client that has not authenticated.
    pub(super) fn new(session: SessionId, setup: watch::Receiver<Arc<Setup>>, files: Files) -> Self {
        Self { session, setup, private: None, piece: None, files, under_way: None }
    }

    /// Passes AUTH on; the reply to it.
    pub(super) async fn begin(&mut self, auth: Auth, peer: &mut Peer) -> Reply {
        let mut login = Login::new(auth.mechanism);
        if let Some(initial) = &auth.initial {
            login.hear(initial);
        }
        self.under_way = Some((auth.mechanism, login));
        let said = self.say(auth, peer).await;
        self.judge(said, peer)
    }

    /// Passes the client's response to a 334 on; the reply to it.
    pub(super) async fn respond(&mut self, response: Secret, peer: &mut Peer) -> Reply {
        if let Some((_, login)) = &mut self.under_way {
            login.hear(&response);
        }
        let said = match &self.private {
            Some(private) => private.respond(response).await.map_err(|lost| lost.to_string()),
            None => Err("it is lost".to_owned()),
        };
        self.judge(said, peer)
    }

    /// Forgets everything: what is under way, and what the client had achieved.
    pub(super) fn forget(&mut self) {
        self.under_way = None;
        self.piece = None;
        if let Some(private) = self.private.take() {
            private.quit();
        }
    }

    /// Where the transactions of a client go that has authenticated.
    pub(super) fn private(&self, peer: &Peer) -> Option<Arc<Private>> {
        self.private.clone().filter(|_| peer.authenticated)
    }

    async fn say(&mut self, auth: Auth, peer: &Peer) -> Result<Reply, String> {
        let setup = Arc::clone(&self.setup.borrow());
        if !setup.listener.auth.allows(peer.tls.is_some()) {
            return Err("the listener's auth does not allow it any more".to_owned());
        }
        if self.piece.is_none() {
            self.piece = Some(self.files.transaction().map_err(|reply| reply.to_string())?);
        }
        // One that is left from an earlier attempt, unless the next hop is another one now.
        let left = self.private.take().filter(|private| private.leads_to(&setup.next_hop));
        let private = match left {
            Some(private) => private,
            None => match timeout(OPEN_TIMEOUT, setup.next_hop.open_private(peer.facts())).await {
                Ok(opened) => opened.map_err(|unreachable| unreachable.to_string())?,
                Err(_) => return Err(format!("not ready within {} s", OPEN_TIMEOUT.as_secs())),
            },
        };
        let said = private.authenticate(auth).await.map_err(|lost| lost.to_string())?;
        self.private = Some(private);
        said.ok_or_else(|| "it does not offer this mechanism any more".to_owned())
    }

    /// Takes note of what the next hop said.
    fn judge(&mut self, said: Result<Reply, String>, peer: &mut Peer) -> Reply {
        let reply = match said {
            Ok(reply) => reply,
            Err(why) => {
                self.warn_of_next_hop(&why);
                self.forget();
                return Reply::new(454, "4.7.0 the next hop can't authenticate anybody now, try again later");
            }
        };
        if reply.code() == 334 {
            return reply;
        }
        let Some((mechanism, login)) = self.under_way.take() else { return reply };
        if reply.code() == 235 {
            peer.authenticated = true;
            peer.login = login.into_name().map(Arc::from);
            self.log_success(mechanism, peer);
        } else {
            // Whom it named is not told: people type their password there.
            self.log_failure(mechanism, peer, &reply);
        }
        reply
    }

    fn warn_of_next_hop(&self, why: &str) {
        let next_hop = self.setup.borrow().next_hop.label();
        tracing::warn!(
            event = "next_hop.failed", session = %self.session, %next_hop, stage = "AUTH", cause = why,
            "the conversation with the next hop failed"
        );
    }

    fn log_success(&self, mechanism: Mechanism, peer: &Peer) {
        let setup = Arc::clone(&self.setup.borrow());
        tracing::info!(
            event = "session.authenticated",
            session = %self.session,
            listener = setup.listener.name,
            client = %peer.address,
            tls = peer.tls_label(),
            mechanism = mechanism.as_str(),
            login = peer.login.as_deref(),
            next_hop = %setup.next_hop.label(),
            "a client has authenticated at the next hop"
        );
    }

    fn log_failure(&self, mechanism: Mechanism, peer: &Peer, reply: &Reply) {
        let setup = Arc::clone(&self.setup.borrow());
        tracing::info!(
            event = "session.authentication_failed",
            session = %self.session,
            listener = setup.listener.name,
            client = %peer.address,
            tls = peer.tls_label(),
            mechanism = mechanism.as_str(),
            next_hop = %setup.next_hop.label(),
            %reply,
            "the next hop did not authenticate a client"
        );
    }
}
