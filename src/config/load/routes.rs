//! Route URLs: `smtp://[user:password@]host:port?tls=…&ca_file=…&password_file=…&source=…&connections=…`, `smtps://…`,
//! `lmtp://…`, `maildir:/path`, `mx`, `mx?tls=…&source=…&sts=off&dane=off`.
//!
//! Files that a URL names are looked at here, so that a missing one is an error of the configuration and not of the first
//! delivery. What is said of a wrong URL never repeats its password.

use super::report::Files;
use super::{files, listener_tls};
use crate::config::{MAX_CONNECTIONS, MxRoute, Protocol, Route, SMTP_PORT, SmtpRoute, Source, Tls};
use crate::mail::DomainPattern;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use url::Url;

/// Octets of a password file; a larger one is refused.
const MAX_PASSWORD_FILE: u64 = 4 * 1024;

/// RFC 2033, section 5, forbids port 25; this one is registered for private mail systems and what servers use.
const LMTP_PORT: u16 = 24;
/// RFC 8314, section 7.3.
const SMTPS_PORT: u16 = 465;

const ALLOWED_NEXT_HOP: &str = "allowed are smtp://host:port, smtps://host:port and maildir:/path";
const ALLOWED_ROUTE: &str = "allowed are mx, smtp://host:port, smtps://host:port, lmtp://host:port and maildir:/path";

/// Where a listener's mail goes on to.
pub(super) fn next_hop(text: &str, files: Files) -> Result<Route, String> {
    match scheme(text) {
        // A contract of the protocol, not of this version: RFC 2033, section 4.2, gives one reply for each recipient after
        // the data, and the client of a proxy can be given but one.
        "lmtp" => Err(format!("LMTP replies for each recipient can't be the client's one reply; {ALLOWED_NEXT_HOP}")),
        "smtp" | "smtps" | "maildir" => match read(text, ALLOWED_NEXT_HOP, files)? {
            Route::Smtp(server) if has_connections(text) => Err(format!(
                "connections={} has no meaning for a next hop, which has as many as clients have sessions: see listener.limits",
                server.connections
            )),
            route => Ok(route),
        },
        _ => Err(format!("not a next hop; {ALLOWED_NEXT_HOP}")),
    }
}

fn has_connections(text: &str) -> bool {
    let options = text.rsplit_once('?').map_or("", |(_, options)| options);
    options.split('&').any(|option| option.starts_with("connections="))
}

/// Where records or reports go.
pub(super) fn route(text: &str, files: Files) -> Result<Route, String> {
    match text.split_once('?').unwrap_or((text, "")) {
        ("mx", query) => mx(query, files).map(Route::Mx),
        _ => read(text, ALLOWED_ROUTE, files),
    }
}

/// The text with stars for user and password, for error messages; also where the slashes were forgotten.
pub(super) fn without_password(text: &str) -> String {
    let Some((start, rest)) = text.split_once("//").or_else(|| text.split_once(':')) else { return text.to_owned() };
    let Some((_, host)) = rest.rsplit_once('@') else { return text.to_owned() };
    let mark = text.strip_prefix(start).filter(|rest| rest.starts_with("//")).map_or(":", |_| "//");
    format!("{start}{mark}***@{host}")
}

fn scheme(text: &str) -> &str {
    text.split_once(':').map_or("", |(scheme, _)| scheme)
}

fn read(text: &str, allowed: &str, files: Files) -> Result<Route, String> {
    if text.chars().any(|letter| letter.is_control() || letter == '\u{2028}' || letter == '\u{2029}') {
        return Err(format!("a control character can't stand in a route; {allowed}"));
    }
    match scheme(text) {
        "maildir" => maildir(text),
        "smtp" | "smtps" | "lmtp" => smtp(text, allowed, files).map(Route::Smtp),
        _ => Err(format!("not a route; {allowed}")),
    }
}

fn maildir(text: &str) -> Result<Route, String> {
    let path = text.strip_prefix("maildir:").unwrap_or_default();
    // maildir://host/path would be read as /host/path.
    if path.is_empty() || path.starts_with("//") {
        return Err("not a directory; allowed is maildir: and a path, such as maildir:/var/mail/journal".to_owned());
    }
    Ok(Route::Maildir(PathBuf::from(path)))
}

fn smtp(text: &str, allowed: &str, files: Files) -> Result<SmtpRoute, String> {
    if text.contains(' ') {
        return Err(format!("a space can't stand in a URL; {allowed}"));
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL, {error}; {allowed}"))?;
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(format!("nothing but ? and options such as tls=… may follow the port; {allowed}"));
    }
    let options = Options::read(url.query(), false)?;
    let implicit = url.scheme() == "smtps";
    let protocol = if url.scheme() == "lmtp" { Protocol::Lmtp } else { Protocol::Smtp };
    let port = match url.port() {
        Some(0) => return Err("port 0 can't be connected to; allowed are 1 to 65535".to_owned()),
        Some(SMTP_PORT) if protocol == Protocol::Lmtp => {
            return Err("LMTP never has port 25 (RFC 2033, section 5); 24 is usual".to_owned());
        }
        Some(port) => port,
        None if implicit => SMTPS_PORT,
        None if protocol == Protocol::Lmtp => LMTP_PORT,
        None => SMTP_PORT,
    };
    let credentials = credentials(&url, options.password_file.as_deref(), files)?;
    let server = options.server(SmtpRoute::to(host(&url, allowed)?, port, options.tls(implicit)?), files)?;
    Ok(SmtpRoute { protocol, credentials, ..server })
}

