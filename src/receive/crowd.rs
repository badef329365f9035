//! How many clients a listener has, and how much each of them does: who is let in, and who has to come again later.
//!
//! A client is an IPv4 address or an IPv6 /64, the network that one customer gets (RFC 6177). Its minute begins with the
//! first deed and forgets everything at its end, as Postfix's anvil(8) does. Clients of trusted networks are not counted
//! for themselves, and strangers that fill the minute of all clients don't keep them out. What is kept: one row for each client with an open session or a deed in its current minute.

use super::headers::Headers;
use super::peer::network_of;
use crate::config::Limits;
use crate::mail::Reply;
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What rates are counted over.
const MINUTE: Duration = Duration::from_secs(60);
/// Rows of clients that have gone; with more of them those whose minute is over are removed, and then all.
const MAX_GONE: usize = 20_000;

/// The clients of one listener. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Crowd {
    state: Arc<Mutex<State>>,
    /// Connections whose client is not known yet.
    pub(super) headers: Headers,
}

#[derive(Debug, Default)]
struct State {
    sessions: u32,
    /// The minute of all clients, and the messages begun in it.
    minute: Option<Instant>,
    messages: u32,
    clients: HashMap<IpAddr, Client>,
}

#[derive(Debug)]
struct Client {
    sessions: u32,
    minute: Instant,
    messages: u32,
    recipients: u32,
    errors: u32,
}

impl Client {
    fn new(now: Instant) -> Self {
        Self { sessions: 0, minute: now, messages: 0, recipients: 0, errors: 0 }
    }

    fn turn(&mut self, now: Instant) {
        if now.duration_since(self.minute) >= MINUTE {
            *self = Self { sessions: self.sessions, ..Self::new(now) };
        }
    }

    fn has_erred_enough(&self, limits: &Limits) -> bool {
        self.errors >= limits.errors_per_minute.get()
    }
}

/// A session's place among the others, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Crowd,
    /// None for a client that is not counted.
    client: Option<IpAddr>,
}

