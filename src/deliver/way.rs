//! Where something goes, by a configuration: found once for each archive, and again when the configuration is another one.

use super::circuits::Line;
use super::letter::Letter;
use super::office::Freight;
use super::post;
use super::verdict::Verdict;
use crate::config::{Config, Organization, Route};
use crate::journal::{self, MacKey, ReportContext};
use crate::mail::{Address, ReversePath};
use crate::spool::{Archive, Claim, ReportClaim};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a way that took something counts as one that takes.
const FLOWING: Duration = Duration::from_secs(60);

/// The ways found so far.
#[derive(Default)]
pub(super) struct Ways(Mutex<BTreeMap<Freight, BTreeMap<Archive, Arc<Way>>>>);

impl Ways {
    /// The way of `freight` for `archive` by `config`; none where that has no such archive.
    pub(super) fn find(&self, config: &Arc<Config>, archive: &Archive, freight: Freight) -> Option<Arc<Way>> {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ways.entry(freight).or_default();
        if let Some(way) = known.get(archive).filter(|way| Arc::ptr_eq(&way.config, config)) {
            return Some(Arc::clone(way));
        }
        // Those of a former configuration are of no use any more.
        known.retain(|_, way| Arc::ptr_eq(&way.config, config));
        let way = Arc::new(Way::new(config, archive, freight)?);
        known.insert(archive.clone(), Arc::clone(&way));
        Some(way)
    }
}

/// Where something goes, by the configuration of the moment.
pub(super) struct Way {
    pub(super) route: Route,
    pub(super) forward_path: Address,
    pub(super) organization: Organization,
    pub(super) config: Arc<Config>,
    line: Line,
    /// When what was sent last was taken, if it was.
    taken: Mutex<Option<Instant>>,
}

impl Way {
    fn new(config: &Arc<Config>, archive: &Archive, freight: Freight) -> Option<Self> {
        let organization = config.organization(&archive.organization)?.clone();
        let (forward_path, route) = match freight {
            Freight::Records => organization.archive(&archive.key)?,
            Freight::Reports => (&organization.report_address, &organization.report_route),
        };
        let (forward_path, route) = (forward_path.clone(), route.clone());
        let line = Line::new(post::label(&route, &forward_path), &organization.name, freight.as_str());
        Some(Self { route, forward_path, organization, config: Arc::clone(config), line, taken: Mutex::default() })
    }

    /// Whether what was sent last, by whichever connection, was taken, and not long ago.
    pub(super) fn flows(&self) -> bool {
        let taken = *self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.is_some_and(|at| at.elapsed() < FLOWING)
    }

    pub(super) fn note(&self, verdict: &Verdict) {
        let taken = matches!(verdict, Verdict::Accepted { .. }).then(Instant::now);
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = taken;
    }

    /// What the route is called.
    pub(super) fn label(&self) -> &str {
        self.line.route()
    }

    /// What circuits know it by.
    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// A record as it is sent now.
    pub(super) fn record_letter(&self, claim: &Claim, key: MacKey) -> Letter {
        let (sender, address) = (self.organization.sender.clone(), self.forward_path.clone());
        let fields = Arc::clone(&claim.fields);
        Letter {
            is_trial: false,
            id: fields.id,
            reverse_path: ReversePath::Address(sender.clone()),
            forward_path: address.clone(),
            original: Some(claim.octets.clone()).into(),
            render: Box::new(move |offers| journal::render(&fields, &sender, &address, offers, Some(&key)).into()),
        }
    }

    /// A report as it is sent now.
    pub(super) fn report_letter(&self, claim: &ReportClaim, key: MacKey) -> Letter {
        let (fields, config) = (claim.fields.clone(), Arc::clone(&self.config));
        let (organization, record) =
            (self.organization.clone(), claim.record.as_ref().map(|(record, _)| record.clone()));
        let render = move |offers| {
            let context = ReportContext {
                hostname: &config.hostname,
                sender: &organization.sender,
                report_address: &organization.report_address,
                journaling_address: &organization.journaling_address,
                key: &key,
                give_up: config.retry.give_up,
            };
            journal::render_report(&fields, record.as_ref(), &context, offers).into()
        };
        Letter {
            is_trial: false,
            id: claim.fields.id,
            // RFC 3464, section 2: a notification is never answered by another.
            reverse_path: ReversePath::Null,
            forward_path: self.forward_path.clone(),
            original: claim.record.as_ref().map(|(_, octets)| octets.clone()).into(),
            render: Box::new(render),
        }
    }
}
