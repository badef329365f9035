//! Trying a route out: everything that sending a record begins with, up to the reply to RCPT, and then RSET instead of DATA.
//! No mail is sent.

use super::letter::{Letter, Rendered};
use super::post::Post;
use super::resolver::Resolver;
use super::sts::NoMemory;
use super::verdict::Verdict;
use crate::clock;
use crate::config::Route;
use crate::drain::Drain;
use crate::mail::{Address, OsEntropy, RecordId, ReversePath};
use crate::net::SharedNetwork;
use std::sync::{Arc, Mutex, PoisonError};

/// How a route was found.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The connections that were made, in words: address and TLS.
    pub reached: Vec<String>,
    /// What sending a record would have come to, as far as the envelope goes.
    pub verdict: Verdict,
}

/// Says MAIL and RCPT to the server of `route` (of `forward_path`'s domain, with `mx`), greeting it as `hostname`. Ends when
/// it has answered or a wait of [`connection`](super) is over: the caller sets a limit that suits who waits.
pub async fn try_out(
    route: &Route,
    hostname: &str,
    (reverse_path, forward_path): (&ReversePath, &Address),
    resolver: Arc<dyn Resolver>,
    network: SharedNetwork,
) -> Trial {
    let drain = Drain::default();
    let post = Post::new(resolver, network, Arc::new(NoMemory), clock::system(), drain.clone());
    let letter = Letter {
        is_trial: true,
        id: RecordId::new(clock::system().now(), &OsEntropy),
        reverse_path: reverse_path.clone(),
        forward_path: forward_path.clone(),
        render: Box::new(|_| Rendered {
            prefix: Vec::new(),
            suffix: Vec::new(),
            eight_bit_mime: false,
            needs_smtp_utf8: false,
            exceeds_offers: false,
        }),
        original: None.into(),
    };
    let reached = Mutex::new(Vec::new());
    let tell = |what| reached.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    // A connection is taken leave of where it would else be kept for another letter.
    drain.begin();
    let verdict = post.send_telling(route, hostname, &letter, Some(&tell)).await;
    Trial { reached: reached.into_inner().unwrap_or_else(PoisonError::into_inner), verdict }
}
