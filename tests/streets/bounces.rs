//! Bounces of journal records, and whatever else is sent to the address they come from.

use crate::common::{
    Client, Postfix, Record, Relay, Report, Setup, Sink, Stage, free_port, installed, own_loopback_address, say,
};
use crate::message;

const SENDER: &str = "amazonjournaling@acme.awsapps.com";

fn dsn(action: &str, returned: &[u8]) -> Vec<u8> {
    let head = format!(
        "From: MAILER-DAEMON@vault.example\r\nTo: {SENDER}\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"bb\"\r\n\r\n--bb\r\n\
         Content-Type: text/plain\r\n\r\nSorry.\r\n\r\n--bb\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; vault.example\r\n\r\nFinal-Recipient: rfc822; archive@vault.example\r\nAction: {action}\r\n\
         Status: 5.2.2\r\nDiagnostic-Code: smtp; 552 5.2.2 mailbox full\r\n\r\n--bb\r\nContent-Type: message/rfc822\r\n\r\n"
    );
    [head.as_bytes(), returned, b"\r\n--bb--\r\n"].concat()
}

/// A record that the archive has taken.
fn acked(relay: &Relay, archive: &Sink, mark: &str) -> Vec<u8> {
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message(mark)).starts("250");
    relay.wait_events("record.acked", 1);
    archive.wait_for(1).remove(0).octets
}

#[test]
fn a_record_that_bounces_is_kept_with_its_original_and_reported_once() {
    let (next_hop, archive, reports) = (Sink::start(), Sink::start(), Sink::start());
    // Nobody needs to be trusted to bring a bounce.
    let mut relay = Setup::new(&next_hop, &archive).reporting_to(&reports).start();
    let record = acked(&relay, &archive, "bounced");
    let id = Record::read(&record).id().to_owned();
    for _ in 0..2 {
        Client::ehlo(relay.address()).mail("", &[SENDER], &dsn("failed", &record)).starts("250 2.0.0");
    }
    let failed = relay.wait_event("record.failed", |_| true);
    assert_eq!((failed.text("record"), failed.text("reason")), (id.as_str(), "bounced"));
    let report = Report::read(&reports.wait_for(1)[0].octets);
    assert!(report.text.contains("BOUNCED") && report.text.contains(&id), "{}", report.text);
    assert!(report.status.contains("Action: failed") && report.status.contains("Status: 5.2.2"), "{}", report.status);
    let queue = relay.queue();
    assert_eq!(queue.len(), 1);
    assert_eq!((&queue[0]["state"], &queue[0]["id"]), (&"failed".into(), &id.as_str().into()));
    assert_eq!(queue[0]["last_reply"], "bounced: 552 5.2.2 mailbox full");
    // Its original is back: it can be sent again, octet for octet.
    assert!(relay.command(&["queue", "retry", &id]).status.success());
    assert!(archive.wait_for(2)[1].octets == record, "the repeat is the same");
    relay.finish_clean(2);
    assert_eq!(reports.transactions().len(), 1);
    assert_eq!(next_hop.transactions().len(), 1, "no bounce goes further");
}

#[test]
fn a_delay_notice_changes_nothing_and_anything_else_is_refused() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).trusting_nobody().start();
    Client::ehlo(relay.address()).mail("alice@example.net", &["bob@example.org"], &message("noted")).starts("250");
    relay.wait_events("record.acked", 1);
    let record = archive.wait_for(1).remove(0).octets;
    Client::ehlo(relay.address()).mail("", &[SENDER], &dsn("delayed", &record)).starts("250 2.0.0");
    assert_eq!(relay.wait_event("bounce.received", |_| true).text("action"), "delayed");
    let text = String::from_utf8(record.clone()).unwrap();
    let id = Record::read(&record).id().to_owned();
    let stranger = text.replace(&id, "01jcb4x5w0abcdef");
    for octets in
        [message("spam"), b"\r\n".to_vec(), dsn("failed", &message("other")), dsn("failed", stranger.as_bytes())]
    {
        Client::ehlo(relay.address()).mail("", &[SENDER], &octets).starts("550 5.1.1");
    }
    Client::ehlo(relay.address()).mail("eve@example.net", &[SENDER], &dsn("failed", &record)).starts("550 5.1.1");
    assert_eq!(relay.finish().len(), 0);
    assert_eq!((next_hop.transactions().len(), archive.transactions().len()), (1, 1));
}

