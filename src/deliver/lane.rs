//! The lanes: one for each archive's records, and one for each organization's reports.
//!
//! A lane sleeps until something may be due, asks whether its route may be tried, takes slots on it, claims as much as it has
//! slots for, and starts a task for each piece. While the route's circuit is open it claims nothing but a probe, and what an
//! operator wants tried. Organizations that a new configuration brings get lanes, those that it lacks lose theirs; their
//! records stay. When the end begins nothing more is claimed.

use super::circuits::{Admission, Line, Pass};
use super::courier;
use super::delays::Watch;
use super::office::{Freight, Office, Parcel};
use super::way::Way;
use crate::config::{Config, Organization};
use crate::spool::{Archive, Followers, SpoolError};
use crate::watch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// The longest sleep of a lane: the clock may be set, and another process may change the spool unseen.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The sleep when something is due that could not be claimed: another lane has it.
const SHORT_SLEEP: Duration = Duration::from_secs(1);
/// How long a spool that fails is left alone.
const SPOOL_REST: Duration = Duration::from_secs(5);
/// How long changes of the spool gather while the route is shut: all they can bring is an operator's wish.
const SHUT_REST: Duration = Duration::from_millis(250);

/// Starts and ends lanes as the configuration says, until the end begins. Before its lanes start, and now and then, records
/// follow a configuration that lacks their archive, and what was kept to be sent again for long enough is let go. After a
/// change it looks soon and ever more rarely: what was on its way then comes to an end.
pub(super) async fn supervise(office: Arc<Office>) {
    let mut config = office.config.clone();
    // A lane ends when its sender is dropped.
    let mut lanes: BTreeMap<(Archive, Freight), watch::Sender<()>> = BTreeMap::new();
    let mut next_look = SHORT_SLEEP;
    while !office.drain.has_begun() {
        let current = Arc::clone(&config.borrow_and_update());
        let wanted: BTreeSet<_> = current.organizations.iter().flat_map(lanes_of).collect();
        lanes.retain(|lane, _| wanted.contains(lane));
        look_after(&office, &current).await;
        for lane in wanted {
            lanes.entry(lane).or_insert_with_key(|(archive, freight)| open(&office, archive, *freight));
        }
        tokio::select! {
            biased;
            () = office.drain.begun() => {}
            () = changed(&mut config) => {
                office.circuits.hasten(office.clock.now());
                next_look = SHORT_SLEEP;
            }
            () = sleep(next_look) => next_look = (next_look * 2).min(LONGEST_SLEEP),
        }
    }
}

fn lanes_of(organization: &Organization) -> Vec<(Archive, Freight)> {
    let of = |key| Archive { organization: organization.name.clone(), key };
    let records = organization.archive_keys().map(|key| (of(key), Freight::Records));
    records.chain([(of(String::new()), Freight::Reports)]).collect()
}

/// What a spool that fails keeps from being done is done at the next look.
async fn look_after(office: &Office, config: &Config) {
    for organization in &config.organizations {
        if let Err(error) = follow(office, organization).await {
            tracing::warn!(event = "deliver.stalled", organization = organization.name, %error, "records can't follow the configuration yet");
        }
    }
    let now = office.clock.now();
    let kept = |of: &Organization| (of.name.clone(), now.minus(of.retention.unwrap_or_default()));
    let before: BTreeMap<_, _> = config.organizations.iter().map(kept).collect();
    // One that has left the configuration may come back, or only have been misspelt.
    let rest = now.minus(config.retry.give_up);
    while let Ok(1..) = office.spool.let_go(before.clone(), rest).await {}
}

/// Records whose archive is gone go to another one.
async fn follow(office: &Office, organization: &Organization) -> Result<(), SpoolError> {
    let keys: Vec<_> = organization.archive_keys().collect();
    let mut all = Followers::default();
    loop {
        let followers = office.spool.follow(&organization.name, keys.clone(), office.clock.now()).await?;
        if followers.is_empty() {
            break;
        }
        all.redirected += followers.redirected;
        all.superseded += followers.superseded;
    }
    let Followers { redirected, superseded } = all;
    if !all.is_empty() {
        tracing::info!(
            event = "records.followed",
            organization = organization.name,
            redirected,
            superseded,
            "records of archives that left the configuration"
        );
    }
    Ok(())
}

