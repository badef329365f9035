//! What a running relay tells, over HTTP/1.1: to load balancers and Prometheus where `[admin]` says, and to
//! `journal-relay status` on the control socket.
//!
//! Floor 5, a leaf: it looks at the rooms below and changes nothing. `/livez` is answered while the event loop runs, `/readyz`
//! when mail would be taken (`health`), `/metrics` with the contract's figures (`figures`), `/status` with the state as JSON
//! lines (`status`), `/` with the same for people (`page`, with `samples` of the last day). GET and HEAD alone; connections,
//! headers and waits are bounded. There is no TLS; a token may be asked for (`access`), not on the control socket, which is its
//! owner's alone.

mod access;
mod chart;
mod figures;
mod health;
mod page;
mod places;
mod samples;
mod status;
mod summary;
#[cfg(test)]
mod tests;

pub use status::{Archive, Daemon, Failure, Gap, Line, Listener, Queue, Switch, json_lines, offline};
pub use summary::{Standing, standings};

use crate::clock::SharedClock;
use crate::config::Config;
use crate::config::Token;
use crate::deliver::Delivery;
use crate::drain::Drain;
use crate::mail::Timestamp;
use crate::net::{ControlSocket, Listen, Stream};
use crate::receive::Setup;
use crate::spool::{Pressure, Spool};
use crate::telemetry::{Metrics, Telemetry};
use crate::watch;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use places::{Place, Places};
use prometheus_client::metrics::histogram::Histogram;
use samples::{Sample, Samples};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Connections at a time; for one more the longest silent one gives way (`places`).
const MAX_CONNECTIONS: usize = 16;
/// For one connection, from its first octet to its last: one request each.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// For the head of its request: who says nothing keeps nobody else from an answer for longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Octets of a request's head (hyper's least).
const MAX_HEAD: usize = 8 * 1024;
/// Rest after a failed accept.
const REST: Duration = Duration::from_millis(100);

/// A listener that is looked at.
#[derive(Clone)]
pub struct Entry {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its configuration and its next hop.
    pub setup: watch::Receiver<Arc<Setup>>,
}

impl Watched {
    /// Where each listener listens, with what it works by.
    fn listeners(&self) -> Vec<(SocketAddr, Arc<Setup>)> {
        self.entrances.borrow().iter().map(|entry| (entry.address, Arc::clone(&entry.setup.borrow()))).collect()
    }

    /// The configuration in effect.
    fn config(&self) -> Option<Arc<Config>> {
        self.entrances.borrow().first().map(|entry| Arc::clone(&entry.setup.borrow().config))
    }
}

/// What is looked at.
#[derive(Clone)]
pub struct Watched {
    /// The listeners, as they are now.
    pub entrances: watch::Receiver<Vec<Entry>>,
    /// Routes to archives.
    pub delivery: Delivery,
    /// Where records wait.
    pub spool: Arc<dyn Spool>,
    /// How long its commits take.
    pub commit_seconds: Histogram,
    /// Its room.
    pub pressure: Pressure,
    /// The time.
    pub clock: SharedClock,
    /// The end.
    pub drain: Drain,
    /// What has been counted.
    pub metrics: Metrics,
    /// The log: what went wrong last, and what of addresses may be shown.
    pub telemetry: Telemetry,
    /// Since when the daemon runs.
    pub started: Timestamp,
}

/// Where somebody asks.
pub enum Door {
    /// `[admin]`
    Network(Box<dyn Listen>),
    /// In the spool's directory: its owner's alone, so that no token is asked for.
    Control(ControlSocket),
}

impl Door {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Network(socket) => socket.accept().await.map(|(stream, _)| stream),
            Self::Control(socket) => socket.accept().await,
        }
    }

    /// For the log.
    fn address(&self) -> String {
        match self {
            Self::Network(socket) => socket.address().to_string(),
            Self::Control(_) => crate::net::CONTROL.to_owned(),
        }
    }
}

