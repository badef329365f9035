//! How the daemon ends: one signal that everybody watches, and tasks that are waited for.
//!
//! A [`Drain`] is handed to every part. New work stops when it [`begins`](Drain::begin); a task that was started through
//! [`Drain::spawn`] carries a label, and whoever waits learns which labels are still open.

use crate::watch;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

/// The end, to be watched and waited for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain {
    draining: watch::Sender<bool>,
    open: watch::Sender<usize>,
    labels: Arc<Mutex<BTreeMap<u64, String>>>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { draining: watch::Sender::new(false), open: watch::Sender::new(0), labels: Arc::default() }
    }
}

impl Drain {
    /// Tells everybody that no new work may begin.
    pub fn begin(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the end has begun.
    pub fn has_begun(&self) -> bool {
        *self.draining.borrow()
    }

    /// Ends when the end begins.
    pub async fn begun(&self) {
        let mut draining = self.draining.subscribe();
        // The sender lives in self, so the channel can't be closed.
        let _ = draining.wait_for(|draining| *draining).await;
    }

    /// Starts a task that the end waits for.
    #[allow(clippy::disallowed_methods, reason = "the home of spawn")]
    pub fn spawn<F>(&self, label: impl Into<String>, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = self.enter(label.into());
        tokio::spawn(async move {
            task.await;
            drop(guard);
        });
    }

    /// The same for a task that changes its label while it goes on.
    #[allow(clippy::disallowed_methods, reason = "the home of spawn")]
    pub fn spawn_named<F>(&self, label: impl Into<String>, task: impl FnOnce(Name) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(task(Name(self.enter(label.into()))));
    }

    /// Starts a task that nobody waits for: one that only looks on, and ends with the process.
    #[allow(clippy::disallowed_methods, reason = "the home of spawn")]
    pub fn spawn_unawaited<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(task);
    }

    /// Ends when no task is open.
    pub async fn done(&self) {
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open == 0).await;
    }

    /// The labels of the tasks still open, oldest first.
    pub fn open_labels(&self) -> Vec<String> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn enter(&self, label: String) -> Guard {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let number = labels.last_key_value().map_or(0, |(last, _)| last + 1);
        labels.insert(number, label);
        self.open.send_replace(labels.len());
        Guard { drain: self.clone(), number }
    }
}

/// What a task is called while it is open: until this is dropped.
pub struct Name(Guard);

impl Name {
    /// Gives the task another label.
    pub fn set(&self, label: impl Into<String>) {
        let mut labels = self.0.drain.labels.lock().unwrap_or_else(PoisonError::into_inner);
        labels.insert(self.0.number, label.into());
    }
}

/// Marks a task as open until it is dropped, also by a panic.
struct Guard {
    drain: Drain,
    number: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut labels = self.drain.labels.lock().unwrap_or_else(PoisonError::into_inner);
        labels.remove(&self.number);
        self.drain.open.send_replace(labels.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn done_waits_for_every_task_and_names_the_open_ones() {
        let drain = Drain::default();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        drain.spawn("quick", async {});
        drain.spawn("session 1", async {
            let _ = released.await;
        });
        let mut open = drain.open.subscribe();
        open.wait_for(|open| *open == 1).await.unwrap();
        assert_eq!(drain.open_labels(), ["session 1"]);
        release.send(()).unwrap();
        drain.done().await;
        assert!(drain.open_labels().is_empty());
    }

    #[tokio::test]
    async fn a_task_goes_by_the_label_it_gave_itself_last() {
        let drain = Drain::default();
        let (rename, renamed) = tokio::sync::oneshot::channel::<&str>();
        let (named, done) = tokio::sync::oneshot::channel::<()>();
        let (end, over) = tokio::sync::oneshot::channel::<()>();
        drain.spawn_named("one", |name| async move {
            name.set(renamed.await.unwrap());
            named.send(()).unwrap();
            let _ = over.await;
            drop(name);
        });
        assert_eq!(drain.open_labels(), ["one"]);
        rename.send("two").unwrap();
        done.await.unwrap();
        assert_eq!(drain.open_labels(), ["two"]);
        end.send(()).unwrap();
        drain.done().await;
        assert!(drain.open_labels().is_empty());
    }

    #[tokio::test]
    async fn begun_is_seen_by_those_who_watch_and_those_who_come_late() {
        let drain = Drain::default();
        assert!(!drain.has_begun());
        let (early, ()) = tokio::join!(drain.begun(), async { drain.begin() });
        assert_eq!(early, ());
        drain.begun().await;
        assert!(drain.has_begun());
    }
}
