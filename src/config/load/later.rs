//! What the contract promises and this version does not do yet. Each is a clear error, so that no option does nothing;
//! a version that brings a feature takes its line out.

use super::routes;
use toml::Spanned;
use toml::de::{DeString, DeValue};

/// Key, values, and what is allowed instead.
const LATER: &[(&str, &[&str], &str)] =
    &[("listener.mode", &["queue"], r#""proxy""#), ("listener.next_hop", &["mx"], "smtp://, smtps:// and maildir:")];

/// What to say when `value` for the key at `path` waits for a later version.
pub(super) fn refusal(path: &str, value: &DeValue<'_>) -> Option<String> {
    let (_, _, allowed) = LATER
        .iter()
        .find(|(key, values, _)| *key == path && value.as_str().is_some_and(|text| values.contains(&text)))?;
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