/// Opens the doors; they are served until the process ends, so that a drain can be watched, too.
pub fn open(doors: Vec<Door>, watched: Watched) {
    let drain = watched.drain.clone();
    let office = Arc::new(Office { health: health::Health::default(), samples: Samples::default(), watched });
    let Watched { spool, clock, .. } = office.watched.clone();
    drain.spawn("samples of the queue", office.samples.clone().keep(spool, clock, drain.clone()));
    for door in doors {
        drain.spawn_unawaited(serve(door, Arc::clone(&office)));
    }
}

async fn serve(door: Door, office: Arc<Office>) {
    let places = Places::new(MAX_CONNECTIONS);
    let is_private = matches!(door, Door::Control(_));
    loop {
        match door.accept().await {
            Ok(stream) => {
                let Some(place) = places.take().await else { return };
                let office = Arc::clone(&office);
                let drain = office.watched.drain.clone();
                drain.spawn_unawaited(async move { converse(stream, office, is_private, place).await });
            }
            Err(error) => {
                tracing::warn!(event = "listener.failed", address = door.address(), %error, "can't accept a connection");
                sleep(REST).await;
            }
        }
    }
}

async fn converse(stream: Stream, office: Arc<Office>, is_private: bool, place: Place) {
    let heard = &place;
    let service = service_fn(move |request| {
        heard.heard();
        let office = Arc::clone(&office);
        async move {
            let answer = office.answer(&request, is_private).await;
            heard.answered();
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(false).max_buf_size(MAX_HEAD);
    // A client that goes away or sends no HTTP has its answer already.
    let conversation = timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        _ = conversation => {}
        () = place.given_away() => {}
    }
}

struct Office {
    health: health::Health,
    samples: Samples,
    watched: Watched,
}

impl Office {
    async fn answer(&self, request: &Request<Incoming>, is_private: bool) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        let path = request.uri().path();
        if !is_private && !access::may_see(path, request.headers(), self.token().as_ref()) {
            return unauthorized();
        }
        let config = self.watched.config();
        if !is_private && let Some(name) = config.and_then(|config| access::stranger(request, &config)) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                &format!("{name:?} is no name of this relay's; hosts of [admin] may list it\n"),
            );
        }
        match path {
            "/" => self.page().await,
            "/style.css" => respond(StatusCode::OK, "text/css; charset=utf-8", page::STYLE.to_owned()),
            "/status" => {
                let lines = status::gather(&self.watched, &self.health).await;
                respond(StatusCode::OK, "application/x-ndjson", json_lines(&lines))
            }
            "/livez" => text(StatusCode::OK, "ok\n"),
            // For commands that are about to read the spool's database themselves.
            "/complete" if is_private => match self.watched.spool.complete().await {
                Ok(()) => text(StatusCode::OK, "the database has everything\n"),
                Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
            },
            "/readyz" => {
                let reasons = self.health.reasons(&self.watched).await;
                let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                let body = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons });
                respond(status, "application/json", format!("{body}\n"))
            }
            "/metrics" => match figures::exposition(&self.watched, &self.health).await {
                Ok(body) => respond(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
            },
            _ => text(StatusCode::NOT_FOUND, "there are /, /status, /livez, /readyz and /metrics\n"),
        }
    }
}

impl Office {
    /// The token of the configuration in effect.
    fn token(&self) -> Option<Token> {
        self.watched.config()?.admin.as_ref()?.token.clone()
    }

    async fn page(&self) -> Response<Full<Bytes>> {
        let lines = status::gather(&self.watched, &self.health).await;
        let now = self.watched.clock.now();
        let mut samples = self.samples.all();
        samples.push(Sample::now(&lines, now));
        respond(StatusCode::OK, "text/html; charset=utf-8", page::page(&lines, &samples, now))
    }
}

fn unauthorized() -> Response<Full<Bytes>> {
    let mut refusal = text(StatusCode::UNAUTHORIZED, "the token of [admin] is needed\n");
    for challenge in access::CHALLENGES {
        refusal.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    refusal
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.to_owned())
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers: [(HeaderName, &'static str); 6] = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, page::POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
