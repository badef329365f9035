//! Who may send where, and whose mail a message is. Pure decisions from the configuration and the envelope.
//!
//! Relay control: a client outside `trusted_networks` reaches the organizations' domains alone, and only with a local
//! part that can't make the next hop relay further (`user%elsewhere@`, `elsewhere!user@`, `"user@elsewhere"@`). Source
//! routes are gone before this room sees an address (RFC 5321, appendix C).

use crate::config::{AddressPattern, Config, Direction, Listener, NamedRecipients, Organization, Scope};
use crate::mail::{Address, Reply, ReversePath};
use std::net::IpAddr;

/// Whether `client` belongs to the networks that may send to any domain.
pub fn is_trusted(listener: &Listener, client: IpAddr) -> bool {
    // A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d.
    let client = client.to_canonical();
    listener.trusted_networks.iter().any(|network| network.contains(&client))
}

/// Whether `peer` belongs to the load balancers, whose connections start with a PROXY header.
pub fn is_load_balancer(listener: &Listener, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    listener.proxy_protocol_from.iter().any(|network| network.contains(&peer))
}

/// Whether a recipient may be passed to the next hop; the refusal when not.
///
/// # Errors
/// `550 5.1.1` for a journaling sender, an address with no mailbox; `554 5.7.1` for a foreign domain or a local part that
/// routes onward, from a client that is not trusted.
pub fn may_relay(config: &Config, trusted: bool, forward_path: &Address) -> Result<(), Reply> {
    if is_journaling_sender(config, forward_path) {
        return Err(Reply::new(550, "5.1.1 this address has no mailbox: journal records come from it"));
    }
    // RFC 5321, section 4.5.1: postmaster without a domain is ours to take.
    let Some(domain) = forward_path.domain() else { return Ok(()) };
    if trusted {
        return Ok(());
    }
    let ours = config.organizations.iter().any(|organization| has_domain(organization, domain));
    if ours && !forward_path.routes_onward() { Ok(()) } else { Err(Reply::new(554, "5.7.1 relay access denied")) }
}

/// Whether an address is where journal records come from. It has no mailbox; bounces of records alone are taken for it.
pub fn is_journaling_sender(config: &Config, forward_path: &Address) -> bool {
    config.organizations.iter().any(|organization| organization.sender.same_mailbox_ignoring_case(forward_path))
}

/// One organization that a message concerns.
#[derive(Debug, Clone, Copy)]
pub struct Concern<'c> {
    /// The organization.
    pub organization: &'c Organization,
    /// Which way the message goes, from its view.
    pub direction: Direction,
    /// Whether it gets a record, and why not.
    pub verdict: Journaling,
}

/// Whether a message that concerns an organization gets a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journaling {
    /// It does.
    Yes,
    /// The organization's switch is off.
    SwitchedOff,
    /// The organization does not journal this direction.
    Direction,
    /// None of the message's addresses of the organization is included, or all that are, are excluded.
    Addresses,
}

impl Journaling {
    /// The configuration key that decided, as logs show it.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Yes => "journaled",
            Self::SwitchedOff => "journaling = false",
            Self::Direction => "scope.directions",
            Self::Addresses => "scope.include, scope.exclude",
        }
    }
}

/// The organizations a message concerns, in the order of the configuration. The sender is MAIL FROM; with a null
/// reverse-path it is the header's From (a bounce that an organization's own system sends out is its mail, too).
pub fn concerns<'c>(
    config: &'c Config,
    reverse_path: &ReversePath,
    header_from: Option<&Address>,
    recipients: &[Address],
) -> Vec<Concern<'c>> {
    let sender = reverse_path.address().or(header_from);
    config.organizations.iter().filter_map(|organization| concern(config, organization, sender, recipients)).collect()
}

/// The recipients that an organization's record names: all of them, or, where it says so and the message is not its own user's,
/// those alone that are its users. Whom a user writes to is the organization's business, whoever they are.
pub(super) fn named_recipients<'e>(
    config: &Config,
    concern: &Concern<'_>,
    recipients: &'e [Address],
) -> impl Iterator<Item = &'e Address> {
    let organization = concern.organization;
    let all = organization.recipients == NamedRecipients::All || concern.direction != Direction::Incoming;
    let is_user = move |address: &Address| owner(config, address).is_some_and(|of| of.name == organization.name);
    recipients.iter().filter(move |address| all || is_user(address))
}

fn concern<'c>(
    config: &Config,
    organization: &'c Organization,
    sender: Option<&Address>,
    recipients: &[Address],
) -> Option<Concern<'c>> {
    // An address is of one organization: of the one whose domain fits it most closely.
    let is_user = |address: &&Address| owner(config, address).is_some_and(|of| of.name == organization.name);
    let sender = sender.filter(is_user);
    let own = || recipients.iter().filter(is_user);
    let inside = own().count();
    let direction = match (sender, inside) {
        (None, 0) => return None,
        (None, _) => Direction::Incoming,
        (Some(_), inside) if inside == recipients.len() => Direction::Internal,
        (Some(_), _) => Direction::Outgoing,
    };
    let verdict = if !organization.journaling {
        Journaling::SwitchedOff
    } else if !organization.scope.directions.contains(&direction) {
        Journaling::Direction
    } else if !sender.into_iter().chain(own()).any(|address| is_in_scope(&organization.scope, address)) {
        Journaling::Addresses
    } else {
        Journaling::Yes
    };
    Some(Concern { organization, direction, verdict })
}

