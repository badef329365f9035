//! Duplicates and loops: what is wrong only beside something else.

use super::{SOUND, check, check_added, errors_of};

fn organization(name: &str, domains: &str) -> String {
    format!(
        "[[organization]]\nname = \"{name}\"\ndomains = {domains}\n\
         journaling_address = \"a@archive.example\"\nreport_address = \"p@acme.example\"\n"
    )
}

fn listener(name: &str, address: &str, next_hop: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\nnext_hop = \"{next_hop}\"\n")
}

#[test]
fn the_admin_address_is_an_address_and_has_to_be_there() {
    check_added(&[
        ("[admin]\naddress = \"127.0.0.1:8025\"\n", ""),
        ("[admin]\n", "c.toml:11:1: [admin] lacks the key \"address\"; required are address"),
        (
            "[admin]\nport = 8025\naddress = \"127.0.0.1:8025\"\n",
            "c.toml:12:1: unknown key \"port\" in [admin]; allowed are address, hosts, token_file",
        ),
    ]);
}

#[test]
fn a_duplicate_organization_is_reported_at_its_second_place() {
    check_added(&[
        (
            &organization("two", "[\"b.example\", \"ACME.example.\"]"),
            "c.toml:13:25: duplicate organization domain \"acme.example\": it stands in line 8 of organization \
             \"acme\" already; each is allowed once",
        ),
        (
            &organization("two", "[\"*.例え.example\", \"*.XN--R8JZ45G.example\"]"),
            "c.toml:13:28: duplicate organization domain \"*.xn--r8jz45g.example\": it stands in line 13 of \
             organization \"two\" already; each is allowed once",
        ),
        (&organization("two", "[\"*.acme.example\", \"a.acme.example\"]"), ""),
        (
            &organization("acme", "[\"b.example\"]"),
            "c.toml:12:8: duplicate organization name \"acme\": it stands in line 7 already; each is allowed once",
        ),
    ]);
}

#[test]
fn a_duplicate_listener_is_reported_at_its_second_place() {
    let clash = |address: &str| {
        format!(
            "c.toml:13:11: duplicate listener address \"{address}\": listener \"incoming\" has \"127.0.0.1:25\" in \
             line 3; each address and port is allowed once"
        )
    };
    check_added(&[
        (
            &listener("incoming", "127.0.0.1:26", "maildir:x"),
            "c.toml:12:8: duplicate listener name \"incoming\": it stands in line 2 already; each is allowed once",
        ),
        (&listener("two", "127.0.0.1:25", "maildir:x"), &clash("127.0.0.1:25")),
        (&listener("two", "0.0.0.0:25", "maildir:x"), &clash("0.0.0.0:25")),
        (&listener("two", "127.0.0.2:25", "maildir:x"), ""),
        (&listener("two", "[::1]:25", "maildir:x"), ""),
        (&(listener("two", "127.0.0.1:0", "maildir:x") + &listener("three", "127.0.0.1:0", "maildir:x")), ""),
    ]);
}

/// Whether a journaling route to `host` is a loop for a listener at `address`, both on one port.
fn is_loop(address: &str, host: &str) -> bool {
    let text = SOUND.replace("127.0.0.1:25\"", &format!("{address}:2525\""));
    let errors = errors_of(&format!("{text}journaling_route = \"smtp://{host}:2525\"\n"));
    let end = format!(
        ": a loop, it leads to our own listener \"incoming\" at \"{address}:2525\"; allowed is any other server"
    );
    assert!(errors.is_empty() || errors.ends_with(&end), "{errors}");
    !errors.is_empty()
}

#[test]
fn a_route_that_leads_back_to_a_listener_is_a_loop() {
    for (address, host) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "LocalHost"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("[::1]", "localhost"),
        ("[::1]", "[::1]"),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.1.2.3"),
        ("0.0.0.0", "localhost"),
        ("0.0.0.0", "relay.acme.example"),
        ("[::]", "127.0.0.1"),
        ("192.0.2.7", "192.0.2.7"),
    ] {
        assert!(is_loop(address, host), "{address} {host}");
    }
}

#[test]
fn a_route_to_another_server_is_no_loop() {
    for (address, host) in [
        ("127.0.0.1", "127.0.0.2"),
        ("127.0.0.1", "relay.acme.example"),
        ("127.0.0.1", "archive.example"),
        ("0.0.0.0", "192.0.2.7"),
        ("0.0.0.0", "[::1]"),
        ("192.0.2.7", "localhost"),
    ] {
        assert!(!is_loop(address, host), "{address} {host}");
    }
}

