//! Conversations with next hops: the relay as an SMTP client, or as a writer into a maildir.
//!
//! Floor 4. A [`NextHop`] stands for one route and keeps connections that have become idle; a [`Leg`] is one conversation
//! for one transaction. The protocol itself is in `smtp::client`; here are sockets, TLS, waits, and the pool. Nothing is
//! decided here about the message: replies are handed on as they are, and what broke is told in words ([`Unreachable`],
//! [`Lost`]). What a transaction needs from other servers (MX, retries) is `deliver`'s.
//!
//! RFC 5321 (client side), 2920 pipelining, 3207 STARTTLS, 4954 AUTH (of its own PLAIN alone; what a client of ours says
//! is passed on, see `private`).

mod connection;
mod dial;
mod error;
mod identity;
mod leg;
mod local;
mod pool;
mod private;
mod refusals;
pub mod settings;
mod tls;
mod trial;

pub use connection::GATHER;
pub use error::{ForwardError, Lost, Unreachable};
pub use identity::ClientFacts;
pub use leg::Leg;
pub use private::Private;
pub use settings::Settings;
pub use trial::{Trial, TrialError};

use crate::config::{ClientIdentity, Route};
use crate::maildir::Maildir;
use crate::smtp::Extensions;
use crate::smtp::client::Offer;
use connection::Connection;
use dial::Dialer;
use identity::Lacking;
use local::MaildirLeg;
use pool::Pool;
use refusals::Refusals;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a next hop that answered is taken to answer still.
pub const ANSWER_HOLDS: Duration = Duration::from_secs(15);

/// How long a next hop that minds what is said along with the end of a message hears it by itself.
const SHYNESS: Duration = Duration::from_secs(60 * 60);

/// Where mail goes on to.
pub struct NextHop {
    label: String,
    settings: Arc<Settings>,
    way: Way,
    /// When the latest EHLO was, and what it offered.
    learnt: Mutex<Option<(Instant, Extensions)>>,
    /// When the latest connection was tried, and whether it came about.
    tried: Mutex<Option<(Instant, bool)>>,
    /// Held while a connection is made for no other reason than to learn.
    learning: tokio::sync::Mutex<()>,
    /// The server does not offer to hear who clients are.
    lacking: Lacking,
    /// It refuses to hear it.
    refusals: Refusals,
    /// No transaction is begun there along with the end of another one, until then.
    shy: Mutex<Option<Instant>>,
}

enum Way {
    Smtp { dialer: Box<Dialer>, pool: Pool },
    Maildir(Maildir),
}

impl NextHop {
    /// The next hop at the end of `route`, greeted as `hello_name`. Reads the authorities that a verified route trusts; makes
    /// no connection.
    pub fn new(route: Route, hello_name: String) -> Result<Arc<Self>, ForwardError> {
        Self::with_settings(route, Settings { hello_name, ..Settings::default() })
    }

    /// The same, with other waits and limits.
    pub fn with_settings(route: Route, settings: Settings) -> Result<Arc<Self>, ForwardError> {
        let label = route.to_string();
        let settings = Arc::new(settings);
        let way = match route {
            Route::Smtp(smtp) => {
                Way::Smtp { dialer: Box::new(Dialer::new(smtp, settings.clone())?), pool: Pool::new(settings.clone()) }
            }
            Route::Maildir(path) => Way::Maildir(Maildir::new(path)),
            Route::Mx(_) => return Err(ForwardError::Mx),
        };
        Ok(Arc::new(Self {
            label,
            settings,
            way,
            learnt: Mutex::default(),
            tried: Mutex::default(),
            learning: tokio::sync::Mutex::default(),
            lacking: Lacking::default(),
            refusals: Refusals::default(),
            shy: Mutex::default(),
        }))
    }

    /// For logs: `smtp://127.0.0.1:10025`.
    pub fn label(&self) -> String {
        self.label.clone()
    }

