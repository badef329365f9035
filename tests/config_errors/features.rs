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
    for value in ["xclient", "xforward", "proxy-v1", "proxy-v2"] {
        let error = format!("c.toml:5:19: listener.client_identity = \"{value}\": {ABSENT} \"none\"");
        check_listener(&format!("client_identity = \"{value}\""), &error);
    }
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
fn an_unknown_value_is_not_promised_for_later() {
    check_listener("mode = \"prxy\"", "c.toml:5:8: listener.mode = \"prxy\": unknown; allowed is \"proxy\"");
}
