//! The way of the message: into the listener, and its record on to the archive, told step by step.

use super::Teller;
use super::letter::Letter;
use crate::cli::Failure;
use crate::cli::beside;
use crate::cli::reach::way_to;
use crate::config::{Config, DeliveredWhen, Listener, Organization, Route};
use crate::forward::{ClientFacts, Leg, NextHop, Settings};
use crate::mail::{RecordId, Reply, ReversePath};
use crate::queue::State;
use crate::smtp::{Body, Mail, Parameter, Rcpt};
use crate::spool::{EmbeddedSpool, Filter, Listing, Spool as _, disk};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two looks into the spool.
const LOOK: Duration = Duration::from_millis(200);
/// The record is in the spool before the message is accepted; so long it may take to be seen.
const RECORD_WAIT: Duration = Duration::from_secs(5);
/// A clock that was set back meanwhile.
const CLOCK_SLACK: Duration = Duration::from_secs(60);
/// Entries read at a time, and at most.
const PAGE: usize = 500;
const PAGES: usize = 200;

/// What is known of one record.
type Known = (State, u32, Option<String>);

/// One test.
pub(super) struct Journey<'a> {
    pub(super) config: &'a Config,
    pub(super) organization: &'a Organization,
    pub(super) listener: &'a Listener,
    pub(super) letter: &'a Letter,
    pub(super) teller: &'a Teller,
}

