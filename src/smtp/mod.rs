//! The protocol as values (RFC 5321 and extensions): commands, data transparency, both sides of a conversation.
//!
//! Floor 2: no socket, no clock, no await. What a session means is decided outside; here is how it is said.

pub mod client;
pub mod command;
pub mod data;
mod extensions;
pub mod proxy;
pub mod sasl;
pub mod session;

pub use command::{Body, Mail, Parameter, Rcpt};
pub use data::{Decoder, Encoder, Flaws};
pub use extensions::{Extensions, Limits};
pub use sasl::{Auth, Login, Mechanism, Secret};
pub use session::{CloseReason, MAX_FEED, Session, Settings, Speaker, Spoken, Step};