#[test]
fn nobody_shares_a_transaction_with_a_bounce() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    client.command("MAIL FROM:<>").starts("250");
    client.command(&format!("RCPT TO:<{SENDER}>")).starts("250 2.1.5");
    client.command("RCPT TO:<bob@example.org>").starts("452 4.5.3");
    client.command(&format!("RCPT TO:<{}>", SENDER.to_uppercase())).starts("250 2.1.5");
    client.command("RSET").starts("250");
    client.command("MAIL FROM:<>").starts("250");
    client.command("RCPT TO:<bob@example.org>").starts("250");
    client.command(&format!("RCPT TO:<{SENDER}>")).starts("452 4.5.3");
    client.command("DATA").starts("354");
    client.data(&message("the other one")).starts("250");
    // In one group, too: who comes second is told so.
    client.send(format!("MAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nRCPT TO:<{SENDER}>\r\nRSET\r\n").as_bytes());
    for expected in ["250", "250", "452 4.5.3", "250"] {
        client.reply().starts(expected);
    }
    client.send(format!("MAIL FROM:<>\r\nRCPT TO:<{SENDER}>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n").as_bytes());
    for expected in ["250", "250 2.1.5", "452 4.5.3", "354"] {
        client.reply().starts(expected);
    }
    client.data(&message("no bounce")).starts("550 5.1.1");
    client.command("QUIT").starts("221");
    relay.finish_clean(1);
    assert_eq!(next_hop.transactions().len(), 1);
}

#[test]
fn a_refused_recipient_shares_nothing() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::Rcpt(_) => say("550 5.1.1 nobody here"),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    client.command("MAIL FROM:<>").starts("250");
    client.command("RCPT TO:<bob@example.org>").starts("550");
    client.command(&format!("RCPT TO:<{SENDER}>")).starts("250 2.1.5");
    client.command("DATA").starts("354");
    client.data(&message("no bounce")).starts("550 5.1.1");
    assert_eq!(relay.finish().len(), 0);
}

#[test]
fn a_bounce_of_64_mib_or_of_many_parts_costs_little() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let record = acked(&relay, &archive, "bomb");
    let line = [&vec![b'x'; 70][..], b"\r\n"].concat();
    let long = dsn("delayed", &[&record[..], &line.repeat(60 * 1024 * 1024 / line.len())].concat());
    Client::ehlo(relay.address()).mail("", &[SENDER], &long).starts("250 2.0.0");
    let longer = [&long[..], &line.repeat(8 * 1024 * 1024 / line.len())].concat();
    Client::ehlo(relay.address()).mail("", &[SENDER], &longer).starts("552 5.3.4");
    let parts =
        dsn("delayed", &[&record[..], &b"\r\n--bb\r\nContent-Type: message/rfc822\r\n\r\n".repeat(100_000)].concat());
    Client::ehlo(relay.address()).mail("", &[SENDER], &parts).starts("250 2.0.0");
    let peak = relay.peak_memory_kib();
    assert!(peak < 100 * 1024, "{peak} KiB");
    assert_eq!(relay.finish().len(), 0);
}

/// A Postfix on the way to the archive takes the record, is refused behind, and bounces to where the record came from.
#[test]
fn a_real_bounce_comes_back_by_a_real_server() {
    if !installed(&["postfix"]) {
        return;
    }
    let (next_hop, reports) = (Sink::start(), Sink::start());
    let mut setup =
        Setup::with_routes(&next_hop.route(), "smtp://127.0.0.1:1").reporting_to(&reports).at_a_fixed_address();
    let home = tempfile::tempdir().unwrap();
    let postfix = Postfix::new(free_port(own_loopback_address()), setup.listen)
        .with("transport_maps", "inline:{ {vault.example = error:5.1.1 no such archive} }")
        // It is to take the record first, and not to refuse at RCPT what it knows it can't deliver.
        .with("smtpd_reject_unlisted_recipient", "no")
        .start(home.path());
    setup.organizations[0].route = format!("smtp://{}", postfix.address);
    let mut relay = setup.start();
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message("postfix")).starts("250");
    let failed = relay.wait_event("record.failed", |_| true);
    assert_eq!(failed.text("reason"), "bounced", "{failed:?}");
    assert!(failed.text("reply").contains("no such archive"), "{failed:?}");
    let report = Report::read(&reports.wait_for(1)[0].octets);
    assert!(report.text.contains("BOUNCED"), "{}", report.text);
    let original = relay.command(&["queue", "show", failed.text("record"), "--original"]);
    assert!(original.stdout == message("postfix"), "{original:?}");
    assert_eq!(relay.finish().len(), 1);
    assert_eq!(relay.count("record.committed"), 1, "a bounce is not journaled");
}
