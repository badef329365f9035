//! One record a message and organization, however many transactions carry it.

use crate::common::{Client, Record, Relay, Setup, Sink, Stage, drop_line};
use crate::message;

fn with_coalesce(wait: &str) -> (Sink, Sink, Relay) {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive);
    setup.organizations[0].more = format!("coalesce = \"{wait}\"");
    let relay = setup.start();
    (next_hop, archive, relay)
}

#[test]
fn transactions_of_one_message_within_coalesce_share_a_record() {
    let (next_hop, archive, mut relay) = with_coalesce("3s");
    for (to, trace) in
        [("bob@example.net", ""), ("eve@example.net", "Received: from another by path\r\n"), ("bob@example.net", "")]
    {
        let octets = [trace.as_bytes(), &message("split")].concat();
        Client::ehlo(relay.address()).mail("alice@example.org", &[to], &octets).starts("250");
    }
    assert_eq!(next_hop.wait_for(3).len(), 3, "every transaction is relayed");
    let record = Record::read(&archive.wait_for(1)[0].octets);
    assert_eq!(record.lines("To"), ["bob@example.net"]);
    assert_eq!(record.lines("Bcc"), ["eve@example.net"]);
    assert_eq!(record.original, message("split"));
    assert_eq!(relay.wait_events("record.merged", 2)[0].text("record"), record.id());
    relay.finish_clean(1);
    assert_eq!(archive.transactions().len(), 1);
}

#[test]
fn a_later_transaction_has_a_record_of_its_new_recipients_alone() {
    let (_next_hop, archive, mut relay) = with_coalesce("0s");
    let send = |to: &[&str]| {
        Client::ehlo(relay.address()).mail("alice@example.org", to, &message("late")).starts("250").code()
    };
    send(&["bob@example.net"]);
    let first = Record::read(&archive.wait_for(1)[0].octets);
    relay.wait_events("record.acked", 1);
    send(&["bob@example.net", "eve@example.net"]);
    let second = Record::read(&archive.wait_for(2)[1].octets);
    relay.wait_events("record.acked", 2);
    // Everybody is known by now, also after a restart.
    send(&["eve@example.net"]);
    relay.terminate();
    relay.launch();
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message("late")).starts("250");
    assert_eq!(relay.finish().len(), 0);
    assert_eq!(archive.transactions().len(), 2);
    assert_eq!(first.recipients(), ["bob@example.net"]);
    assert_eq!(second.recipients(), ["eve@example.net"]);
    assert_eq!(first.field("X-Journal-Supplement"), None);
    assert_eq!(second.field("X-Journal-Supplement"), Some(first.message_id()));
    assert_eq!(second.original, message("late"));
}

#[test]
fn messages_that_differ_in_one_octet_have_two_records() {
    let (_next_hop, archive, mut relay) = with_coalesce("1s");
    let mut other = message("twin");
    let place = other.len() - 3;
    other[place] ^= 1;
    for octets in [message("twin"), other] {
        Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &octets).starts("250");
    }
    archive.wait_for(2);
    relay.finish_clean(2);
}

/// The next hop vanishes behind the final dot of the first message, and works from then on.
#[test]
fn the_retry_after_a_lost_verdict_has_no_second_record_also_without_a_message_id() {
    for octets in [message("lost"), b"From: alice@example.org\r\n\r\nnightly report\r\n".to_vec()] {
        let first = std::sync::atomic::AtomicBool::new(true);
        let next_hop = Sink::scripted(move |stage| match stage {
            Stage::End(_) if first.swap(false, std::sync::atomic::Ordering::SeqCst) => drop_line(),
            _ => None,
        });
        let archive = Sink::start();
        let mut relay = Setup::new(&next_hop, &archive).start();
        let send =
            |relay: &Relay| Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &octets);
        send(&relay).starts("451 4.4.1");
        let record = Record::read(&archive.wait_for(1)[0].octets);
        assert_eq!(record.field("X-Journal-Outcome"), Some("unknown"));
        relay.wait_events("record.acked", 1);
        // In order: a kill could swallow the acknowledgement, and the archive would get a repeat.
        relay.terminate();
        relay.launch();
        send(&relay).starts("250");
        assert_eq!(relay.wait_event("record.merged", |_| true).text("record"), record.id());
        // An equal message later is known by its Message-ID; without one it is another message.
        let another = !octets.starts_with(b"From: Alice");
        send(&relay).starts("250");
        relay.finish_clean(usize::from(another));
        assert_eq!(archive.transactions().len(), 1 + usize::from(another));
    }
}

#[test]
fn each_of_two_organizations_has_its_record_and_one_of_them_names_its_own_users_alone() {
    let (next_hop, acme, globex) = (Sink::start(), Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &acme).and("globex", &["globex.example"], &globex);
    setup.organizations[1].more = "recipients = \"own\"".into();
    let mut relay = setup.start();
    let mut client = Client::ehlo(relay.address());
    let recipients = ["bob@example.org", "gil@globex.example", "eve@elsewhere.example", "gus@globex.example"];
    client.mail("stranger@elsewhere.example", &recipients, &message("both")).starts("250");

    assert_eq!(Record::read(&acme.wait_for(1)[0].octets).recipients(), recipients);
    assert_eq!(Record::read(&globex.wait_for(1)[0].octets).recipients(), ["gil@globex.example", "gus@globex.example"]);
    drop(client);
    relay.finish_clean(2);
}
