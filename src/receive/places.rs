//! Places for what the relay takes from strangers and keeps in memory until it has judged it: bounces of records.
//!
//! Promises: a place is taken when octets have come, never for a client that only could send some; all clients of one network
//! (an IPv4 address, an IPv6 /64) have [`MAX_OF_NETWORK`] at most; where all are taken, the one taken longest ago makes way
//! once it has had [`FAIR_TIME`], and its octets are let go with it. So whoever trickles octets, from however many networks,
//! can't keep others out, and memory stays bounded.

use super::bounce::{MAX_BOUNCE, MAX_BOUNCES};
use super::peer::network_of;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Places that the clients of one network may have at a time.
pub(super) const MAX_OF_NETWORK: usize = 2;
/// What a place is held for at least, whoever asks for one: 8 MiB come in that time at 280 KiB/s, and most bounces are no
/// larger than a page of text.
pub(super) const FAIR_TIME: Duration = Duration::from_secs(30);

/// All places. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    /// By number: the first was taken longest ago.
    held: BTreeMap<u64, Held>,
    next: u64,
}

#[derive(Debug)]
struct Held {
    network: IpAddr,
    since: Instant,
    octets: Vec<u8>,
    /// Its octets are being judged; that ends by itself.
    is_judged: bool,
}

impl Places {
    /// Whether one could be taken now.
    pub(super) fn has_one_for(&self, client: IpAddr) -> bool {
        self.book().admits(network_of(client))
    }

    /// Takes one; none where the network has its share, or all are taken and none of them has been for long.
    pub(super) fn take(&self, client: IpAddr) -> Option<Place> {
        let (network, mut book) = (network_of(client), self.book());
        if !book.admits(network) {
            return None;
        }
        if book.held.len() >= MAX_BOUNCES
            && let Some(number) = book.oldest()
        {
            book.held.remove(&number);
        }
        let number = book.next;
        book.next += 1;
        let held = Held { network, since: Instant::now(), octets: Vec::new(), is_judged: false };
        book.held.insert(number, held);
        drop(book);
        Some(Place { places: self.clone(), number })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn admits(&self, network: IpAddr) -> bool {
        let of_it = self.held.values().filter(|held| held.network == network).count();
        of_it < MAX_OF_NETWORK && (self.held.len() < MAX_BOUNCES || self.oldest().is_some())
    }

    /// The one that makes way.
    fn oldest(&self) -> Option<u64> {
        let may_go = |held: &Held| !held.is_judged && held.since.elapsed() >= FAIR_TIME;
        self.held.iter().find(|(_, held)| may_go(held)).map(|(number, _)| *number)
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
}

impl Place {
    /// Keeps octets, the first [`MAX_BOUNCE`] of all; false once the place was given to somebody else.
    pub(super) fn keep(&self, octets: &[u8]) -> bool {
        let mut book = self.places.book();
        let Some(held) = book.held.get_mut(&self.number) else { return false };
        let room = MAX_BOUNCE.saturating_sub(held.octets.len()).min(octets.len());
        held.octets.extend_from_slice(octets.get(..room).unwrap_or_default());
        true
    }

    /// Gives the octets out to be judged; none once the place was given to somebody else.
    pub(super) fn judge(&self) -> Option<Vec<u8>> {
        let mut book = self.places.book();
        let held = book.held.get_mut(&self.number)?;
        held.is_judged = true;
        Some(std::mem::take(&mut held.octets))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let freed = self.places.book().held.remove(&self.number);
        drop(freed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: usize) -> IpAddr {
        format!("192.0.2.{number}").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_has_two_places_and_others_have_the_rest() {
        let places = Places::default();
        let take = |text: &str| places.take(text.parse().unwrap());
        let two = [take("2001:db8::1"), take("2001:db8:0:0:ffff::2")];
        assert!(two.iter().all(Option::is_some));
        assert!(take("2001:db8::3").is_none() && !places.has_one_for("2001:db8::3".parse().unwrap()));
        let others = [take("2001:db8:0:1::1"), take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(others.iter().all(Option::is_some));
        assert!(take("192.0.2.1").is_none(), "an IPv4 address is the same however it is written");
        drop(two);
        assert!(take("2001:db8::3").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_had_a_place_for_long_makes_way() {
        let places = Places::default();
        let slow: Vec<_> = (0..MAX_BOUNCES).map(|number| places.take(client(number)).unwrap()).collect();
        assert!(slow.iter().all(|place| place.keep(b"x")));
        tokio::time::advance(FAIR_TIME - Duration::from_millis(1)).await;
        assert!(places.take(client(99)).is_none() && !places.has_one_for(client(99)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(slow[0].judge().is_some(), "what is judged is not disturbed");
        let newcomer = places.take(client(99)).unwrap();
        assert!(slow[0].keep(b"x") && slow[2].keep(b"x"));
        assert!(!slow[1].keep(b"x") && slow[1].judge().is_none());
        drop(slow);
        assert!(newcomer.keep(b"x"), "who made way takes nothing along");
        assert_eq!(places.book().held.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_kept_than_a_bounce_may_have() {
        let place = Places::default().take(client(1)).unwrap();
        assert!(place.keep(&vec![b'x'; MAX_BOUNCE]) && place.keep(b"y"));
        assert_eq!(place.judge().unwrap().len(), MAX_BOUNCE);
    }
}