#[test]
fn a_loop_is_reported_at_the_route_that_makes_it() {
    check_added(&[
        (
            "report_route = \"smtp://u:p@127.0.0.1\"\n",
            "c.toml:11:16: organization.report_route = \"smtp://127.0.0.1:25\": a loop, it leads to our own listener \
             \"incoming\" at \"127.0.0.1:25\"; allowed is any other server",
        ),
        (
            &listener("two", "127.0.0.1:26", "smtp://localhost:26"),
            "c.toml:14:12: listener.next_hop = \"smtp://localhost:26\": a loop, it leads to our own listener \
             \"two\" at \"127.0.0.1:26\"; allowed is any other server",
        ),
        // A chain that ends elsewhere.
        (&listener("two", "127.0.0.1:26", "smtp://localhost:25"), ""),
    ]);
}

#[test]
fn next_hops_that_lead_around_in_a_ring_are_loops() {
    let ring = SOUND.replace("127.0.0.1:10025", "127.0.0.1:26") + &listener("two", "127.0.0.1:26", "smtp://localhost");
    assert_eq!(
        errors_of(&ring),
        "c.toml:4:12: listener.next_hop = \"smtp://127.0.0.1:26\": a loop, it leads to our own listener \
         \"incoming\" at \"127.0.0.1:25\"; allowed is any other server\n\
         c.toml:14:12: listener.next_hop = \"smtp://localhost:25\": a loop, it leads to our own listener \
         \"two\" at \"127.0.0.1:26\"; allowed is any other server"
    );
}

#[test]
fn an_address_without_a_mailbox_cannot_be_written_to() {
    check(&[(
        "p@acme.example",
        "AmazonJournaling@acme.awsapps.com",
        "c.toml:10:18: organization.report_address = \"AmazonJournaling@acme.awsapps.com\": an organization's sender, \
         which has no mailbox; allowed is any other address",
    )]);
}

#[test]
fn a_further_archive_is_checked_as_the_first_one_is() {
    check_added(&[
        (
            "also = [{ journaling_address = \"A@ARCHIVE.example\" }]\n",
            "c.toml:11:32: duplicate archive \"a@archive.example\": it stands in line 9 of organization \"acme\" \
             already; each is allowed once",
        ),
        (
            "also = [{ journaling_address = \"amazonjournaling@acme.awsapps.com\" }]\n",
            "c.toml:11:32: organization.also.journaling_address = \"amazonjournaling@acme.awsapps.com\": an \
             organization's sender, which has no mailbox; allowed is any other address",
        ),
        (
            "also = [{ journaling_address = \"b@vault.example\", journaling_route = \"smtp://127.0.0.1:25\" }]\n",
            "c.toml:11:70: organization.also.journaling_route = \"smtp://127.0.0.1:25\": a loop, it leads to our own \
             listener \"incoming\" at \"127.0.0.1:25\"; allowed is any other server",
        ),
        (
            "also = [{ journaling_route = \"mx\", name = \"x\" }]\n",
            "c.toml:11:9: [[organization.also]] lacks the key \"journaling_address\"; required are journaling_address\n\
             c.toml:11:36: unknown key \"name\" in [[organization.also]]; allowed are journaling_address, journaling_route",
        ),
        (
            "delivered_when = \"one\"\nretention = \"11y\"\n",
            "c.toml:11:18: organization.delivered_when = \"one\": unknown; allowed are \"all\", \"any\"\n\
             c.toml:12:13: organization.retention = \"11y\": not a duration; allowed is a whole number with ms, s, m, h \
             or d, such as \"90s\", \"15m\" or \"8d\"",
        ),
        (
            "retention = \"3651d\"\n",
            "c.toml:11:13: organization.retention = \"3651d\": too long; at most \"3650d\" is allowed",
        ),
    ]);
    let eight: Vec<_> = (1..=8).map(|number| format!("{{ journaling_address = \"a@{number}.example\" }}")).collect();
    let too_many = format!("also = [{}]\n", eight.join(", "));
    check_added(&[(&too_many, "c.toml:11:8: organization.also: found 8 archives; at most 7 are allowed")]);
}
