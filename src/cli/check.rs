//! `check`: is the configuration sound, and what does it mean.

use super::Failure;
use super::output::{print, table};
use crate::config::Config;
use std::path::Path;

/// Prints what the configuration says.
///
/// # Errors
/// [`Failure::Config`] with every mistake found.
pub(super) fn check(file: &Path) -> Result<(), Failure> {
    let config = Config::load(file)?;
    let mut rows = vec![vec!["hostname".to_owned(), config.hostname.clone()]];
    rows.push(vec!["spool".into(), config.spool.path.display().to_string()]);
    for listener in &config.listeners {
        rows.push(vec![
            "listener".into(),
            format!("{} on {} → {}", listener.name, listener.address, listener.next_hop),
        ]);
    }
    for organization in &config.organizations {
        let domains: Vec<String> = organization.domains.iter().map(|domain| domain.as_text()).collect();
        let journal = if organization.journaling {
            format!("records to {} by {}", organization.journaling_address, organization.journaling_route)
        } else {
            "journaling is switched off".to_owned()
        };
        rows.push(vec!["organization".into(), format!("{} ({}): {journal}", organization.name, domains.join(", "))]);
        let reports = format!("reports to {} by {}", organization.report_address, organization.report_route);
        rows.push(vec![String::new(), reports]);
    }
    rows.push(vec!["ok".into(), format!("{} is sound", file.display())]);
    Ok(print(table(&rows).as_bytes())?)
}
