//! Records that go to several archives, and those that are sent again, in memory.

use super::{Everything, Options};
use crate::mail::{RecordId, Timestamp};
use crate::queue::{Standing, State};
use crate::spool::life::copies::{self, ARCHIVE_GONE, Copy, Followed, TAKEN_ELSEWHERE};
use crate::spool::life::{self, Event, Kept};
use crate::spool::{Copies, Followers, Resend, Resent, SpoolError};
use std::collections::BTreeMap;

impl Everything {
    /// The other records of the same transaction and organization; of one that is sent again, the others that are and are not
    /// over.
    fn others(&self, id: RecordId) -> impl Iterator<Item = &Kept> {
        let one = self.records.get(&id);
        self.records.values().filter(move |other| {
            one.is_some_and(|one| {
                other.fields.id != id
                    && other.fields.organization == one.fields.organization
                    && other.fields.original.queue_id == one.fields.original.queue_id
                    && other.fields.replay.is_some() == one.fields.replay.is_some()
                    && (other.fields.replay.is_none() || other.standing.ended.is_none())
            })
        })
    }

    fn others_standing(&self, id: RecordId) -> impl Iterator<Item = &Standing> {
        self.others(id).map(|other| &other.standing)
    }

    pub(super) fn seal_copies(&mut self, first: &Kept, options: &Options) {
        if first.copies == Copies::Alone {
            return;
        }
        let mut others: Vec<Kept> = self.others(first.fields.id).cloned().collect();
        copies::seal_with(first, &mut others, options.message_uuid);
        self.records.extend(others.into_iter().map(|other| (other.fields.id, other)));
    }

    fn is_one_enough(&self, id: RecordId) -> bool {
        self.records.get(&id).is_some_and(|kept| kept.copies == Copies::OneIsEnough)
    }

    fn supersede(&mut self, id: RecordId, why: &str, now: Timestamp) -> Result<(), SpoolError> {
        let kept = self.record(id)?;
        kept.standing.superseded(why.to_owned(), now).map_err(|unmoved| life::not_now(id, &unmoved.0))?;
        let (organization, archive) = (kept.fields.organization.clone(), kept.archive.clone());
        Event::Superseded { record: id, organization, archive, reason: why.to_owned() }.write();
        Ok(())
    }

    pub(super) fn is_over(&mut self, id: RecordId, now: Timestamp) -> bool {
        let is_over = self.is_one_enough(id)
            && copies::is_taken(self.others_standing(id))
            && self.supersede(id, TAKEN_ELSEWHERE, now).is_ok();
        if is_over {
            self.forget_octets();
        }
        is_over
    }

    /// Draws what follows for the copies of a record whose attempt has ended, and for itself; whether its end is to be told.
    pub(super) fn settled(&mut self, id: RecordId, now: Timestamp) -> bool {
        let Some(standing) = self.records.get(&id).map(|kept| kept.standing.clone()) else { return true };
        if !self.is_one_enough(id) {
            return true;
        }
        if standing.state == State::Acked {
            let over = self.others(id).filter(|other| copies::is_dispensable(&other.standing));
            let over: Vec<_> = over.map(|other| other.fields.id).collect();
            for other in over {
                let _ = self.supersede(other, TAKEN_ELSEWHERE, now);
            }
        } else if copies::is_taken(self.others_standing(id)) && !standing.held {
            return self.supersede(id, TAKEN_ELSEWHERE, now).is_err();
        }
        !copies::is_hope(self.others_standing(id))
    }

    pub(super) fn hope_ended(&mut self, id: RecordId, now: Timestamp) {
        if !self.is_one_enough(id)
            || copies::is_taken(self.others_standing(id))
            || copies::is_hope(self.others_standing(id))
        {
            return;
        }
        let failed: Vec<_> = self.others(id).filter(|other| other.standing.state == State::Failed).cloned().collect();
        for kept in failed {
            self.keep_notice(&kept.fields.organization, life::failed(&kept, now), now);
        }
    }

