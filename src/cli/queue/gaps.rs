//! `gaps`: what was relayed without a record, as far as it has been noted: because the spool could not take it, or because
//! journaling was switched off.

use super::Desk;
use crate::cli::Failure;
use crate::cli::output::{print, print_line, table};
use crate::mail::Timestamp;
use crate::spool::{NotedGap, Pause, Spool};
use serde_json::json;

/// Gaps that are shown: the last ones.
const MOST: usize = 1_000;

impl Desk<'_> {
    pub(super) async fn gaps(&self, as_json: bool) -> Result<(), Failure> {
        let noted = self.spool.gaps(MOST).await?.into_iter().map(Hole::Gap);
        let mut gaps: Vec<Hole> = self.spool.pauses(MOST).await?.into_iter().map(Hole::Pause).chain(noted).collect();
        gaps.sort_by_key(Hole::since);
        if as_json {
            let lines: String = gaps.iter().map(|hole| format!("{}\n", hole.object())).collect();
            return Ok(print(lines.as_bytes())?);
        }
        if gaps.is_empty() {
            return Ok(print_line("no gaps")?);
        }
        let head = ["SINCE", "UNTIL", "ORGANIZATION", "MESSAGES", "REASON"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(head).chain(gaps.iter().map(Hole::row)).collect();
        Ok(print(table(&rows).as_bytes())?)
    }

    /// The last line of `queue list` for people.
    pub(super) async fn tell_of_gaps(&self) -> Result<(), Failure> {
        let count = self.spool.gaps(MOST).await?.len() + self.spool.pauses(MOST).await?.len();
        let more = if count >= MOST { " or more" } else { "" };
        match count {
            0 => Ok(()),
            1 => Ok(print_line("1 gap in the journal: journal-relay queue gaps")?),
            _ => Ok(print_line(&format!("{count}{more} gaps in the journal: journal-relay queue gaps"))?),
        }
    }
}

/// A gap of either kind.
enum Hole {
    /// The spool could not take the records.
    Gap(NotedGap),
    /// The switch was off.
    Pause(Pause),
}

impl Hole {
    fn since(&self) -> Timestamp {
        match self {
            Self::Gap(noted) => noted.gap.since,
            Self::Pause(pause) => pause.off.at,
        }
    }

    fn object(&self) -> serde_json::Value {
        match self {
            Self::Gap(NotedGap { organization, gap }) => json!({
                "kind": "bypass",
                "since": gap.since.rfc3339(),
                "until": gap.until.rfc3339(),
                "organization": organization,
                "messages": gap.messages,
                "reason": gap.reason,
                "queue_ids": gap.queue_ids,
                "more": gap.more(),
            }),
            Self::Pause(Pause { organization, off, on }) => json!({
                "kind": "switch",
                "since": off.at.rfc3339(),
                "until": on.as_ref().map(|turn| turn.at.rfc3339()),
                "organization": organization,
                "reason": off.reason,
                "end_reason": on.as_ref().and_then(|turn| turn.reason.clone()),
                "generation": off.generation,
                "end_generation": on.as_ref().map(|turn| turn.generation),
            }),
        }
    }

    fn row(&self) -> Vec<String> {
        match self {
            Self::Gap(NotedGap { organization, gap }) => {
                let (since, until) = (gap.since.rfc3339(), gap.until.rfc3339());
                vec![since, until, organization.clone(), gap.messages.to_string(), gap.reason.clone()]
            }
            Self::Pause(Pause { organization, off, on }) => {
                let until = on.as_ref().map_or_else(|| "still off".to_owned(), |turn| turn.at.rfc3339());
                let reason = off.reason.as_deref().unwrap_or("no reason given");
                let reason = format!("switched off: {reason}");
                vec![off.at.rfc3339(), until, organization.clone(), "all".to_owned(), reason]
            }
        }
    }
}
