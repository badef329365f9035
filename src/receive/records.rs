//! From an envelope and what was seen of the octets to the records a message gets: one for each organization concerned
//! that journals it.

use super::policy::{Journaling, concerns, named_recipients};
use crate::config::{Config, DeliveredWhen, Direction, Organization};
use crate::journal::{HeaderFacts, Observation, RecordFields, Relayed, label_recipients, original};
use crate::mail::{Address, Entropy, QueueId, RecordId, ReversePath, Timestamp};
use crate::spool::{Copies, RecordDraft};
use std::sync::Arc;
use uuid::Uuid;

/// Who sent a message to whom, and when its last octet had come.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The relayed message.
    pub queue_id: QueueId,
    /// When its last octet had arrived.
    pub received: Timestamp,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// The recipients that the next hop accepted, in RCPT order.
    pub recipients: Vec<Address>,
    /// As whom the client has authenticated.
    pub login: Option<String>,
}

/// The configuration of a transaction, with the switches on that have been turned on since it began: its message arrives when
/// the gap is over, and nobody must find it missing.
pub(super) fn switched_on(began: &Arc<Config>, current: &Arc<Config>) -> Arc<Config> {
    let is_on = |name: &str| current.organizations.iter().any(|now| now.name == name && now.journaling);
    let is_late = |config: &Config| config.organizations.iter().any(|of| !of.journaling && is_on(&of.name));
    if Arc::ptr_eq(began, current) || !is_late(began) {
        return Arc::clone(began);
    }
    let mut config = Config::clone(began);
    config.organizations.iter_mut().for_each(|of| of.journaling |= is_on(&of.name));
    Arc::new(config)
}

/// The records of a message, in the order of the configuration, each followed by its copies for further archives. An organization that is concerned and does not journal
/// the message is logged with the rule that says so.
pub fn draft_records(
    config: &Config,
    envelope: &Envelope,
    observation: &Observation,
    facts: &HeaderFacts,
    entropy: &dyn Entropy,
) -> Vec<RecordDraft> {
    let author = facts.from.as_deref().and_then(|from| Address::parse(from).ok());
    let concerned = concerns(config, &envelope.reverse_path, author.as_ref(), &envelope.recipients);
    let mut drafts = Vec::with_capacity(concerned.len());
    for concern in concerned {
        let organization = concern.organization;
        if concern.verdict != Journaling::Yes {
            tracing::info!(
                event = "record.exempt",
                queue_id = %envelope.queue_id,
                organization = %organization.name,
                direction = concern.direction.as_str(),
                rule = concern.verdict.rule(),
                "a message gets no record by the configuration"
            );
            continue;
        }
        let named = named_recipients(config, &concern, &envelope.recipients);
        let relayed = Relayed {
            queue_id: envelope.queue_id,
            received: envelope.received,
            reverse_path: envelope.reverse_path.clone(),
            login: envelope.login.clone(),
        };
        let first = RecordFields {
            id: RecordId::new(envelope.received, entropy),
            organization: organization.name.clone(),
            original: original(observation, facts, relayed),
            recipients: label_recipients(facts, named, organization.unlisted_recipients),
            copy_of: None,
            replay: None,
            message_uuid: Uuid::nil(),
            boundary: random_uuid(entropy),
            date: envelope.received,
            outcome_unknown: false,
            supplements: None,
            retry_came: false,
            owed: Vec::new(),
        };
        drafts.extend(copies(organization, first, entropy));
    }
    drafts
}

/// A record for each archive of the organization: the first one, and copies of it.
fn copies(organization: &Organization, first: RecordFields, entropy: &dyn Entropy) -> Vec<RecordDraft> {
    let copies = match (organization.also.is_empty(), organization.delivered_when) {
        (true, _) => Copies::Alone,
        (false, DeliveredWhen::All) => Copies::EachIsNeeded,
        (false, DeliveredWhen::Any) => Copies::OneIsEnough,
    };
    let draft = |fields, archive| RecordDraft { fields, coalesce: organization.coalesce, archive, copies };
    let mut archives = organization.archive_keys();
    let Some(archive) = archives.next() else { return Vec::new() };
    let mut drafts = vec![draft(first, archive)];
    for archive in archives {
        let Some(RecordDraft { fields: first, .. }) = drafts.first() else { break };
        let (id, copy_of) = (RecordId::new(first.original.received, entropy), Some(first.id));
        drafts.push(draft(RecordFields { id, copy_of, ..first.clone() }, archive));
    }
    drafts
}

/// Which way a message goes, from the view of the first organization that it concerns, in the order of the configuration.
pub(super) fn direction(config: &Config, envelope: &Envelope, facts: &HeaderFacts) -> Option<Direction> {
    let author = facts.from.as_deref().and_then(|from| Address::parse(from).ok());
    let concerned = concerns(config, &envelope.reverse_path, author.as_ref(), &envelope.recipients);
    concerned.first().map(|concern| concern.direction)
}

/// A version 4 UUID. Drawn once the octets are in: nobody can have written the boundary into the message.
pub(super) fn random_uuid(entropy: &dyn Entropy) -> Uuid {
    let mut chance = [0; 16];
    entropy.fill(&mut chance);
    uuid::Builder::from_random_bytes(chance).into_uuid()
}