/// `mx`, with what stands behind its `?`.
fn mx(query: &str, files: Files) -> Result<MxRoute, String> {
    let options = Options::read(Some(query), true)?;
    let (sts, dane) = (is_on("sts", options.sts.as_deref())?, is_on("dane", options.dane.as_deref())?);
    let route = MxRoute { sts, dane, ..MxRoute::default() };
    Ok(MxRoute { server: options.server(SmtpRoute { tls: options.tls(false)?, ..route.server }, files)?, ..route })
}

fn is_on(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => Err(format!("{key}={other} is unknown; allowed are {key}=on and {key}=off")),
    }
}

/// One address of each family at most.
fn source(texts: &[String]) -> Result<Source, String> {
    let mut source = Source::default();
    for text in texts {
        let is_second = match text.parse() {
            Ok(IpAddr::V4(address)) => source.v4.replace(address).is_some(),
            Ok(IpAddr::V6(address)) => source.v6.replace(address).is_some(),
            Err(_) => {
                return Err(format!("source={text} is no IP address; allowed is one such as 192.0.2.1 or 2001:db8::1"));
            }
        };
        if is_second {
            return Err("source= is allowed once for IPv4 and once for IPv6".to_owned());
        }
    }
    Ok(source)
}

fn connections(text: Option<&str>, default: usize) -> Result<usize, String> {
    let Some(text) = text else { return Ok(default) };
    text.parse()
        .ok()
        .filter(|number| (1..=MAX_CONNECTIONS).contains(number))
        .ok_or_else(|| format!("connections={text} is not allowed; allowed are 1 to {MAX_CONNECTIONS}"))
}

/// SHA-256 fingerprints, `sha256:` and 64 hex digits with or without colons, separated by commas.
fn fingerprints(text: Option<&str>) -> Result<Vec<[u8; 32]>, String> {
    let one = |text: &str| {
        let digits: String = text.strip_prefix("sha256:")?.chars().filter(|letter| *letter != ':').collect();
        let octets =
            digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        octets.collect::<Option<Vec<u8>>>()?.try_into().ok()
    };
    let allowed = || "fingerprint= allows sha256: and 64 hex digits, several of them separated by commas".to_owned();
    text.map_or(Ok(Vec::new()), |text| text.split(',').map(|text| one(text).ok_or_else(allowed)).collect())
}

/// What stands behind the `?`, each at most once but for `source`.
#[derive(Debug, Default)]
struct Options {
    tls: Option<String>,
    ca_file: Option<String>,
    password_file: Option<String>,
    fingerprint: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    connections: Option<String>,
    source: Vec<String>,
    sts: Option<String>,
    dane: Option<String>,
}

