//! Values that can't be read.

use super::{SOUND, check, check_added, errors_of};

const DURATION: &str =
    "not a duration; allowed is a whole number with ms, s, m, h or d, such as \"90s\", \"15m\" or \"8d\"";
const SIZE: &str = "not a size; allowed is a whole number of octets or one with KiB, MiB, GiB, KB, MB or GB, such as \
                    \"64MiB\"";

#[test]
fn a_bad_value_of_a_listener_is_shown_with_the_form_that_is_allowed() {
    check(&[
        (
            "127.0.0.1:25\"",
            "localhost:25\"",
            "c.toml:3:11: listener.address = \"localhost:25\": not a socket address; allowed is an IP address with a \
             port, such as \"0.0.0.0:25\" or \"[::]:25\"",
        ),
        ("64MiB", "64 pounds", &format!("c.toml:5:20: listener.max_message_size = \"64 pounds\": {SIZE}")),
        ("\"64MiB\"", "0", "c.toml:5:20: listener.max_message_size = 0: too small; at least 1 is allowed"),
        ("\"64MiB\"", "-1", &format!("c.toml:5:20: listener.max_message_size = -1: {SIZE}")),
        ("\"64MiB\"", "1_000_000", ""),
        ("max_message_size = \"64MiB\"", "auth = \"always\"", ""),
        (
            "max_message_size = \"64MiB\"",
            "auth = \"yes\"",
            "c.toml:5:8: listener.auth = \"yes\": unknown; allowed are \"tls\", \"always\", \"off\"",
        ),
        (
            "incoming",
            "in coming",
            "c.toml:2:8: listener.name = \"in coming\": not a name; allowed are 1 to 64 letters, digits, \"-\", \"_\" \
             and \".\"",
        ),
        (
            "max_message_size = \"64MiB\"",
            "trusted_networks = [\"10.0.0.0/8\", \"fc00::/7\", \"2a00::/12\"]",
            "c.toml:5:47: listener.trusted_networks = \"2a00::/12\": a large part of the internet, which would make this \
             an open relay; allowed are your own networks, an IPv4 /8 or an IPv6 /20 at the largest, and \"fc00::/7\" \
             and \"fe80::/10\"",
        ),
        (
            "max_message_size = \"64MiB\"",
            "proxy_protocol_from = [\"0.0.0.0/0\"]",
            "c.toml:5:24: listener.proxy_protocol_from = \"0.0.0.0/0\": a large part of the internet, which would make \
             this an open relay; allowed are your own networks, an IPv4 /8 or an IPv6 /20 at the largest, and \
             \"fc00::/7\" and \"fe80::/10\"",
        ),
        (
            "max_message_size = \"64MiB\"",
            "trusted_networks = [\"::1\", \"10.1.2.3/8\", \"all\"]",
            "c.toml:5:28: listener.trusted_networks = \"10.1.2.3/8\": the address has bits behind the prefix; allowed \
             is \"10.0.0.0/8\" or \"10.1.2.3\"\n\
             c.toml:5:42: listener.trusted_networks = \"all\": not a network; allowed is an IP address or one with a \
             prefix length, such as \"192.0.2.0/24\" or \"::1\"",
        ),
    ]);
}