impl Crowd {
    /// Lets a session in.
    ///
    /// # Errors
    /// The 421 for a client that has to come again later, and why for the log.
    pub(super) fn admit(&self, client: IpAddr, trusted: bool, limits: &Limits) -> Result<Place, (Reply, &'static str)> {
        let busy = |text| Reply::new(421, text);
        let (network, now) = (network_of(client), Instant::now());
        let mut state = self.state();
        if state.sessions >= limits.connections.get() {
            return Err((busy("4.3.2 too many connections, try again later"), "too many connections"));
        }
        if !trusted {
            if state.clients.len() > limits.connections.get() as usize + MAX_GONE {
                state.sweep(now);
            }
            let row = state.clients.entry(network).or_insert_with(|| Client::new(now));
            row.turn(now);
            if row.sessions >= limits.connections_per_client.get() {
                return Err((
                    busy("4.7.0 too many connections from your network"),
                    "too many connections of one client",
                ));
            }
            if row.has_erred_enough(limits) {
                return Err((
                    busy("4.7.0 too many errors from your network, try again later"),
                    "too many errors of one client",
                ));
            }
            row.sessions += 1;
        }
        state.sessions += 1;
        drop(state);
        Ok(Place { crowd: self.clone(), client: (!trusted).then_some(network) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a message of whoever it is; false when it is one too many.
    fn count_message(&mut self, most: NonZeroU32, now: Instant) -> bool {
        if self.minute.is_none_or(|minute| now.duration_since(minute) >= MINUTE) {
            (self.minute, self.messages) = (Some(now), 0);
        }
        let fits = self.messages < most.get();
        self.messages = self.messages.saturating_add(1);
        fits
    }

    fn sweep(&mut self, now: Instant) {
        self.clients.retain(|_, client| client.sessions > 0 || now.duration_since(client.minute) < MINUTE);
        if self.clients.len() > MAX_GONE {
            // So many strangers in one minute: to forget what they did is better than to remember without end.
            self.clients.retain(|_, client| client.sessions > 0);
        }
    }
}

impl Place {
    /// A message begins.
    ///
    /// # Errors
    /// 450 for one too many of the client in this minute, 451 for one too many of all clients; and why for the log.
    pub(super) fn message(&self, limits: &Limits) -> Result<(), (Reply, &'static str)> {
        self.count(
            limits.messages_per_minute,
            "4.7.1 too many messages from your network, try again later",
            |client| &mut client.messages,
        )
        .map_err(|reply| (reply, "a client does more than it may"))?;
        let Some(most) = limits.messages_per_minute_in_all else { return Ok(()) };
        if self.crowd.state().count_message(most, Instant::now()) || self.client.is_none() {
            return Ok(());
        }
        Err((
            Reply::new(451, "4.3.2 too many messages at present, try again later"),
            "all clients do more than they may",
        ))
    }

    /// A recipient is named.
    ///
    /// # Errors
    /// 450 for one too many in this minute.
    pub(super) fn recipient(&self, limits: &Limits) -> Result<(), Reply> {
        self.count(
            limits.recipients_per_minute,
            "4.7.1 too many recipients from your network, try again later",
            |client| &mut client.recipients,
        )
    }

    /// The session made so many mistakes more.
    pub(super) fn errors(&self, errors: u32) {
        if let Some(network) = self.client
            && let Some(client) = self.crowd.state().clients.get_mut(&network)
        {
            client.turn(Instant::now());
            client.errors = client.errors.saturating_add(errors);
        }
    }

    /// Whether the client made as many mistakes in this minute as it may, in all its sessions.
    pub(super) fn has_erred_enough(&self, limits: &Limits) -> bool {
        let Some(network) = self.client else { return false };
        let mut state = self.crowd.state();
        let Some(client) = state.clients.get_mut(&network) else { return false };
        client.turn(Instant::now());
        client.has_erred_enough(limits)
    }

    fn count(&self, most: Option<NonZeroU32>, text: &str, of: fn(&mut Client) -> &mut u32) -> Result<(), Reply> {
        let (Some(network), Some(most)) = (self.client, most) else { return Ok(()) };
        let mut state = self.crowd.state();
        let now = Instant::now();
        let client = state.clients.entry(network).or_insert_with(|| Client::new(now));
        client.turn(now);
        let count = of(client);
        if *count >= most.get() {
            return Err(Reply::new(450, text));
        }
        *count += 1;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.crowd.state();
        state.sessions = state.sessions.saturating_sub(1);
        if let Some(network) = self.client
            && let Some(client) = state.clients.get_mut(&network)
        {
            client.sessions = client.sessions.saturating_sub(1);
            let did_nothing = client.messages == 0 && client.recipients == 0 && client.errors == 0;
            if client.sessions == 0 && did_nothing {
                state.clients.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let number = |number| NonZeroU32::new(number).unwrap();
        Limits {
            connections: number(5),
            connections_per_client: number(2),
            messages_per_minute: Some(number(2)),
            recipients_per_minute: Some(number(3)),
            errors_per_minute: number(4),
            ..Limits::default()
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn refusal(admitted: Result<Place, (Reply, &'static str)>) -> &'static str {
        admitted.unwrap_err().1
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_its_share_of_sessions_and_gets_them_back() {
        let (crowd, limits) = (Crowd::default(), limits());
        let open: Vec<_> =
            ["2001:db8::1", "2001:db8::2:3"].map(|one| crowd.admit(address(one), false, &limits).unwrap()).into();
        assert_eq!(refusal(crowd.admit(address("2001:db8::9"), false, &limits)), "too many connections of one client");
        assert!(crowd.admit(address("2001:db8:0:1::1"), false, &limits).is_ok(), "another network");
        assert!(crowd.admit(address("2001:db8::9"), true, &limits).is_ok(), "a trusted client is not counted");
        drop(open);
        assert!(crowd.admit(address("2001:db8::9"), false, &limits).is_ok());
        assert!(crowd.state().clients.is_empty(), "who did nothing leaves nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn all_sessions_together_have_their_limit() {
        let (crowd, limits) = (Crowd::default(), limits());
        let open: Vec<_> =
            (0..5).map(|last| crowd.admit(IpAddr::from([192, 0, 2, last]), last == 0, &limits).unwrap()).collect();
        assert_eq!(refusal(crowd.admit(address("192.0.2.9"), true, &limits)), "too many connections");
        drop(open);
        assert_eq!(crowd.state().sessions, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_and_recipients_of_a_minute_are_limited_over_all_sessions() {
        let (crowd, limits) = (Crowd::default(), limits());
        let [one, other] = [(), ()].map(|()| crowd.admit(address("::ffff:192.0.2.1"), false, &limits).unwrap());
        assert!(one.message(&limits).is_ok() && other.message(&limits).is_ok());
        assert_eq!(one.message(&limits).unwrap_err().0.code(), 450);
        assert_eq!((0..9).filter(|_| other.recipient(&limits).is_ok()).count(), 3);
        drop((one, other));
        let again = crowd.admit(address("192.0.2.1"), false, &limits).unwrap();
        assert!(again.message(&limits).is_err(), "a new session begins no new minute");
        tokio::time::sleep(MINUTE).await;
        assert!(again.message(&limits).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn messages_of_all_clients_are_limited_and_trusted_ones_go_on() {
        let (crowd, mut limits) = (Crowd::default(), limits());
        limits.messages_per_minute_in_all = NonZeroU32::new(3);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|it| crowd.admit(address(it), false, &limits).unwrap());
        let own = crowd.admit(address("127.0.0.1"), true, &limits).unwrap();
        assert!(own.message(&limits).is_ok() && one.message(&limits).is_ok() && other.message(&limits).is_ok());
        assert_eq!(other.message(&limits).unwrap_err().0.code(), 451, "the trusted client's counts");
        assert_eq!(other.message(&limits).unwrap_err().0.code(), 450, "its own limit holds as well");
        assert!(own.message(&limits).is_ok(), "who is trusted is not kept out by strangers");
        tokio::time::sleep(MINUTE - Duration::from_millis(1)).await;
        assert!(one.message(&limits).is_err());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(one.message(&limits).is_ok() && other.message(&limits).is_ok());
        limits.messages_per_minute_in_all = None;
        assert!((0..9).all(|_| own.message(&limits).is_ok()), "without the key there is no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_with_many_mistakes_stays_outside_until_its_minute_is_over() {
        let (crowd, limits) = (Crowd::default(), limits());
        crowd.admit(address("192.0.2.1"), false, &limits).unwrap().errors(4);
        assert_eq!(refusal(crowd.admit(address("192.0.2.1"), false, &limits)), "too many errors of one client");
        tokio::time::sleep(MINUTE).await;
        assert!(crowd.admit(address("192.0.2.1"), false, &limits).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn mistakes_of_one_session_end_the_others_of_its_client_until_the_minute_is_over() {
        let (crowd, limits) = (Crowd::default(), limits());
        let [one, other] = [(), ()].map(|()| crowd.admit(address("192.0.2.1"), false, &limits).unwrap());
        let own = crowd.admit(address("192.0.2.1"), true, &limits).unwrap();
        one.errors(3);
        own.errors(9);
        assert!(!other.has_erred_enough(&limits), "a trusted client's are not counted");
        one.errors(1);
        assert!(one.has_erred_enough(&limits) && other.has_erred_enough(&limits) && !own.has_erred_enough(&limits));
        tokio::time::sleep(MINUTE).await;
        assert!(!other.has_erred_enough(&limits));
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_without_number_leave_a_bounded_number_of_rows() {
        let (crowd, limits) = (Crowd::default(), limits());
        for number in 0..100_000_u32 {
            crowd.admit(IpAddr::from(number.to_be_bytes()), false, &limits).unwrap().errors(1);
        }
        assert!(crowd.state().clients.len() <= MAX_GONE + 6, "{}", crowd.state().clients.len());
    }
}
