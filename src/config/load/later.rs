//! What the contract promises and this version does not do yet. Each is a clear error, so that no option does nothing;
//! a version that brings a feature takes its line out.

use super::routes;
use toml::Spanned;
use toml::de::{DeString, DeValue};

/// Which values of a key wait for a later version.
#[derive(Debug)]
enum Values {
    /// These strings.
    Words(&'static [&'static str]),
    /// Strings that begin so.
    Prefix(&'static str),
}

/// Key, values, and what is allowed instead.
const LATER: &[(&str, Values, &str)] = &[
    ("listener.mode", Values::Words(&["queue"]), r#""proxy""#),
    ("listener.client_identity", Values::Words(&["xclient", "xforward", "proxy-v1", "proxy-v2"]), r#""none""#),
    ("listener.next_hop", Values::Words(&["mx"]), "smtp://, smtps:// and maildir:"),
    ("organization.journaling_route", Values::Prefix("lmtp:"), "mx, smtp://, smtps:// and maildir:"),
    ("organization.report_route", Values::Prefix("lmtp:"), "mx, smtp://, smtps:// and maildir:"),
];

/// What to say when `value` for the key at `path` waits for a later version.
pub(super) fn refusal(path: &str, value: &DeValue<'_>) -> Option<String> {
    let (_, _, allowed) = LATER.iter().find(|(key, values, _)| *key == path && means(values, value))?;
    let found = match value {
        DeValue::String(text) => format!(" = {:?}", routes::without_password(text)),
        _ => String::new(),
    };
    Some(format!("{path}{found}: this version does not have it; allowed is {allowed}"))
}

/// Where to say it: at the key for a table, whose value's place may be elsewhere, else at the value.
pub(super) fn place(key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> usize {
    if value.get_ref().is_table() { key.span().start } else { value.span().start }
}

fn means(values: &Values, value: &DeValue<'_>) -> bool {
    match values {
        Values::Words(words) => value.as_str().is_some_and(|text| words.contains(&text)),
        Values::Prefix(prefix) => value.as_str().is_some_and(|text| text.starts_with(prefix)),
    }
}