#[test]
fn a_bad_value_of_an_organization_is_shown_with_the_form_that_is_allowed() {
    check(&[
        (
            "[\"acme.example\"]",
            "[\"acme.example\", \"a.*.example\"]",
            "c.toml:8:28: organization.domains = \"a.*.example\": bad domain; allowed is a domain such as \
             \"example.org\" or \"*.example.org\"",
        ),
        (
            "[\"acme.example\"]",
            "[]",
            "c.toml:8:11: organization.domains: found an empty list; at least one domain is needed",
        ),
        (
            "a@archive.example",
            "archive.example",
            "c.toml:9:22: organization.journaling_address = \"archive.example\": bad domain; allowed is an address \
             such as \"user@example.org\"",
        ),
        (
            "p@acme.example",
            "postmaster",
            "c.toml:10:18: organization.report_address = \"postmaster\": an address without a domain; allowed is an \
             address such as \"user@example.org\"",
        ),
        (
            "name = \"acme\"",
            "name = \"-acme\"",
            "c.toml:7:8: organization.name = \"-acme\": the default sender amazonjournaling@-acme.awsapps.com would \
             be no address; set organization.sender",
        ),
        ("name = \"acme\"", "name = \"-acme\"\nsender = \"journal@acme.example\"", ""),
    ]);
    check_added(&[
        ("coalesce = \"5\"\n", &format!("c.toml:11:12: organization.coalesce = \"5\": {DURATION}")),
        ("coalesce = \"2h\"\n", "c.toml:11:12: organization.coalesce = \"2h\": too long; at most \"1h\" is allowed"),
        (
            "unlisted_recipients = \"cc\"\n",
            "c.toml:11:23: organization.unlisted_recipients = \"cc\": unknown; allowed are \"bcc\", \"recipient\"",
        ),
        (
            "scope = { directions = [\"in\"], exclude = [\"x\"] }\n",
            "c.toml:11:25: organization.scope.directions = \"in\": unknown; allowed are \"incoming\", \"outgoing\", \
             \"internal\"\n\
             c.toml:11:43: organization.scope.exclude = \"x\": not an address; allowed is \"*\", \"*@example.org\" or \
             an address such as \"user@example.org\"",
        ),
        (
            "scope = { include = [] }\n",
            "c.toml:11:21: organization.scope.include: found an empty list, which means nobody; journaling = false \
             says so",
        ),
    ]);
}

#[test]
fn a_bad_value_of_another_table_is_shown_with_the_form_that_is_allowed() {
    check_added(&[
        ("[retry]\nfirst = \"1 m\"\n", &format!("c.toml:12:9: retry.first = \"1 m\": {DURATION}")),
        ("[retry]\nfirst = \"0s\"\n", "c.toml:12:9: retry.first = \"0s\": too short; at least \"10ms\" is allowed"),
        (
            "[retry]\nlongest = \"30s\"\n",
            "c.toml:12:11: retry.longest = \"30s\": retry.longest can't be shorter than retry.first",
        ),
        (
            "[retry]\nfirst = \"9d\"\nlongest = \"9d\"\n",
            "c.toml:12:9: retry.first = \"9d\": retry.give_up can't be shorter than retry.first",
        ),
        (
            "[log]\nlevel = \"loud\"\nformat = \"xml\"\n",
            "c.toml:12:9: log.level = \"loud\": unknown; allowed are \"error\", \"warn\", \"info\", \"debug\", \
             \"trace\"\n\
             c.toml:13:10: log.format = \"xml\": unknown; allowed are \"json\", \"text\", \"journald\"",
        ),
        (
            "[spool]\npath = \"\"\n",
            "c.toml:12:8: spool.path = \"\": not a path; allowed is a path such as \"/var/lib/journal-relay\"",
        ),
    ]);
    assert_eq!(
        errors_of(&format!("hostname = \"*.acme.example\"\n{SOUND}")),
        "c.toml:1:12: hostname = \"*.acme.example\": not a host name; allowed is a domain such as \"relay.example.org\""
    );
}

#[test]
fn a_bad_route_is_shown_without_its_password() {
    check(&[
        (
            "smtp://127.0.0.1:10025",
            "smtp://joe:secret@127.0.0.1:10025?tls=maybe",
            "c.toml:4:12: listener.next_hop = \"smtp://***@127.0.0.1:10025?tls=maybe\": tls=maybe is unknown; allowed \
             are tls=none, tls=opportunistic and tls=required",
        ),
        (
            "smtp://127.0.0.1:10025",
            "127.0.0.1:10025",
            "c.toml:4:12: listener.next_hop = \"127.0.0.1:10025\": not a next hop; allowed are smtp://host:port, \
             smtps://host:port and maildir:/path",
        ),
        (
            "smtp://127.0.0.1:10025",
            "lmtp://127.0.0.1:24",
            "c.toml:4:12: listener.next_hop = \"lmtp://127.0.0.1:24\": LMTP replies for each recipient can't be the \
             client's one reply; allowed are smtp://host:port, smtps://host:port and maildir:/path",
        ),
    ]);
    check_added(&[
        (
            "report_route = \"mx?source=relay.acme.example\"\n",
            "c.toml:11:16: organization.report_route = \"mx?source=relay.acme.example\": source=relay.acme.example is no \
             IP address; allowed is one such as 192.0.2.1 or 2001:db8::1",
        ),
        (
            "report_route = \"http://archive.example\"\n",
            "c.toml:11:16: organization.report_route = \"http://archive.example\": not a route; allowed are mx, \
             smtp://host:port, smtps://host:port, lmtp://host:port and maildir:/path",
        ),
        (
            "report_route = \"smtp://u@archive.example?password_file=/nonexistent/p\"\n",
            "c.toml:11:16: organization.report_route = \"smtp://***@archive.example?password_file=/nonexistent/p\": \
             password_file /nonexistent/p can't be read: No such file or directory (os error 2)",
        ),
    ]);
}

