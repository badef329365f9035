//! What waits, one row for each organization: the table of the page and of `journal-relay status`.

use super::status::Line;
use crate::queue::State;
use std::collections::BTreeMap;
use std::time::Duration;

/// An organization with what waits of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its switch; none: the configuration has it no more.
    pub journaling: Option<bool>,
    /// Why the switch was turned last.
    pub reason: Option<String>,
    /// Records to be sent, those of messages on their way included.
    pub waiting: u64,
    /// Records being sent.
    pub sending: u64,
    /// Records that will be tried again.
    pub deferred: u64,
    /// Records that wait for somebody to act.
    pub failed: u64,
    /// Records that somebody keeps back.
    pub held: u64,
    /// Age of the oldest, in whatever state.
    pub oldest: Option<Duration>,
}

/// The organizations in the order of the configuration, then those that it has no more.
pub fn standings(lines: &[Line]) -> Vec<Standing> {
    let mut standings: Vec<Standing> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        let name = match line {
            Line::Organization(switch) => switch.name.as_str(),
            Line::Queue(queue) => queue.organization.as_str(),
            _ => continue,
        };
        let place = *places.entry(name).or_insert(standings.len());
        if place == standings.len() {
            standings.push(Standing { name: name.to_owned(), ..Standing::default() });
        }
        let Some(standing) = standings.get_mut(place) else { continue };
        match line {
            Line::Organization(switch) => {
                standing.journaling = Some(switch.journaling);
                standing.reason.clone_from(&switch.reason);
            }
            Line::Queue(queue) => {
                let count = match queue.state {
                    State::Prepared | State::Waiting => &mut standing.waiting,
                    State::Sending => &mut standing.sending,
                    State::Deferred => &mut standing.deferred,
                    State::Failed => &mut standing.failed,
                    State::Held => &mut standing.held,
                    State::Acked | State::Discarded => continue,
                };
                *count = count.saturating_add(queue.count);
                standing.oldest = standing.oldest.max(Some(Duration::from_secs(queue.oldest_seconds)));
            }
            _ => {}
        }
    }
    standings
}

#[cfg(test)]
mod tests {
    use super::super::status::{Queue, Switch};
    use super::*;

    #[test]
    fn each_organization_has_a_row_also_one_that_is_gone_from_the_configuration() {
        let queue = |organization: &str, state, count, oldest_seconds| {
            let (organization, oldest) = (organization.to_owned(), String::new());
            Line::Queue(Queue { organization, state, count, oldest, oldest_seconds })
        };
        let switch = Switch { name: "acme".into(), journaling: true, reason: None };
        let lines = [
            Line::Organization(switch),
            queue("acme", State::Prepared, 1, 5),
            queue("acme", State::Waiting, 2, 7),
            queue("acme", State::Failed, 3, 90),
            queue("gone", State::Held, 4, 1),
        ];
        let acme = Standing {
            name: "acme".into(),
            journaling: Some(true),
            waiting: 3,
            failed: 3,
            oldest: Some(Duration::from_secs(90)),
            ..Standing::default()
        };
        let gone =
            Standing { name: "gone".into(), held: 4, oldest: Some(Duration::from_secs(1)), ..Standing::default() };
        assert_eq!(standings(&lines), [acme, gone]);
    }
}
