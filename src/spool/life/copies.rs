//! Records of one transaction and organization that go to several archives: copies. Each is tried, retried, failed and
//! reported by itself; they have one Message-ID, one boundary and one Date, and so differ in nothing but their address, their
//! id and the seal over both.
//!
//! Promises: copies are sealed together, so that no archive gets recipients under a Message-ID which another one got without
//! them; of copies of which one is enough none counts as delivered before an archive has taken one; when an archive is taken
//! out of the configuration its copies go to one that lacks them, and count as delivered only where none does.

use super::{Kept, MessageUuid};
use crate::mail::RecordId;
use crate::queue::{Standing, State};
use std::sync::Arc;

/// Why a copy counts as delivered that another archive's acknowledgement stands for.
pub(in crate::spool) const TAKEN_ELSEWHERE: &str = "another archive of the organization has taken the record";
/// Why a copy counts as delivered whose archive is gone.
pub(in crate::spool) const ARCHIVE_GONE: &str =
    "its archive is not in the configuration any more, and every other one has a copy";

/// Seals what waits of `others` as `first` is sealed.
pub(in crate::spool) fn seal_with(first: &Kept, others: &mut [Kept], message_uuid: MessageUuid) -> Vec<usize> {
    let mut sealed = Vec::new();
    for (place, other) in others.iter_mut().enumerate() {
        if !other.standing.sealed && other.standing.state == State::Waiting {
            let fields = Arc::make_mut(&mut other.fields);
            fields.date = first.fields.date;
            fields.message_uuid = message_uuid(fields);
            other.standing.sealed = true;
            sealed.push(place);
        }
    }
    sealed
}

/// Whether an archive has taken one of these.
pub(in crate::spool) fn is_taken<'a>(mut others: impl Iterator<Item = &'a Standing>) -> bool {
    others.any(|other| other.state == State::Acked && other.reason.is_none())
}

/// Whether one of these may still be taken.
pub(in crate::spool) fn is_hope<'a>(mut others: impl Iterator<Item = &'a Standing>) -> bool {
    others.any(|other| !matches!(other.state, State::Acked | State::Discarded | State::Failed))
}

/// Whether a copy counts as delivered once another is: not while it is being sent (it may be taken, too), and not against
/// the will of an operator who holds it.
pub(in crate::spool) fn is_dispensable(standing: &Standing) -> bool {
    !standing.held && matches!(standing.state, State::Waiting | State::Deferred | State::Failed)
}

/// Whether a record, not discarded, stands for later transactions of its message at its archive: not where its octets are lost, so
/// that nothing would be left to send, and not where its archive had left before it was taken, whoever has come back since.
pub(in crate::spool) fn stands_for_later(standing: &Standing) -> bool {
    !standing.is_damaged() && standing.reason.as_deref() != Some(ARCHIVE_GONE)
}

/// What becomes of a copy whose archive is not among `archives`, the keys of the configuration in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::spool) enum Followed {
    /// It goes to this archive.
    To(String),
    /// It counts as delivered.
    Superseded,
}

/// Decides about a copy that waits or has failed; `others` are the archives of the other copies, and where those stand.
pub(in crate::spool) fn follow<'a>(
    others: impl Iterator<Item = (&'a str, &'a Standing)>,
    archives: &[String],
) -> Followed {
    // What an operator gave up, and what only counts as delivered, is at no archive.
    let counts = |standing: &Standing| standing.state != State::Discarded && standing.reason.is_none();
    let has: Vec<&str> = others.filter(|(_, standing)| counts(standing)).map(|(archive, _)| archive).collect();
    let lacks = |key: &&String| !has.contains(&key.as_str());
    archives.iter().find(lacks).map_or(Followed::Superseded, |key| Followed::To(key.clone()))
}

/// One of the records of a transaction and organization.
pub(in crate::spool) struct Copy<'a> {
    pub(in crate::spool) id: RecordId,
    pub(in crate::spool) archive: &'a str,
    pub(in crate::spool) standing: &'a Standing,
}

impl Copy<'_> {
    fn is_taken(&self) -> bool {
        is_taken(std::iter::once(self.standing))
    }
}

/// Where a delivered copy is sent again: `to`, or where it went, if that is still among `archives`, or to the first of them. None
/// where another copy stands for it.
pub(in crate::spool) fn destination(
    this: &Copy<'_>,
    others: Vec<Copy<'_>>,
    to: Option<&str>,
    archives: &[String],
) -> Option<String> {
    if let Some(to) = to {
        // The first that was taken stands for all, unless that archive is still to get its own.
        let on_its_way = |other: &Copy<'_>| other.archive == to && other.standing.ended.is_none();
        let first = |other: &Copy<'_>| other.id < this.id && other.is_taken();
        let another = others.iter().any(|other| on_its_way(other) || first(other));
        return (this.is_taken() && !another).then(|| to.to_owned());
    }
    let is_configured = |copy: &Copy<'_>| archives.iter().any(|key| key == copy.archive);
    if !this.is_taken() {
        return None;
    }
    if is_configured(this) {
        return Some(this.archive.to_owned());
    }
    // One that went to an archive which is gone: the first of those, if no archive that is left has had the record.
    let another = others.iter().any(|other| is_configured(other) || (other.id < this.id && other.is_taken()));
    archives.first().filter(|_| !another).cloned()
}

/// Whether a record may be sent on that waits for an archive which is gone: not while it is being sent, before its verdict, or
/// against the will of an operator who holds it.
pub(in crate::spool) fn may_follow(standing: &Standing) -> bool {
    is_dispensable(standing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archives(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    fn standing(state: State, reason: Option<&str>) -> Standing {
        Standing { state, reason: reason.map(str::to_owned), ..Standing::prepared() }
    }

    fn followed(others: &[(&str, Standing)], keys: &[&str]) -> Followed {
        follow(others.iter().map(|(key, standing)| (*key, standing)), &archives(keys))
    }

    fn to(key: &str) -> Followed {
        Followed::To(key.to_owned())
    }

    #[test]
    fn a_copy_without_archive_goes_to_the_first_one_that_has_none() {
        let at = |key, state| [(key, standing(state, None))];
        assert_eq!(followed(&[], &["new"]), to("new"), "the only archive has moved");
        assert_eq!(followed(&at("new", State::Waiting), &["new"]), Followed::Superseded);
        assert_eq!(followed(&at("new", State::Acked), &["new", "third"]), to("third"));
        assert_eq!(followed(&at("also", State::Sending), &["new", "also"]), to("new"));
    }

    #[test]
    fn a_copy_that_no_archive_took_is_no_reason_to_let_another_go() {
        assert_eq!(followed(&[("new", standing(State::Discarded, Some("sent twice")))], &["new"]), to("new"));
        assert_eq!(followed(&[("new", standing(State::Acked, Some(ARCHIVE_GONE)))], &["new"]), to("new"));
    }
}