impl Journey<'_> {
    /// To its end, or to the end of `limit`.
    pub(super) async fn go(&self, limit: Duration) -> Result<(), Failure> {
        let until = Instant::now() + limit;
        let name = &self.listener.name;
        let late = |_| Failure::Failed(format!("listener {name}: no answer within {} s", limit.as_secs()));
        let (place, reply) = timeout_at(until, self.send()).await.map_err(late)??;
        let message_id = &self.letter.message_id;
        self.teller.tell(
            "accepted",
            &format!("{name} {place}: {reply}"),
            json!({ "listener": name, "address": place.to_string(), "reply": reply.to_string(), "message_id": message_id }),
        )?;
        let spool = beside::open(self.config).await?;
        let done = self.follow(&spool, until, limit).await;
        // What can't be closed in order was only read.
        let _ = spool.close().await;
        done
    }

    /// The message goes in; the listener's address, and its reply.
    async fn send(&self) -> Result<(SocketAddr, Reply), Failure> {
        let (next_hop, client) = self.next_hop()?;
        let name = &self.listener.name;
        let lost = |error: &dyn std::fmt::Display| Failure::Failed(format!("listener {name}: {error}"));
        let mut leg = next_hop.open_for(client, "test").await.map_err(|error| lost(&error))?;
        let place = leg.address().unwrap_or(self.listener.address);
        let mailbox = &self.letter.mailbox;
        let needs_utf8 = !mailbox.is_ascii();
        let parameters =
            if needs_utf8 { vec![Parameter { keyword: "SMTPUTF8".into(), value: None }] } else { Vec::new() };
        let mail = Mail {
            reverse_path: ReversePath::Address(mailbox.clone()),
            size: None,
            body: Body::SevenBit,
            smtp_utf8: needs_utf8,
            parameters,
        };
        if let Some(extension) = leg.lacks(&mail) {
            return Err(lost(&format!("it does not offer {extension}, which {mailbox} needs")));
        }
        leg.mail(&mail);
        self.expect(&mut leg, "MAIL", 2).await?;
        leg.rcpt(&Rcpt { forward_path: mailbox.clone(), parameters: Vec::new() });
        self.expect(&mut leg, "RCPT", 2).await?;
        leg.data();
        self.expect(&mut leg, "DATA", 3).await?;
        leg.content(&self.letter.octets).await.map_err(|error| lost(&error))?;
        let reply = leg.finish().await.map_err(|error| lost(&error))?;
        if !reply.is_completion() {
            return Err(lost(&format!("refused at the end of data: {reply}")));
        }
        leg.release();
        next_hop.close_idle().await;
        Ok((place, reply))
    }

    /// The listener as somewhere to send to.
    fn next_hop(&self) -> Result<(std::sync::Arc<NextHop>, ClientFacts), Failure> {
        let way = way_to(self.listener);
        let settings =
            Settings { hello_name: self.config.hostname.clone(), identity: way.identity, ..Settings::default() };
        let next_hop = NextHop::with_settings(Route::Smtp(way.route), settings)
            .map_err(|error| Failure::Failed(format!("listener {}: {error}", self.listener.name)))?;
        let client = ClientFacts {
            address: SocketAddr::new(way.source, 25_025),
            destination: self.listener.address,
            name: self.config.hostname.clone(),
            extended: true,
        };
        Ok((next_hop, client))
    }

    async fn expect(&self, leg: &mut Leg, stage: &str, class: u16) -> Result<(), Failure> {
        let name = &self.listener.name;
        let reply = leg.reply().await.map_err(|error| Failure::Failed(format!("listener {name}: {error}")))?;
        if reply.code() / 100 == class {
            return Ok(());
        }
        let hint = if matches!(reply.code(), 530 | 535) {
            "; its clients have to authenticate, which this command can't: --listener names another one"
        } else {
            ""
        };
        Err(Failure::Failed(format!("listener {name}: refused at {stage}: {reply}{hint}")))
    }

    /// The record's way, until the archive has it.
    async fn follow(&self, spool: &EmbeddedSpool, until: Instant, limit: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut known: BTreeMap<RecordId, Known> = BTreeMap::new();
        loop {
            for entry in self.records(spool).await? {
                let now = (entry.state, entry.attempts, entry.last_reply.clone());
                if known.get(&entry.id) != Some(&now) {
                    self.tell_of(&entry, known.contains_key(&entry.id))?;
                    known.insert(entry.id, now);
                }
            }
            let states = || known.values().map(|(state, ..)| *state);
            let is_enough = self.organization.delivered_when == DeliveredWhen::Any;
            let taken = states().filter(|state| *state == State::Acked).count();
            if taken > 0 && (is_enough || taken == known.len()) {
                return Ok(());
            }
            let stuck = |state: &State| matches!(state, State::Failed | State::Held | State::Discarded);
            // Where one archive is enough another one may still take it.
            if let Some(state) = states().find(stuck).filter(|_| !is_enough || states().all(|state| stuck(&state))) {
                return Err(Failure::Failed(format!("the record is {state}; queue show tells more")));
            }
            if known.is_empty() && begun.elapsed() >= RECORD_WAIT {
                return Err(Failure::Failed(
                    "the message was accepted and has no record: the daemon works by another configuration than this file, or the \
                     spool is bypassed; its log says why (record.exempt, record.bypassed, config.rejected)"
                        .to_owned(),
                ));
            }
            // What can't be seen does not count as an end.
            if matches!(disk::system().is_locked(&self.config.spool.path), Ok(false)) {
                return Err(Failure::Failed(
                    "the daemon has ended meanwhile; what waits goes on when it runs again".to_owned(),
                ));
            }
            if Instant::now() >= until {
                let waits = known.values().filter(|(state, ..)| *state != State::Acked);
                let last = waits.filter_map(|(.., reply)| reply.clone()).next();
                let said = last.map_or_else(|| "nothing was said yet".to_owned(), |reply| format!("last: {reply}"));
                return Err(Failure::Failed(format!(
                    "the archive has not taken the record within {} s; {said}; the record waits and will be tried again",
                    limit.as_secs()
                )));
            }
            sleep(LOOK).await;
        }
    }

    fn tell_of(&self, entry: &Listing, is_known: bool) -> Result<(), Failure> {
        let id = entry.id.to_string();
        if !is_known {
            let (name, archive) = (&self.organization.name, &entry.archive);
            let text = format!("{id} of {name}, for {archive}");
            self.teller.tell("record", &text, json!({ "record": id, "organization": name, "archive": archive }))?;
        }
        let archive = &entry.archive;
        if let (State::Acked, Some(reason)) = (entry.state, &entry.reason) {
            // No archive's reply: it counts as delivered.
            let facts = json!({ "record": id, "archive": archive, "reason": reason });
            return self.teller.tell("superseded", &format!("{archive}: {reason}"), facts);
        }
        let Some(reply) = &entry.last_reply else { return Ok(()) };
        let next = entry.next_attempt.filter(|_| entry.state == State::Deferred).map(|at| at.rfc3339());
        let again = next.as_ref().map_or_else(String::new, |at| format!("; next attempt {at}"));
        self.teller.tell(
            entry.state.as_str(),
            &format!("{archive}, attempt {}: {reply}{again}", entry.attempts),
            json!({ "record": id, "archive": archive, "attempts": entry.attempts, "reply": reply, "next_attempt": next }),
        )
    }

    /// The message's records, on their way or over.
    async fn records(&self, spool: &EmbeddedSpool) -> Result<Vec<Listing>, Failure> {
        let mut found = Vec::new();
        for state in [None, Some(State::Acked), Some(State::Discarded)] {
            let mut filter = Filter {
                state,
                organization: Some(self.organization.name.clone()),
                after: Some(RecordId::first_of(self.letter.written.minus(CLOCK_SLACK))),
            };
            for _ in 0..PAGES {
                let page = spool.list(filter.clone(), PAGE).await?;
                filter.after = page.last().map(|last| last.id);
                let is_last = page.len() < PAGE;
                found.extend(page.into_iter().filter(|entry| self.is_ours(entry)));
                if is_last {
                    break;
                }
            }
        }
        Ok(found)
    }

    fn is_ours(&self, entry: &Listing) -> bool {
        let ours = self.letter.message_id.trim_matches(['<', '>']);
        entry.original_message_id.as_deref().is_some_and(|id| id.trim_matches(['<', '>']) == ours)
    }
}
