//! How the cost of a message grows with what there is: its size, its recipients, sessions, a backlog, and what the spool
//! remembers. One round of each step, of whoever takes part.

use crate::Options;
use crate::rounds::{self, Round};
use crate::servers::Kind;
use crate::table;
use crate::work::Work;

/// With what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Grow {
    /// Octets of a message
    Size,
    /// Recipients of a message
    Recipients,
    /// Sessions at once
    Sessions,
    /// Records that wait while the archive is down
    Backlog,
    /// Messages that the spool remembers
    Identities,
}

/// Messages that are measured where nothing else says how many.
const MEASURED: u64 = 5_000;

impl Grow {
    fn steps(self) -> &'static [u64] {
        match self {
            Self::Size => &[1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 10 << 20],
            Self::Recipients => &[1, 10, 50, 100, 500],
            Self::Sessions => &[1, 5, 20, 50, 100, 300],
            Self::Backlog => &[2_000, 10_000, 50_000],
            Self::Identities => &[0, 20_000, 100_000],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Size => "octets",
            Self::Recipients => "recipients",
            Self::Sessions => "sessions",
            Self::Backlog => "waiting",
            Self::Identities => "remembered",
        }
    }

    /// Work a with that much of it.
    fn work(self, step: u64, options: &Options) -> Work {
        let mut work = Work::all(0, step).swap_remove(0);
        let number = usize::try_from(step).expect("a moderate number");
        let messages = options.messages.unwrap_or(MEASURED);
        work.messages = messages;
        match self {
            Self::Size => {
                work.shape.size = number;
                // As much time for each step: some octets a message cost as much as the message itself.
                work.messages = (messages * (32 << 10) / (step + (32 << 10))).max(40);
                work.shape.sessions = if step > 1 << 20 { 8 } else { 50 };
            }
            Self::Recipients => {
                work.shape.recipients = number;
                work.messages = (messages * 20 / (step + 20)).max(100);
            }
            Self::Sessions => work.shape.sessions = number,
            Self::Backlog => (work.is_backlog, work.messages) = (true, step),
            Self::Identities => {}
        }
        work.messages_of_others = work.messages.div_ceil(5);
        work
    }
}

/// Measures all steps and gives the table.
pub fn grow(grow: Grow, options: &Options) -> String {
    let head = [grow.name(), "server", "CPU µs a message", "messages/s", "p50 ms", "p99 ms", "peak MiB"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut add = |step: u64, kind: Kind, round: &Round| {
        let figures = [round.cpu_us, round.per_second, round.p50_ms, round.p99_ms, round.peak_mib];
        eprintln!("{} {step}: {:13} {:6.0} us, {:7.0}/s", grow.name(), kind.name(), round.cpu_us, round.per_second);
        let cells = figures.map(table::short);
        rows.push([step.to_string(), kind.name().to_owned()].into_iter().chain(cells).collect());
    };
    if grow == Grow::Identities {
        let work = grow.work(0, options);
        for kind in options.kinds(&work) {
            for (step, round) in rounds::remembering(kind, &work, options, grow.steps()) {
                add(step, kind, &round);
            }
        }
    } else {
        for step in grow.steps() {
            let work = grow.work(*step, options);
            for kind in options.kinds(&work) {
                add(*step, kind, &rounds::round(kind, &work, options));
            }
        }
    }
    table::lay_out(&format!("by {}", grow.name()), &rows, options.markdown)
}
