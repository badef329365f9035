//! The events that operators and their programs read.

use super::archive::{Act, Archive, Script};
use super::world::{RETRY, World, organization};
use super::*;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{LazyLock, Mutex};
use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

type Event = BTreeMap<&'static str, String>;

/// Remembers events with their fields.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<Event>>>);

struct Fields(Event);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Memory {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(Event::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

impl Memory {
    fn of(&self, name: &str) -> Vec<Event> {
        let named = |event: &&Event| event.get("event").is_some_and(|event| event == name);
        self.0.lock().unwrap().iter().filter(named).cloned().collect()
    }
}

/// Sends one record and waits until `reports` or `archive` has heard enough.
async fn run(archive: Script, reports: Script, wanted: usize) -> (Memory, RecordId, Archive) {
    let memory = Memory::default();
    // While a process has had one subscriber alone, tracing asks the thread at hand whether an event is of interest, and
    // keeps the answer of threads without any.
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));
    LazyLock::force(&SECOND);
    // The runtime of a test has one thread: everything here is seen, and nothing of other tests.
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(memory.clone()));
    let (archive, reports) = (Archive::start(archive).await, Archive::start(reports).await);
    let world = World::running(vec![organization("acme", plain(&archive), plain(&reports))], RETRY);
    let id = world.commit("acme", "Subject: Numbers\r\n\r\n1\r\n").await;
    if wanted == 0 {
        archive.hears(|heard| heard.letters.len() == 1).await;
    } else {
        reports.hears(|heard| heard.of("RCPT").len() == wanted).await;
    }
    world.end().await;
    (memory, id, archive)
}

#[tokio::test]
async fn a_deferral_and_an_acceptance_are_logged_with_the_reply() {
    let script = Script::default().on("MAIL", Act::Say("451 4.3.0 not now\r\n"));
    let (memory, id, archive) = run(script, Script::default(), 0).await;
    let route = format!("smtp://{}", archive.address);

    let deferred = memory.of("record.deferred");
    assert_eq!(deferred.len(), 1);
    assert_eq!((deferred[0]["record"].as_str(), deferred[0]["organization"].as_str()), (id.as_str(), "acme"));
    assert_eq!((deferred[0]["reply"].as_str(), deferred[0]["attempt"].as_str()), ("451 4.3.0 not now", "1"));
    assert!(deferred[0]["next_attempt"].ends_with('Z'));

    let acked = memory.of("record.acked");
    assert_eq!(acked.len(), 1);
    assert_eq!((acked[0]["record"].as_str(), acked[0]["archive"].as_str()), (id.as_str(), route.as_str()));
    assert_eq!((acked[0]["reply"].as_str(), acked[0]["attempts"].as_str()), ("250 2.0.0 kept", "2"));
    assert!(acked[0]["age_ms"].parse::<u64>().is_ok());

    let states: Vec<_> = memory.of("route.state").iter().map(|event| event["state"].clone()).collect();
    assert_eq!(states, ["up"], "one deferral is no outage");
}

#[tokio::test]
async fn a_route_that_fails_again_and_again_is_down_and_then_up() {
    let script = (0..4).fold(Script::default(), |script, _| script.on("greeting", Act::Say("421 4.3.2 down\r\n")));
    let (memory, _, archive) = run(script, Script::default(), 0).await;
    let events = memory.of("route.state");
    let states: Vec<_> = events.iter().map(|event| event["state"].as_str()).collect();
    assert_eq!(states, ["down", "up"]);
    assert!(events.iter().all(|event| event["route"] == format!("smtp://{}", archive.address)));
    assert_eq!(events[0]["reply"], "421 4.3.2 down");
    assert!(events[0]["next_probe"].ends_with('Z'));
}

#[tokio::test]
async fn a_failure_and_its_report_are_logged() {
    let (memory, id, _) = run(Script::default().on(".", Act::Say("554 5.6.0 no\r\n")), Script::default(), 1).await;
    let failed = memory.of("record.failed");
    assert_eq!(
        (failed.len(), failed[0]["record"].as_str(), failed[0]["reply"].as_str()),
        (1, id.as_str(), "554 5.6.0 no")
    );
    let sent = memory.of("report.sent");
    assert_eq!((sent.len(), sent[0]["record"].as_str()), (1, id.as_str()));
    assert!(memory.of("report.suppressed").is_empty());
}

#[tokio::test]
async fn a_report_that_nobody_takes_is_logged_as_suppressed_with_the_reason() {
    let refuse = |script: Script| script.on("RCPT", Act::Say("550 5.1.1 nobody\r\n"));
    let (memory, _, _) = run(refuse(Script::default()), refuse(Script::default()), 1).await;
    let suppressed = memory.of("report.suppressed");
    assert_eq!((suppressed.len(), suppressed[0]["reason"].as_str()), (1, "refused"));
    assert!(memory.of("report.sent").is_empty());
}