fn open(office: &Arc<Office>, archive: &Archive, freight: Freight) -> watch::Sender<()> {
    let end = watch::Sender::new(());
    let Archive { organization, key } = archive;
    let lane = Lane { office: Arc::clone(office), archive: archive.clone(), freight, closings: None };
    office.drain.spawn(format!("{} of {organization} {key}", freight.as_str()), lane.run(end.subscribe()));
    if freight == Freight::Records {
        let watch = Watch { office: Arc::clone(office), archive: archive.clone() };
        office.drain.spawn(format!("watch over {organization} {key}"), watch.run(end.subscribe()));
    }
    end
}

struct Lane {
    office: Arc<Office>,
    archive: Archive,
    freight: Freight,
    /// How often the circuits of the line had closed when everything that waited on it was made due last.
    closings: Option<(Line, u64)>,
}

/// What a lane does next.
enum Step {
    /// Claims as much as it has slots for.
    Flow(Arc<Way>),
    /// Claims one piece: a probe, …
    Probe(Arc<Way>, Pass),
    /// … or what an operator wants tried, which is one where the route is shut.
    Urged(Arc<Way>, Pass),
    /// Waits so long, or until something changes; the route is shut.
    Rest(Duration, bool),
    /// The configuration lacks the organization.
    End,
}

