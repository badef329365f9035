//! What moves the writer's [`Core`]: a thread where its work blocks, a task where the disk is simulated.

use super::batch::{Batch, Message, Wait};
use super::core::Core;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

/// Works until it is closed or nobody can hand it anything any more. Blocks.
pub(super) fn thread(mut core: Core, queue: &Receiver<Message>) {
    loop {
        match queue.recv_timeout(core.until_look()) {
            Ok(first) => {
                let mut batch = Batch::begin(first, core.company());
                while batch.has_room() {
                    let next = queue.try_recv().ok().map_or_else(|| wait_for(queue, batch.wait()), More::Step);
                    match next {
                        More::Step(next) => batch.add(next),
                        More::Perhaps => {}
                        More::None => break,
                    }
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
                let mut batch = Batch::begin(first, core.company());
                while batch.has_room() {
                    let next = match (queue.try_recv(), batch.wait()) {
                        (Ok(next), _) => Some(next),
                        (Err(_), Wait::No) => None,
                        (Err(_), Wait::Next(wait)) => timeout(wait, queue.recv()).await.ok().flatten(),
                        (Err(_), Wait::Many(wait)) => {
                            sleep(wait).await;
                            continue;
                        }
                    };
                    let Some(next) = next else { break };
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

/// What a wait has brought.
enum More {
    Step(Message),
    /// It has to be looked.
    Perhaps,
    None,
}

fn wait_for(queue: &Receiver<Message>, wait: Wait) -> More {
    match wait {
        Wait::No => More::None,
        Wait::Next(wait) => queue.recv_timeout(wait).map_or(More::None, More::Step),
        Wait::Many(wait) => {
            // Asleep, and not at the queue: nobody who hands something over has to wake it.
            std::thread::sleep(wait);
            More::Perhaps
        }
    }
}
