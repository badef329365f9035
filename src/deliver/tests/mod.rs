//! Delivery against an archive that misbehaves as told.

mod ahead;
mod archive;
mod circuits;
mod dns;
mod flapping;
mod lanes;
mod logs;
mod policies;
mod post;
mod sts;
mod tls;
mod trouble;
mod world;

use super::letter::{Letter, Rendered};
use super::post::Post;
use super::resolver::{Answer, Exchanger, Exchangers, Resolver, Unresolved};
use super::sts::NoMemory;
use super::verdict::{Fault, Verdict};
use crate::clock;
use crate::config::{MxRoute, Route, SmtpRoute, Source, Tls};
use crate::drain::Drain;
use crate::mail::{Address, OsEntropy, RecordId, ReversePath, Timestamp};
use crate::net::Dane;
use crate::spool::Octets;
use archive::Archive;
use bytes::Bytes;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Names as a test knows them; everything else is looked up nowhere.
#[derive(Default)]
struct Names {
    exchangers: HashMap<&'static str, Result<Vec<Exchanger>, Unresolved>>,
    addresses: HashMap<&'static str, SocketAddr>,
    texts: HashMap<&'static str, Vec<String>>,
    /// DNSSEC vouches for all exchangers.
    are_secure: bool,
    dane: HashMap<&'static str, Result<Option<Dane>, Unresolved>>,
}

impl Resolver for Names {
    fn exchangers(&self, domain: &str) -> Answer<Exchangers> {
        let found = self.exchangers.get(domain).cloned();
        let found = found.unwrap_or_else(|| Err(Unresolved::NotNow(format!("{domain}: no answer"))));
        let are_secure = self.are_secure;
        Box::pin(async move { Ok(Exchangers { found: found?, are_secure }) })
    }

    fn texts(&self, name: &str) -> Answer<Vec<String>> {
        let found = self.texts.get(name).cloned().unwrap_or_default();
        Box::pin(async move { Ok(found) })
    }

    fn dane(&self, host: &str, _: u16) -> Answer<Option<Dane>> {
        let found = self.dane.get(host).cloned().unwrap_or(Ok(None));
        Box::pin(async move { found })
    }

    fn addresses(&self, host: &str, port: u16) -> Answer<Vec<SocketAddr>> {
        let found = self.addresses.get(host).copied().or_else(|| Some(SocketAddr::new(host.parse().ok()?, port)));
        let found = found.map(|address| vec![address]).ok_or(Unresolved::NotNow(format!("{host}: no answer")));
        Box::pin(async move { found })
    }
}

fn post_with(names: Names) -> Post {
    Post::new(Arc::new(names), crate::net::system(), Arc::new(NoMemory), clock::system(), Drain::default())
}

fn post() -> Post {
    post_with(Names::default())
}

fn server(archive: &Archive, tls: Tls) -> SmtpRoute {
    let (host, port) = (archive.address.ip().to_string(), archive.address.port());
    SmtpRoute::to(host, port, tls)
}

fn plain(archive: &Archive) -> Route {
    Route::Smtp(server(archive, Tls::None))
}

fn mx() -> Route {
    Route::Mx(MxRoute::default())
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A letter of `original` between a short prefix and a short suffix.
fn letter(original: impl Into<Bytes>) -> Letter {
    Letter {
        is_trial: false,
        id: RecordId::new(Timestamp::from_millis(1_794_304_800_000), &OsEntropy),
        reverse_path: ReversePath::Address(address("amazonjournaling@acme.awsapps.com")),
        forward_path: address("archive@journal.example"),
        original: Some(Octets::Inline(original.into())).into(),
        render: Box::new(|_| Rendered {
            prefix: b"Subject: x\r\n\r\n".to_vec(),
            suffix: b"\r\n--b--\r\n".to_vec(),
            eight_bit_mime: false,
            needs_smtp_utf8: false,
            exceeds_offers: false,
        }),
    }
}

/// What `letter(original)` looks like to the archive.
fn arrived(original: &[u8]) -> Vec<u8> {
    [b"Subject: x\r\n\r\n", original, b"\r\n--b--\r\n"].concat()
}

async fn send(post: &Post, route: &Route, letter: &Letter) -> Verdict {
    post.send(route, "relay.example.org", letter).await
}
