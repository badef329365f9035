//! Whether a transaction's recipients need a record of their own, when the same message has been seen before.
//!
//! Decides by mailboxes alone; what a record is and where it is kept is the caller's. Two addresses count as one mailbox as
//! [`Address::same_mailbox`] says, compared through a normalised text so that thousands of recipients stay cheap.

use crate::mail::Address;
use std::collections::HashSet;

/// An earlier record of the same message and organization.
#[derive(Debug, Clone)]
pub struct Earlier<'a> {
    /// Whom it names.
    pub recipients: Vec<&'a Address>,
    /// Whether its recipients may still change: it waits, is not held and its window has not ended.
    pub open: bool,
}

/// What becomes of a transaction's record. Numbers are places in the lists that were passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// It gets a record of its own.
    Own,
    /// Its new recipients (perhaps none) join this earlier record.
    Join {
        /// Which earlier record.
        earlier: usize,
        /// Which recipients are new, in order of first appearance.
        added: Vec<usize>,
    },
    /// All its recipients are named by earlier records, the first of which is this one: it needs no record.
    Known {
        /// Which earlier record.
        earlier: usize,
    },
    /// It gets a record that names only these recipients and refers to this first one.
    Supplement {
        /// Which earlier record.
        earlier: usize,
        /// Which recipients are new, in order of first appearance.
        added: Vec<usize>,
    },
}

/// Decides about `recipients`, given the `earlier` records, oldest first.
///
/// Without a Message-ID (`has_message_id` is false) equal content may well be another message: then only an open record is
/// joined, and nothing is left out because of closed ones. One record too many is better than one too few.
pub fn merge(recipients: &[&Address], earlier: &[Earlier<'_>], has_message_id: bool) -> Merge {
    if earlier.is_empty() {
        return Merge::Own;
    }
    let open = earlier.iter().position(|record| record.open);
    let known = earlier
        .iter()
        .enumerate()
        .filter(|(place, _)| has_message_id || Some(*place) == open)
        .flat_map(|(_, record)| record.recipients.iter());
    let added = new_ones(recipients, known.copied());
    match (open, !has_message_id) {
        (Some(earlier), _) => Merge::Join { earlier, added },
        (None, true) => Merge::Own,
        (None, false) if added.is_empty() => Merge::Known { earlier: 0 },
        (None, false) => Merge::Supplement { earlier: 0, added },
    }
}

/// Whether two lists name the same mailboxes, in whatever order and however often.
pub fn same_mailboxes(one: &[&Address], two: &[&Address]) -> bool {
    new_ones(one, two.iter().copied()).is_empty() && new_ones(two, one.iter().copied()).is_empty()
}

/// The places of the mailboxes that are not among `known`, each once.
fn new_ones<'a>(recipients: &[&Address], known: impl Iterator<Item = &'a Address>) -> Vec<usize> {
    let mut seen: HashSet<_> = known.map(Address::mailbox).collect();
    let places = recipients.iter().enumerate().filter(|(_, address)| seen.insert(address.mailbox()));
    places.map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::parse(text).unwrap()).collect()
    }

    /// `(open, recipients)` for each earlier record.
    fn decide(new: &[&str], earlier: &[(bool, &[&str])], has_message_id: bool) -> Merge {
        let new = addresses(new);
        let kept: Vec<_> = earlier.iter().map(|(open, texts)| (*open, addresses(texts))).collect();
        let earlier: Vec<_> =
            kept.iter().map(|(open, list)| Earlier { recipients: list.iter().collect(), open: *open }).collect();
        merge(&new.iter().collect::<Vec<_>>(), &earlier, has_message_id)
    }

    #[test]
    fn the_first_of_its_kind_gets_its_own_record() {
        assert_eq!(decide(&["a@x.example"], &[], true), Merge::Own);
    }

    #[test]
    fn new_recipients_join_an_open_record_once_and_in_their_order() {
        let merge = decide(
            &["c@x.example", "A@x.example", "\"c\"@X.example", "a@X.EXAMPLE", "b@x.example"],
            &[(true, &["a@x.example"])],
            true,
        );
        assert_eq!(merge, Merge::Join { earlier: 0, added: vec![0, 1, 4] });
    }

    #[test]
    fn known_recipients_join_an_open_record_without_adding() {
        let merge = decide(&["a@x.example"], &[(true, &["a@x.example"])], true);
        assert_eq!(merge, Merge::Join { earlier: 0, added: vec![] });
    }

    #[test]
    fn what_a_closed_record_names_is_not_added_to_an_open_one() {
        let earlier: &[(bool, &[&str])] = &[(false, &["a@x.example"]), (true, &["b@x.example"])];
        let merge = decide(&["a@x.example", "c@x.example"], earlier, true);
        assert_eq!(merge, Merge::Join { earlier: 1, added: vec![1] });
    }

    #[test]
    fn recipients_known_to_closed_records_together_need_no_record() {
        let earlier: &[(bool, &[&str])] = &[(false, &["a@x.example"]), (false, &["b@x.example"])];
        assert_eq!(decide(&["b@x.example", "a@x.example"], earlier, true), Merge::Known { earlier: 0 });
    }

    #[test]
    fn new_recipients_after_the_window_get_a_supplement_of_their_own() {
        let merge = decide(&["a@x.example", "b@x.example"], &[(false, &["a@x.example"])], true);
        assert_eq!(merge, Merge::Supplement { earlier: 0, added: vec![1] });
    }

    #[test]
    fn without_a_message_id_only_an_open_record_counts() {
        assert_eq!(decide(&["a@x.example"], &[(false, &["a@x.example"])], false), Merge::Own);
        let earlier: &[(bool, &[&str])] = &[(false, &["a@x.example"]), (true, &["b@x.example"])];
        assert_eq!(decide(&["a@x.example", "b@x.example"], earlier, false), Merge::Join { earlier: 1, added: vec![0] });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn the_normalised_text_agrees_with_same_mailbox(
            one in "(a|A|\"a\"|\"\\\\a\"|b)@(x|X|例え|xn--r8jz45g)\\.example\\.?",
            two in "(a|A|\"a\"|\"\\\\a\"|b)@(x|X|例え|xn--r8jz45g)\\.example\\.?",
        ) {
            let (one, two) = (Address::parse(&one).unwrap(), Address::parse(&two).unwrap());
            prop_assert_eq!(one.mailbox() == two.mailbox(), one.same_mailbox(&two));
        }
    }
}
