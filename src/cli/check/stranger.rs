//! Asking a listener that runs whether it is closed: recipients elsewhere, as a client that it does not trust. From a host
//! that it trusts that can't be done, unless it takes this host for a load balancer: then a PROXY header names a stranger.

use super::connect::{Answer, stranger_facts};
use crate::cli::reach::{self, places, route, source};
use crate::config::{Config, Listener, Route};
use crate::forward::{NextHop, Settings, TrialError, Unreachable};
use crate::mail::{Address, ReversePath};
use crate::receive::{abusive_addresses, is_load_balancer, is_trusted};
use std::net::IpAddr;

/// Recipients that one listener is asked for: fewer than the mistakes that it lets a client make.
const MOST: usize = 12;

/// Asks it where this host can be a stranger.
pub(super) async fn ask(listener: &Listener, config: &Config) -> Answer {
    if listener.address.port() == 0 {
        return Answer::fine(vec!["its port is chosen at the start: not asked".into()]);
    }
    // Where it is reached, and where the connection would come from.
    let mut ways = places(listener.address).into_iter().map(|place| (place, source(place).unwrap_or(place)));
    let as_stranger = |way: &(IpAddr, IpAddr)| is_load_balancer(listener, way.1) || !is_trusted(listener, way.1);
    let Some((place, source)) = ways.find(as_stranger) else {
        return Answer::fine(vec!["this host is trusted: it can't ask as a stranger".into()]);
    };
    let Some(client) = stranger_facts(listener) else { return Answer::bad("it trusts every network") };
    let identity = reach::identity(listener, source);
    let settings = Settings { hello_name: config.hostname.clone(), identity, ..Settings::default() };
    let next_hop = match NextHop::with_settings(Route::Smtp(route(listener, place)), settings) {
        Ok(next_hop) => next_hop,
        Err(error) => return Answer::bad(error.to_string()),
    };
    let most = MOST.min(listener.limits.errors.get().saturating_sub(1) as usize).max(1);
    let asked: Vec<Address> = abusive_addresses(config).into_iter().filter(Address::is_ascii).take(most).collect();
    match next_hop.try_out(client, &ReversePath::Null, &asked).await {
        Ok(trial) if !trial.mail.is_completion() => {
            Answer::fine(vec![format!("MAIL FROM:<>: {}; nothing was asked", trial.mail)])
        }
        Ok(trial) => judge(&asked, &trial.rcpts, place),
        Err(TrialError::Unreachable(Unreachable::Connect { .. })) => {
            Answer::fine(vec!["nobody listens there now: not asked".into()])
        }
        Err(error) => Answer::bad(error.to_string()),
    }
}

fn judge(asked: &[Address], replies: &[crate::mail::Reply], place: IpAddr) -> Answer {
    let said = || asked.iter().zip(replies);
    if let Some((address, reply)) = said().find(|(_, reply)| reply.is_completion()) {
        return Answer::bad(format!("an OPEN RELAY at {place}: RCPT TO:<{address}>: {reply}"));
    }
    // Not now, says a listener that is busy or slows strangers down: what it would say else nobody knows.
    if let Some((address, reply)) = said().find(|(_, reply)| !reply.is_permanent()) {
        return Answer::bad(format!("can't tell: RCPT TO:<{address}>: {reply}"));
    }
    Answer::fine(vec![format!("closed: {} recipients elsewhere refused to a stranger", replies.len())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Reply;
    use std::net::Ipv4Addr;

    #[test]
    fn only_a_recipient_that_was_taken_makes_an_open_relay() {
        let asked = ["a@x.example", "b@x.example"].map(|address| Address::parse(address).unwrap());
        let place = IpAddr::from(Ipv4Addr::LOCALHOST);
        let judged = |codes: [u16; 2]| judge(&asked, &codes.map(|code| Reply::new(code, "said")), place);
        for (codes, is_fine, says) in [
            ([554, 550], true, "closed: 2 recipients"),
            ([451, 550], false, "can't tell: RCPT TO:<a@x.example>: 451"),
            ([451, 250], false, "an OPEN RELAY at 127.0.0.1: RCPT TO:<b@x.example>: 250"),
            ([554, 421], false, "can't tell: RCPT TO:<b@x.example>: 421"),
        ] {
            let Answer { is_fine: found, lines } = judged(codes);
            assert!(found == is_fine && lines[0].starts_with(says), "{codes:?}: {lines:?}");
        }
    }
}
