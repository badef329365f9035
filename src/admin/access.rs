//! Who may see: whoever shows the token of `[admin]`, as a bearer token (RFC 6750) or, from a browser, as the password of any
//! user (RFC 7617). Health is told to everybody, since those who probe for it can seldom show anything.
//!
//! Without a token whoever asks must call the relay by an address or by a name of its own: else a page of the web could have its
//! own name lead to this address, and its reader's browser tell it all that stands here (DNS rebinding).

use crate::config::{Config, Token};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Request};
use std::net::IpAddr;

/// What everybody is told.
const OPEN: [&str; 2] = ["/livez", "/readyz"];
/// How one can show it.
pub(super) const CHALLENGES: [&str; 2] =
    ["Bearer realm=\"journal-relay\"", "Basic realm=\"journal-relay\", charset=\"UTF-8\""];

/// Whether a request for `path` with these headers is answered.
pub(super) fn may_see(path: &str, headers: &HeaderMap, token: Option<&Token>) -> bool {
    let Some(token) = token else { return true };
    if OPEN.contains(&path) {
        return true;
    }
    let Some((scheme, shown)) =
        headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    let shown = shown.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return token.is(shown);
    }
    let pair = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(shown).ok()).flatten();
    let pair = pair.and_then(|octets| String::from_utf8(octets).ok());
    pair.as_deref().and_then(|pair| pair.split_once(':')).is_some_and(|(_, password)| token.is(password))
}

/// The foreign name by which somebody without need of a token asks for more than health; none: he may.
pub(super) fn stranger<B>(request: &Request<B>, config: &Config) -> Option<String> {
    let admin = config.admin.as_ref()?;
    if admin.token.is_some() || OPEN.contains(&request.uri().path()) {
        return None;
    }
    let in_head = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default());
    let in_line = request.uri().authority().map(Authority::as_str);
    let is_own = |name: &str| {
        let same = |own: &str| name.eq_ignore_ascii_case(own.trim_end_matches('.'));
        same(&config.hostname) || admin.hosts.iter().any(|host| same(host))
    };
    in_head
        .chain(in_line)
        .find(|named| !bare_host(named).is_some_and(|host| is_plain(host) || is_own(host)))
        .map(str::to_owned)
}

/// The host without its port and a last dot.
fn bare_host(named: &str) -> Option<&str> {
    let end = named.rfind(']').map_or(0, |bracket| bracket + 1);
    let host = match named.get(end..)?.split_once(':') {
        Some((rest, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => named.get(..end + rest.len())?,
        Some(_) => return None,
        None => named,
    };
    Some(host.trim_end_matches('.'))
}

/// What no name server of a stranger's answers for: an address, `localhost` (RFC 6761, section 6.3), a name without a dot.
fn is_plain(host: &str) -> bool {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    literal.parse::<IpAddr>().is_ok()
        || host.to_ascii_lowercase().ends_with(".localhost")
        || (!host.contains(['.', ':', '[', ']', '/', '@']) && !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn sees(path: &str, shown: &str) -> bool {
        let mut headers = HeaderMap::new();
        if !shown.is_empty() {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(shown).unwrap());
        }
        may_see(path, &headers, Some(&Token::new("0123456789abcdef")))
    }

    #[test]
    fn addresses_and_names_of_its_own_are_taken_and_names_that_a_stranger_s_server_could_answer_for_are_not() {
        let text = "hostname = \"relay.example.org\"\n[admin]\naddress = \"127.0.0.1:1\"\nhosts = [\"mx1.internal.example\"]\n\
                    [[listener]]\nname = \"in\"\naddress = \"127.0.0.1:25\"\nnext_hop = \"smtp://192.0.2.1\"\n\
                    [[organization]]\nname = \"a\"\ndomains = [\"a.example\"]\njournaling_address = \"j@b.example\"\n\
                    report_address = \"p@a.example\"\n";
        let machine = crate::config::Machine { hostname: "machine.example".to_owned(), stderr_is_terminal: false };
        let mut config = Config::parse(text, std::path::Path::new("c.toml"), &machine).unwrap();
        let asks = |config: &Config, uri: &str, hosts: &[&str]| {
            let mut request = Request::get(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            stranger(&request.body(()).unwrap(), config)
        };
        for host in [
            "127.0.0.1:8025",
            "192.0.2.1",
            "[::1]:8025",
            "[2001:db8::1]",
            "localhost:8025",
            "LOCALHOST",
            "x.localhost",
            "relay",
            "relay:8025",
            "relay.example.org",
            "Relay.Example.ORG.:8025",
            "mx1.internal.example:1",
        ] {
            assert_eq!(asks(&config, "/metrics", &[host]), None, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8025",
            "127.0.0.1.evil.example",
            "relay.example.org.evil.example",
            "",
            ":8025",
            "[::1].evil.example",
            "localhost.evil.example:8025",
            "x@127.0.0.1",
            "127.0.0.1:8025:x",
            "127.0.0.1/x",
            "[::1",
            "a.b:c",
        ] {
            assert_eq!(asks(&config, "/", &[host]), Some(host.to_owned()), "{host}");
            assert_eq!((asks(&config, "/livez", &[host]), asks(&config, "/readyz", &[host])), (None, None), "{host}");
        }
        // HTTP/1.0 without a name is no browser's; two names, or one in the line, are each looked at.
        assert_eq!(asks(&config, "/status", &[]), None);
        assert!(asks(&config, "/status", &["127.0.0.1", "evil.example"]).is_some());
        assert!(asks(&config, "http://evil.example/status", &["127.0.0.1"]).is_some());
        // The token tells enough.
        config.admin.as_mut().unwrap().token = Some(Token::new("0123456789abcdef"));
        assert_eq!(asks(&config, "/", &["evil.example"]), None);
    }

    #[test]
    fn the_token_opens_by_either_scheme_and_nothing_else_does() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for shown in [
            "Bearer 0123456789abcdef",
            "bearer  0123456789abcdef",
            &basic("any:0123456789abcdef"),
            &basic(":0123456789abcdef"),
        ] {
            assert!(sees("/", shown), "{shown}");
        }
        for shown in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdeF",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            &basic("0123456789abcdef"),
            "Digest 0123456789abcdef",
        ] {
            assert!(!sees("/metrics", shown), "{shown}");
            assert!(sees("/livez", shown) && sees("/readyz", shown), "{shown}");
        }
        assert!(may_see("/", &HeaderMap::new(), None));
    }
}
