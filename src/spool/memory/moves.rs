//! Moves of single entries: claims, the ends of attempts, records that came back.

use super::{Everything, Options};
use crate::mail::{RecordId, Timestamp};
use crate::queue::State;
use crate::spool::life;
use crate::spool::{Claim, Outcome, Receipt, ReportClaim, Returned, SpoolError};

impl Everything {
    pub(super) fn claim(&mut self, id: RecordId, now: Timestamp, options: &Options) -> Option<Claim> {
        if self.is_over(id, now) {
            return None;
        }
        let kept = self.records.get_mut(&id)?;
        let was_sealed = kept.standing.sealed;
        life::claim(kept, now, options.message_uuid);
        let kept = kept.clone();
        if !was_sealed {
            self.seal_copies(&kept, options);
        }
        let octets = self.octets(&kept)?;
        Some(Claim { archive: kept.archive, status: kept.standing.status(), fields: kept.fields, octets })
    }

    pub(super) fn settle(&mut self, id: RecordId, outcome: Outcome, now: Timestamp) -> Result<(), SpoolError> {
        let retain = matches!(outcome, Outcome::Acked { retain: true, .. });
        let record = self.record(id)?;
        let notice = life::settle(id, &mut record.standing, outcome, now)?;
        let is_told = self.settled(id, now);
        let notice = notice.filter(|_| is_told);
        if retain {
            self.retained.insert(id);
        }
        let record = self.record(id)?;
        let organization = record.fields.organization.clone();
        if let Some(notice) = notice {
            self.keep_notice(&organization, notice, now);
        }
        self.forget_octets();
        Ok(())
    }

    pub(super) fn claim_report(&mut self, id: RecordId) -> Option<ReportClaim> {
        let report = self.reports.get_mut(&id)?;
        report.state = State::Sending;
        report.attempts = report.attempts.saturating_add(1);
        let (fields, attempts) = (report.fields.clone(), report.attempts);
        let record = fields.news.attached().and_then(|id| self.records.get(&id));
        let record = record.and_then(|kept| Some(((*kept.fields).clone(), self.octets(kept)?)));
        Some(ReportClaim { fields, attempts, record })
    }

    pub(super) fn returned(&mut self, returned: &Returned) -> Result<Receipt, SpoolError> {
        let Some(record) = self.records.values_mut().find(|kept| life::is_meant(kept, returned)) else {
            return Ok(Receipt::Unknown);
        };
        let queue_id = record.fields.original.queue_id;
        let offered = returned.original.clone().filter(|octets| life::is_original(record, octets));
        let whole = self.messages.contains_key(&queue_id) || offered.is_some();
        let organization = record.fields.organization.clone();
        let (receipt, notice) = life::returned(record, returned, whole)?;
        if let (State::Failed, Some(octets)) = (record.standing.state, offered) {
            self.messages.entry(queue_id).or_insert(octets);
        }
        if let Some(notice) = notice {
            self.keep_notice(&organization, notice, returned.at);
        }
        Ok(receipt)
    }
}
