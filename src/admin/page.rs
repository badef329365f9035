//! The status page: HTML as the server writes it, without a script, for light and dark and for a telephone.
//!
//! Replies, addresses and reasons are other people's words: each goes through [`text`], and the page's content security policy
//! lets nothing run or load but its own style sheet.

use super::chart::chart;
use super::samples::Sample;
use super::status::{Archive, Daemon, Failure, Gap, Line, Listener};
use super::summary::{Standing, standings};
use crate::mail::{self, Timestamp, shown, span};
use std::fmt::Write as _;

/// What a browser may do with the page: show it, with its own style sheet.
pub(super) const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The style sheet.
pub(super) const STYLE: &str = include_str!("style.css");
/// Seconds until a browser asks again.
const REFRESH_S: u32 = 60;
/// Failures on the page; `status` has more.
const MOST_FAILURES: usize = 20;
/// Gaps on the page; `queue gaps` has more.
const MOST_GAPS: usize = 20;

/// The whole page.
pub(super) fn page(lines: &[Line], samples: &[Sample], now: Timestamp) -> String {
    let daemon = lines.iter().find_map(|line| if let Line::Daemon(daemon) = line { Some(daemon) } else { None });
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><meta http-equiv=\"refresh\" content=\"{REFRESH_S}\">\
         <link rel=\"stylesheet\" href=\"/style.css\"></head><body>\n",
        text(
            &daemon
                .map_or_else(|| "journal-relay".to_owned(), |daemon| format!("journal-relay on {}", daemon.hostname))
        )
    );
    if let Some(daemon) = daemon {
        html += &head(daemon);
    }
    html += "<main>\n";
    html += &organizations(&standings(lines));
    html += &chart(samples, now);
    html += &archives(lines);
    html += &listeners(lines);
    html += &gaps(lines);
    html += &failures(lines);
    html += "</main>\n";
    let _ = writeln!(
        html,
        "<footer><p>Read-only. As of {}; asks again every {REFRESH_S} s. The same for programs: <code>journal-relay status \
         --json</code>, <a href=\"/metrics\">/metrics</a>, <a href=\"/readyz\">/readyz</a>.</p></footer></body></html>",
        moment(&now.rfc3339())
    );
    html
}

fn head(daemon: &Daemon) -> String {
    let Daemon { version, hostname, started, spool, spool_bytes, spool_free_bytes, reasons, .. } = daemon;
    let octets = |count: &Option<u64>| count.map_or_else(|| "unknown".to_owned(), mail::octets);
    let mut html = format!(
        "<header><h1>journal-relay <small>on {}</small></h1><p class=\"soft\">Version {}, running since {}. Spool {}: {}, {} \
         free.</p>",
        text(hostname),
        text(version),
        started.as_deref().map(moment).unwrap_or_default(),
        text(spool),
        octets(spool_bytes),
        octets(spool_free_bytes),
    );
    if reasons.is_empty() {
        html += "<div class=\"verdict is-good\"><p><span class=\"good\">Ready.</span> Mail is taken and journaled.</p></div>";
    } else {
        html += "<div class=\"verdict is-bad\"><p class=\"bad\">Not ready</p><ul>";
        reasons.iter().for_each(|reason| html += &format!("<li>{}</li>", text(reason)));
        html += "</ul></div>";
    }
    html + "</header>\n"
}

fn organizations(standings: &[Standing]) -> String {
    let number = |count: u64, class: &str| {
        if count > 0 && !class.is_empty() { word(&count.to_string(), class) } else { count.to_string() }
    };
    let rows = standings.iter().map(|of| {
        let switch = match of.journaling {
            Some(true) => word("on", "good"),
            Some(false) => word("off", "warn"),
            None => word("not configured", "warn"),
        };
        let reason = of.reason.as_deref().map(|reason| format!(" <small>{}</small>", text(reason))).unwrap_or_default();
        vec![
            text(&of.name),
            switch + &reason,
            number(of.waiting, ""),
            number(of.sending, ""),
            number(of.deferred, "warn"),
            number(of.failed, "bad"),
            number(of.held, "warn"),
            of.oldest.map_or_else(|| "–".to_owned(), span),
        ]
    });
    let heads = ["Organization", "Journaling", "#Waiting", "#Sending", "#Deferred", "#Failed", "#Held", "#Oldest"];
    section("Organizations and what waits", &heads, rows, "No organizations.")
}

fn archives(lines: &[Line]) -> String {
    let rows = lines.iter().filter_map(|line| if let Line::Archive(archive) = line { Some(archive) } else { None });
    let rows = rows.map(|archive: &Archive| {
        let class = match archive.state.as_str() {
            "up" => "good",
            "down" => "bad",
            "busy" => "warn",
            _ => "soft",
        };
        let mut state = word(&archive.state, class);
        if let Some(since) = &archive.since {
            state += &format!(" <small>since {}</small>", moment(since));
        }
        if let Some(next) = &archive.next_probe {
            state += &format!(" <small>next try {}</small>", moment(next));
        }
        let mut reply = archive.last_reply.as_deref().map(text).unwrap_or_default();
        if let Some(at) = &archive.last_reply_at {
            reply += &format!(" <small>{}</small>", moment(at));
        }
        vec![text(&archive.route), text(&archive.used_for.join(", ")), state, reply]
    });
    section("Archives and report routes", &["Route", "Used for", "State", "Last reply"], rows, "No routes.")
}

