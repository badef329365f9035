//! What the contract names and this version does not have.

use super::{SOUND, check, check_added, errors_of};

const ABSENT: &str = "this version does not have it; allowed is";

fn check_listener(added: &str, errors: &str) {
    let text = SOUND.replace("max_message_size = \"64MiB\"", added);
    assert_eq!(errors_of(&text), errors, "{added}");
}

#[test]
fn a_feature_of_a_later_version_is_refused_by_name() {
    check_listener("mode = \"queue\"", &format!("c.toml:5:8: listener.mode = \"queue\": {ABSENT} \"proxy\""));
    check(&[(
        "smtp://127.0.0.1:10025",
        "mx",
        &format!("c.toml:4:12: listener.next_hop = \"mx\": {ABSENT} smtp://, smtps:// and maildir:"),
    )]);
}

#[test]
fn the_defaults_of_later_features_may_be_written_out() {
    check_listener("mode = \"proxy\"\nclient_identity = \"none\"\nproxy_protocol_from = []", "");
    check_added(&[("[spool]\non_failure = \"tempfail\"\n", "")]);
    check_added(&[("[spool]\non_failure = \"bypass\"\n", "")]);
}

#[test]
fn a_client_identity_that_the_next_hop_could_not_be_told_is_refused() {
    for value in ["none", "xclient", "xforward", "proxy-v1", "proxy-v2"] {
        check_listener(&format!("client_identity = \"{value}\""), "");
    }
    check_listener(
        "client_identity = \"xhello\"",
        "c.toml:5:19: listener.client_identity = \"xhello\": unknown; allowed are \"none\", \"xclient\", \"xforward\", \
         \"proxy-v1\", \"proxy-v2\"",
    );
    let with = |next_hop: &str, identity: &str| {
        let text = SOUND.replace("smtp://127.0.0.1:10025", next_hop);
        errors_of(&text.replace("max_message_size = \"64MiB\"", &format!("client_identity = \"{identity}\"")))
    };
    assert_eq!(
        with("maildir:/tmp/m", "xforward"),
        "c.toml:5:19: listener.client_identity = \"xforward\": only an SMTP server can be told; allowed is \"none\""
    );
    let authenticated = "smtp://u:p@127.0.0.1:10025";
    for identity in ["xclient", "proxy-v1", "proxy-v2"] {
        assert_eq!(
            with(authenticated, identity),
            format!(
                "c.toml:5:19: listener.client_identity = \"{identity}\": with a user in next_hop every client would be \
                 taken for that user; allowed are \"none\", \"xforward\""
            )
        );
    }
    assert_eq!(with(authenticated, "xforward"), "");
}

#[test]
fn a_load_balancer_is_an_address_or_a_network() {
    check_listener("proxy_protocol_from = [\"10.0.0.5\", \"2001:db8::/64\"]", "");
    check_listener(
        "proxy_protocol_from = [\"10.0.0.5/8\"]",
        "c.toml:5:24: listener.proxy_protocol_from = \"10.0.0.5/8\": the address has bits behind the prefix; allowed is \
         \"10.0.0.0/8\" or \"10.0.0.5\"",
    );
}

#[test]
fn an_unknown_value_is_not_promised_for_later() {
    check_listener("mode = \"prxy\"", "c.toml:5:8: listener.mode = \"prxy\": unknown; allowed is \"proxy\"");
}