/// Whose an address is. `postmaster` without a domain is the mail server's own (RFC 5321, section 4.5.1): it belongs to the
/// organization that has the host's name, else to the first of the configuration; no mail to it goes unjournaled.
fn owner<'c>(config: &'c Config, address: &Address) -> Option<&'c Organization> {
    if address.domain().is_some() {
        return config.organization_of(address);
    }
    let has_host = |organization: &&Organization| has_domain(organization, &config.hostname);
    config.organizations.iter().find(has_host).or(config.organizations.first())
}

pub(super) fn has_domain(organization: &Organization, domain: &str) -> bool {
    organization.domains.iter().any(|pattern| pattern.matches(domain))
}

fn is_in_scope(scope: &Scope, address: &Address) -> bool {
    let meant = |pattern: &AddressPattern| match pattern {
        AddressPattern::Any => true,
        AddressPattern::Domain(domain) => address.domain().is_some_and(|name| domain.matches(name)),
        AddressPattern::Address(other) => other.same_mailbox_ignoring_case(address),
    };
    scope.include.iter().any(meant) && !scope.exclude.iter().any(meant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Log, LogAddresses, LogFormat, MxRoute, OnFailure, Retry, Route, Spool, UnlistedRecipients};
    use crate::mail::DomainPattern;
    use std::time::Duration;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn organization(name: &str, domains: &[&str]) -> Organization {
        Organization {
            name: name.to_owned(),
            domains: domains.iter().map(|domain| DomainPattern::parse(domain).unwrap()).collect(),
            journaling: true,
            switch_reason: None,
            journaling_address: address("archive@vault.example"),
            report_address: address("postmaster@example.org"),
            journaling_route: Route::Mx(MxRoute::default()),
            also: Vec::new(),
            delivered_when: Default::default(),
            retention: None,
            report_route: Route::Mx(MxRoute::default()),
            sender: address(&format!("amazonjournaling@{name}.awsapps.com")),
            unlisted_recipients: UnlistedRecipients::Bcc,
            recipients: NamedRecipients::All,
            coalesce: Duration::ZERO,
            scope: Scope {
                directions: vec![Direction::Incoming, Direction::Outgoing, Direction::Internal],
                include: vec![AddressPattern::Any],
                exclude: Vec::new(),
            },
        }
    }

    fn config(organizations: Vec<Organization>) -> Config {
        let hour = Duration::from_secs(3_600);
        Config {
            hostname: "relay.example.org".to_owned(),
            spool: Spool { path: "spool".into(), allow_volatile: true, on_failure: OnFailure::Tempfail },
            listeners: Vec::new(),
            organizations,
            retry: Retry { first: hour, longest: hour, give_up: hour, report_after: hour },
            admin: None,
            log: Log { format: LogFormat::Json, level: tracing::Level::INFO, addresses: LogAddresses::Full },
            trace_sessions: Vec::new(),
        }
    }

    fn acme() -> Config {
        config(vec![organization("acme", &["example.org", "*.example.org", "例え.example"])])
    }

    fn code(config: &Config, trusted: bool, text: &str) -> u16 {
        may_relay(config, trusted, &address(text)).map_or_else(|reply| reply.code(), |()| 250)
    }

    #[test]
    fn an_untrusted_client_reaches_the_organizations_domains_alone() {
        let config = acme();
        for text in [
            "u@example.org",
            "u@EXAMPLE.ORG",
            "u@a.example.org",
            "u@xn--r8jz45g.example",
            "postmaster",
            "\"odd one\"@example.org",
        ] {
            assert_eq!(code(&config, false, text), 250, "{text}");
        }
        for text in [
            "u@example.net",
            "u@badexample.org",
            "u@example.org.evil.example",
            "u@[192.0.2.1]",
            "u%elsewhere.example@example.org",
            "elsewhere.example!u@example.org",
            "\"u@elsewhere.example\"@example.org",
        ] {
            assert_eq!(code(&config, false, text), 554, "{text}");
            assert_eq!(code(&config, true, text), 250, "{text} from a trusted client");
        }
    }

    #[test]
    fn nobody_sends_to_the_journaling_sender() {
        for trusted in [true, false] {
            assert_eq!(code(&acme(), trusted, "AmazonJournaling@acme.awsapps.com"), 550);
        }
    }

    #[test]
    fn the_direction_is_seen_from_the_organization() {
        let config = acme();
        let direction = |from: &str, to: &[&str]| {
            let recipients: Vec<_> = to.iter().map(|text| address(text)).collect();
            let from = ReversePath::Address(address(from));
            concerns(&config, &from, None, &recipients).first().map(|concern| concern.direction)
        };
        assert_eq!(direction("a@else.example", &["b@example.org", "c@else.example"]), Some(Direction::Incoming));
        assert_eq!(direction("a@example.org", &["b@example.org", "c@else.example"]), Some(Direction::Outgoing));
        assert_eq!(direction("a@example.org", &["b@example.org", "c@x.example.org"]), Some(Direction::Internal));
        assert_eq!(direction("a@else.example", &["c@else.example"]), None);
    }

    #[test]
    fn a_bounce_is_the_mail_of_whom_its_from_names() {
        let config = acme();
        let from = address("mailer-daemon@example.org");
        let outside = [address("x@else.example")];
        let concerned = concerns(&config, &ReversePath::Null, Some(&from), &outside);
        assert_eq!(concerned.first().map(|concern| concern.direction), Some(Direction::Outgoing));
        assert!(concerns(&config, &ReversePath::Null, None, &outside).is_empty());
    }

    #[test]
    fn a_message_between_two_organizations_concerns_both() {
        let config = config(vec![organization("one", &["one.example"]), organization("two", &["two.example"])]);
        let from = ReversePath::Address(address("a@one.example"));
        let found: Vec<_> = concerns(&config, &from, None, &[address("b@two.example")])
            .iter()
            .map(|concern| (concern.organization.name.clone(), concern.direction))
            .collect();
        assert_eq!(found, [("one".to_owned(), Direction::Outgoing), ("two".to_owned(), Direction::Incoming)]);
    }

    #[test]
    fn a_record_names_all_recipients_or_an_organization_s_own_of_mail_that_comes_to_it() {
        let mut config = config(vec![organization("one", &["one.example"]), organization("two", &["two.example"])]);
        config.organizations[1].recipients = NamedRecipients::Own;
        let recipients = ["a@one.example", "b@two.example", "c@else.example", "d@two.example"].map(address);
        let named = |config: &Config, from: &str| -> Vec<Vec<String>> {
            let from = ReversePath::Address(address(from));
            let concerned = concerns(config, &from, None, &recipients);
            let names = |concern: &Concern<'_>| {
                named_recipients(config, concern, &recipients).map(ToString::to_string).collect()
            };
            concerned.iter().map(names).collect()
        };
        let all = recipients.each_ref().map(ToString::to_string).to_vec();
        let own = vec!["b@two.example".to_owned(), "d@two.example".to_owned()];
        assert_eq!(named(&config, "x@else.example"), [all.clone(), own]);
        assert_eq!(named(&config, "x@two.example"), [all.clone(), all], "whom its own user writes to");
    }

    #[test]
    fn a_subdomain_of_its_own_belongs_to_one_organization_alone() {
        let config = config(vec![organization("wide", &["*.example.org"]), organization("own", &["a.example.org"])]);
        let from = ReversePath::Address(address("x@else.example"));
        let found = concerns(&config, &from, None, &[address("u@a.example.org")]);
        assert_eq!(found.iter().map(|concern| concern.organization.name.as_str()).collect::<Vec<_>>(), ["own"]);
    }

    #[test]
    fn mail_to_postmaster_without_a_domain_is_somebody_s() {
        let mut config = config(vec![organization("one", &["one.example"]), organization("two", &["two.example"])]);
        let from = ReversePath::Address(address("x@else.example"));
        let owner = |config: &Config| {
            let found = concerns(config, &from, None, &[address("postmaster")]);
            found.iter().map(|concern| concern.organization.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(owner(&config), ["one"]);
        config.hostname = "two.example".to_owned();
        assert_eq!(owner(&config), ["two"]);
    }

    #[test]
    fn the_configuration_exempts_by_switch_direction_and_address() {
        let mut config = acme();
        let verdict = |config: &Config, to: &[&str]| {
            let recipients: Vec<_> = to.iter().map(|text| address(text)).collect();
            let from = ReversePath::Address(address("a@else.example"));
            concerns(config, &from, None, &recipients).first().map(|concern| concern.verdict)
        };
        assert_eq!(verdict(&config, &["b@example.org"]), Some(Journaling::Yes));
        config.organizations[0].scope.exclude = vec![AddressPattern::Address(address("b@example.org"))];
        assert_eq!(verdict(&config, &["B@example.org"]), Some(Journaling::Addresses));
        assert_eq!(verdict(&config, &["b@example.org", "c@example.org"]), Some(Journaling::Yes));
        config.organizations[0].scope.directions = vec![Direction::Outgoing];
        assert_eq!(verdict(&config, &["c@example.org"]), Some(Journaling::Direction));
        config.organizations[0].journaling = false;
        assert_eq!(verdict(&config, &["c@example.org"]), Some(Journaling::SwitchedOff));
    }
}
