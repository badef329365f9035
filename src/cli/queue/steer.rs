//! `retry`, `hold`, `release` and `discard`: entries are moved, as many as can be in one transaction.

use super::progress::Progress;
use super::{Desk, PAGE};
use crate::cli::Failure;
use crate::cli::output::{complain, print, print_line, print_object};
use crate::clock;
use crate::mail::RecordId;
use crate::queue::State;
use crate::spool::{Filter, Listing, Operation, Pending, Spool, SpoolError};
use serde_json::json;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// Left to the daemon between two transactions of a command, so that no message waits for a long command.
const BREATH: Duration = Duration::from_millis(20);

impl Desk<'_> {
    /// Moves the entries named; every one that can't be is told and makes the command fail.
    pub(super) async fn steer(&self, ids: &[RecordId], operation: &Operation, as_json: bool) -> Result<(), Failure> {
        let mut failures = 0_usize;
        for ids in ids.chunks(PAGE) {
            let mut lines = String::new();
            for (id, result) in ids.iter().zip(self.move_together(ids, operation).await) {
                match result {
                    Ok(entry) if as_json => lines.push_str(&format!("{}\n", self.as_json(&entry))),
                    Ok(entry) => lines.push_str(&format!("{id}  {}\n", entry.state)),
                    Err(error) => {
                        failures += 1;
                        if as_json {
                            lines.push_str(&format!("{}\n", json!({ "id": id, "error": error.to_string() })));
                        }
                        complain(&format!("{id}: {error}"));
                    }
                }
            }
            print(lines.as_bytes())?;
        }
        if failures == 0 {
            Ok(())
        } else {
            Err(Failure::Failed(format!("{failures} of {} could not be done", ids.len())))
        }
    }

    /// Moves every entry in those states, of one organization or of all. What has moved on between the look and the move
    /// is not meant any more.
    pub(super) async fn steer_all(
        &self,
        states: &[Option<State>],
        organization: Option<String>,
        operation: &Operation,
        as_json: bool,
    ) -> Result<(), Failure> {
        let (mut moved, mut passed) = (0_usize, 0_usize);
        let mut progress = Progress::new("entries");
        for state in states {
            let filter = Filter { state: *state, organization: organization.clone(), after: None };
            self.each_page(filter, async |page| {
                let ids: Vec<_> = page.iter().filter(|entry| is_meant(entry)).map(|entry| entry.id).collect();
                for result in self.move_together(&ids, operation).await {
                    match result {
                        Ok(entry) => {
                            moved += 1;
                            if as_json {
                                print_object(&self.as_json(&entry))?;
                            }
                        }
                        Err(SpoolError::NotNow(_) | SpoolError::NotFound(_)) => passed += 1,
                        Err(error) => return Err(Failure::Failed(format!("{moved} entries were done, then: {error}"))),
                    }
                }
                progress.reach(moved + passed);
                tokio::time::sleep(BREATH).await;
                Ok(())
            })
            .await?;
        }
        drop(progress);
        if let Some(name) = organization.filter(|name| moved + passed == 0 && !self.knows(name)) {
            return Err(Failure::Failed(format!(
                "neither the configuration nor the spool knows an organization {name:?}"
            )));
        }
        if as_json {
            return Ok(());
        }
        let left = if passed == 0 { String::new() } else { format!("; {passed} had moved on meanwhile") };
        Ok(print_line(&format!("{moved} entries: {}{left}", done(operation)))?)
    }

    /// Hands all moves over before the first answer is awaited: the spool's writer takes them into one transaction.
    async fn move_together(&self, ids: &[RecordId], operation: &Operation) -> Vec<Result<Listing, SpoolError>> {
        let now = clock::system().now();
        all(ids.iter().map(|id| self.spool.operate(*id, operation.clone(), now)).collect()).await
    }
}

/// A prepared entry has no verdict yet and is nobody's to move.
fn is_meant(entry: &Listing) -> bool {
    entry.state != State::Prepared
}

fn done(operation: &Operation) -> &'static str {
    match operation {
        Operation::Retry => "tried now",
        Operation::Hold => "held",
        Operation::Release => "released",
        Operation::Discard { .. } => "discarded",
    }
}

/// Every result, in order; all are under way from the first poll.
async fn all<T>(mut pending: Vec<Pending<T>>) -> Vec<Result<T, SpoolError>> {
    let mut results: Vec<_> = pending.iter().map(|_| None).collect();
    poll_fn(move |context| {
        let mut open = 0_usize;
        for (future, result) in pending.iter_mut().zip(&mut results) {
            if result.is_some() {
                continue;
            }
            match future.as_mut().poll(context) {
                Poll::Ready(ready) => *result = Some(ready),
                Poll::Pending => open += 1,
            }
        }
        if open == 0 {
            Poll::Ready(std::mem::take(&mut results).into_iter().flatten().collect())
        } else {
            Poll::Pending
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::spool::fixtures::{Message, World};
    use crate::spool::{EmbeddedSpool, Verdict, disk};

    /// 120 messages of six organizations each.
    const MESSAGES: u8 = 120;
    const ORGANIZATIONS: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

    #[tokio::test]
    async fn a_command_for_all_moves_hundreds_in_a_transaction_and_passes_over_what_may_not_move() {
        let world = World::embedded();
        for identity in 0..MESSAGES {
            let message = Message { organizations: ORGANIZATIONS.to_vec(), ..Message::new(identity, &["a@x.example"]) };
            world.relay(&message, Verdict::Accepted).await;
        }
        world.prepare(&Message::new(200, &["a@x.example"]), b"A: b\r\n\r\n").await.unwrap();
        let records = usize::from(MESSAGES) * ORGANIZATIONS.len();
        let file = world.directory.path().join("config.toml");
        std::fs::write(&file, include_str!("../../../config/journal-relay.toml")).unwrap();
        let config = Config::load(&file).unwrap();
        // What a command asks a running daemon for first.
        world.spool.complete().await.unwrap();
        let spool = EmbeddedSpool::open_beside(&world.directory.path().join("spool"), disk::system()).unwrap();
        let desk = Desk { spool, config: &config };

        desk.steer_all(&[None], None, &Operation::Hold, false).await.unwrap();
        assert_eq!(world.in_state(State::Held).await.len(), records);
        assert_eq!(world.in_state(State::Prepared).await.len(), 1, "what has no verdict is left alone");
        // Two a page, mostly: the first move may be on its way before the second is handed over.
        let commits = desk.spool.commits();
        assert!(commits < records as u64 / 8, "{commits} transactions for {records} entries");

        desk.steer_all(&[Some(State::Held)], Some("two".into()), &Operation::Release, false).await.unwrap();
        assert_eq!(world.in_state(State::Waiting).await.len(), usize::from(MESSAGES), "one organization's alone");
        assert!(desk.steer_all(&[None], Some("nobody's".into()), &Operation::Hold, false).await.is_err());
        // Known to the configuration, and nothing waits.
        desk.steer_all(&[None], Some("yourorganization".into()), &Operation::Release, false).await.unwrap();
    }
}
