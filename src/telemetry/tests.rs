//! Tests of the log as a whole: events of `tracing` in, octets out.

use super::*;
use crate::clock::Clock;
use crate::config::LogAddresses;
use crate::mail::{Address, Timestamp};
use tracing::{debug, error, info, trace, warn};

const LOG: Log = Log { format: LogFormat::Json, level: Level::INFO, addresses: LogAddresses::Full };

/// Each write as it came.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<Vec<u8>>>>);

impl Write for Sink {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push(octets.to_vec());
        Ok(octets.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn writes(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|octets| String::from_utf8(octets.clone()).unwrap()).collect()
    }

    fn objects(&self) -> Vec<serde_json::Value> {
        self.writes().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn events(&self) -> Vec<String> {
        self.objects().iter().map(|object| object["event"].as_str().unwrap().to_owned()).collect()
    }
}

struct Noon;
impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_794_304_800_123)
    }
}

fn telemetry(log: Log) -> (Telemetry, Sink) {
    let sink = Sink::default();
    (Telemetry::to(Box::new(sink.clone()), &log, &HashKey::from_bytes([1; 32]), Arc::new(Noon)), sink)
}

/// What is written of `events`.
fn written(log: Log, events: impl FnOnce()) -> Sink {
    let (telemetry, sink) = telemetry(log);
    tracing::subscriber::with_default(telemetry.subscriber(), events);
    sink
}

#[test]
fn an_event_becomes_one_line_in_one_write() {
    let sink = written(LOG, || {
        let recipients = vec!["b@example.org".to_owned(), "\"c\\ \n\u{7f}ä\"@example.org".to_owned()];
        let sender = Address::parse("a@example.org").unwrap();
        let (login, client) = (None::<&str>, Some("192.0.2.1"));
        info!(
            event = "message.accepted", session = %"s1", login, client, sender = %sender, recipients = ?recipients,
            size = 12_u64, tls = true, share = 0.5, offset = -3, missing = ?None::<u8>,
            "the next hop took {} of {}", 1, 1
        );
    });
    assert_eq!(
        sink.writes(),
        ["{\"timestamp\":\"2026-11-10T10:00:00.123Z\",\"level\":\"info\",\"event\":\"message.accepted\",\
          \"message\":\"the next hop took 1 of 1\",\"session\":\"s1\",\"client\":\"192.0.2.1\",\
          \"sender\":\"a@example.org\",\"recipients\":[\"b@example.org\",\"\\\"c\\\\ \\n\\u007fä\\\"@example.org\"],\
          \"size\":12,\"tls\":true,\"share\":0.5,\"offset\":-3}\n"]
    );
}

#[test]
fn an_event_becomes_a_text_line_for_people() {
    let sink = written(Log { format: LogFormat::Text, ..LOG }, || {
        warn!(event = "record.deferred", reply = %"451 4.3.0 later", attempt = 2, "the archive said not now");
    });
    assert_eq!(
        sink.writes(),
        ["2026-11-10T10:00:00.123Z WARN record.deferred reply=\"451 4.3.0 later\" attempt=2 \
          message=\"the archive said not now\"\n"]
    );
}

#[test]
fn a_string_that_looks_like_a_list_or_like_none_stays_a_string() {
    let sink = written(LOG, || {
        let (none, list) = ("None", "[\"a\", \"b\"]");
        info!(event = "x", none = %none, list = %list, empty = %"[]", real = ?Vec::<String>::new());
    });
    let object = &sink.objects()[0];
    assert_eq!(object["none"], "None");
    assert_eq!(object["list"], "[\"a\", \"b\"]");
    assert_eq!(object["empty"], "[]");
    assert_eq!(object["real"], serde_json::json!([]));
}

