//! Records of one transaction and organization that go to several archives: copies. Each is tried, retried, failed and
//! reported by itself; they have one Message-ID, one boundary and one Date, and so differ in nothing but their address, their
//! id and the seal over both.
//!
//! Promises: copies are sealed together, so that no archive gets recipients under a Message-ID which another one got without
//! them; of copies of which one is enough none counts as delivered before an archive has taken one; when an archive is taken
//! out of the configuration its copies go to one that lacks them, and count as delivered only where none does.

use super::{Kept, MessageUuid};
use crate::queue::{Standing, State};

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
            other.fields.date = first.fields.date;
            other.fields.message_uuid = message_uuid(&other.fields);
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

/// What becomes of a copy whose archive is not among `archives`, the keys of the configuration in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::spool) enum Followed {
    /// It goes to this archive.
    To(String),
    /// It counts as delivered.
    Superseded,
}

/// Decides about a copy that is not being sent; `others` are the archives and states of the other copies.
pub(in crate::spool) fn follow(others: &[(String, State)], archives: &[String]) -> Followed {
    // What an operator gave up stands for nothing.
    let has = |key: &String| others.iter().any(|(archive, state)| archive == key && *state != State::Discarded);
    archives.iter().find(|key| !has(key)).map_or(Followed::Superseded, |key| Followed::To(key.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archives(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    fn others(copies: &[(&str, State)]) -> Vec<(String, State)> {
        copies.iter().map(|(key, state)| ((*key).to_owned(), *state)).collect()
    }

    #[test]
    fn a_copy_without_archive_goes_to_the_first_one_that_has_none() {
        let to = |key: &str| Followed::To(key.to_owned());
        assert_eq!(follow(&[], &archives(&["new"])), to("new"), "the only archive has moved");
        assert_eq!(follow(&others(&[("new", State::Waiting)]), &archives(&["new"])), Followed::Superseded);
        assert_eq!(follow(&others(&[("new", State::Acked)]), &archives(&["new", "third"])), to("third"));
        assert_eq!(follow(&others(&[("also", State::Sending)]), &archives(&["new", "also"])), to("new"));
    }

    #[test]
    fn a_copy_that_an_operator_gave_up_is_no_reason_to_let_another_go() {
        let copies = others(&[("new", State::Discarded)]);
        assert_eq!(follow(&copies, &archives(&["new"])), Followed::To("new".to_owned()));
    }
}
