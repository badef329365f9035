//! The order of servers, and what a name server's answers mean.

use super::*;
use crate::mail::{OsEntropy, Timestamp};
use std::collections::HashSet;

const US: &str = "relay.example.org";

fn id() -> RecordId {
    RecordId::new(Timestamp::from_millis(1_794_304_800_000), &OsEntropy)
}

fn exchanger(preference: u16, host: &str) -> Exchanger {
    Exchanger { preference, host: host.to_owned() }
}

#[test]
fn the_lowest_preference_is_tried_first() {
    let found = vec![exchanger(20, "c"), exchanger(5, "a"), exchanger(10, "b")];
    assert_eq!(servers_in_turn("example.org", found, US, id()).unwrap(), ["a", "b", "c"]);
}

#[test]
fn hosts_of_equal_preference_are_spread_over_records_but_not_over_attempts() {
    let found = || ["a", "b", "c"].map(|host| exchanger(10, host)).to_vec();
    let one = id();
    let order = |id| servers_in_turn("example.org", found(), US, id).unwrap();
    assert_eq!(order(one), order(one));
    let firsts: HashSet<_> = (0..60).map(|_| order(id()).remove(0)).collect();
    assert_eq!(firsts.len(), 3);
}

#[test]
fn a_domain_without_mx_is_its_own_host() {
    assert_eq!(servers_in_turn("example.org", Vec::new(), US, id()).unwrap(), ["example.org"]);
}

#[test]
fn the_null_mx_takes_no_mail() {
    let refused = servers_in_turn("example.org", vec![exchanger(0, "")], US, id());
    assert!(matches!(refused, Err(Unresolved::Never(what)) if what.contains("null MX")));
}

#[test]
fn no_more_than_the_maximum_is_tried() {
    let many = (0..50).map(|number| exchanger(number, &format!("mx{number}"))).collect();
    assert_eq!(servers_in_turn("example.org", many, US, id()).unwrap().len(), MAX_EXCHANGERS);
}

#[tokio::test]
async fn an_ip_address_is_its_own_answer() {
    let found = SystemResolver::new(crate::net::system()).addresses("::1", 2525).await.unwrap();
    assert_eq!(found, ["[::1]:2525".parse().unwrap()]);
}

#[test]
fn this_machine_and_who_comes_behind_it_would_only_give_the_mail_back() {
    let found = || vec![exchanger(10, "a"), exchanger(20, "Relay.example.org"), exchanger(20, "b"), exchanger(30, "c")];
    assert_eq!(servers_in_turn("example.org", found(), US, id()).unwrap(), ["a"]);
    let refused = servers_in_turn("example.org", found().split_off(1), US, id());
    assert!(matches!(refused, Err(Unresolved::Never(what)) if what.contains("this one")));
}

#[test]
fn a_host_that_is_listed_twice_is_tried_once() {
    let found = vec![exchanger(10, "a"), exchanger(20, "b"), exchanger(30, "a")];
    assert_eq!(servers_in_turn("example.org", found, US, id()).unwrap(), ["a", "b"]);
}

#[test]
fn both_families_have_their_share_of_the_addresses_tried() {
    let v6 = |last: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 25));
    let v4 = |last: u8| SocketAddr::from(([192, 0, 2, last], 25));
    let six: Vec<_> = (1..=6).map(v6).collect();
    let turns = by_turns([six.clone(), vec![v4(1), v4(2)]].concat());
    assert_eq!(turns, [v6(1), v4(1), v6(2), v4(2), v6(3)]);
    assert_eq!(by_turns(six.clone()), six[..MAX_ADDRESSES]);
    assert_eq!(by_turns(vec![v4(1), v6(1), v4(2)]), [v4(1), v6(1), v4(2)]);
}
