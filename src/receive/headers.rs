//! Connections of load balancers that have not said yet whose they are. They are no client's, so no client's limit holds for
//! them: here is their own.
//!
//! Promises: one network (an IPv4 address, an IPv6 /64) has [`MAX_OF_NETWORK`] at most, each for as long as a header may take; a
//! network without any has no row.

use super::peer::network_of;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections of one network that may wait for their header at a time. A load balancer has it ready when it connects, or with
/// its client's first octets.
pub(super) const MAX_OF_NETWORK: u32 = 1_000;

/// All of them, of one listener. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Headers(Arc<Mutex<BTreeMap<IpAddr, u32>>>);

/// One that waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Awaited {
    headers: Headers,
    network: IpAddr,
}

impl Headers {
    /// A connection begins to wait; none where its network has too many of them.
    pub(super) fn begin(&self, peer: IpAddr) -> Option<Awaited> {
        let (network, mut rows) = (network_of(peer), self.rows());
        let count = rows.entry(network).or_default();
        if *count >= MAX_OF_NETWORK {
            return None;
        }
        *count += 1;
        drop(rows);
        Some(Awaited { headers: self.clone(), network })
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<IpAddr, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut rows = self.headers.rows();
        if let Some(count) = rows.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                rows.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_share_of_headers_to_come_and_gets_it_back() {
        let headers = Headers::default();
        let begin = |text: &str| headers.begin(text.parse().unwrap());
        let mut open: Vec<_> = (0..MAX_OF_NETWORK).map(|_| begin("192.0.2.1").unwrap()).collect();
        assert!(begin("::ffff:192.0.2.1").is_none(), "an IPv4 address is the same however it is written");
        assert!(begin("192.0.2.2").is_some(), "others have theirs");
        open.pop();
        open.extend(begin("192.0.2.1"));
        assert!(open.len() == MAX_OF_NETWORK as usize && begin("192.0.2.1").is_none());
        drop(open);
        assert!(headers.rows().is_empty());
    }
}
