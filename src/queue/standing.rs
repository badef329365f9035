//! Where an entry stands, as storage keeps it, and every move it can make.
//!
//! One value holds what a spool must remember of an entry's life besides the record itself; a move is a method that either
//! changes the value or says in words why not. Storage loads it, lets it move and stores it in one transaction, so that
//! all spools agree.

use super::{State, Status};
use crate::mail::Timestamp;

/// How the last reply of an entry begins whose octets are gone or cut. No server's reply begins so, but with a code.
pub const OCTETS_LOST: &str = "the spool's octets: ";

/// Why an entry did not move: a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmoved(pub String);

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Standing {
    /// Where it is, were it not held; never [`State::Held`].
    pub state: State,
    /// [`State::Waiting`] or [`State::Deferred`]: where a record that is being sent came from.
    pub before: State,
    /// Kept from being sent by an operator.
    pub held: bool,
    /// Recipients, Message-ID and Date are fixed.
    pub sealed: bool,
    /// Attempts begun.
    pub attempts: u32,
    /// When it is or was to be tried; for an unsealed record the end of its window.
    pub next_attempt: Option<Timestamp>,
    /// What was said last.
    pub last_reply: Option<String>,
    /// An operator wants an attempt now, whatever is known of the route.
    pub urged: bool,
    /// Why it was discarded, or why it counts as delivered though its archive did not take it.
    pub reason: Option<String>,
    /// When it became history.
    pub ended: Option<Timestamp>,
}

impl Standing {
    /// Durable, without a verdict.
    pub fn prepared() -> Self {
        Self {
            state: State::Prepared,
            before: State::Waiting,
            held: false,
            sealed: false,
            attempts: 0,
            next_attempt: None,
            last_reply: None,
            urged: false,
            reason: None,
            ended: None,
        }
    }

    /// What the world sees.
    pub fn status(&self) -> Status {
        Status {
            state: self.visible(),
            attempts: self.attempts,
            next_attempt: self.due(),
            last_reply: self.last_reply.clone(),
        }
    }

    /// The state the world sees: a held entry is held unless it is still being sent, not decided, or over.
    pub fn visible(&self) -> State {
        match self.state {
            State::Waiting | State::Deferred | State::Failed if self.held => State::Held,
            state => state,
        }
    }

    /// When it may be claimed; none where no attempt is planned.
    pub fn due(&self) -> Option<Timestamp> {
        if matches!(self.visible(), State::Waiting | State::Deferred) { self.next_attempt } else { None }
    }

