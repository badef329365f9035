//! Who may see: whoever shows the token of `[admin]`, as a bearer token (RFC 6750) or, from a browser, as the password of any
//! user (RFC 7617). Health is told to everybody, since those who probe for it can seldom show anything.

use crate::config::Token;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

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