#[test]
fn a_certificate_that_can_t_be_used_is_named_with_what_is_wrong_with_it() {
    let place = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = place.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let [one, other] = [(), ()].map(|()| rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap());
    let (certificate, key) = (put("a.pem", &one.cert.pem()), put("a.key", &one.signing_key.serialize_pem()));
    let (foreign, empty) = (put("b.key", &other.signing_key.serialize_pem()), put("c.pem", ""));
    let with = |lines: &str| SOUND.replace("max_message_size = \"64MiB\"\n", &format!("[listener.tls]\n{lines}"));
    let sound = format!("certificate = {certificate:?}\nkey = {key:?}\n");
    assert_eq!(errors_of(&with(&sound)), "");
    assert_eq!(
        errors_of(&with("mode = \"always\"\n")),
        "c.toml:5:1: [listener.tls] lacks the key \"certificate\"; required are certificate, key\n\
         c.toml:5:1: [listener.tls] lacks the key \"key\"; required are certificate, key\n\
         c.toml:6:8: listener.tls.mode = \"always\": unknown; allowed are \"starttls\", \"implicit\", \"required\""
    );
    assert_eq!(
        errors_of(&with(&format!("certificate = {empty:?}\nkey = {key:?}\n"))),
        format!("c.toml:6:15: listener.tls.certificate = {empty:?}: no certificate in PEM form in {empty}")
    );
    assert_eq!(
        errors_of(&with(&format!("certificate = {certificate:?}\nkey = {foreign:?}\n"))),
        format!(
            "c.toml:7:7: listener.tls.key = {foreign:?}: not the key of {certificate}: keys may not be consistent: \
             KeyMismatch"
        )
    );
    let missing = place.path().join("missing");
    let error =
        errors_of(&with(&format!("{sound}[[listener.tls.sni]]\ncertificate = {certificate:?}\nkey = {missing:?}\n")));
    assert!(error.starts_with(&format!("c.toml:10:7: listener.tls.sni.key = {missing:?}: ")), "{error}");
    assert!(error.contains("can't be read"), "{error}");
}

#[test]
fn a_limit_is_a_whole_number_of_things() {
    let with = |lines: &str| SOUND.replace("max_message_size = \"64MiB\"\n", &format!("[listener.limits]\n{lines}\n"));
    let count = "not a number of things; allowed is a whole number from 1 to 1000000";
    for (line, error) in [
        ("connections = 10", String::new()),
        ("connections = 0", format!("c.toml:6:15: listener.limits.connections = 0: {count}")),
        ("errors = 1000001", format!("c.toml:6:10: listener.limits.errors = 1000001: {count}")),
        ("messages_per_minute = -1", format!("c.toml:6:23: listener.limits.messages_per_minute = -1: {count}")),
        ("messages_per_minute_in_all = 1", String::new()),
        (
            "messages_per_minute_in_all = 0",
            format!("c.toml:6:30: listener.limits.messages_per_minute_in_all = 0: {count}"),
        ),
        (
            "recipients = 99",
            "c.toml:6:14: listener.limits.recipients = 99: too few; at least 100 are allowed".to_owned(),
        ),
        (
            "greeting_delay = \"2m\"",
            "c.toml:6:18: listener.limits.greeting_delay = \"2m\": too long; at most \"60s\" is allowed".to_owned(),
        ),
    ] {
        assert_eq!(errors_of(&with(line)), error, "{line}");
    }
}
