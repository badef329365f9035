//! The spool in memory: what is logged, and how it fails when it is told to.

use super::*;
use crate::spool::fixtures::*;
use std::fmt::{Debug, Write};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Every line of the log as `key=value` words.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Words(String);
        impl Visit for Words {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                let _ = write!(self.0, "{}={value:?} ", field.name());
            }
        }
        let mut words = Words(String::new());
        event.record(&mut words);
        self.0.lock().unwrap().push(words.0);
    }
}

#[test]
fn what_becomes_of_a_record_is_logged() {
    let lines = Lines::default();
    let log = tracing_subscriber::registry().with(lines.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let world = World::in_memory();
    let (first, second) = tracing::subscriber::with_default(log, || {
        runtime.block_on(async {
            let first = world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
            let second = world.relay(&Message::new(1, &["b@x.example", "a@x.example"]), Verdict::Accepted).await;
            world.discard(first.record()).await.unwrap();
            (first, second)
        })
    });
    let (record, queue_id, other) = (first.record(), first.queue_id, second.queue_id);
    let expected = [
        format!("event=\"record.committed\" record={record} organization=\"{ORGANIZATION}\" queue_id={queue_id} "),
        format!(
            "event=\"record.merged\" record={record} organization=\"{ORGANIZATION}\" queue_id={other} added=1 \
             recipients=[\"b@x.example\"] "
        ),
        format!("event=\"record.discarded\" record={record} organization=\"{ORGANIZATION}\" reason=\"asked for\" "),
    ];
    let lines: Vec<_> = lines.0.lock().unwrap().clone();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, expected) in lines.iter().zip(&expected) {
        let (_, fields) = line.split_once("event=").unwrap();
        assert!(format!("event={fields}").starts_with(expected.trim_end()), "{line}\n{expected}");
    }
}

#[tokio::test]
async fn it_fails_when_it_is_told_to_and_works_again() {
    let world = World::in_memory();
    let spool = MemorySpool::new(options(&world.clock));
    let message = Message::new(1, &["a@x.example"]);
    spool.fail_with(Some(SpoolError::Full("no room".into())));
    let full = prepare(&spool, &message, b"octets", world.now()).await;
    assert!(matches!(full, Err(SpoolError::Full(_))));
    spool.fail_with(None);
    prepare(&spool, &message, b"octets", world.now()).await.unwrap();
}