fn listeners(lines: &[Line]) -> String {
    let rows = lines.iter().filter_map(|line| if let Line::Listener(listener) = line { Some(listener) } else { None });
    let rows = rows.map(|listener: &Listener| {
        let accepts = if listener.accepts { word("accepts", "good") } else { word("does not accept", "bad") };
        let class = match listener.next_hop_state.as_str() {
            "up" => "good",
            "down" => "bad",
            _ => "soft",
        };
        vec![
            format!("{} <small>{}</small>", text(&listener.name), text(&listener.address)),
            accepts,
            listener.sessions.to_string(),
            text(&listener.next_hop),
            word(&listener.next_hop_state, class),
        ]
    });
    section("Listeners", &["Listener", "State", "#Sessions", "Next hop", "Next hop is"], rows, "No listeners.")
}

fn gaps(lines: &[Line]) -> String {
    let rows = lines.iter().rev().filter_map(|line| if let Line::Gap(gap) = line { Some(gap) } else { None });
    let rows = rows.take(MOST_GAPS).map(|gap: &Gap| {
        let until = gap.until.as_deref().map_or_else(|| word("lasts", "warn"), moment);
        let messages = gap.messages.map_or_else(|| "all".to_owned(), |count| count.to_string());
        let kind = if gap.kind == "switch" { "switched off" } else { "spool" };
        let reason = format!("{kind}: {}", gap.reason.as_deref().unwrap_or("no reason given"));
        vec![text(&gap.organization), moment(&gap.since), until, messages, text(&reason)]
    });
    let heads = ["Organization", "Since", "Until", "#Messages", "Why"];
    section("Gaps in the journal", &heads, rows, "No gaps.")
}

fn failures(lines: &[Line]) -> String {
    let rows = lines.iter().filter_map(|line| if let Line::Failure(failure) = line { Some(failure) } else { None });
    let rows = rows.take(MOST_FAILURES).map(|failure: &Failure| {
        let class = if failure.level == "error" { "bad" } else { "warn" };
        let mut fields = String::new();
        for (name, value) in &failure.fields {
            let _ = write!(fields, "{}{name}={value}", if fields.is_empty() { "" } else { " · " });
        }
        let what = format!("{} <small>{}</small>", text(&failure.message), text(&fields));
        vec![moment(&failure.at), word(&failure.event, class), what]
    });
    section("Last warnings and errors", &["When", "Event", "What"], rows, "None since the start.")
}

/// A heading and a table, whose heads with `#` are over numbers; without rows a sentence.
fn section(title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>, none: &str) -> String {
    let mut body = String::new();
    for row in rows {
        body += "<tr>";
        for (head, cell) in heads.iter().zip(row) {
            let is_blank = matches!(cell.as_str(), "" | "0" | "–");
            let (class, label) = match (head.strip_prefix('#'), is_blank) {
                (None, false) => ("", *head),
                (None, true) => (" class=\"blank\"", *head),
                (Some(label), false) => (" class=\"number\"", label),
                (Some(label), true) => (" class=\"number blank\"", label),
            };
            let _ = write!(body, "<td{class} data-label=\"{label}\"><span>{cell}</span></td>");
        }
        body += "</tr>\n";
    }
    if body.is_empty() {
        return format!("<section><h2>{title}</h2><p class=\"soft\">{none}</p></section>\n");
    }
    let mut head = String::new();
    for cell in heads {
        let (class, label) = cell.strip_prefix('#').map_or(("", *cell), |label| (" class=\"number\"", label));
        let _ = write!(head, "<th scope=\"col\"{class}>{label}</th>");
    }
    format!("<section><h2>{title}</h2><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></section>\n")
}

fn word(word: &str, class: &str) -> String {
    format!("<span class=\"{class}\">{}</span>", text(word))
}

/// A time of a line, as people read it.
fn moment(rfc3339: &str) -> String {
    let plain = rfc3339.split_once('.').map_or_else(|| rfc3339.trim_end_matches('Z'), |(plain, _)| plain);
    format!("<time datetime=\"{}\">{} UTC</time>", text(rfc3339), text(&plain.replacen('T', " ", 1)))
}

/// Somebody's words as they may stand in an element or an attribute between double quotes. What hides or turns the direction
/// of text is shown.
pub(super) fn text(words: &str) -> String {
    let words = shown(words);
    let mut html = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            letter => html.push(letter),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_leave_their_place() {
        assert_eq!(text(r#"<script>"&'</script>"#), "&lt;script&gt;&quot;&amp;&#39;&lt;/script&gt;");
        assert_eq!(text("a\u{202e}b\0"), "a\\u{202e}b\\u{0}");
    }

    #[test]
    fn a_moment_is_read_by_people_and_by_programs() {
        let expected = "<time datetime=\"2026-11-10T10:00:00.123Z\">2026-11-10 10:00:00 UTC</time>";
        assert_eq!(moment("2026-11-10T10:00:00.123Z"), expected);
        assert!(moment("2026-11-10T10:00:00Z").contains(">2026-11-10 10:00:00 UTC<"));
    }
}
