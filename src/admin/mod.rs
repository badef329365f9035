//! `[admin]`: health and metrics over HTTP/1.1, for load balancers and Prometheus.
//!
//! Floor 5, a leaf: it looks at the rooms below and changes nothing. `/livez` is answered while the event loop runs, `/readyz`
//! when mail would be taken (`health`), `/metrics` with the contract's figures (`figures`). GET and HEAD alone; connections,
//! headers and waits are bounded. There is no TLS and no password: it belongs on a loopback or an internal address.

mod figures;
mod health;
#[cfg(test)]
mod tests;

use crate::clock::SharedClock;
use crate::deliver::Delivery;
use crate::drain::Drain;
use crate::net::{Listen, Stream};
use crate::receive::Setup;
use crate::spool::{Pressure, Spool};
use crate::telemetry::Metrics;
use crate::watch;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::histogram::Histogram;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16;
/// For one connection, from its first octet to its last: one request each.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// For the head of its request: who says nothing keeps nobody else from an answer for longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Octets of a request's head (hyper's least).
const MAX_HEAD: usize = 8 * 1024;
/// Rest after a failed accept.
const REST: Duration = Duration::from_millis(100);

/// What is looked at.
#[derive(Clone)]
pub struct Watched {
    /// The listeners, each with its next hop.
    pub setups: Vec<watch::Receiver<Arc<Setup>>>,
    /// Their names and sockets.
    pub listeners: Vec<(String, SocketAddr)>,
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
}

/// Serves until the process ends, so that a drain can be watched, too.
pub async fn serve(socket: Box<dyn Listen>, watched: Watched) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let office = Arc::new(Office { health: health::Health::default(), watched: watched.clone() });
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match socket.accept().await {
            Ok((stream, _)) => {
                let office = Arc::clone(&office);
                watched.drain.spawn_unawaited(async move {
                    converse(stream, office).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(event = "listener.failed", address = %socket.address(), %error, "can't accept a connection");
                sleep(REST).await;
            }
        }
    }
}

async fn converse(stream: Stream, office: Arc<Office>) {
    let service = service_fn(move |request| {
        let office = Arc::clone(&office);
        async move { Ok::<_, Infallible>(office.answer(&request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(false).max_buf_size(MAX_HEAD);
    // A client that goes away or sends no HTTP has its answer already.
    let _ = timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(stream), service)).await;
}

struct Office {
    health: health::Health,
    watched: Watched,
}

impl Office {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let reasons = self.health.reasons(&self.watched).await;
                let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                let body = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons });
                respond(status, "application/json", format!("{body}\n"))
            }
            "/metrics" => match figures::exposition(&self.watched).await {
                Ok(body) => respond(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
            },
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
        }
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.to_owned())
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