    /// Whether recipients may still join at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        !self.sealed && self.visible() == State::Waiting && self.next_attempt.is_some_and(|end| now < end)
    }

    /// The next hop took the message: the record waits until its window ends.
    pub fn commit(&mut self, window_end: Timestamp) {
        self.state = State::Waiting;
        self.next_attempt = Some(window_end);
    }

    /// An attempt begins.
    pub fn claim(&mut self) {
        self.before = self.state;
        self.state = State::Sending;
        self.sealed = true;
        self.urged = false;
        self.attempts = self.attempts.saturating_add(1);
    }

    /// The attempt did not begin after all.
    pub fn unclaim(&mut self) -> Result<(), Unmoved> {
        self.must_be_sending()?;
        self.state = self.before;
        self.attempts = self.attempts.saturating_sub(1);
        Ok(())
    }

    /// The attempt ended without a word, with the process that made it: due again, the attempt stays counted.
    pub fn forget_attempt(&mut self) {
        if self.state == State::Sending {
            self.state = self.before;
        }
    }

    /// The archive took it.
    pub fn acked(&mut self, reply: String, now: Timestamp) -> Result<(), Unmoved> {
        self.must_be_sending()?;
        self.last_reply = Some(reply);
        self.end(State::Acked, now);
        Ok(())
    }

    /// Not now.
    pub fn deferred(&mut self, reply: String, next_attempt: Timestamp) -> Result<(), Unmoved> {
        self.must_be_sending()?;
        self.state = State::Deferred;
        self.last_reply = Some(reply);
        self.next_attempt = Some(next_attempt);
        Ok(())
    }

    /// Never.
    pub fn failed(&mut self, reply: String) -> Result<(), Unmoved> {
        self.must_be_sending()?;
        self.damaged(reply);
        Ok(())
    }

    /// It can't be sent at all, for a reason on our side: kept as failed, whatever it was.
    pub fn damaged(&mut self, reply: String) {
        self.state = State::Failed;
        self.last_reply = Some(reply);
        self.next_attempt = None;
    }

    /// Whether it is failed because its octets are not there: it stands for nothing that could still be sent.
    pub fn is_damaged(&self) -> bool {
        let lost = |reply: &String| reply.starts_with(OCTETS_LOST);
        self.state == State::Failed && self.last_reply.as_ref().is_some_and(lost)
    }

    /// A server that had taken it gave it back: kept as failed, held if it was. `reply` tells of it. False when nothing
    /// follows: it is failed and was reported, or an operator has given it up.
    pub fn bounced(&mut self, reply: String) -> Result<bool, Unmoved> {
        match self.state {
            State::Failed | State::Discarded => return Ok(false),
            State::Sending => return Err(Unmoved("being sent right now".to_owned())),
            State::Acked => {}
            _ if self.attempts > 0 => {}
            state => return Err(Unmoved(format!("{state}, and was never sent"))),
        }
        self.damaged(reply);
        self.ended = None;
        Ok(true)
    }

    /// It counts as delivered though its archive did not take it, for this reason. A move of what waits, has failed or whose
    /// attempt has just ended otherwise.
    pub fn superseded(&mut self, reason: String, now: Timestamp) -> Result<(), Unmoved> {
        self.must_be_live()?;
        self.reason = Some(reason);
        self.end(State::Acked, now);
        Ok(())
    }

    /// An operator wants it tried now. Its window, if still open, ends.
    pub fn retry(&mut self, now: Timestamp) -> Result<(), Unmoved> {
        self.must_be_free("being sent right now")?;
        if self.held {
            return Err(Unmoved("held: release it first, then retry it".to_owned()));
        }
        self.state = State::Waiting;
        self.next_attempt = Some(now);
        self.urged = true;
        Ok(())
    }

    /// Another entry that an operator wants tried stands for this one as well.
    pub fn calm(&mut self) {
        self.urged = false;
    }

    /// What it waited for is there: a deferred entry is due now.
    pub fn hurry(&mut self, now: Timestamp) {
        if self.visible() == State::Deferred {
            self.next_attempt = self.next_attempt.map(|then| then.min(now));
        }
    }

    /// Its time was over while it waited for its route: kept as failed.
    pub fn give_up(&mut self, reply: String) -> Result<(), Unmoved> {
        match self.visible() {
            State::Waiting | State::Deferred => {
                self.damaged(reply);
                Ok(())
            }
            state => Err(Unmoved(format!("{state}, not waiting"))),
        }
    }

    /// An operator keeps it; an attempt under way ends first.
    pub fn hold(&mut self) -> Result<(), Unmoved> {
        self.must_be_live()?;
        self.held = true;
        Ok(())
    }

    /// An operator lets it go on where it was.
    pub fn release(&mut self) -> Result<(), Unmoved> {
        self.must_be_live()?;
        self.held = false;
        Ok(())
    }

    /// An operator gives it up.
    pub fn discard(&mut self, reason: String, now: Timestamp) -> Result<(), Unmoved> {
        self.must_be_free("being sent right now; hold it first, and discard it when the attempt has ended")?;
        self.reason = Some(reason);
        self.end(State::Discarded, now);
        Ok(())
    }

    fn end(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.held = false;
        self.urged = false;
        self.next_attempt = None;
        self.ended = Some(now);
    }

    fn must_be_sending(&self) -> Result<(), Unmoved> {
        match self.state {
            State::Sending => Ok(()),
            state => Err(Unmoved(format!("{state}, not being sent: the result of an attempt does not apply"))),
        }
    }

    fn must_be_free(&self, sending: &str) -> Result<(), Unmoved> {
        self.must_be_live()?;
        if self.state == State::Sending { Err(Unmoved(sending.to_owned())) } else { Ok(()) }
    }

    fn must_be_live(&self) -> Result<(), Unmoved> {
        match self.state {
            State::Prepared => Err(Unmoved("prepared: the next hop has not answered for its message yet".to_owned())),
            State::Acked => Err(Unmoved("acked already: the archive has it".to_owned())),
            State::Discarded => Err(Unmoved("discarded already".to_owned())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_794_304_800_000);
    const LATER: Timestamp = Timestamp::from_millis(1_794_304_900_000);

    fn waiting() -> Standing {
        let mut standing = Standing::prepared();
        standing.commit(LATER);
        standing
    }

    fn sending() -> Standing {
        let mut standing = waiting();
        standing.claim();
        standing
    }

    fn of(state: State) -> Standing {
        let mut standing = sending();
        match state {
            State::Prepared => return Standing::prepared(),
            State::Waiting => return waiting(),
            State::Held => {
                standing = waiting();
                standing.hold().unwrap();
            }
            State::Sending => {}
            State::Deferred => standing.deferred("451 later".into(), LATER).unwrap(),
            State::Failed => standing.failed("550 no".into()).unwrap(),
            State::Acked => standing.acked("250 ok".into(), NOW).unwrap(),
            State::Discarded => {
                standing.unclaim().unwrap();
                standing.discard("test".into(), NOW).unwrap();
            }
        }
        standing
    }

    #[test]
    fn operators_move_exactly_what_may_move() {
        use State::*;
        for state in State::ALL {
            assert_eq!(of(state).visible(), state);
            let free = matches!(state, Waiting | Deferred | Failed | Held);
            assert_eq!(of(state).retry(NOW).is_ok(), free && state != Held, "retry of {state}");
            assert_eq!(of(state).discard("x".into(), NOW).is_ok(), free, "discard of {state}");
            assert_eq!(of(state).hold().is_ok(), free || state == Sending, "hold of {state}");
            assert_eq!(of(state).release().is_ok(), free || state == Sending, "release of {state}");
        }
    }

    #[test]
    fn results_apply_only_to_what_is_being_sent() {
        for state in State::ALL.into_iter().filter(|state| *state != State::Sending) {
            let standing = of(state);
            assert!(standing.clone().acked("250".into(), NOW).is_err(), "{state}");
            assert!(standing.clone().deferred("451".into(), NOW).is_err(), "{state}");
            assert!(standing.clone().failed("550".into()).is_err(), "{state}");
            assert!(standing.clone().unclaim().is_err(), "{state}");
        }
    }

    #[test]
    fn a_release_leads_back_to_where_the_entry_was() {
        for state in [State::Waiting, State::Deferred, State::Failed] {
            let mut standing = of(state);
            standing.hold().unwrap();
            assert_eq!((standing.visible(), standing.due()), (State::Held, None));
            standing.release().unwrap();
            assert_eq!(standing, of(state));
        }
    }

    #[test]
    fn a_hold_during_an_attempt_takes_effect_after_it() {
        let mut standing = sending();
        standing.hold().unwrap();
        assert_eq!(standing.visible(), State::Sending);
        standing.deferred("451 later".into(), LATER).unwrap();
        assert_eq!((standing.visible(), standing.due()), (State::Held, None));
    }

    #[test]
    fn an_attempt_that_did_not_begin_leaves_no_trace_but_the_seal() {
        let mut standing = of(State::Deferred);
        let before = standing.status();
        standing.claim();
        assert_ne!(standing.status(), before);
        standing.unclaim().unwrap();
        assert_eq!(standing.status(), before);
        assert!(standing.sealed);
    }

    #[test]
    fn an_attempt_cut_off_by_a_crash_stays_counted_and_is_due_again() {
        let mut standing = of(State::Deferred);
        standing.claim();
        standing.forget_attempt();
        assert_eq!((standing.state, standing.attempts, standing.due()), (State::Deferred, 2, Some(LATER)));
    }

    #[test]
    fn a_window_is_open_until_its_end_a_hold_or_a_retry() {
        let mut standing = waiting();
        assert!(standing.is_open(NOW) && !standing.is_open(LATER));
        standing.hold().unwrap();
        assert!(!standing.is_open(NOW));
        standing.release().unwrap();
        standing.retry(NOW).unwrap();
        assert!(!standing.is_open(NOW));
        assert!(!of(State::Deferred).is_open(NOW));
    }

    #[test]
    fn a_retry_is_urgent_until_the_next_attempt() {
        for state in [State::Waiting, State::Deferred, State::Failed] {
            let mut standing = of(state);
            standing.retry(NOW).unwrap();
            assert!(standing.urged, "{state}");
            standing.claim();
            assert!(!standing.urged, "{state}");
        }
    }

    #[test]
    fn only_what_was_deferred_is_hurried() {
        for state in State::ALL {
            let mut standing = of(state);
            standing.hurry(NOW);
            let due = if state == State::Deferred { Some(NOW) } else { of(state).due() };
            assert_eq!(standing.due(), due, "{state}");
        }
    }

    #[test]
    fn only_what_waits_is_given_up() {
        for state in State::ALL {
            let mut standing = of(state);
            let given_up = standing.give_up("down".into()).is_ok();
            assert_eq!(given_up, matches!(state, State::Waiting | State::Deferred), "{state}");
            assert_eq!(standing.visible() == State::Failed, given_up || state == State::Failed, "{state}");
        }
    }
}
