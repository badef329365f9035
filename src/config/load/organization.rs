//! `[[organization]]`: whose mail is journaled, and where records and reports go.

use super::section::{Kind, Placed, Section};
use super::{routes, values};
use crate::config::{
    AddressPattern, AlsoArchive, DeliveredWhen, Direction, MxRoute, NamedRecipients, Organization, Route, Scope,
    UnlistedRecipients,
};
use crate::mail::Address;
use std::time::Duration;

/// How long a record waits for the same message's other transactions, unless the file says otherwise.
const DEFAULT_COALESCE: Duration = Duration::from_secs(5);
/// Letters of `switch_reason`.
const LONGEST_REASON: usize = 2_000;
/// The longest such wait there may be.
const LONGEST_COALESCE: Duration = Duration::from_secs(3_600);

pub(super) const ORGANIZATION: Kind = Kind {
    path: "organization",
    title: "[[organization]]",
    keys: &[
        "name",
        "domains",
        "journaling",
        "switch_reason",
        "journaling_address",
        "report_address",
        "journaling_route",
        "also",
        "delivered_when",
        "retention",
        "report_route",
        "sender",
        "unlisted_recipients",
        "recipients",
        "coalesce",
        "scope",
    ],
};
const SCOPE: Kind =
    Kind { path: "organization.scope", title: "organization.scope", keys: &["directions", "include", "exclude"] };

const ALSO: Kind = Kind {
    path: "organization.also",
    title: "[[organization.also]]",
    keys: &["journaling_address", "journaling_route"],
};
/// Archives besides the first one: copies of every record are kept until each has its own.
const MOST_ALSO: usize = 7;

/// An organization and where the values stand that are compared with others'.
#[derive(Debug)]
pub(super) struct PlacedOrganization {
    pub(super) organization: Organization,
    pub(super) name_at: usize,
    /// One for each domain, in their order.
    pub(super) domains_at: Vec<usize>,
    pub(super) journaling_address_at: usize,
    pub(super) report_address_at: usize,
    pub(super) journaling_route_at: usize,
    pub(super) report_route_at: usize,
    /// For each of `also`, in their order: where address and route stand.
    pub(super) also_at: Vec<(usize, usize)>,
}

/// Every organization that could be read whole.
pub(super) fn read_all(root: Section<'_>) -> Vec<PlacedOrganization> {
    root.tables("organization", ORGANIZATION).into_iter().filter_map(read).collect()
}

fn read(section: Section<'_>) -> Option<PlacedOrganization> {
    section.require(&["name", "domains", "journaling_address", "report_address"]);
    let name = section.text("name", values::name);
    let domains = section.list("domains", values::domain);
    let journaling = section.flag("journaling").unwrap_or(true);
    let switch_reason = section.text("switch_reason", reason).map(|reason| reason.value);
    let switch_reason = switch_reason.filter(|reason| !reason.is_empty());
    let journaling_address = section.text("journaling_address", values::address);
    let report_address = section.text("report_address", values::address);
    let route = |key| {
        let default = Placed { value: Route::Mx(MxRoute::default()), at: section.at() };
        let files = section.report().files();
        section.text_shown(key, |text| routes::route(text, files), routes::without_password).unwrap_or(default)
    };
    let (journaling_route, report_route) = (route("journaling_route"), route("report_route"));
    let (also, also_at) = read_also(section).into_iter().unzip();
    let labels = [("all", DeliveredWhen::All), ("any", DeliveredWhen::Any)];
    let delivered_when = section.text("delivered_when", values::one_of(&labels));
    let retention = section.text("retention", values::duration).map(|retention| retention.value);
    let sender = read_sender(section, name.as_ref());
    let labels = [("bcc", UnlistedRecipients::Bcc), ("recipient", UnlistedRecipients::Recipient)];
    let unlisted_recipients = section.text("unlisted_recipients", values::one_of(&labels));
    let named = [("all", NamedRecipients::All), ("own", NamedRecipients::Own)];
    let recipients = section.text("recipients", values::one_of(&named));
    let coalesce = section.text("coalesce", coalesce);
    let scope = read_scope(section);

    if domains.as_ref().is_some_and(|domains| domains.value.is_empty()) && section.report().is_clean() {
        section.refuse("domains", "found an empty list; at least one domain is needed");
    }
    let (name, domains) = (name?, domains?);
    let (journaling_address, report_address) = (journaling_address?, report_address?);
    Some(PlacedOrganization {
        name_at: name.at,
        domains_at: domains.value.iter().map(|domain| domain.at).collect(),
        journaling_address_at: journaling_address.at,
        report_address_at: report_address.at,
        journaling_route_at: journaling_route.at,
        report_route_at: report_route.at,
        also_at,
        organization: Organization {
            name: name.value,
            domains: domains.value.into_iter().map(|domain| domain.value).collect(),
            journaling,
            switch_reason,
            journaling_address: journaling_address.value,
            report_address: report_address.value,
            journaling_route: journaling_route.value,
            also,
            delivered_when: delivered_when.map_or(DeliveredWhen::All, |when| when.value),
            retention: retention.filter(|time| !time.is_zero()),
            report_route: report_route.value,
            sender: sender?,
            unlisted_recipients: unlisted_recipients.map_or(UnlistedRecipients::Bcc, |label| label.value),
            recipients: recipients.map_or(NamedRecipients::All, |named| named.value),
            coalesce: coalesce.map_or(DEFAULT_COALESCE, |wait| wait.value),
            scope,
        },
    })
}

