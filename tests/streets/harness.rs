//! The tests' own tools, against each other: a tool that can't be trusted proves nothing.

use crate::common::{
    Answer, Client, Gate, Postfix, Program, Record, Sink, Stage, corpus, drop_line, free_port, installed,
    own_loopback_address, say, strip_folded_received, stuff,
};
use crate::message;
use std::process::Command;
use std::time::Duration;

#[test]
fn what_the_client_sends_the_sink_keeps_octet_for_octet() {
    let sink = Sink::start();
    let mut client = Client::ehlo(sink.address());
    let octets = [&b""[..], b".\r\n", b"..\r\n.", b"a\r\n\r\n.b\r\n", b"no end", b"bare\n.\nlf\r\n", b"\r\n"];
    for octets in octets {
        client.mail("a@example.org", &["b@example.net"], octets).starts("250");
    }
    let kept = sink.wait_for(octets.len());
    for (kept, sent) in kept.iter().zip(octets) {
        let expected =
            if sent.is_empty() || sent.ends_with(b"\r\n") { sent.to_vec() } else { [sent, b"\r\n"].concat() };
        assert_eq!(kept.octets, expected, "{sent:?}");
    }
}

#[test]
fn the_whole_corpus_passes_the_tools_themselves() {
    let sink = Sink::start();
    let mut client = Client::ehlo(sink.address());
    let samples: Vec<_> = corpus().into_iter().filter(|sample| sample.octets.ends_with(b"\r\n")).collect();
    for sample in &samples {
        client.mail("a@example.org", &["b@example.net"], &sample.octets).starts("250");
    }
    for (kept, sample) in sink.wait_for(samples.len()).iter().zip(&samples) {
        assert!(kept.octets == sample.octets, "{} came out changed", sample.file);
    }
}

#[test]
fn a_sink_answers_as_its_script_says_and_notes_who_was_accepted() {
    let sink = Sink::scripted(|stage| match stage {
        Stage::Rcpt(to) if to.contains("carol") => say("550-5.1.1 no\n550 5.1.1 carol here"),
        Stage::End(transaction) if transaction.rcpts.len() == 2 => say("552 5.2.2 full"),
        Stage::Other("NOOP drop") => drop_line(),
        _ => None,
    });
    let mut client = Client::ehlo(sink.address());
    client.command("MAIL FROM:<a@example.org> SIZE=9").starts("250");
    client.command("RCPT TO:<bob@example.net>").starts("250");
    assert_eq!(client.command("RCPT TO:<carol@example.net>").text(), "550-5.1.1 no\n550 5.1.1 carol here");
    client.command("DATA").starts("354");
    client.data(b"x\r\n").starts("250");
    client.mail("a@example.org", &["b@example.net", "c@example.net"], b"y\r\n").starts("552 5.2.2");
    client.send(b"NOOP drop\r\n");
    assert!(client.try_reply().is_err(), "the connection was closed");
    let kept = sink.transactions();
    assert_eq!(kept[0].mail, "<a@example.org> SIZE=9");
    assert_eq!((kept[0].reverse_path(), kept[0].forward_paths()), ("a@example.org", vec!["bob@example.net"]));
    assert_eq!(kept.iter().map(|transaction| transaction.taken).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_gate_holds_an_answer_back_and_a_sink_comes_back_at_its_address() {
    let gate = Gate::default();
    let held = gate.clone();
    let mut sink = Sink::scripted(move |stage| match stage {
        Stage::End(_) => Some(Answer::Hold(held.clone(), Box::new(Answer::Say("250 late".into())))),
        _ => None,
    });
    let address = sink.address();
    let sender = std::thread::spawn(move || Client::ehlo(address).mail("a@example.org", &["b@example.net"], b"x\r\n"));
    gate.wait_for_arrivals(1);
    assert_eq!(sink.count(), 0);
    gate.open();
    assert_eq!(sender.join().unwrap().text(), "250 late");
    sink.down();
    assert!(Client::try_connect(address, Duration::from_secs(5)).is_err());
    sink.up();
    assert_eq!(sink.address(), address);
    Client::ehlo(address).mail("a@example.org", &["b@example.net"], b"x\r\n").starts("250 late");
}

#[test]
fn pipelined_commands_get_their_replies_in_order() {
    let sink = Sink::start();
    let mut client = Client::ehlo(sink.address());
    client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n");
    client.reply().starts("250 2.1.0");
    client.reply().starts("250 2.1.5");
    client.reply().starts("354");
    client.send(&[&stuff(b".x\r\n")[..], b"QUIT\r\n"].concat());
    client.reply().starts("250");
    client.reply().starts("221");
    assert_eq!(sink.wait_for(1)[0].octets, b".x\r\n");
}

#[test]
fn a_record_is_taken_apart_and_what_is_none_is_refused() {
    let octets = "From: amazonjournaling@acme.awsapps.com\r\nMessage-ID: <1@journal.report.generator>\r\n\
        Content-Type: multipart/mixed; boundary=\"_b_\"\r\n\r\n--_b_\r\nContent-Type: text/plain; charset=\"utf-8\"\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\nSender: alice@example.org\r\nSubject: =C3=BC=\r\n!\r\nMessage-Id: <1@example.org>\r\n\
        To: bob@example.net\r\nBcc: eve@example.net\r\n\r\n--_b_\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\nc\r\n\r\n--_b_--\r\n";
    let record = Record::read(octets.as_bytes());
    assert_eq!(record.original, b"A: b\r\n\r\nc\r\n");
    assert_eq!(record.lines("Subject"), ["\u{fc}!"]);
    assert_eq!(record.recipients(), ["bob@example.net", "eve@example.net"]);
    for (from, to) in [
        ("To: bob", "Expanded: bob"),
        ("Message-Id:", "Message-ID:"),
        ("\r\n\r\n--_b_\r\nContent-Type: text", "\r\n\r\npreamble\r\n--_b_\r\nContent-Type: text"),
        ("--_b_--\r\n", "--_b_--\r\nepilogue"),
        ("message/rfc822", "text/plain"),
        ("Bcc: eve@example.net", "Sender: eve@example.net"),
    ] {
        assert!(Record::try_read(octets.replace(from, to).as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn the_received_field_in_front_is_taken_off_with_its_folded_lines() {
    let (field, rest) = strip_folded_received(b"Received: from a\r\n\tby b;\r\n Tue\r\nReceived: c\r\n");
    assert_eq!((field.as_str(), rest), ("Received: from a\r\n\tby b;\r\n Tue\r\n", &b"Received: c\r\n"[..]));
}

#[test]
fn a_program_does_not_outlive_its_owner() {
    let program = Program::start(Command::new("sh").args(["-c", "while :; do read x; done"]));
    let proc = format!("/proc/{}/stat", program.pid());
    drop(program);
    assert!(!std::path::Path::new(&proc).exists());
    assert!(message("x").ends_with(b"\r\n"));
}

#[test]
fn a_private_postfix_carries_mail_and_ends_with_its_owner() {
    if !installed(&["postfix"]) {
        return;
    }
    let sink = Sink::start();
    let home = tempfile::tempdir().unwrap();
    let postfix = Postfix::new(free_port(own_loopback_address()), sink.address()).start(home.path());
    let address = postfix.address;
    let mut client = Client::ehlo(address);
    client.mail("alice@example.org", &["bob@example.net"], &message("private")).starts("250");
    assert_eq!(strip_folded_received(&sink.wait_for(1)[0].octets).1, message("private"));
    drop(postfix);
    assert!(Client::try_connect(address, Duration::from_secs(1)).is_err(), "it has ended");
}
