//! Times in which an organization's journaling was switched off, in memory.

use super::Everything;
use crate::spool::{Pause, Switched};

impl Everything {
    pub(super) fn switched(&mut self, switched: Switched) {
        let Switched { organization, turn, journaling } = switched;
        let open = self.pauses.iter_mut().find(|pause| pause.organization == organization && pause.on.is_none());
        match open {
            Some(pause) if journaling => pause.on = Some(turn),
            None if !journaling => self.pauses.push(Pause { organization, off: turn, on: None }),
            _ => {}
        }
    }

    pub(super) fn last_pauses(&self, limit: usize) -> Vec<Pause> {
        self.pauses.iter().skip(self.pauses.len().saturating_sub(limit)).cloned().collect()
    }
}
