//! One value that many watch: tokio's `watch` channel, but that those who wait are woken in the order in which they began to.
//!
//! tokio's own spreads those who wait over several lists by chance, so that a daemon's threads don't meet at one lock. Here
//! the order is the same in every run of a simulation; the lock is held for a moment, and rings are rare.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::Notify;

/// A value and who watches it.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

/// Nobody can change the value any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the last sender is gone")]
pub struct Closed;

#[derive(Debug)]
struct Shared<T> {
    value: RwLock<T>,
    version: AtomicU64,
    senders: AtomicUsize,
    bell: Notify,
}

impl<T> Shared<T> {
    fn read(&self) -> Ref<'_, T> {
        Ref(self.value.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Changes the value.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// A value that nobody watches yet.
    pub fn new(value: T) -> Self {
        let (version, senders) = (AtomicU64::new(0), AtomicUsize::new(1));
        Self(Arc::new(Shared { value: RwLock::new(value), version, senders, bell: Notify::new() }))
    }

    /// Sets the value, and wakes everybody; gives the one there was.
    pub fn send_replace(&self, value: T) -> T {
        let mut old = value;
        self.send_modify(|current| std::mem::swap(current, &mut old));
        old
    }

    /// Changes the value where it is, and wakes everybody.
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        {
            let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
            modify(&mut value);
            self.0.version.fetch_add(1, Ordering::Release);
        }
        self.0.bell.notify_waiters();
    }

    /// The value now. Not to be held over an await.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.0.read()
    }

    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        Arc::strong_count(&self.0) > self.0.senders.load(Ordering::Acquire)
    }

    /// Somebody more who watches; the value now is no news.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { seen: self.0.version.load(Ordering::Acquire), shared: Arc::clone(&self.0) }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.bell.notify_waiters();
        }
    }
}

/// Watches the value.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that is no news.
    seen: u64,
}

impl<T> Receiver<T> {
    /// The value now. Not to be held over an await.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.read()
    }

    /// The same, and it is no news any more.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.read();
        // Versions change under the lock alone.
        self.seen = self.shared.version.load(Ordering::Acquire);
        value
    }

    /// Ends when there is news; it is none any more then. Loses none when it is dropped before.
    ///
    /// # Errors
    /// [`Closed`]
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Made before the look: a ring behind the look finds it.
            let rung = self.shared.bell.notified();
            let version = self.shared.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if self.shared.senders.load(Ordering::Acquire) == 0 {
                return Err(Closed);
            }
            rung.await;
        }
    }

    /// Ends when the value is as `wanted` asks, perhaps at once.
    ///
    /// # Errors
    /// [`Closed`]: it isn't, and can't become so.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Result<(), Closed> {
        while !wanted(&self.borrow_and_update()) {
            self.changed().await?;
        }
        Ok(())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

/// The value, which can't change meanwhile.
#[derive(Debug)]
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn news_is_told_once_to_everybody_also_to_those_who_were_busy() {
        let (sender, mut receiver) = channel(1);
        let mut late = sender.subscribe();
        sender.send_replace(2);
        sender.send_modify(|value| *value += 1);
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow(), 3);
        assert_eq!(*late.borrow_and_update(), 3);
        drop(sender);
        assert_eq!(late.changed().await, Err(Closed));
        assert_eq!(receiver.wait_for(|value| *value == 4).await, Err(Closed));
        assert_eq!(receiver.wait_for(|value| *value == 3).await, Ok(()));
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_last_sender() {
        let (sender, mut receiver) = channel(());
        let other = sender.clone();
        let waiting = tokio::task::JoinSet::from_iter([async move { receiver.changed().await }]);
        drop(sender);
        tokio::task::yield_now().await;
        drop(other);
        assert_eq!(waiting.join_all().await, [Err(Closed)]);
    }

    #[tokio::test]
    async fn those_who_wait_are_woken_in_their_order() {
        let sender = Sender::new(0);
        let woken: Arc<Mutex<Vec<u32>>> = Arc::default();
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..40 {
            let (mut receiver, woken) = (sender.subscribe(), Arc::clone(&woken));
            waiting.spawn(async move {
                receiver.changed().await.unwrap();
                woken.lock().unwrap().push(number);
            });
            tokio::task::yield_now().await;
        }
        sender.send_replace(1);
        waiting.join_all().await;
        assert_eq!(*woken.lock().unwrap(), (0..40).collect::<Vec<_>>());
    }
}
