//! What moves the writer's [`Core`]: a thread where its work blocks, a task where the disk is simulated.

use super::batch::{Batch, Message};
use super::core::Core;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

/// Works until it is closed or nobody can hand it anything any more. Blocks.
pub(super) fn thread(mut core: Core, queue: &Receiver<Message>) {
    loop {
        match queue.recv_timeout(core.until_look()) {
            Ok(first) => {
                let mut batch = Batch::begin(first);
                while batch.has_room() {
                    let Ok(next) = queue.recv_timeout(batch.wait()) else { break };
                    batch.add(next);
                }
                if let Some(answer) = core.work(batch) {
                    return core.end(Some(answer));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return core.end(None),
        }
        core.look_after_in_time();
    }
}

/// The same as a task, under the runtime's time.
pub(super) async fn task(mut core: Core, mut queue: UnboundedReceiver<Message>) {
    loop {
        match timeout(core.until_look(), queue.recv()).await {
            Ok(Some(first)) => {
                let mut batch = Batch::begin(first);
                while batch.has_room() {
                    let Some(next) = within(&mut queue, batch.wait()).await else { break };
                    batch.add(next);
                }
                if let Some(answer) = core.work(batch) {
                    return core.end(Some(answer));
                }
            }
            Err(_) => {}
            Ok(None) => return core.end(None),
        }
        core.look_after_in_time();
    }
}

async fn within(queue: &mut UnboundedReceiver<Message>, wait: Duration) -> Option<Message> {
    if wait.is_zero() { queue.try_recv().ok() } else { timeout(wait, queue.recv()).await.ok().flatten() }
}
