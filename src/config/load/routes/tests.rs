//! Tests of the route URLs.

use super::*;
use crate::config::DEFAULT_CONNECTIONS;

fn route(text: &str) -> Result<Route, String> {
    super::route(text, Files::Open)
}

fn next_hop(text: &str) -> Result<Route, String> {
    super::next_hop(text, Files::Open)
}

fn smtp_route(text: &str) -> SmtpRoute {
    match route(text) {
        Ok(Route::Smtp(smtp)) => smtp,
        other => panic!("{text}: {other:?}"),
    }
}

fn written(directory: &tempfile::TempDir, name: &str, content: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn ports_and_tls_have_the_defaults_of_their_scheme() {
    let plain = smtp_route("smtp://archive.example.com");
    assert_eq!((plain.port, plain.tls), (25, Tls::Opportunistic));
    let implicit = smtp_route("smtps://archive.example.com/");
    assert_eq!((implicit.port, implicit.tls), (465, Tls::Implicit));
    let given = smtp_route("smtp://archive.example.com:2525?tls=required");
    assert_eq!((given.port, given.tls), (2525, Tls::Required));
    assert_eq!(smtp_route("smtp://archive.example.com?tls=none").tls, Tls::None);
}

#[test]
fn hosts_are_names_in_ascii_form_or_addresses_without_brackets() {
    for (text, host) in [
        ("smtp://Archive.Example.COM:25", "archive.example.com"),
        ("smtp://archive.example.com.:25", "archive.example.com"),
        ("smtp://例え.example", "xn--r8jz45g.example"),
        ("smtp://192.0.2.1:25", "192.0.2.1"),
        ("smtp://[2001:db8::1]:25", "2001:db8::1"),
        ("smtp://mail_relay:25", "mail_relay"),
    ] {
        assert_eq!(smtp_route(text).host, host, "{text}");
    }
    for text in ["smtp://", "smtp://:25", "smtp:archive", "smtp://a..b", "smtp://*.example.org", "smtp://192.0.2.300"] {
        assert!(route(text).is_err(), "{text}");
    }
}

#[test]
fn user_and_password_are_percent_decoded() {
    let credentials = smtp_route("smtp://jo%40example.org:p%3A%25%2f%C3%A4+@archive.example.com").credentials;
    assert_eq!(credentials, Some(("jo@example.org".into(), "p:%/ä+".into())));
    for text in ["smtp://a:%zz@h", "smtp://a:%f@h", "smtp://a:%FF@h", "smtp://a:%0A@h"] {
        assert!(route(text).unwrap_err().contains('%') || route(text).unwrap_err().contains("percent"), "{text}");
    }
}

#[test]
fn a_user_and_a_password_come_together() {
    assert!(route("smtp://user@archive.example.com").unwrap_err().starts_with("a user needs a password"));
    assert!(route("smtp://:secret@archive.example.com").unwrap_err().starts_with("a password needs its user"));
}

#[test]
fn a_password_file_holds_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(&directory, "password", "s3cret +%41 \r\n");
    let credentials = smtp_route(&format!("smtp://user@archive.example.com?password_file={file}")).credentials;
    assert_eq!(credentials, Some(("user".into(), "s3cret +%41 ".into())));
    for content in ["", "\n", "one\ntwo\n", &"x".repeat(5_000)] {
        let file = written(&directory, "bad", content);
        let why = route(&format!("smtp://user@archive.example.com?password_file={file}")).unwrap_err();
        assert!(why.ends_with("holds no password; allowed is one line of text"), "{why}");
    }
    let why = route("smtp://user@h?password_file=/nonexistent/password").unwrap_err();
    assert_eq!(why, "password_file /nonexistent/password can't be read: No such file or directory (os error 2)");
    let why = route(&format!("smtp://user:word@h?password_file={file}")).unwrap_err();
    assert!(why.starts_with("a password and password_file= together"), "{why}");
}

#[test]
fn a_ca_file_must_hold_a_certificate_and_be_of_use() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(vec!["ca.example.org".into()]).unwrap().cert.pem();
    let file = written(&directory, "ca.pem", &certificate);
    let route_with = |file: &str, tls: &str| route(&format!("{tls}ca_file={file}"));
    for tls in ["smtp://h?tls=required&", "smtps://h?"] {
        assert!(matches!(route_with(&file, tls), Ok(Route::Smtp(smtp)) if smtp.ca_file == Some(PathBuf::from(&file))));
    }
    for tls in ["smtp://h?", "smtp://h?tls=none&", "smtp://h?tls=opportunistic&"] {
        assert!(route_with(&file, tls).unwrap_err().starts_with("ca_file= has a meaning with"), "{tls}");
    }
    let empty = written(&directory, "empty.pem", "no certificate\n");
    assert!(route_with(&empty, "smtps://h?").unwrap_err().ends_with("holds no certificate in PEM form"));
    assert!(
        route_with("/nonexistent/ca", "smtps://h?").unwrap_err().starts_with("ca_file /nonexistent/ca can't be read")
    );
}

