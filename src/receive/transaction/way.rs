//! The conversation with the next hop that carries a transaction.

use super::super::listener::Setup;
use super::super::peer::Peer;
use super::OPEN_TIMEOUT;
use crate::forward::{Leg, Private};
use crate::mail::{QueueId, Reply};
use std::sync::Arc;
use tokio::time::timeout;

/// The client's own connection where it has authenticated, else any, for the message of that name. The error says why there
/// is none, and what the client is to hear of it.
pub(super) async fn open(
    setup: &Setup,
    private: Option<&Arc<Private>>,
    peer: &Peer,
    queue_id: QueueId,
) -> Result<Leg, (String, Option<Reply>)> {
    let opening = async {
        match private {
            None => {
                let next_hop = &setup.next_hop;
                let opened = if next_hop.hears_of_clients() {
                    next_hop.open_for(peer.facts(), queue_id.as_str()).await
                } else {
                    next_hop.open().await
                };
                opened.map_err(|unreachable| (unreachable.to_string(), unreachable.for_client()))
            }
            Some(private) if !private.leads_to(&setup.next_hop) => {
                Err(("it is another one than the client has authenticated at".to_owned(), None))
            }
            Some(private) => {
                let opened = private.open(peer.facts(), queue_id.as_str()).await;
                opened.ok_or_else(|| ("the connection of an authenticated client is lost".to_owned(), None))
            }
        }
    };
    timeout(OPEN_TIMEOUT, opening)
        .await
        .unwrap_or_else(|_| Err((format!("not ready within {} s", OPEN_TIMEOUT.as_secs()), None)))
}

/// What exactly is wrong behind us is for the log, not for strangers.
pub(super) fn unreachable_reply(peer: &Peer) -> Reply {
    if peer.authenticated {
        come_again()
    } else {
        Reply::new(451, "4.4.1 the next hop can't be reached, try again later")
    }
}

/// The next hop was lost in the middle.
pub(super) fn lost_reply(peer: &Peer) -> Reply {
    if peer.authenticated { come_again() } else { Reply::new(451, "4.4.1 the next hop was lost, try again later") }
}

/// Only the client can authenticate again, and it can't in this session.
fn come_again() -> Reply {
    Reply::new(421, "4.4.2 the next hop was lost, come again and authenticate")
}