#[test]
fn an_error_is_written_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("the spool can't be opened")]
    struct Outer(#[source] std::fmt::Error);
    let sink = written(LOG, || {
        let error = Outer(std::fmt::Error);
        error!(event = "x", error = &error as &(dyn std::error::Error + 'static));
    });
    let cause = std::fmt::Error.to_string();
    assert_eq!(sink.objects()[0]["error"], format!("the spool can't be opened: {cause}"));
}

#[test]
fn a_line_is_bounded_however_much_was_recorded() {
    let sink = written(LOG, || {
        let recipients: Vec<_> = (0..5_000).map(|number| format!("user{number:04}@example.org")).collect();
        info!(event = "x", recipients = ?recipients, reply = "ä".repeat(100_000), "done");
    });
    let line = &sink.writes()[0];
    assert!(line.len() < 64 * 1024, "{}", line.len());
    let object = &sink.objects()[0];
    let items = object["recipients"].as_array().unwrap();
    assert_eq!(items.last().unwrap(), &format!("… {} more", 5_000 - (items.len() - 1)));
    assert!(object["reply"].as_str().unwrap().ends_with("ä…"));
}

#[test]
fn an_address_on_the_edge_of_a_cut_is_redacted_all_the_same() {
    let sink = written(Log { addresses: LogAddresses::Domain, ..LOG }, || {
        info!(event = "x", reply = %format!("{}secret.user@example.org", " ".repeat(8 * 1024 - 6)));
    });
    assert!(!sink.writes()[0].contains("secret"), "{:?}", sink.writes());
}

#[test]
fn events_below_the_level_are_left_out_and_the_level_can_change() {
    let (telemetry, sink) = telemetry(LOG);
    tracing::subscriber::with_default(telemetry.subscriber(), || {
        let speak = |level: &str| {
            debug!(event = "deep", during = level);
            info!(event = "plain", during = level);
            error!(event = "bad", during = level);
        };
        speak("info");
        telemetry.reconfigure(&Log { level: Level::DEBUG, ..LOG });
        speak("debug");
        telemetry.reconfigure(&Log { level: Level::ERROR, ..LOG });
        speak("error");
    });
    assert_eq!(sink.events(), ["plain", "bad", "deep", "plain", "bad", "bad"]);
}

#[test]
fn redaction_and_format_can_change_while_it_runs() {
    let (telemetry, sink) = telemetry(LOG);
    tracing::subscriber::with_default(telemetry.subscriber(), || {
        let speak = || info!(event = "x", sender = %"u@example.org");
        speak();
        telemetry.reconfigure(&Log { addresses: LogAddresses::Domain, format: LogFormat::Text, ..LOG });
        speak();
    });
    let writes = sink.writes();
    assert!(writes[0].ends_with("\"message\":\"\",\"sender\":\"u@example.org\"}\n"), "{writes:?}");
    assert!(writes[1].ends_with("INFO x sender=*@example.org\n"), "{writes:?}");
}

#[test]
fn libraries_are_heard_from_warn_up_and_below_it_only_on_demand() {
    let speak = || {
        warn!(target: "rustls::conn", "w");
        info!(target: "rustls::conn", "i");
        trace!(target: "rustls::conn", "t");
        warn!(target: "lettre::transport", "w");
        debug!(target: "lettre::transport", "a body");
        debug!(target: "hickory_net::udp", "an answer");
        info!(target: "journal_relay_impostor", event = "record.acked", "i");
    };
    let heard = |level| {
        let objects = written(Log { level, ..LOG }, speak).objects();
        let said = |object: &serde_json::Value| format!("{} {}", object["target"].as_str().unwrap(), object["message"]);
        assert!(objects.iter().all(|object| object["event"] == "library"));
        objects.iter().map(said).collect::<Vec<_>>()
    };
    assert_eq!(heard(Level::ERROR), Vec::<String>::new());
    let warnings = ["rustls::conn \"w\"", "lettre::transport \"w\""];
    assert_eq!(heard(Level::WARN), warnings);
    assert_eq!(heard(Level::INFO), warnings);
    assert_eq!(
        heard(Level::DEBUG),
        ["rustls::conn \"w\"", "rustls::conn \"i\"", "lettre::transport \"w\"", "journal_relay_impostor \"i\""]
    );
    assert_eq!(heard(Level::TRACE).len(), 5);
}

#[test]
fn a_field_of_a_library_cannot_stand_for_the_line_s_own() {
    let sink = written(LOG, || {
        warn!(target: "some_crate", event = "record.acked", level = 5, timestamp = "never", kept = 1, "hm");
    });
    assert_eq!(
        sink.writes(),
        ["{\"timestamp\":\"2026-11-10T10:00:00.123Z\",\"level\":\"warn\",\"event\":\"library\",\"message\":\"hm\",\
          \"kept\":1,\"target\":\"some_crate\"}\n"]
    );
}

#[test]
fn lines_of_many_threads_do_not_mix() {
    let (telemetry, sink) = telemetry(LOG);
    let dispatch = tracing::Dispatch::new(telemetry.subscriber());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let dispatch = dispatch.clone();
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    for number in 0..50 {
                        info!(event = "x", thread, number, filler = "z".repeat(500));
                    }
                });
            });
        }
    });
    assert_eq!(sink.objects().len(), 200);
}
