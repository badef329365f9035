//! `check --json`: what the configuration says, and what is wrong with it, one object a line; `what` tells of what kind.

use crate::config::{
    ClientIdentity, Config, ConfigError, ConfigErrors, DeliveredWhen, Listener, ListenerAuth, Organization, TlsMode,
};
use crate::mail::Timestamp;
use serde_json::{Value, json};
use std::path::Path;

/// A sound configuration: itself, its listeners, its organizations.
pub(super) fn sound(file: &Path, config: &Config, refused: usize) -> Vec<Value> {
    let itself = json!({
        "what": "configuration",
        "file": file.display().to_string(),
        "hostname": config.hostname,
        "spool": config.spool.path.display().to_string(),
        "refused": refused,
    });
    let listeners = config.listeners.iter().map(listener);
    std::iter::once(itself).chain(listeners).chain(config.organizations.iter().map(organization)).collect()
}

/// One that is not: each mistake with its place.
pub(super) fn mistakes(errors: &ConfigErrors) -> Vec<Value> {
    errors
        .iter()
        .map(|ConfigError { file, place, message }| mistake(file, place.map(|it| (it.line, it.column)), message))
        .collect()
}

/// One mistake.
pub(super) fn mistake(file: &Path, place: Option<(usize, usize)>, message: &str) -> Value {
    let (line, column) = place.unzip();
    json!({ "what": "mistake", "file": file.display().to_string(), "line": line, "column": column, "message": message })
}

/// What is not wrong yet.
pub(super) fn warning(listener: &str, warning: &str) -> Value {
    json!({ "what": "warning", "listener": listener, "warning": warning })
}

fn listener(listener: &Listener) -> Value {
    let tls = listener.tls.as_ref().map(|tls| match tls.mode {
        TlsMode::StartTls => "starttls",
        TlsMode::Implicit => "implicit",
        TlsMode::Required => "required",
    });
    let auth = match listener.auth {
        ListenerAuth::Tls => "tls",
        ListenerAuth::Always => "always",
        ListenerAuth::Off => "off",
    };
    let identity = match listener.client_identity {
        ClientIdentity::None => "none",
        ClientIdentity::Xclient => "xclient",
        ClientIdentity::Xforward => "xforward",
        ClientIdentity::ProxyV1 => "proxy-v1",
        ClientIdentity::ProxyV2 => "proxy-v2",
    };
    let texts = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expires = listener.tls.as_ref().and_then(|tls| tls.first_to_expire()).map(|(_, at)| at);
    json!({
        "what": "listener",
        "name": listener.name,
        "address": listener.address.to_string(),
        "next_hop": listener.next_hop.to_string(),
        "tls": tls,
        "certificate_expires": expires.map(Timestamp::rfc3339),
        "auth": auth,
        "trusted_networks": texts(&listener.trusted_networks),
        "proxy_protocol_from": texts(&listener.proxy_protocol_from),
        "client_identity": identity,
    })
}

fn organization(of: &Organization) -> Value {
    let archive = |(address, route): (&crate::mail::Address, &crate::config::Route)| json!({ "journaling_address": address, "route": route.to_string() });
    json!({
        "what": "organization",
        "name": of.name,
        "domains": of.domains.iter().map(|domain| domain.as_text()).collect::<Vec<_>>(),
        "journaling": of.journaling,
        "reason": of.switch_reason,
        "archives": of.archives().map(archive).collect::<Vec<_>>(),
        "delivered_when": if of.delivered_when == DeliveredWhen::Any { "any" } else { "all" },
        "report_address": of.report_address,
        "report_route": of.report_route.to_string(),
    })
}
