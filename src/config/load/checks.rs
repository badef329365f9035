//! What can be seen only when tables are held against each other: duplicates, and routes that lead back into the relay.

use super::listener::PlacedListener;
use super::organization::PlacedOrganization;
use super::report::Report;
use super::section::Section;
use crate::config::{Listener, Organization, Route, SmtpRoute};
use crate::mail::Address;
use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Notes every duplicate at its second place, every loop at its route, and that there is nothing to do.
pub(super) fn check(
    root: Section<'_>,
    hostname: &str,
    listeners: &[PlacedListener],
    organizations: &[PlacedOrganization],
) {
    root.require_tables(&["listener", "organization"]);
    let report = root.report();
    check_names(report, listeners, organizations);
    check_domains(report, organizations);
    check_addresses(report, listeners);
    check_mailboxes(report, organizations);
    check_archives(report, organizations);
    check_next_hops(report, hostname, listeners);
    check_routes(report, hostname, listeners, organizations);
}

fn check_names(report: &Report<'_>, listeners: &[PlacedListener], organizations: &[PlacedOrganization]) {
    let mut names = Seen::new(report);
    for placed in listeners {
        names.meet(placed.listener.name.clone(), placed.name_at, "listener name", "");
    }
    let mut names = Seen::new(report);
    for placed in organizations {
        names.meet(placed.organization.name.clone(), placed.name_at, "organization name", "");
    }
}

/// `*.example.org` beside `a.example.org` is allowed: the exact one counts for its domain.
fn check_domains(report: &Report<'_>, organizations: &[PlacedOrganization]) {
    let mut domains = Seen::new(report);
    for placed in organizations {
        let owner = format!(" of organization {:?}", placed.organization.name);
        for (domain, at) in placed.organization.domains.iter().zip(&placed.domains_at) {
            domains.meet(domain.as_text(), *at, "organization domain", &owner);
        }
    }
}

/// Any number of listeners may ask for any free port. An unspecified address takes its family's whole port.
fn check_addresses(report: &Report<'_>, listeners: &[PlacedListener]) {
    for (number, second) in listeners.iter().enumerate() {
        let address = second.listener.address;
        let clash = |first: &&PlacedListener| address.port() != 0 && overlap(first.listener.address, address);
        if let Some(first) = listeners.iter().take(number).find(clash) {
            report.note(
                second.address_at,
                format!(
                    "duplicate listener address \"{address}\": listener {:?} has \"{}\" in line {}; \
                     each address and port is allowed once",
                    first.listener.name,
                    first.listener.address,
                    report.line(first.address_at),
                ),
            );
        }
    }
}

fn overlap(one: SocketAddr, two: SocketAddr) -> bool {
    let either_unspecified = one.ip().is_unspecified() || two.ip().is_unspecified();
    one.port() == two.port() && (one.ip() == two.ip() || (either_unspecified && one.is_ipv4() == two.is_ipv4()))
}

/// A journaling sender has no mailbox: the relay takes nothing for it but bounces.
fn check_mailboxes(report: &Report<'_>, organizations: &[PlacedOrganization]) {
    let is_sender = |address: &Address| {
        organizations.iter().any(|placed| placed.organization.sender.same_mailbox_ignoring_case(address))
    };
    for placed in organizations {
        let Organization { journaling_address, report_address, also, .. } = &placed.organization;
        let also = also.iter().zip(&placed.also_at);
        let also = also.map(|(also, (at, _))| ("also.journaling_address", &also.journaling_address, *at));
        for (key, address, at) in [
            ("journaling_address", journaling_address, placed.journaling_address_at),
            ("report_address", report_address, placed.report_address_at),
        ]
        .into_iter()
        .chain(also)
        {
            if is_sender(address) {
                report.note(
                    at,
                    format!(
                        "organization.{key} = \"{address}\": an organization's sender, which has no mailbox; \
                         allowed is any other address"
                    ),
                );
            }
        }
    }
}

/// Two copies for one archive would be doubled records.
fn check_archives(report: &Report<'_>, organizations: &[PlacedOrganization]) {
    for placed in organizations {
        let mut archives = Seen::new(report);
        let owner = format!(" of organization {:?}", placed.organization.name);
        let first = placed.journaling_address_at;
        let places = std::iter::once(first).chain(placed.also_at.iter().map(|(at, _)| *at));
        for (key, at) in placed.organization.archive_keys().zip(places) {
            archives.meet(key, at, "archive", &owner);
        }
    }
}