#[test]
fn fingerprints_are_read_as_openssl_shows_them() {
    let plain = "ab".repeat(32);
    let with_colons = ["AB"; 32].join(":");
    let pins = |text: &str| match route(text) {
        Ok(Route::Smtp(smtp)) => Ok(smtp.fingerprints),
        other => Err(format!("{other:?}")),
    };
    let both = format!("smtps://h?fingerprint=sha256:{plain},sha256:{with_colons}");
    assert_eq!(pins(&both), Ok(vec![[0xab; 32]; 2]));
    for wrong in ["ab", "sha256:ab", "sha1:abab", &format!("sha256:{plain}ab"), &format!("sha256:{plain},")] {
        let why = route(&format!("smtps://h?fingerprint={wrong}")).unwrap_err();
        assert!(why.starts_with("fingerprint= allows sha256:"), "{wrong}: {why}");
    }
    for tls in ["", "tls=none&", "tls=opportunistic&"] {
        let why = route(&format!("smtp://h?{tls}fingerprint=sha256:{plain}")).unwrap_err();
        assert!(why.starts_with("fingerprint= has a meaning with"), "{why}");
    }
}

#[test]
fn a_certificate_to_show_comes_with_its_key_and_with_tls() {
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = [(), ()].map(|()| rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap());
    let certificate = written(&directory, "a.pem", &one.cert.pem());
    let key = written(&directory, "a.key", &one.signing_key.serialize_pem());
    let foreign = written(&directory, "b.key", &other.signing_key.serialize_pem());
    let found = route(&format!("smtp://h?certificate={certificate}&key={key}"));
    assert!(matches!(&found, Ok(Route::Smtp(smtp)) if smtp.identity.is_some()), "{found:?}");
    for (options, why) in [
        (format!("certificate={certificate}"), "certificate= and key= are allowed together"),
        (format!("tls=none&certificate={certificate}&key={key}"), "certificate= and key= are allowed together"),
        (format!("certificate={certificate}&key={foreign}"), "key= is not the key of"),
        (format!("certificate=/nonexistent&key={key}"), "certificate=: /nonexistent can't be read"),
    ] {
        let said = route(&format!("smtp://h?{options}")).unwrap_err();
        assert!(said.starts_with(why), "{said}");
    }
}

#[test]
fn options_are_known_and_given_once() {
    for (text, start) in [
        ("smtp://h?tls=yes", "tls=yes is unknown"),
        ("smtp://h?tls=none&tls=required", "tls= is allowed once"),
        ("smtp://h?tls", "tls= is allowed once, with a value"),
        ("smtp://h?timeout=5", "unknown option"),
        ("smtps://h?tls=required", "smtps:// is TLS from the first octet"),
        ("smtp://h/path", "nothing but"),
        ("smtp://h#part", "nothing but"),
        ("smtp://h:0", "port 0"),
        ("smtp://h:65536", "not a URL"),
        ("smtp://a b", "a space"),
    ] {
        let why = route(text).unwrap_err();
        assert!(why.starts_with(start), "{text}: {why}");
    }
}

#[test]
fn a_maildir_is_a_path_absolute_or_not() {
    assert_eq!(route("maildir:/var/mail/%41"), Ok(Route::Maildir("/var/mail/%41".into())));
    assert_eq!(next_hop("maildir:data/delivered"), Ok(Route::Maildir("data/delivered".into())));
    for text in ["maildir:", "maildir://host/path"] {
        assert!(route(text).unwrap_err().starts_with("not a directory"), "{text}");
    }
}

#[test]
fn lmtp_is_a_route_with_a_port_of_its_own_and_never_25() {
    let found = route("lmtp://archive.example");
    assert!(matches!(&found, Ok(Route::Smtp(smtp)) if smtp.protocol == Protocol::Lmtp && smtp.port == 24), "{found:?}");
    assert_eq!(found.unwrap().to_string(), "lmtp://archive.example:24");
    assert!(route("lmtp://archive.example:25").unwrap_err().starts_with("LMTP never has port 25"));
    assert!(next_hop("lmtp://archive.example").unwrap_err().starts_with("LMTP replies for each recipient"));
    assert!(route("lmtp:/run/lmtp").is_err());
}

