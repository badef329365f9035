//! Inbound sessions: listeners, the driver of the server-side state machine, relay control, and the transaction that
//! joins a client, the spool and the next hop (proxy mode).
//!
//! Floor 4. In one transaction replies of the next hop are the client's, octets stream to the
//! spool and the next hop as they arrive, and the final dot is passed on only when the spool has everything durable.
//! What happens to records afterwards is `deliver`'s business.

mod arrival;
mod auth;
mod bounce;
mod crowd;
mod driver;
mod files;
#[cfg(test)]
mod fixtures;
mod gaps;
mod headers;
mod keeping;
mod listener;
mod offers;
mod patience;
mod peer;
mod places;
mod policy;
mod proof;
mod received;
mod records;
mod tls;
mod transaction;

pub use bounce::{MAX_BOUNCE, MAX_BOUNCES};
pub use files::{Allowance, Files};
pub use gaps::{EVERY, Gaps};
pub use listener::{Listening, Parts, Setup, listen, listener_label};
pub use places::Places;
pub use policy::{Concern, Journaling, concerns, is_journaling_sender, is_load_balancer, is_trusted, may_relay};
pub use proof::{NOWHERE, OpenRelay, abusive_addresses, prove_closed, stranger};
pub use records::{Envelope, draft_records};
pub use tls::TlsServer;
