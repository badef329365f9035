//! Clients that say much and read little: replies reach them as they come, and the relay keeps no pile of them.

use crate::common::{Answer, Client, Gate, Setup, Sink, Stage, say};

#[test]
fn a_reply_does_not_wait_for_the_answer_to_a_later_command() {
    let gate = Gate::default();
    let held = gate.clone();
    let next_hop = Sink::scripted(move |stage| match stage {
        Stage::Rcpt(to) if to.contains("slow@") => {
            Some(Answer::Hold(held.clone(), Box::new(Answer::Say("250 2.1.5 at last".into()))))
        }
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    // More than may be outstanding, so that the session has to settle while input is left.
    let rest = "RCPT TO:<bob@example.net>\r\n".repeat(150);
    let group = format!("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<slow@example.net>\r\n{rest}");
    client.send(group.as_bytes());
    client.reply().starts("250");
    client.reply().starts("250");
    gate.wait_for_arrivals(1);
    assert!(
        !next_hop.commands().iter().any(|line| line.contains("bob@")),
        "it has gone on, so it was opened or gave up"
    );
    gate.open();
    client.reply().starts("250 2.1.5 at last");
    for _ in 0..150 {
        client.reply().starts("250");
    }
    drop(client);
    relay.finish_clean(0);
}

#[test]
fn large_answers_to_many_commands_are_not_piled_up() {
    const COMMANDS: usize = 600;
    let line = format!("550-{}\n", "x".repeat(4_000));
    let large = format!("{}550 no", line.repeat(39));
    let next_hop = Sink::scripted(move |stage| match stage {
        Stage::Rcpt(_) => say(&large),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    let before = relay.peak_memory_kib();
    // Little enough to be read at once.
    client.send(format!("MAIL FROM:<a@example.org>\r\n{}", "RCPT TO:<b@example.net>\r\n".repeat(COMMANDS)).as_bytes());
    client.reply().starts("250");
    for _ in 0..COMMANDS {
        client.reply().starts("550");
    }
    let grown = relay.peak_memory_kib() - before;
    assert!(grown < 30 * 1024, "{grown} KiB for replies of {} KiB", COMMANDS * 156);
    drop(client);
    relay.finish_clean(0);
}
