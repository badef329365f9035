//! A policy from its web server (RFC 8461, section 3.3): one GET over verified TLS, no redirect, a bounded answer in a bounded
//! time.

use super::super::resolver::Resolver;
use super::super::tls::TlsClients;
use super::policy::Policy;
use crate::net::{Network, Trust};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::time::timeout;

/// How long all of it may take (RFC 8461, section 3.3, suggests a minute).
const LIMIT: Duration = Duration::from_secs(60);
/// How long connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(15);
/// Octets of a policy.
const MAX_POLICY: usize = 64 * 1024;
/// Octets of the head of the answer.
const MAX_HEAD: usize = 16 * 1024;
/// Where web servers listen.
const HTTPS_PORT: u16 = 443;

/// What a fetch needs.
pub(in super::super) struct Web<'a> {
    pub(in super::super) resolver: &'a dyn Resolver,
    pub(in super::super) network: &'a dyn Network,
    pub(in super::super) tls: &'a TlsClients,
}

/// Fetches the policy of `domain`. The error is for people.
pub(super) async fn fetch(domain: &str, web: &Web<'_>) -> Result<Policy, String> {
    let late = |_| Err(format!("no answer within {} s", LIMIT.as_secs()));
    timeout(LIMIT, get(domain, web)).await.unwrap_or_else(late)
}

async fn get(domain: &str, web: &Web<'_>) -> Result<Policy, String> {
    let host = format!("mta-sts.{domain}");
    let addresses = web.resolver.addresses(&host, HTTPS_PORT).await;
    let addresses = addresses.map_err(|error| error.to_string())?;
    let mut stream = Err("no address".to_owned());
    for address in addresses {
        stream = match timeout(CONNECT, web.network.connect(address)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(format!("{address}: {error}")),
            Err(_) => Err(format!("{address}: no connection within {} s", CONNECT.as_secs())),
        };
        if stream.is_ok() {
            break;
        }
    }
    let stream = web.tls.handshake(&Trust::system(), &host, stream?).await?;
    let mut http = hyper::client::conn::http1::Builder::new();
    http.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::get("/.well-known/mta-sts.txt").header(HOST, &host).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        check(&response)?;
        let body = Limited::new(response.into_body(), MAX_POLICY).collect().await;
        Ok(body.map_err(|error| format!("the policy: {error}"))?.to_bytes())
    };
    tokio::pin!(answer, connection);
    let body: Result<Bytes, String> = tokio::select! {
        biased;
        body = &mut answer => body,
        // The server may close behind what it said.
        _ = &mut connection => answer.await,
    };
    let body = body?;
    let text = std::str::from_utf8(&body).map_err(|_| "the policy is not text".to_owned())?;
    Policy::parse(text).map_err(|why| format!("the policy: {why}"))
}

/// Only the file itself counts: no redirect to it, and no page that says that there is none.
fn check<T>(response: &Response<T>) -> Result<(), String> {
    if response.status() != StatusCode::OK {
        return Err(format!("the web server says {}", response.status()));
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("text/plain") {
        Ok(())
    } else {
        Err(format!("the policy is {kind:?}, not text/plain"))
    }
}
