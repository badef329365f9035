//! The figures as a table: for people at a terminal, or as Markdown.

use crate::measure::median;
use crate::rounds::Round;
use crate::servers::Kind;
use crate::work::Work;
use std::collections::BTreeMap;

/// All rounds of one work.
pub type Rounds = BTreeMap<Kind, Vec<Round>>;

/// What is added where the archive was down: `messages/s` is the rate at which the backlog drains.
const BACKLOG: [&str; 2] = ["first record, ms after return", "ms after probe"];

const HEAD: [&str; 13] = [
    "server",
    "CPU µs a message",
    "× floor",
    "messages/s",
    "accepted/s",
    "p50 ms",
    "p99 ms",
    "peak MiB",
    "syncs a message",
    "Postfix's CPU by this",
    "rate by Postfix's",
    "load µs",
    "sinks µs",
];

/// The median, and between what the values lay.
fn spread(rounds: &[Round], value: impl Fn(&Round) -> f64) -> String {
    let values: Vec<_> = rounds.iter().map(value).collect();
    if median(&values).is_nan() {
        return short(f64::NAN);
    }
    let (low, high) =
        values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
    format!("{} ({}–{})", short(median(&values)), short(low), short(high))
}

/// Three digits or the whole number.
pub fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn of(rounds: &Rounds, kind: Kind, value: impl Fn(&Round) -> f64) -> f64 {
    let values: Vec<_> = rounds.get(&kind).into_iter().flatten().map(value).collect();
    median(&values)
}

fn row(kind: Kind, all: &Rounds, rounds: &[Round], is_backlog: bool) -> Vec<String> {
    let cpu = |round: &Round| round.cpu_us;
    let rate = |round: &Round| round.per_second;
    let syncs: Vec<_> = rounds.iter().map(|round| round.syncs).filter(|syncs| !syncs.is_nan()).collect();
    let mut row = vec![
        kind.name().to_owned(),
        spread(rounds, cpu),
        short(of(all, kind, cpu) / of(all, Kind::Floor, cpu)),
        spread(rounds, rate),
        spread(rounds, |round| round.accepted_per_second),
        spread(rounds, |round| round.p50_ms),
        spread(rounds, |round| round.p99_ms),
        spread(rounds, |round| round.peak_mib),
        short(median(&syncs)),
        short(of(all, Kind::Postfix, cpu) / of(all, kind, cpu)),
        short(of(all, kind, rate) / of(all, Kind::Postfix, rate)),
        short(of(all, kind, |round| round.load_us)),
        short(of(all, kind, |round| round.sinks_us)),
    ];
    if is_backlog {
        row.push(spread(rounds, |round| round.after_return_ms));
        row.push(spread(rounds, |round| round.after_probe_ms));
    }
    row
}

/// One work's table.
pub fn table(work: &Work, rounds: &Rounds, is_markdown: bool) -> String {
    let more = if work.is_backlog { &BACKLOG[..] } else { &[] };
    let mut rows = vec![HEAD.iter().chain(more).map(|head| (*head).to_owned()).collect::<Vec<_>>()];
    rows.extend(rounds.iter().map(|(kind, of_kind)| row(*kind, rounds, of_kind, work.is_backlog)));
    lay_out(&format!("{}: {}", work.letter, work.title), &rows, is_markdown)
}

/// The relay in every work, in one table.
pub fn summary(all: &[(Work, Rounds)], is_markdown: bool) -> String {
    let head =
        ["work", "CPU µs a message", "by the floor's", "Postfix's by it", "messages/s", "by Postfix's", "peak MiB"];
    let (cpu, rate) = (|round: &Round| round.cpu_us, |round: &Round| round.per_second);
    let row = |(work, rounds): &(Work, Rounds)| {
        let own = |value: fn(&Round) -> f64| of(rounds, Kind::Relay, value);
        let figures = [
            own(cpu),
            own(cpu) / of(rounds, Kind::Floor, cpu),
            of(rounds, Kind::Postfix, cpu) / own(cpu),
            own(rate),
            own(rate) / of(rounds, Kind::Postfix, rate),
            own(|round| round.peak_mib),
        ];
        [work.letter.to_owned()].into_iter().chain(figures.map(short)).collect()
    };
    let rows: Vec<_> = [head.map(str::to_owned).to_vec()].into_iter().chain(all.iter().map(row)).collect();
    lay_out("journal-relay, medians", &rows, is_markdown)
}

/// Rows below a title, the head first.
pub fn lay_out(title: &str, rows: &[Vec<String>], is_markdown: bool) -> String {
    let columns = rows[0].len();
    if is_markdown {
        let line = |row: &[String]| format!("| {} |\n", row.join(" | "));
        let rule = format!("|---{}|\n", "|---:".repeat(columns - 1));
        let body: String = rows[1..].iter().map(|row| line(row)).collect();
        return format!("**{title}**\n\n{}{rule}{body}", line(&rows[0]));
    }
    let widths: Vec<_> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        cells.collect::<Vec<_>>().join("  ") + "\n"
    };
    format!("{title}\n{}", rows.iter().map(line).collect::<String>())
}
