//! `gaps`: what was relayed without a record, as far as it has been noted.

use super::Desk;
use crate::cli::Failure;
use crate::cli::output::{print, print_line, table};
use crate::spool::{NotedGap, Spool};
use serde_json::json;

/// Gaps that are shown: the last ones.
const MOST: usize = 1_000;

impl Desk<'_> {
    pub(super) async fn gaps(&self, as_json: bool) -> Result<(), Failure> {
        let gaps = self.spool.gaps(MOST).await?;
        if as_json {
            let lines: String = gaps.iter().map(|noted| format!("{}\n", object(noted))).collect();
            return Ok(print(lines.as_bytes())?);
        }
        if gaps.is_empty() {
            return Ok(print_line("no gaps")?);
        }
        let head = ["SINCE", "UNTIL", "ORGANIZATION", "MESSAGES", "REASON"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(head).chain(gaps.iter().map(row)).collect();
        Ok(print(table(&rows).as_bytes())?)
    }

    /// The last line of `queue list` for people.
    pub(super) async fn tell_of_gaps(&self) -> Result<(), Failure> {
        let count = self.spool.gaps(MOST).await?.len();
        let more = if count == MOST { " or more" } else { "" };
        match count {
            0 => Ok(()),
            1 => Ok(print_line("1 gap in the journal: journal-relay queue gaps")?),
            _ => Ok(print_line(&format!("{count}{more} gaps in the journal: journal-relay queue gaps"))?),
        }
    }
}

fn object(noted: &NotedGap) -> serde_json::Value {
    let NotedGap { organization, gap } = noted;
    json!({
        "since": gap.since.rfc3339(),
        "until": gap.until.rfc3339(),
        "organization": organization,
        "messages": gap.messages,
        "reason": gap.reason,
        "queue_ids": gap.queue_ids,
        "more": gap.more(),
    })
}

fn row(noted: &NotedGap) -> Vec<String> {
    let NotedGap { organization, gap } = noted;
    vec![gap.since.rfc3339(), gap.until.rfc3339(), organization.clone(), gap.messages.to_string(), gap.reason.clone()]
}
