//! Octets in memory, and what becomes of them with their records.

use super::Everything;
use crate::spool::Octets;
use crate::spool::life::Kept;
use std::collections::HashSet;

impl Everything {
    pub(super) fn octets(&self, kept: &Kept) -> Option<Octets> {
        let octets = self.messages.get(&kept.fields.original.queue_id)?;
        Some(Octets::Inline(octets.clone()))
    }

    /// Octets stay while a record refers to them that is live, or kept to be sent again.
    pub(super) fn forget_octets(&mut self) {
        let is_needed = |kept: &&Kept| kept.standing.ended.is_none() || self.retained.contains(&kept.fields.id);
        let live = self.records.values().filter(is_needed);
        let live: HashSet<_> = live.map(|kept| kept.fields.original.queue_id).collect();
        self.messages.retain(|queue_id, _| live.contains(queue_id));
    }
}
