//! The protocol as values (RFC 5321 and extensions): commands, data transparency, both sides of a conversation.
//!
//! Floor 2: no socket, no clock, no await. What a session means is decided outside; here is how it is said.

pub mod command;
pub mod data;
mod extensions;
pub mod session;

pub use command::{Body, Mail, Parameter, Rcpt};
pub use extensions::Extensions;