impl Options {
    fn read(query: Option<&str>, is_mx: bool) -> Result<Self, String> {
        let mut options = Self::default();
        for option in query.unwrap_or_default().split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let mut another = None;
            let place = match key {
                "source" => &mut another,
                "tls" => &mut options.tls,
                "ca_file" => &mut options.ca_file,
                "fingerprint" => &mut options.fingerprint,
                "certificate" => &mut options.certificate,
                "key" => &mut options.key,
                "connections" => &mut options.connections,
                "password_file" if !is_mx => &mut options.password_file,
                "sts" if is_mx => &mut options.sts,
                "dane" if is_mx => &mut options.dane,
                // Not repeated: behind an unencoded ? it may be a piece of the password.
                _ => {
                    let own = if is_mx { "sts, dane" } else { "password_file" };
                    return Err(format!(
                        "unknown option; allowed are tls, ca_file, fingerprint, certificate, key, source, connections, {own}"
                    ));
                }
            };
            if value.is_empty() || place.is_some() {
                return Err(format!("{key}= is allowed once, with a value"));
            }
            *place = Some(decode(value)?);
            options.source.extend(another);
        }
        Ok(options)
    }

    /// `server`, whose demand on TLS is known, with all that the options say.
    fn server(&self, server: SmtpRoute, files: Files) -> Result<SmtpRoute, String> {
        let is_verified = matches!(server.tls, Tls::Required | Tls::Implicit);
        let ca_file = self.ca_file.as_ref().map(PathBuf::from);
        if let Some(path) = &ca_file {
            if !is_verified {
                return Err("ca_file= has a meaning with tls=required or smtps:// only".to_owned());
            }
            if files == Files::Open {
                check_ca_file(path)?;
            }
        }
        let fingerprints = fingerprints(self.fingerprint.as_deref())?;
        if !fingerprints.is_empty() && (ca_file.is_some() || !is_verified) {
            return Err("fingerprint= has a meaning with tls=required or smtps:// and without ca_file= only".to_owned());
        }
        let identity = match (self.certificate.as_ref().map(PathBuf::from), self.key.as_ref().map(PathBuf::from)) {
            (Some(certificate), Some(key)) if server.tls != Tls::None => match files {
                Files::Open => Some(listener_tls::read_identity(certificate, key)?),
                Files::Leave => None,
            },
            (None, None) => None,
            _ => return Err("certificate= and key= are allowed together, and with TLS".to_owned()),
        };
        let source = source(&self.source)?;
        let connections = connections(self.connections.as_deref(), server.connections)?;
        Ok(SmtpRoute { ca_file, fingerprints, identity, source, connections, ..server })
    }

    fn tls(&self, implicit: bool) -> Result<Tls, String> {
        match (implicit, self.tls.as_deref()) {
            (true, None) => Ok(Tls::Implicit),
            (true, Some(_)) => {
                Err("smtps:// is TLS from the first octet; tls= is allowed with smtp:// only".to_owned())
            }
            (false, None | Some("opportunistic")) => Ok(Tls::Opportunistic),
            (false, Some("none")) => Ok(Tls::None),
            (false, Some("required")) => Ok(Tls::Required),
            (false, Some(other)) => {
                Err(format!("tls={other} is unknown; allowed are tls=none, tls=opportunistic and tls=required"))
            }
        }
    }
}

/// An IP address without brackets, or a name in ASCII form.
fn host(url: &Url, allowed: &str) -> Result<String, String> {
    let refuse = || format!("not a host; {allowed}");
    let host = decode(url.host_str().unwrap_or_default())?;
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
    if literal.parse::<IpAddr>().is_ok() {
        return Ok(literal.to_owned());
    }
    // A last label of digits alone would be a mistyped IPv4 address, and no top-level domain is one (RFC 3696, section 2).
    let numeric = host
        .strip_suffix('.')
        .unwrap_or(&host)
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric || host.starts_with('*') {
        return Err(refuse());
    }
    DomainPattern::parse(&host).map(|name| name.as_text()).map_err(|_| refuse())
}

fn credentials(url: &Url, password_file: Option<&str>, files: Files) -> Result<Option<(String, String)>, String> {
    let user = decode(url.username())?;
    let password = match (url.password(), password_file) {
        (Some(_), Some(_)) => return Err("a password and password_file= together; one of them is allowed".to_owned()),
        (Some(password), None) => Some(decode(password)?),
        (None, Some(_)) if files == Files::Leave => Some(String::new()),
        (None, Some(path)) => Some(read_password(Path::new(path))?),
        (None, None) => None,
    };
    match (user.is_empty(), password) {
        (true, None) => Ok(None),
        (true, Some(_)) => Err("a password needs its user: smtp://user@host:port?password_file=…".to_owned()),
        (false, None) => Err("a user needs a password: smtp://user:password@host or password_file=…".to_owned()),
        (false, Some(password)) => Ok(Some((user, password))),
    }
}

/// The first line of the file; there may be no other.
fn read_password(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    files::open(path)
        .and_then(|file| file.take(MAX_PASSWORD_FILE + 1).read_to_string(&mut text))
        .map_err(|error| format!("password_file {} can't be read: {error}", path.display()))?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    let too_long = u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_PASSWORD_FILE;
    if too_long || line.is_empty() || line.contains(char::is_control) {
        return Err(format!("password_file {} holds no password; allowed is one line of text", path.display()));
    }
    Ok(line.to_owned())
}

fn check_ca_file(path: &Path) -> Result<(), String> {
    let refuse = |why: String| format!("ca_file {} can't be read: {why}", path.display());
    files::require(path).map_err(|error| refuse(error.to_string()))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))? {
        certificate.map_err(|error| refuse(error.to_string()))?;
        count += 1;
    }
    if count == 0 { Err(format!("ca_file {} holds no certificate in PEM form", path.display())) } else { Ok(()) }
}

/// Percent-encoding undone (RFC 3986, section 2.1); what it hides must be UTF-8 without control characters.
fn decode(text: &str) -> Result<String, String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    octets.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let hex = piece.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let octet = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        octets.push(octet.ok_or("a % must be followed by two hex digits; write %25 for the character itself")?);
        octets.extend_from_slice(piece.get(2..).unwrap_or_default().as_bytes());
    }
    match String::from_utf8(octets) {
        Ok(text) if !text.contains(char::is_control) => Ok(text),
        _ => Err("percent-encoding must be that of UTF-8 text without control characters".to_owned()),
    }
}

#[cfg(test)]
mod tests;
