//! `check`: is the configuration sound, and what does it mean. `--connect` tries out what it leads to, see `connect`.

mod connect;
mod facts;
mod stranger;

use super::Failure;
use super::output::{complain, print, print_object, table};
use crate::clock;
use crate::config::{
    CERTIFICATE_WARNING, ClientIdentity, Config, DeliveredWhen, Listener, ListenerAuth, Organization, TlsMode,
};
use crate::mail::Timestamp;
use crate::receive::prove_closed;
use crate::spool::require_lasting;
use serde_json::Value;
use std::io;
use std::path::Path;

/// What can be asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Also try every next hop and archive (EHLO, STARTTLS, MAIL, RCPT; no mail is sent), and every listener as a stranger
    #[arg(long)]
    connect: bool,
    /// One JSON object a line; "what" tells of what kind
    #[arg(long)]
    json: bool,
}

/// Prints what the configuration says, and what its servers say.
///
/// # Errors
/// [`Failure::Config`] with every mistake found, and for an open relay; with `--connect` [`Failure::Failed`] when a place can't
/// be used.
pub(super) fn check(file: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { connect, json } = *arguments;
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(errors) => {
            print_all(if json { facts::mistakes(&errors) } else { Vec::new() })?;
            return Err(errors.into());
        }
    };
    let refused = match require_closed_and_lasting(file, &config) {
        Ok(refused) => refused,
        Err(why) => {
            print_all(json.then(|| facts::mistake(file, None, &why)))?;
            return Err(Failure::Config(why));
        }
    };
    let warnings = warnings(&config, clock::system().now());
    if json {
        print_all(facts::sound(file, &config, refused))?;
        print_all(warnings.iter().map(|(listener, warning)| facts::warning(listener, warning)))?;
    } else {
        print(table(&describe(file, &config, refused)).as_bytes())?;
    }
    warnings.iter().for_each(|(listener, warning)| complain(&format!("warning: listener {listener}: {warning}")));
    if connect { connect::try_everything(&config, json) } else { Ok(()) }
}

/// How many recipients elsewhere were refused to a stranger; or why nothing may be started so.
fn require_closed_and_lasting(file: &Path, config: &Config) -> Result<usize, String> {
    let refused = prove_closed(config)
        .map_err(|open| format!("{}: this configuration makes an open relay: {open}", file.display()))?;
    if !config.spool.allow_volatile {
        require_lasting(&config.spool.path).map_err(|refusal| refusal.to_string())?;
    }
    Ok(refused)
}

fn print_all(objects: impl IntoIterator<Item = Value>) -> io::Result<()> {
    objects.into_iter().try_for_each(|object| print_object(&object))
}

/// What will be wrong soon: by listener.
fn warnings(config: &Config, now: Timestamp) -> Vec<(String, String)> {
    let of_listener = |listener: &Listener| {
        let (identity, expires) = listener.tls.as_ref()?.first_to_expire()?;
        let certificate = identity.certificate.display();
        if expires <= now {
            return Some((listener.name.clone(), format!("{certificate} has expired, {}", expires.rfc3339())));
        }
        let left = expires.since(now);
        let days = left.as_secs() / 86_400;
        (left < CERTIFICATE_WARNING)
            .then(|| (listener.name.clone(), format!("{certificate} expires in {days} days, {}", expires.rfc3339())))
    };
    config.listeners.iter().filter_map(of_listener).collect()
}

fn describe(file: &Path, config: &Config, refused: usize) -> Vec<Vec<String>> {
    let mut rows = vec![row("hostname", config.hostname.clone())];
    rows.push(row("spool", config.spool.path.display().to_string()));
    config.listeners.iter().for_each(|listener| describe_listener(listener, &mut rows));
    config.organizations.iter().for_each(|organization| describe_organization(organization, &mut rows));
    rows.push(row(
        "relay control",
        format!("{refused} recipients elsewhere were refused to a client that is not trusted"),
    ));
    rows.push(row("ok", format!("{} is sound", file.display())));
    rows
}

fn row(what: &str, text: String) -> Vec<String> {
    vec![what.to_owned(), text]
}

fn describe_listener(listener: &Listener, rows: &mut Vec<Vec<String>>) {
    let Listener { name, address, next_hop, .. } = listener;
    rows.push(row("listener", format!("{name} on {address} → {next_hop}")));
    let list = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let tls = match listener.tls.as_ref().map(|tls| tls.mode) {
        None => "no TLS",
        Some(TlsMode::StartTls) => "STARTTLS offered",
        Some(TlsMode::Required) => "STARTTLS required",
        Some(TlsMode::Implicit) => "TLS from the first octet",
    };
    let auth = match listener.auth {
        ListenerAuth::Tls if listener.tls.is_none() => "so no AUTH",
        ListenerAuth::Off => "no AUTH",
        ListenerAuth::Tls => "AUTH under TLS, as the next hop offers it",
        ListenerAuth::Always => "AUTH also in plain text, as the next hop offers it",
    };
    rows.push(row("", format!("{tls}; {auth}")));
    if !listener.trusted_networks.is_empty() {
        rows.push(row("", format!("{} may send to any domain", list(&listener.trusted_networks))));
    }
    if !listener.proxy_protocol_from.is_empty() {
        rows.push(row("", format!("{} must begin with a PROXY header", list(&listener.proxy_protocol_from))));
    }
    let identity = match listener.client_identity {
        ClientIdentity::None => return,
        ClientIdentity::Xclient => "XCLIENT",
        ClientIdentity::Xforward => "XFORWARD",
        ClientIdentity::ProxyV1 => "a PROXY header of version 1",
        ClientIdentity::ProxyV2 => "a PROXY header of version 2",
    };
    rows.push(row("", format!("the next hop learns the client by {identity}")));
}

fn describe_organization(organization: &Organization, rows: &mut Vec<Vec<String>>) {
    let domains: Vec<String> = organization.domains.iter().map(|domain| domain.as_text()).collect();
    let journal = if organization.journaling {
        let archives = organization.archives().map(|(address, route)| format!("{address} by {route}"));
        let each = match organization.delivered_when {
            DeliveredWhen::Any if !organization.also.is_empty() => " (one of them is enough)",
            _ => "",
        };
        format!("records to {}{each}", archives.collect::<Vec<_>>().join(" and to "))
    } else {
        "journaling is switched off".to_owned()
    };
    rows.push(row("organization", format!("{} ({}): {journal}", organization.name, domains.join(", "))));
    rows.push(row("", format!("reports to {} by {}", organization.report_address, organization.report_route)));
}
