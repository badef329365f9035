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
use std::sync::Arc;

/// Says MAIL and RCPT to the server of `route` (of `forward_path`'s domain, with `mx`), greeting it as `hostname`. Ends when
/// it has answered or a wait of [`connection`](super) is over: the caller sets a limit that suits who waits, and knows from
/// `tell`, which hears in words of each thing that is reached, how far it got. What sending a record would have come to, as far
/// as the envelope goes.
pub async fn try_out(
    route: &Route,
    hostname: &str,
    (reverse_path, forward_path): (&ReversePath, &Address),
    resolver: Arc<dyn Resolver>,
    network: SharedNetwork,
    tell: &(dyn Fn(String) + Sync),
) -> Verdict {
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
    // A connection is taken leave of where it would else be kept for another letter.
    drain.begin();
    post.send_telling(route, hostname, &letter, Some(tell)).await
}