    /// What the latest EHLO offered, AUTH as far as it can be passed on; none when there was no conversation yet.
    pub fn extensions(&self) -> Option<Extensions> {
        match &self.way {
            Way::Smtp { .. } => self.latest().map(|(_, extensions)| extensions),
            Way::Maildir(_) => Some(local::offer().extensions().clone()),
        }
    }

    /// What it offers now: what it offered within [`settings::OFFER_HOLDS`], else a connection is made to learn it, and
    /// kept for the next transaction. While it can't be reached it is asked every [`ANSWER_HOLDS`] at most; between them
    /// its latest offer stands, and so it does for everybody else while one asks.
    pub async fn learn(&self) -> Result<Extensions, Unreachable> {
        if let Some(extensions) = self.known() {
            return Ok(extensions);
        }
        // One at a time. Those who come meanwhile are not held up by a server that is slow to greet; only where nothing is known
        // of it do they learn from the first.
        let _turn = match (self.learning.try_lock(), self.latest()) {
            (Ok(turn), _) => turn,
            (Err(_), Some((_, latest))) => return Ok(latest),
            (Err(_), None) => self.learning.lock().await,
        };
        if let Some(extensions) = self.known() {
            return Ok(extensions);
        }
        let mut connection = self.dial(None).await?;
        let extensions = self.passable(&connection);
        if connection.settle() {
            self.keep(connection);
        }
        Ok(extensions)
    }

    /// Whether the latest connection came about; none before the first. A maildir is always there.
    pub fn is_up(&self) -> Option<bool> {
        match &self.way {
            Way::Smtp { .. } => lock(&self.tried).map(|(_, up)| up),
            Way::Maildir(_) => Some(true),
        }
    }

    /// Whether it answers: it did within [`ANSWER_HOLDS`], or a new connection comes about, which is kept for the next
    /// transaction.
    pub async fn check(&self) -> Result<(), Unreachable> {
        let tried = *lock(&self.tried);
        if matches!(self.way, Way::Maildir(_)) || tried.is_some_and(|(at, up)| up && at.elapsed() < ANSWER_HOLDS) {
            return Ok(());
        }
        let mut connection = self.dial(None).await?;
        if connection.settle() {
            self.keep(connection);
        }
        Ok(())
    }

    /// A conversation for one transaction: on an idle connection, or on a new one.
    pub async fn open(self: &Arc<Self>) -> Result<Leg, Unreachable> {
        match &self.way {
            Way::Smtp { pool, .. } => match self.take_idle(pool, None) {
                Some(idle) => Ok(Leg::over_smtp(self.clone(), idle, true)),
                None => Ok(Leg::over_smtp(self.clone(), self.dial(None).await?, false)),
            },
            Way::Maildir(maildir) => Ok(Leg::into_maildir(MaildirLeg::new(maildir.clone()))),
        }
    }

    /// Says QUIT on connections that have idled too long. [`open`](Self::open) and [`Leg::release`] do it too; where
    /// neither happens for long, somebody else must.
    pub fn expire_idle(&self) {
        if let Way::Smtp { pool, .. } = &self.way {
            pool.expire();
        }
    }

    /// Says QUIT on all idle connections, waits a little for the replies, and keeps no connection from now on.
    pub async fn close_idle(&self) {
        let Way::Smtp { pool, .. } = &self.way else { return };
        let mut idle = pool.close();
        idle.iter_mut().for_each(Connection::say_quit);
        let deadline = Instant::now() + self.settings.quit;
        for connection in &mut idle {
            // Whatever the reply is, the connection is closed.
            let _ = timeout_at(deadline, connection.reply()).await;
        }
    }

    fn latest(&self) -> Option<(Instant, Extensions)> {
        lock(&self.learnt).clone()
    }

