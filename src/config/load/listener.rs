//! `[[listener]]`: where mail comes in.

use super::section::{Kind, Section};
use super::{limits, listener_tls, routes, values};
use crate::config::{ClientIdentity, Listener, ListenerAuth, Route};

/// `max_message_size` unless the file says otherwise: 64 MiB.
const DEFAULT_MAX_MESSAGE_SIZE: u64 = 64 * 1024 * 1024;

pub(super) const LISTENER: Kind = Kind {
    path: "listener",
    title: "[[listener]]",
    keys: &[
        "name",
        "address",
        "mode",
        "next_hop",
        "trusted_networks",
        "client_identity",
        "proxy_protocol_from",
        "max_message_size",
        "auth",
        "tls",
        "limits",
    ],
};

/// `client_identity`
const IDENTITIES: &[(&str, ClientIdentity)] = &[
    ("none", ClientIdentity::None),
    ("xclient", ClientIdentity::Xclient),
    ("xforward", ClientIdentity::Xforward),
    ("proxy-v1", ClientIdentity::ProxyV1),
    ("proxy-v2", ClientIdentity::ProxyV2),
];

/// A listener and where the values stand that are compared with others'.
#[derive(Debug)]
pub(super) struct PlacedListener {
    pub(super) listener: Listener,
    pub(super) name_at: usize,
    pub(super) address_at: usize,
    pub(super) next_hop_at: usize,
}

/// Every listener that could be read whole.
pub(super) fn read_all(root: Section<'_>) -> Vec<PlacedListener> {
    root.tables("listener", LISTENER).into_iter().filter_map(read).collect()
}

fn read(section: Section<'_>) -> Option<PlacedListener> {
    section.require(&["name", "address", "next_hop"]);
    // Read for its errors: it has one value in this version.
    section.text("mode", values::one_of(&[("proxy", ())]));

    let name = section.text("name", values::name);
    let address = section.text("address", values::socket_address);
    let next_hop = {
        let files = section.report().files();
        section.text_shown("next_hop", |text| routes::next_hop(text, files), routes::without_password)
    };
    let networks = |key| {
        let list = section.list(key, values::own_network).map(|list| list.value).unwrap_or_default();
        list.into_iter().map(|network| network.value).collect()
    };
    let (trusted_networks, proxy_protocol_from) = (networks("trusted_networks"), networks("proxy_protocol_from"));
    let client_identity = section.text("client_identity", values::one_of(IDENTITIES));
    let client_identity = client_identity.map_or(ClientIdentity::None, |identity| identity.value);
    let max_message_size = section.text_or_number("max_message_size", values::size);
    let auth = section.text(
        "auth",
        values::one_of(&[("tls", ListenerAuth::Tls), ("always", ListenerAuth::Always), ("off", ListenerAuth::Off)]),
    );
    let tls = listener_tls::read(section);
    let (name, address, next_hop) = (name?, address?, next_hop?);
    check_identity(section, client_identity, &next_hop.value);
    Some(PlacedListener {
        name_at: name.at,
        address_at: address.at,
        next_hop_at: next_hop.at,
        listener: Listener {
            name: name.value,
            address: address.value,
            next_hop: next_hop.value,
            trusted_networks,
            proxy_protocol_from,
            client_identity,
            max_message_size: max_message_size.map_or(DEFAULT_MAX_MESSAGE_SIZE, |size| size.value),
            auth: auth.map_or_else(ListenerAuth::default, |auth| auth.value),
            tls,
            limits: limits::read(section),
        },
    })
}

/// Notes an identity that this next hop could not be told, or would be wrong to be told.
fn check_identity(section: Section<'_>, identity: ClientIdentity, next_hop: &Route) {
    match next_hop {
        Route::Smtp(route) if route.credentials.is_some() && identity.is_exclusive() => section.refuse(
            "client_identity",
            "with a user in next_hop every client would be taken for that user; allowed are \"none\", \"xforward\"",
        ),
        Route::Smtp(_) => {}
        _ if identity == ClientIdentity::None => {}
        _ => section.refuse("client_identity", "only an SMTP server can be told; allowed is \"none\""),
    }
}