/// The further archives; what can't be read is noted.
fn read_also(organization: Section<'_>) -> Vec<(AlsoArchive, (usize, usize))> {
    let sections = organization.tables("also", ALSO);
    if sections.len() > MOST_ALSO {
        let found = sections.len();
        organization.refuse("also", &format!("found {found} archives; at most {MOST_ALSO} are allowed"));
    }
    let read = |section: Section<'_>| {
        section.require(&["journaling_address"]);
        let address = section.text("journaling_address", values::address);
        let route = section
            .text_shown(
                "journaling_route",
                |text| routes::route(text, section.report().files()),
                routes::without_password,
            )
            .unwrap_or(Placed { value: Route::Mx(MxRoute::default()), at: section.at() });
        let address = address?;
        let archive = AlsoArchive { journaling_address: address.value, journaling_route: route.value };
        Some((archive, (address.at, route.at)))
    };
    sections.into_iter().filter_map(read).collect()
}

fn reason(text: &str) -> Result<String, String> {
    let letters = text.chars().count();
    if letters <= LONGEST_REASON {
        Ok(text.to_owned())
    } else {
        Err(format!("too long; at most {LONGEST_REASON} letters are allowed"))
    }
}

fn coalesce(text: &str) -> Result<Duration, String> {
    let wait = values::duration(text)?;
    if wait <= LONGEST_COALESCE { Ok(wait) } else { Err(r#"too long; at most "1h" is allowed"#.to_owned()) }
}

/// The sender given, or the one that WorkMail would use for an organization of this name.
fn read_sender(section: Section<'_>, name: Option<&Placed<String>>) -> Option<Address> {
    if section.has("sender") {
        return section.text("sender", values::address).map(|sender| sender.value);
    }
    let default = format!("amazonjournaling@{}.awsapps.com", name?.value);
    Address::parse(&default).ok().or_else(|| {
        section.refuse("name", &format!("the default sender {default} would be no address; set organization.sender"));
        None
    })
}

fn read_scope(section: Section<'_>) -> Scope {
    let every_direction = vec![Direction::Incoming, Direction::Outgoing, Direction::Internal];
    let section = section.table("scope", SCOPE).unwrap_or_else(|| section.absent(SCOPE));
    let words =
        [("incoming", Direction::Incoming), ("outgoing", Direction::Outgoing), ("internal", Direction::Internal)];
    let directions = section.list("directions", values::one_of(&words));
    let include = section.list("include", values::address_pattern);
    let exclude = section.list("exclude", values::address_pattern);
    for (key, empty) in [
        ("directions", directions.as_ref().is_some_and(|list| list.value.is_empty())),
        ("include", include.as_ref().is_some_and(|list| list.value.is_empty())),
    ] {
        // Nothing would be journaled, silently; that is what the switch is for.
        if empty && section.report().is_clean() {
            section.refuse(key, "found an empty list, which means nobody; journaling = false says so");
        }
    }
    let plain = |list: Placed<Vec<Placed<AddressPattern>>>| list.value.into_iter().map(|item| item.value).collect();
    Scope {
        directions: directions
            .map_or(every_direction, |list| list.value.into_iter().map(|direction| direction.value).collect()),
        include: include.map_or_else(|| vec![AddressPattern::Any], plain),
        exclude: exclude.map(plain).unwrap_or_default(),
    }
}