    /// What need not be asked for again.
    fn known(&self) -> Option<Extensions> {
        let Way::Smtp { .. } = self.way else { return self.extensions() };
        let (at, extensions) = self.latest()?;
        let tried = *lock(&self.tried);
        let failed = tried.is_some_and(|(at, up)| !up && at.elapsed() < ANSWER_HOLDS);
        (failed || at.elapsed() < self.settings.offer_holds).then_some(extensions)
    }

    /// Whether a transaction may be begun along with the end of another one, over a connection with this offer: the next hop did
    /// not mind it within [`SHYNESS`], it does not hear who clients are, and the offer is all that clients are told.
    fn takes_ahead(&self, offer: &Offer) -> bool {
        !self.hears_of_clients()
            && lock(&self.shy).is_none_or(|until| until <= Instant::now())
            && self.offers_what_is_told(offer)
    }

    /// It minds a transaction that is begun along with the end of another one.
    fn send_nothing_ahead(&self) {
        *lock(&self.shy) = Some(Instant::now() + SHYNESS);
    }

    fn offers_what_is_told(&self, offer: &Offer) -> bool {
        lock(&self.learnt).as_ref().is_none_or(|(_, latest)| offers_all(offer.extensions(), latest))
    }

    /// An idle connection that offers what clients have been told since.
    fn take_idle(&self, pool: &Pool, client: Option<&ClientFacts>) -> Option<Box<Connection>> {
        loop {
            let mut idle = pool.take(client)?;
            if self.offers_what_is_told(idle.offer()) {
                return Some(idle);
            }
            // It was made when the server offered less; as long as it is used nobody gets what is offered now.
            idle.say_quit();
        }
    }

    /// A new connection, for `client` where connections speak for one. Boxed: it is large and goes from hand to hand.
    async fn dial(&self, client: Option<&Arc<ClientFacts>>) -> Result<Box<Connection>, Unreachable> {
        let Way::Smtp { dialer, .. } = &self.way else {
            return Err(Unreachable::Resolve { host: self.label(), why: "it is no server".to_owned() });
        };
        // Boxed: a handshake is large, and rare beside the transactions that are awaited with it.
        let dialled = Box::pin(dialer.dial(client)).await;
        if self.settings.identity == ClientIdentity::Xclient && client.is_some() {
            self.note_xclient(&dialled);
        }
        // Who refuses one client may take others.
        let up = matches!(&dialled, Ok(_) | Err(Unreachable::NoXclient { .. } | Unreachable::RefusedClient { .. }));
        *lock(&self.tried) = Some((Instant::now(), up));
        let connection = Box::new(dialled?);
        // What one client is offered others may not be.
        if connection.speaks_for.is_none() {
            let offered = self.passable(&connection);
            *lock(&self.learnt) = Some((Instant::now(), offered));
        }
        Ok(connection)
    }

    /// Whether we authenticate there ourselves.
    fn has_credentials(&self) -> bool {
        matches!(&self.way, Way::Smtp { dialer, .. } if dialer.has_credentials())
    }

    fn keep(&self, mut connection: Box<Connection>) {
        let Way::Smtp { pool, .. } = &self.way else { return };
        // Where connections are clients', one that speaks for nobody is of no use to any transaction.
        let nobodys = self.settings.identity.is_exclusive() && connection.speaks_for.is_none();
        if nobodys || connection.mails() >= self.settings.max_mails {
            return connection.say_quit();
        }
        pool.put(connection);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a connection can carry whatever a client was told that the next hop takes.
fn offers_all(offered: &Extensions, told: &Extensions) -> bool {
    let pairs = [
        (offered.eight_bit_mime, told.eight_bit_mime),
        (offered.smtp_utf8, told.smtp_utf8),
        (offered.dsn, told.dsn),
        (offered.chunking, told.chunking),
        (offered.require_tls, told.require_tls),
    ];
    pairs.into_iter().all(|(offered, told)| offered || !told)
}

impl std::fmt::Debug for NextHop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NextHop({})", self.label)
    }
}

#[cfg(test)]
mod tests;