impl Lane {
    /// Ends when the end begins, with the supervisor's sender, or with the spool. Waits alone are cut short by that, never a
    /// claim: what it gives out must get a task, or nobody would have it.
    async fn run(mut self, mut end: watch::Receiver<()>) {
        let mut changes = self.office.spool.changes();
        let mut config = self.office.config.clone();
        let mut circuits = self.office.circuits.changes();
        // Whether the last claim gave all that it asked for: then there is more.
        let mut is_more = false;
        loop {
            changes.borrow_and_update();
            config.borrow_and_update();
            circuits.borrow_and_update();
            let step = self.next(is_more).await;
            is_more = false;
            let done = match step {
                Ok(Step::End) => return,
                Ok(Step::Rest(wait, is_shut)) => Ok((wait, is_shut)),
                Ok(step) => {
                    let go = self.go(step, &mut end, &mut config).await;
                    match go {
                        Ok(Gone::Over) => return,
                        Ok(Gone::Again { more }) => {
                            is_more = more;
                            continue;
                        }
                        Ok(Gone::Nothing) => Ok((SHORT_SLEEP, false)),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            };
            let (wait, is_shut) = done.unwrap_or_else(|error| {
                tracing::warn!(event = "deliver.stalled", organization = self.archive.organization, %error, "the spool does not give out what is due");
                (SPOOL_REST, false)
            });
            tokio::select! {
                biased;
                () = over(&self.office, &mut end) => return,
                () = changed(&mut config) => {}
                () = changed(&mut circuits) => {}
                more = changes.changed() => match more {
                    Ok(()) if is_shut => sleep(SHUT_REST).await,
                    Ok(()) => {}
                    Err(_) => return,
                },
                () = sleep(wait) => {}
            }
        }
    }

    /// Looks what is due and whether it may be tried. With `is_more` something is, and only the route is asked.
    async fn next(&mut self, is_more: bool) -> Result<Step, SpoolError> {
        let office = Arc::clone(&self.office);
        let Some(way) = office.way(&self.archive, self.freight) else { return Ok(Step::End) };
        let line = &way.line().clone();
        self.hurry_behind(line).await?;
        let now = office.clock.now();
        let mut urged = None;
        if !is_more {
            let agenda = office.spool.agenda(&self.archive).await?;
            let next = match self.freight {
                Freight::Records => agenda.records,
                Freight::Reports if agenda.notices.is_some_and(|due| due <= now) => {
                    office.spool.gather(&self.archive.organization, office.seed(now)).await?;
                    Some(now)
                }
                Freight::Reports => [agenda.reports, agenda.notices].into_iter().flatten().min(),
            };
            if next.is_none_or(|due| due > now) {
                let wait = next.map_or(LONGEST_SLEEP, |due| due.since(now).min(LONGEST_SLEEP));
                return Ok(Step::Rest(wait, false));
            }
            urged = agenda.urged.filter(|due| self.freight == Freight::Records && *due <= now);
        }
        Ok(match office.circuits.admit(line, now) {
            Admission::Flow => Step::Flow(way),
            Admission::Probe(pass) => Step::Probe(way, pass),
            Admission::Shut(_) if urged.is_some() => Step::Urged(way, office.circuits.probe(line)),
            Admission::Shut(until) => {
                Step::Rest(until.map_or(LONGEST_SLEEP, |until| until.since(now).min(LONGEST_SLEEP)), true)
            }
        })
    }

    /// Makes all that waits due when one of the circuits of `line` has closed since, or when it waited on another line: what
    /// was said there counts no more.
    async fn hurry_behind(&mut self, line: &Line) -> Result<(), SpoolError> {
        let closings = self.office.circuits.closings(line);
        if self.closings.as_ref().is_some_and(|known| *known != (line.clone(), closings)) {
            loop {
                let now = self.office.clock.now();
                let hurried = match self.freight {
                    Freight::Records => self.office.spool.hurry(&self.archive, now).await?,
                    Freight::Reports => self.office.spool.hurry_reports(&self.archive.organization, now).await?,
                };
                if hurried == 0 {
                    break;
                }
            }
        }
        self.closings = Some((line.clone(), closings));
        Ok(())
    }

    /// Takes slots, claims, and starts a task for each piece.
    async fn go(
        &self,
        step: Step,
        end: &mut watch::Receiver<()>,
        config: &mut watch::Receiver<Arc<Config>>,
    ) -> Result<Gone, SpoolError> {
        let (way, most, pass, is_urged) = match step {
            Step::Flow(way) => {
                let most = way.route.connections();
                (way, most, None, false)
            }
            Step::Probe(way, pass) => (way, 1, Some(pass), false),
            Step::Urged(way, pass) => (way, 1, Some(pass), true),
            Step::Rest(..) | Step::End => return Ok(Gone::Nothing),
        };
        let permits = tokio::select! {
            biased;
            () = over(&self.office, end) => return Ok(Gone::Over),
            // The route may be another one now.
            () = changed(config) => return Ok(Gone::Again { more: false }),
            permits = take_permits(self.office.slots(&way), self.moment(), most) => permits,
        };
        let asked = permits.len();
        let parcels = self.claim(permits.len(), is_urged).await?;
        let count = parcels.len();
        let mut pass = pass;
        for (parcel, slot) in parcels.into_iter().zip(permits) {
            let office = Arc::clone(&self.office);
            let pass = pass.take().unwrap_or_else(|| office.circuits.pass(way.line()));
            let drain = &self.office.drain;
            match parcel {
                Parcel::Record(claim) => {
                    drain.spawn_named(courier::label(claim.fields.id), |name| {
                        office.carry_records(
                            claim,
                            pass,
                            (slot, (way.label().to_owned(), way.route.connections())),
                            name,
                        )
                    });
                }
                Parcel::Report(claim) => {
                    let label = format!("report {}", claim.fields.id);
                    drain.spawn(label, async move { office.carry_report(*claim, pass, slot).await });
                }
            }
        }
        Ok(if count == 0 { Gone::Nothing } else { Gone::Again { more: count == asked } })
    }

    async fn claim(&self, limit: usize, is_urged: bool) -> Result<Vec<Parcel>, SpoolError> {
        let now = self.office.clock.now();
        if is_urged {
            let claim = self.office.spool.claim_urged(&self.archive, now).await?;
            return Ok(claim.into_iter().map(Parcel::Record).collect());
        }
        self.office.claim(&self.archive, self.freight, now, limit).await
    }

    /// How long slots and due entries gather before a claim. Reports are rare and in no hurry.
    fn moment(&self) -> Duration {
        match self.freight {
            Freight::Records => Duration::from_millis(2),
            Freight::Reports => Duration::from_millis(50),
        }
    }
}

/// How a claim went.
enum Gone {
    /// Something is on its way; perhaps there is more.
    Again { more: bool },
    /// There was nothing after all.
    Nothing,
    /// The end has begun.
    Over,
}

/// Ends when the end begins or the supervisor lets go.
pub(super) async fn over(office: &Office, end: &mut watch::Receiver<()>) {
    tokio::select! {
        biased;
        () = office.drain.begun() => {}
        // Only ever an error: the supervisor has dropped its half.
        _ = end.changed() => {}
    }
}

/// One slot at least, and as many more as are free a moment later: a claim is a synced write of the spool, and one for
/// many records costs no more than one for a single record.
async fn take_permits(slots: Arc<Semaphore>, moment: Duration, most: usize) -> Vec<OwnedSemaphorePermit> {
    let mut permits = Vec::new();
    permits.extend(Arc::clone(&slots).acquire_owned().await.ok());
    sleep(moment).await;
    while permits.len() < most
        && let Ok(permit) = Arc::clone(&slots).try_acquire_owned()
    {
        permits.push(permit);
    }
    permits
}

/// Ends when there is a new value; never when nobody can make one any more.
pub(super) async fn changed<T>(value: &mut watch::Receiver<T>) {
    if value.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
