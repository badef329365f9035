//! Records and reports outward.

mod connection;
mod letter;
mod line;
mod offers;
mod pool;
mod post;
mod replies;
mod resolver;
mod tls;
mod verdict;

pub use pool::MAX_CONNECTIONS_PER_ROUTE;
pub use resolver::{Answer, Exchanger, MAX_ADDRESSES, MAX_EXCHANGERS, Resolver, SystemResolver, Unresolved};
pub use verdict::{Said, Verdict};
