//! How many recipients one transaction may have: as many as we and the next hop take (LIMITS, RFC 9422). What is more is
//! refused here, with the reply that makes clients send the rest in another transaction (RFC 5321, section 4.5.3.1.10).

use crate::config::Limits as ClientLimits;
use crate::mail::{Address, Reply, ascii_domain};
use crate::smtp::{Extensions, Limits};
use std::collections::BTreeSet;

/// Recipients that were passed on.
#[derive(Debug, Default)]
pub(super) struct Asked {
    count: u64,
    /// Their domains, where the next hop limits them; no more than recipients.
    domains: BTreeSet<String>,
}

impl Asked {
    /// Whether there was none.
    pub(super) fn is_none(&self) -> bool {
        self.count == 0
    }

    /// Counts another recipient, unless it is one too many for a connection with these limits.
    pub(super) fn count(&mut self, recipient: &Address, limits: Limits) -> Result<(), Reply> {
        if limits.rcpt_max.is_some_and(|limit| self.count >= limit) {
            return Err(Reply::new(452, "4.5.3 too many recipients, send the others separately"));
        }
        if let Some(limit) = limits.rcpt_domain_max {
            let domain = ascii_domain(recipient.domain().unwrap_or_default()).to_ascii_lowercase();
            if !self.domains.contains(&domain) && self.domains.len() as u64 >= limit {
                return Err(Reply::new(452, "4.5.3 recipients of too many domains, send the others separately"));
            }
            self.domains.insert(domain);
        }
        self.count += 1;
        Ok(())
    }
}

/// What a client is told: the smaller of our limit and the next hop's. How many transactions a connection has is between us
/// and the next hop.
pub(in super::super) fn recipient_limits(next_hop: &Extensions, ours: &ClientLimits) -> Limits {
    let ours = u64::from(ours.recipients.get());
    let theirs = next_hop.limits;
    Limits {
        mail_max: None,
        rcpt_max: Some(theirs.rcpt_max.map_or(ours, |theirs| theirs.min(ours))),
        rcpt_domain_max: theirs.rcpt_domain_max,
    }
}
