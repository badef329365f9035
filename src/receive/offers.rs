//! What a client is offered in the reply to EHLO: what the next hop and this relay can both do.

use super::peer::Peer;
use super::transaction::recipient_limits;
use crate::config::Listener;
use crate::forward::NextHop;
use crate::smtp::Extensions;
use std::time::Duration;
use tokio::time::timeout;

/// For a next hop to tell what it offers, when nobody has asked for a while.
const LEARN_TIMEOUT: Duration = Duration::from_secs(10);

/// What the next hop offers. One that can't be asked now is taken to offer what it did last, or everything: a client that
/// needs an extension is told to come again at MAIL, where it would have to bounce for good if we said here that there is
/// none.
pub(super) async fn of_next_hop(next_hop: &NextHop) -> Extensions {
    match timeout(LEARN_TIMEOUT, next_hop.learn()).await {
        Ok(Ok(learnt)) => learnt,
        Ok(Err(_)) | Err(_) => next_hop.extensions().unwrap_or_else(everything),
    }
}

/// What of it this client is offered, and STARTTLS where the listener has it.
pub(super) fn to_client(listener: &Listener, next_hop: Extensions, starttls: bool, peer: &Peer) -> Extensions {
    let limit = listener.max_message_size;
    Extensions {
        pipelining: true,
        size: Some(next_hop.size.filter(|size| *size > 0).map_or(limit, |size| size.min(limit))),
        eight_bit_mime: next_hop.eight_bit_mime,
        smtp_utf8: next_hop.smtp_utf8,
        enhanced_status_codes: next_hop.enhanced_status_codes,
        dsn: next_hop.dsn,
        chunking: next_hop.chunking,
        require_tls: next_hop.require_tls,
        limits: recipient_limits(&next_hop, &listener.limits),
        starttls,
        auth: if listener.auth.allows(peer.tls.is_some()) { next_hop.auth } else { Vec::new() },
        ..Extensions::default()
    }
}

/// All that this relay can pass on. Not AUTH: a mechanism that is not there would be tried in vain.
fn everything() -> Extensions {
    Extensions {
        eight_bit_mime: true,
        smtp_utf8: true,
        enhanced_status_codes: true,
        dsn: true,
        chunking: true,
        ..Extensions::default()
    }
}