#[test]
fn mx_is_a_route_and_no_next_hop() {
    assert_eq!(route("mx"), Ok(Route::Mx(MxRoute::default())));
    assert!(next_hop("mx").is_err() && next_hop("mx?tls=required").is_err());
    assert!(route("mx/").is_err() && route("mx:25").is_err());
}

#[test]
fn mx_has_the_options_of_its_servers_and_two_of_its_own() {
    let read = |text: &str| match route(text) {
        Ok(Route::Mx(mx)) => Ok(mx),
        other => Err(format!("{other:?}")),
    };
    let plain = read("mx?").unwrap();
    assert_eq!((plain.sts, plain.dane, plain.server.tls, plain.server.port), (true, true, Tls::Opportunistic, 25));
    let strict = read("mx?tls=required&source=192.0.2.1&sts=off&dane=off").unwrap();
    assert_eq!((strict.sts, strict.dane, strict.server.tls), (false, false, Tls::Required));
    assert_eq!(strict.server.source.v4, Some([192, 0, 2, 1].into()));
    assert!(read("mx?sts=on&dane=on").is_ok());
    for (text, start) in [
        ("mx?sts=no", "sts=no is unknown; allowed are sts=on and sts=off"),
        ("mx?dane=1", "dane=1 is unknown"),
        ("mx?password_file=/etc/hostname", "unknown option; allowed are tls, ca_file,"),
        ("mx?ca_file=/nonexistent", "ca_file= has a meaning with"),
        ("smtp://h?sts=off", "unknown option"),
        ("smtp://h?dane=off", "unknown option"),
    ] {
        let why = route(text).unwrap_err();
        assert!(why.starts_with(start), "{text}: {why}");
    }
}

#[test]
fn a_source_is_one_address_of_each_family_at_most() {
    let both = next_hop("smtp://h?source=192.0.2.1&tls=none&source=2001:db8::1");
    let Ok(Route::Smtp(server)) = both else { panic!("{both:?}") };
    let towards = |server_at: &str| server.source.towards(server_at.parse().unwrap());
    assert_eq!(towards("198.51.100.1"), Some("192.0.2.1".parse().unwrap()));
    assert_eq!(towards("2001:db8::2"), Some("2001:db8::1".parse().unwrap()));
    assert_eq!(smtp_route("lmtp://h?source=%3a%3a1").source.towards("192.0.2.7".parse().unwrap()), None);
    for (text, start) in [
        ("smtp://h?source=relay.example.org", "source=relay.example.org is no IP address"),
        ("smtp://h?source=192.0.2.1:25", "source=192.0.2.1:25 is no IP address"),
        ("smtps://h?source=192.0.2.1&source=192.0.2.2", "source= is allowed once for IPv4"),
        ("smtp://h?source=", "source= is allowed once, with a value"),
    ] {
        let why = route(text).unwrap_err();
        assert!(why.starts_with(start), "{text}: {why}");
    }
}

#[test]
fn a_route_has_as_many_connections_as_it_says() {
    assert_eq!(smtp_route("smtp://h").connections, DEFAULT_CONNECTIONS);
    assert_eq!(smtp_route("lmtp://h?connections=1").connections, 1);
    assert_eq!(route("mx?connections=200").unwrap().connections(), 200);
    assert_eq!(route("maildir:/var/mail/journal").unwrap().connections(), DEFAULT_CONNECTIONS);
    for text in ["0", "201", "-1", "many", "4294967297"] {
        let why = route(&format!("smtp://h?connections={text}")).unwrap_err();
        assert_eq!(why, format!("connections={text} is not allowed; allowed are 1 to 200"));
    }
    for (text, start) in [
        ("smtp://h?connections=20", "connections=20 has no meaning for a next hop"),
        ("smtp://u:p@h?tls=none&connections=3", "connections=3 has no meaning for a next hop"),
    ] {
        let why = next_hop(text).unwrap_err();
        assert!(why.starts_with(start), "{why}");
    }
}

#[test]
fn an_error_message_shows_no_password() {
    for (text, shown) in [
        ("smtp://user:secret@archive.example.com:25?tls=maybe", "smtp://***@archive.example.com:25?tls=maybe"),
        ("smtp://user:se@cret@archive.example.com", "smtp://***@archive.example.com"),
        ("smtp://archive.example.com", "smtp://archive.example.com"),
        ("smtp:user:secret@archive.example.com", "smtp:***@archive.example.com"),
        ("user:secret@archive.example.com", "user:***@archive.example.com"),
        ("mx", "mx"),
    ] {
        assert_eq!(without_password(text), shown);
    }
}