    pub(super) fn released(&mut self, id: RecordId, now: Timestamp) {
        if self.records.get(&id).is_some_and(|kept| copies::is_dispensable(&kept.standing)) {
            self.is_over(id, now);
        }
    }

    pub(super) fn may_still_be_taken(&self, id: RecordId) -> bool {
        self.is_one_enough(id) && copies::is_hope(self.others_standing(id))
    }

    pub(super) fn follow(
        &mut self,
        organization: &str,
        archives: &[String],
        now: Timestamp,
    ) -> Result<Followers, SpoolError> {
        let is_stray = |kept: &&Kept| {
            kept.fields.organization == organization
                && copies::may_follow(&kept.standing)
                && !archives.contains(&kept.archive)
        };
        let strays: Vec<_> = self.records.values().filter(is_stray).map(|kept| kept.fields.id).collect();
        let mut followers = Followers::default();
        for id in strays {
            let others = self.others(id).map(|other| (other.archive.as_str(), &other.standing));
            match copies::follow(others, archives) {
                Followed::To(archive) => {
                    let record = self.record(id)?;
                    record.archive = archive;
                    record.standing.hurry(now);
                    followers.redirected += 1;
                }
                Followed::Superseded => {
                    self.supersede(id, ARCHIVE_GONE, now)?;
                    self.hope_ended(id, now);
                    followers.superseded += 1;
                }
            }
        }
        self.forget_octets();
        Ok(followers)
    }

    pub(super) fn resend(&mut self, resend: &Resend) -> Resent {
        let is_of_the_time = |kept: &&Kept| {
            kept.fields.organization == resend.organization
                && kept.fields.replay.is_none()
                && kept.standing.state != State::Prepared
                && (resend.since..resend.until).contains(&kept.fields.original.received)
                && resend.after.is_none_or(|after| kept.fields.id > after)
        };
        let found: Vec<Kept> = self.records.values().filter(is_of_the_time).take(resend.ids.len()).cloned().collect();
        let mut resent = Resent::default();
        for (kept, id) in found.into_iter().zip(&resend.ids) {
            resent.last = Some(kept.fields.id);
            match kept.standing.state {
                State::Discarded => resent.discarded += 1,
                State::Acked => self.resend_one(resend, kept, *id, &mut resent),
                _ => resent.undelivered += 1,
            }
        }
        resent
    }

    fn resend_one(&mut self, resend: &Resend, kept: Kept, id: RecordId, resent: &mut Resent) {
        fn copy(kept: &Kept) -> Copy<'_> {
            Copy { id: kept.fields.id, archive: &kept.archive, standing: &kept.standing }
        }
        let of = kept.fields.id;
        let others = self.others(of).map(copy).collect();
        let Some(archive) = copies::destination(&copy(&kept), others, resend.to.as_deref(), &resend.archives) else {
            resent.copies += 1;
            return;
        };
        let under_way = self.records.values().rfind(|other| {
            other.fields.replay.as_ref().is_some_and(|replay| replay.of == of)
                && other.archive == archive
                && other.standing.ended.is_none()
        });
        match under_way.map(|other| other.standing.state) {
            Some(State::Failed) => resent.undelivered += 1,
            Some(_) => resent.under_way += 1,
            None if !self.messages.contains_key(&kept.fields.original.queue_id) => resent.gone += 1,
            None => {
                let received = kept.fields.original.received;
                self.records.insert(id, life::replay(kept, id, archive, resend.at));
                resent.resent += 1;
                resent.oldest = Some(resent.oldest.map_or(received, |oldest| oldest.min(received)));
            }
        }
    }

    pub(super) fn let_go(&mut self, before: &BTreeMap<String, Timestamp>, rest: Timestamp) -> usize {
        let is_over = |id: &RecordId| {
            self.records.get(id).is_none_or(|kept| {
                let before = before.get(&kept.fields.organization).copied().unwrap_or(rest);
                kept.standing.ended.is_some_and(|ended| ended < before)
            })
        };
        let over: Vec<_> = self.retained.iter().filter(|id| is_over(id)).copied().collect();
        self.retained.retain(|id| !over.contains(id));
        self.forget_octets();
        over.len()
    }
}
