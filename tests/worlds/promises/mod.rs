//! The seven promises, checked after every run. One function, [`check`]; each complaint names the promise and what broke it.
//!
//! The checker knows what clients, servers and the spool saw and nothing of how the relay works, but for the rules by which
//! the transactions of one message share a record.

mod exact;
mod facts;
mod gaps;
mod honest;
mod kept;
mod once;
mod operator;
mod quiet;
mod returns;
#[cfg(test)]
mod tests;

use super::history::History;
use facts::Facts;
pub use facts::excuse;
pub use returns::came_back;

/// Everything that is not as promised.
pub fn check(history: &History) -> Vec<String> {
    let mut complaints: Vec<String> = history.broken.clone();
    let facts = match Facts::of(history) {
        Ok(facts) => facts,
        Err(wrong) => {
            complaints.extend(wrong);
            return complaints;
        }
    };
    kept::journaled_before_released(&facts, &mut complaints);
    kept::kept(&facts, &mut complaints);
    operator::obeyed(&facts, &mut complaints);
    returns::returns(&facts, &mut complaints);
    gaps::gaps(&facts, &mut complaints);
    once::once(&facts, &mut complaints);
    exact::exact(&facts, &mut complaints);
    quiet::quiet(&facts, &mut complaints);
    honest::honest(&facts, &mut complaints);
    quiet::bounded(&facts, &mut complaints);
    complaints
}
