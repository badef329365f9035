//! What organizations are told, in memory: notices gather, reports are made of them, told delays are remembered; and the
//! moves of many records at once that a route's state asks for.

use super::{Everything, Report, first_of};
use crate::journal::{Gap, MAX_NAMED, Named, News, Notice, ReportFields, ReportSeed};
use crate::mail::{RecordId, Timestamp};
use crate::queue::{Pace, State};
use crate::spool::life::{self, Kept};
use crate::spool::{Agenda, Archive, Backlog, NotedGap, Setback, SpoolError, Warned};

/// What is kept for one organization until it is told.
#[derive(Default)]
pub(super) struct Telling {
    notices: Vec<Notice>,
    pace: Pace,
}

impl Everything {
    pub(super) fn keep_notice(&mut self, organization: &str, notice: Notice, now: Timestamp) {
        let telling = self.telling.entry(organization.to_owned()).or_default();
        if telling.pace.notice(now, MAX_NAMED) {
            telling.notices.push(notice);
        }
    }

    pub(super) fn gather(&mut self, organization: &str, seed: ReportSeed) -> bool {
        let Some(telling) = self.telling.get_mut(organization) else { return false };
        if telling.pace.due().is_none_or(|due| due > seed.date) {
            return false;
        }
        let more = telling.pace.tell(seed.date);
        let records = std::mem::take(&mut telling.notices);
        self.insert_report(seed.tell(organization, News::Failed(Named { records, more })));
        true
    }

    pub(super) fn tell(&mut self, report: ReportFields) {
        let key = |archive: &String| (report.organization.clone(), archive.clone());
        match &report.news {
            News::Failed(_) | News::Bypassed(_) => {}
            News::Delayed { outage, .. } => {
                let before = self.warned.remove(&key(&outage.archive));
                self.warned.insert(key(&outage.archive), Warned::of(outage.clone(), before, report.date));
            }
            News::Restored { outage, .. } => {
                if let Some(before) = self.warned.remove(&key(&outage.archive)) {
                    self.warned.insert(key(&outage.archive), before.ended(report.date));
                }
            }
        }
        self.insert_report(report);
    }

    pub(super) fn note_gap(&mut self, organization: &str, gap: Gap, seed: ReportSeed) {
        if self.gaps.iter().any(|(report, _)| *report == seed.id) {
            return;
        }
        self.gaps.push((seed.id, NotedGap { organization: organization.to_owned(), gap: gap.clone() }));
        self.insert_report(seed.tell(organization, News::Bypassed(gap)));
    }

    pub(super) fn last_gaps(&self, limit: usize) -> Vec<NotedGap> {
        let first = self.gaps.len().saturating_sub(limit);
        self.gaps.iter().skip(first).map(|(_, noted)| noted.clone()).collect()
    }

    fn insert_report(&mut self, fields: ReportFields) {
        let report = Report { state: State::Waiting, attempts: 0, due: fields.date, fields };
        self.reports.insert(report.fields.id, report);
    }

    /// The records for an archive that wait for an attempt, oldest first.
    fn waiting_of<'a>(&'a self, archive: &'a Archive) -> impl Iterator<Item = &'a Kept> {
        let of_it = self.records.values().filter(move |kept| kept.is_for(archive));
        of_it.filter(|kept| kept.standing.due().is_some())
    }

    /// The urgent one that has been due for longest; none is urgent any more then.
    pub(super) fn take_urged(&mut self, archive: &Archive, now: Timestamp) -> Option<RecordId> {
        let urged = self.waiting_of(archive).filter(|kept| kept.standing.urged);
        let due = urged.filter_map(|kept| Some((kept.standing.due()?, kept.fields.id)));
        let first = first_of(due.filter(|(due, _)| *due <= now).collect(), 1).pop();
        let of_it = self.records.values_mut().filter(|kept| kept.is_for(archive));
        of_it.filter(|kept| kept.standing.due().is_some()).for_each(|kept| kept.standing.calm());
        first
    }

    pub(super) fn hurry(&mut self, archive: &Archive, now: Timestamp) -> usize {
        let of_it = self.records.values_mut().filter(|kept| kept.is_for(archive));
        let later = of_it
            .map(|kept| &mut kept.standing)
            .filter(|standing| standing.visible() == State::Deferred && standing.due().is_some_and(|due| due > now));
        later.map(|standing| standing.hurry(now)).count()
    }

    pub(super) fn hurry_reports(&mut self, organization: &str, now: Timestamp) -> usize {
        let of_it = self.reports.values_mut().filter(|report| report.fields.organization == organization);
        let later = of_it.filter(|report| report.state == State::Waiting && report.due > now);
        later.map(|report| report.due = now).count()
    }

    pub(super) fn give_up(
        &mut self,
        archive: &Archive,
        until: Timestamp,
        setback: &Setback,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<RecordId>, SpoolError> {
        let waiting = self.waiting_of(archive).filter(|kept| kept.fields.since() <= until);
        let ids: Vec<_> = waiting.map(|kept| kept.fields.id).take(limit).collect();
        for id in &ids {
            let notice = life::give_up(self.record(*id)?, setback, now)?;
            if !self.may_still_be_taken(*id) {
                self.keep_notice(&archive.organization, notice, now);
            }
        }
        Ok(ids)
    }

    pub(super) fn agenda(&self, archive: &Archive) -> Agenda {
        let due = |kept: &Kept| kept.standing.due();
        let reports = self.reports.values().filter(|report| report.fields.organization == archive.organization);
        let reports = reports.filter(|report| report.state == State::Waiting).map(|report| report.due);
        Agenda {
            records: self.waiting_of(archive).filter_map(due).min(),
            urged: self.waiting_of(archive).filter(|kept| kept.standing.urged).filter_map(due).min(),
            reports: reports.min(),
            notices: self.telling.get(&archive.organization).and_then(|telling| telling.pace.due()),
        }
    }

    pub(super) fn backlog(&self, archive: &Archive) -> Backlog {
        Backlog {
            waiting: u64::try_from(self.waiting_of(archive).count()).unwrap_or(u64::MAX),
            oldest: self.waiting_of(archive).next().map(|kept| kept.fields.since()),
            warned: self.warned.get(&(archive.organization.clone(), archive.key.clone())).cloned(),
        }
    }

    pub(super) fn waiting(&self, archive: &Archive, until: Timestamp, most: usize, now: Timestamp) -> Named {
        let old = || self.waiting_of(archive).filter(move |kept| kept.fields.since() <= until);
        let records: Vec<_> = old().take(most).map(|kept| life::waits(kept, now)).collect();
        let more = u64::try_from(old().count().saturating_sub(records.len())).unwrap_or(u64::MAX);
        Named { records, more }
    }

    pub(super) fn acked_since(&self, archive: &Archive, since: Timestamp) -> u64 {
        let of_it = self.records.values().filter(|kept| kept.is_for(archive));
        let acked = of_it.filter(|kept| kept.standing.state == State::Acked && kept.standing.reason.is_none());
        let count = acked.filter(|kept| kept.standing.ended.is_some_and(|ended| ended >= since)).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}