/// A chain of our own listeners is allowed as long as it ends elsewhere.
fn check_next_hops(report: &Report<'_>, hostname: &str, listeners: &[PlacedListener]) {
    for start in listeners {
        let mut here = start;
        // A chain longer than the listeners there are has met one twice.
        for _ in 0..listeners.len() {
            let Some(next) = own_listener(&here.listener.next_hop, hostname, listeners) else { break };
            if next.listener.name == start.listener.name {
                note_loop(report, start.next_hop_at, "listener.next_hop", &start.listener.next_hop, &next.listener);
                break;
            }
            here = next;
        }
    }
}

fn check_routes(
    report: &Report<'_>,
    hostname: &str,
    listeners: &[PlacedListener],
    organizations: &[PlacedOrganization],
) {
    for placed in organizations {
        let Organization { journaling_route, report_route, also, .. } = &placed.organization;
        let also = also.iter().zip(&placed.also_at);
        let also = also.map(|(also, (_, at))| ("organization.also.journaling_route", &also.journaling_route, *at));
        for (key, route, at) in [
            ("organization.journaling_route", journaling_route, placed.journaling_route_at),
            ("organization.report_route", report_route, placed.report_route_at),
        ]
        .into_iter()
        .chain(also)
        {
            if let Some(listener) = own_listener(route, hostname, listeners) {
                note_loop(report, at, key, route, &listener.listener);
            }
        }
    }
}

fn note_loop(report: &Report<'_>, at: usize, key: &str, route: &Route, listener: &Listener) {
    report.note(
        at,
        format!(
            "{key} = \"{route}\": a loop, it leads to our own listener {:?} at \"{}\"; allowed is any other server",
            listener.name, listener.address,
        ),
    );
}

/// The listener of ours that a route leads to, as far as it can be seen without a name server.
fn own_listener<'l>(route: &Route, hostname: &str, listeners: &'l [PlacedListener]) -> Option<&'l PlacedListener> {
    let Route::Smtp(route) = route else { return None };
    listeners.iter().find(|placed| reaches(route, hostname, placed.listener.address))
}

fn reaches(route: &SmtpRoute, hostname: &str, listener: SocketAddr) -> bool {
    if route.port != listener.port() {
        return false;
    }
    let everywhere = listener.ip().is_unspecified();
    if route.host.eq_ignore_ascii_case("localhost") {
        return everywhere || listener.ip() == Ipv4Addr::LOCALHOST || listener.ip() == Ipv6Addr::LOCALHOST;
    }
    match route.host.parse::<IpAddr>() {
        // Connecting to the unspecified address means this machine (its loopback, on Linux).
        Ok(host) if host.is_unspecified() => everywhere || listener.ip().is_loopback(),
        Ok(host) => match (host.to_canonical(), listener.ip().to_canonical()) {
            (host, own) if host == own => true,
            // [::] takes IPv4 connections as well, on most machines.
            (host, _) => everywhere && (listener.is_ipv6() || host.is_ipv4()) && is_ours(host),
        },
        // Another name of ours can't be known; a listener on one address may leave our name's address to another server.
        Err(_) => everywhere && route.host.eq_ignore_ascii_case(hostname),
    }
}

/// Whether an interface of this machine has the address: then and only then would a packet to it leave with that very
/// address as its source. Nothing is sent.
fn is_ours(host: IpAddr) -> bool {
    let any = if host.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((host, 9))?;
        socket.local_addr()
    });
    host.is_loopback() || source.is_ok_and(|source| source.ip() == host)
}

/// Values met so far and where.
struct Seen<'r, 'a, K> {
    report: &'r Report<'a>,
    places: HashMap<K, (usize, String)>,
}

impl<'r, 'a, K: Eq + Hash + Display> Seen<'r, 'a, K> {
    fn new(report: &'r Report<'a>) -> Self {
        Self { report, places: HashMap::new() }
    }

    /// Notes `value` when it was met before; `owner` says whose it is.
    fn meet(&mut self, value: K, at: usize, what: &str, owner: &str) {
        if let Some((first, first_owner)) = self.places.get(&value) {
            let line = self.report.line(*first);
            self.report.note(
                at,
                format!(
                    "duplicate {what} \"{value}\": it stands in line {line}{first_owner} already; each is allowed once"
                ),
            );
        } else {
            self.places.insert(value, (at, owner.to_owned()));
        }
    }
}
