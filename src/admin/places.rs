//! Who may be connected at a time, and who gives way when somebody new comes: of those who have not finished their request's
//! head, and of those who have not taken their answer yet, the one that has come first. So who says nothing, or doesn't listen,
//! keeps nobody else from an answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Those who are waited for, the oldest first: bounded by the places.
#[derive(Debug, Default)]
struct Unheard {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// The places of one door.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    unheard: Arc<Mutex<Unheard>>,
}

/// One connection's place; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _free: OwnedSemaphorePermit,
    number: u64,
    away: Arc<Notify>,
    unheard: Arc<Mutex<Unheard>>,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), unheard: Arc::default() }
    }

    /// A place for somebody who has come. Where none is free the one that has been waited for longest gives way; where answers
    /// are being made for all, the end of one is waited for.
    pub(super) async fn take(&self) -> Option<Place> {
        let free = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(free) => free,
            Err(_) => {
                if let Some((_, oldest)) = lock(&self.unheard).waiting.pop_first() {
                    oldest.notify_one();
                }
                Arc::clone(&self.free).acquire_owned().await.ok()?
            }
        };
        let away = Arc::new(Notify::new());
        let mut unheard = lock(&self.unheard);
        let number = unheard.next;
        unheard.next += 1;
        unheard.waiting.insert(number, Arc::clone(&away));
        drop(unheard);
        Some(Place { _free: free, number, away, unheard: Arc::clone(&self.unheard) })
    }
}

impl Place {
    /// Its head is whole: it keeps its place until its answer is made.
    pub(super) fn heard(&self) {
        lock(&self.unheard).waiting.remove(&self.number);
    }

    /// Its answer is made, and only has to be taken: from now on it gives way.
    pub(super) fn answered(&self) {
        lock(&self.unheard).waiting.insert(self.number, Arc::clone(&self.away));
    }

    /// Ends when it has to give way.
    pub(super) async fn given_away(&self) {
        self.away.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.heard();
    }
}

fn lock(unheard: &Mutex<Unheard>) -> MutexGuard<'_, Unheard> {
    unheard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn the_one_unheard_for_longest_gives_way_and_who_is_being_answered_does_not() {
        let places = Places::new(3);
        let (answered, older, younger) =
            (places.take().await.unwrap(), places.take().await.unwrap(), places.take().await.unwrap());
        answered.heard();
        let gives_way = async move {
            older.given_away().await;
            drop(older);
        };
        let (fourth, ()) = tokio::join!(places.take(), gives_way);
        fourth.as_ref().unwrap().heard();
        let moment = Duration::from_millis(1);
        assert!(timeout(moment, answered.given_away()).await.is_err());
        assert!(timeout(moment, younger.given_away()).await.is_err());
        // The next one takes the younger's; then all are being answered, and an end is waited for.
        let gives_way = async move {
            younger.given_away().await;
            drop(younger);
        };
        let (fifth, ()) = tokio::join!(places.take(), gives_way);
        fifth.as_ref().unwrap().heard();
        assert!(timeout(moment, places.take()).await.is_err());
        drop(answered);
        assert!(timeout(moment, places.take()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_its_answer_gives_way() {
        let places = Places::new(1);
        let deaf = places.take().await.unwrap();
        deaf.heard();
        let moment = Duration::from_millis(1);
        assert!(timeout(moment, places.take()).await.is_err(), "its answer is being made");
        deaf.answered();
        let gives_way = async move {
            deaf.given_away().await;
            drop(deaf);
        };
        let (second, ()) = tokio::join!(places.take(), gives_way);
        assert!(second.is_some());
    }
}
