//! The checker sees what it is for: a world in which all is well, and one for each way to break a promise.

use super::super::history::{
    Arrival, Attempt, Entry, Gap, History, Logged, Operated, Peer, Returned, Said, Shown, Stage, Trouble, Wrong,
};
use super::super::mail::Mail;
use super::super::operator::Wish;
use super::super::returns::Kind;
use super::check;
use std::collections::BTreeMap;
use std::sync::Arc;

const RECIPIENT: &str = "sam@south.example";
const OTHER: &str = "sue@south.example";

fn mail() -> Mail {
    Mail {
        sender: Some("eve@elsewhere.example".to_owned()),
        author: "eve@elsewhere.example".to_owned(),
        octets: b"From: <eve@elsewhere.example>\r\nMessage-ID: <m0@elsewhere.example>\r\n\r\nHello.\r\n".to_vec(),
        identity: 0,
        has_message_id: true,
        is_eight_bit: false,
    }
}

/// The octets of a record as archives get them.
fn record(id: &str, recipients: &[&str], more: &str, original: &[u8]) -> Vec<u8> {
    let named: String = recipients.iter().map(|recipient| format!("Bcc: {recipient}\r\n")).collect();
    let head = format!(
        "From: amazonjournaling@south.awsapps.com\r\nMessage-ID: <{id}@journal.report.generator>\r\n\
         X-Journal-Record: {id}\r\n{more}Content-Type: multipart/mixed; boundary=\"_b_\"\r\n\r\n--_b_\r\n\
         Content-Type: text/plain; charset=\"us-ascii\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
         Sender: eve@elsewhere.example\r\n{named}\r\n--_b_\r\nContent-Type: message/rfc822\r\n\r\n"
    );
    [head.as_bytes(), original, b"\r\n--_b_--\r\n"].concat()
}

fn arrival(at: Peer, when: u64, number: u64, octets: Vec<u8>) -> Arrival {
    let (from, to) = match at {
        Peer::NextHop => ("eve@elsewhere.example", RECIPIENT),
        Peer::Reports => ("", "postmaster@south.example"),
        _ => ("amazonjournaling@south.awsapps.com", "archive@two.example"),
    };
    Arrival {
        at,
        when,
        from: from.to_owned(),
        recipients: vec![to.to_owned()],
        octets: Arc::new(octets),
        taken: true,
        number,
        reply: format!("250 2.0.0 taken #{number}"),
        replied: true,
        replied_at: when,
        eight_bit_mime: true,
    }
}

fn relayed(when: u64, number: u64) -> Arrival {
    let octets = [b"Received: from client by relay\r\n".as_slice(), &mail().octets].concat();
    arrival(Peer::NextHop, when, number, octets)
}

fn attempt(reply: &str) -> Attempt {
    let replies = [
        (Stage::Mail, "250 2.1.0 sender ok #1"),
        (Stage::Rcpt, "250 2.1.5 recipient ok #2"),
        (Stage::Data, "354 go ahead #3"),
        (Stage::Dot, reply),
    ];
    Attempt {
        client: 0,
        mail: 0,
        began: 1_000,
        ended: 2_000,
        replies: replies.map(|(stage, reply)| (stage, reply.to_owned())).to_vec(),
        accepted: vec![RECIPIENT.to_owned()],
        dot_sent: true,
        end: Some(reply.to_owned()),
    }
}

fn logged(event: &str, fields: &[(&str, &str)]) -> Logged {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Logged { when: 2_000, event: event.to_owned(), fields }
}

fn acked(id: &str) -> Entry {
    Entry {
        id: id.to_owned(),
        state: "acked".to_owned(),
        organization: "south".to_owned(),
        archive: "archive@two.example".to_owned(),
        shown: Shown::default(),
    }
}

/// One message, relayed, recorded, acknowledged.
fn well() -> History {
    let said = |at, stage, text: &str| Said { at, stage, text: text.to_owned(), twice: false };
    let said = BTreeMap::from([
        (1, said(Peer::NextHop, Stage::Mail, "250 2.1.0 sender ok #1")),
        (2, said(Peer::NextHop, Stage::Rcpt, "250 2.1.5 recipient ok #2")),
        (3, said(Peer::NextHop, Stage::Data, "354 go ahead #3")),
        (4, said(Peer::NextHop, Stage::Dot, "250 2.0.0 taken #4")),
        (5, said(Peer::Two, Stage::Dot, "250 2.0.0 taken #5")),
        (6, said(Peer::Two, Stage::Rcpt, "550 5.7.1 never #6")),
    ]);
    History {
        mails: vec![mail()],
        attempts: vec![attempt("250 2.0.0 taken #4")],
        arrivals: vec![relayed(1_500, 4), arrival(Peer::Two, 3_000, 5, record("r1", &[RECIPIENT], "", &mail().octets))],
        said,
        log: vec![logged("record.committed", &[("record", "r1"), ("organization", "south")])],
        spool: vec![acked("r1")],
        ..History::default()
    }
}

/// The same world with something broken; the complaints, which must all be about that promise.
#[track_caller]
fn broken(promise: &str, breaks: impl FnOnce(&mut History)) {
    let mut history = well();
    breaks(&mut history);
    let complaints = check(&history);
    assert!(complaints.iter().any(|complaint| complaint.starts_with(promise)), "{promise}: {complaints:#?}");
}

fn second_record(history: &mut History, id: &str, recipients: &[&str], more: &str) {
    let octets = record(id, recipients, more, &mail().octets);
    history.arrivals.push(arrival(Peer::Two, 4_000, 5, octets));
    history.spool.push(acked(id));
}

#[test]
fn a_world_in_which_all_is_well_has_no_complaints() {
    assert_eq!(check(&well()), Vec::<String>::new());
}

#[test]
fn a_message_released_without_a_record_is_seen() {
    broken("1 journaled", |history| {
        history.arrivals.pop();
    });
    broken("1 journaled", |history| history.arrivals[0].recipients.push(OTHER.to_owned()));
    // Also when nobody heard that it was taken.
    broken("1 journaled", |history| {
        history.arrivals.pop();
        history.arrivals[0].replied = false;
        history.attempts[0] = attempt("451 4.4.1 lost");
    });
}

#[test]
fn a_record_that_left_the_spool_otherwise_is_seen() {
    broken("2 kept", |history| history.arrivals[1].taken = false);
    broken("2 kept", |history| history.spool.clear());
    broken("2 kept", |history| history.spool[0].state = "waiting".to_owned());
    broken("2 kept", |history| history.recovered = (1, 0));
    broken("2 kept", |history| history.log.push(logged("record.committed", &[("record", "r2")])));
    broken("2 kept", |history| history.log.push(logged("record.failed", &[("reply", "no connection")])));
    let mut refused = well();
    refused.log.push(logged("record.failed", &[("reply", "550 5.7.1 never #6")]));
    assert_eq!(check(&refused), Vec::<String>::new());
}

fn operated(wish: Wish, asked: u64, state: &str) -> Operated {
    let reason = "a reason".to_owned();
    Operated { id: "r1".to_owned(), wish, asked, answered: Some(asked), state: state.to_owned(), reason }
}

#[test]
fn a_held_record_that_is_sent_is_seen() {
    broken("2 kept", |history| history.operated.push(operated(Wish::Hold, 1_600, "held")));
    for released in [2_000, 3_000] {
        let mut history = well();
        history.operated = vec![operated(Wish::Hold, 1_600, "held"), operated(Wish::Release, released, "waiting")];
        assert_eq!(check(&history), Vec::<String>::new());
    }
}

#[test]
fn a_record_that_was_discarded_without_a_wish_or_was_not_is_seen() {
    let discarded = |history: &mut History, reason: &str| {
        history.arrivals.pop();
        history.spool[0].state = "discarded".to_owned();
        history.spool[0].shown = Shown {
            recipients: vec![RECIPIENT.to_owned()],
            reason: reason.to_owned(),
            message_id: "<r1@x>".to_owned(),
            ..Shown::default()
        };
        history.originals.insert("r1".to_owned(), Arc::new(mail().octets));
    };
    broken("2 kept", |history| discarded(history, "a reason"));
    broken("2 kept", |history| {
        discarded(history, "another");
        history.operated.push(operated(Wish::Discard, 1_800, "discarded"));
    });
    broken("2 kept", |history| history.operated.push(operated(Wish::Discard, 1_800, "discarded")));
    let mut history = well();
    discarded(&mut history, "a reason");
    history.operated.push(operated(Wish::Discard, 1_800, "discarded"));
    assert_eq!(check(&history), Vec::<String>::new());
}

#[test]
fn a_message_without_record_or_gap_is_seen_also_with_bypass() {
    let octets = [b"Received: from client by relay with ESMTP id q1; now\r\n".as_slice(), &mail().octets].concat();
    let bypassed = |history: &mut History| {
        (history.bypass, history.arrivals[0].octets) = (true, Arc::new(octets.clone()));
        history.arrivals.pop();
        (history.spool, history.log) = (Vec::new(), Vec::new());
    };
    let line = || logged("record.bypassed", &[("organization", "south"), ("queue_id", "q1")]);
    let gap = |messages| Gap { organization: "south".to_owned(), messages, queue_ids: vec!["q1".to_owned()] };
    let mut history = well();
    bypassed(&mut history);
    history.log.push(line());
    history.gaps.push(gap(1));
    assert_eq!(check(&history), Vec::<String>::new());
    broken("1 journaled", bypassed);
    broken("1 journaled", |history| {
        bypassed(history);
        history.log.push(line());
    });
    broken("6 honest", |history| {
        bypassed(history);
        history.gaps.push(gap(1));
    });
    broken("6 honest", |history| {
        bypassed(history);
        history.log.push(line());
        history.gaps.push(gap(2));
    });
}

#[test]
fn a_gap_may_be_in_the_log_alone_where_it_was_told_before_the_end_of_a_drain_on_a_disk_that_takes_nothing() {
    let octets = [b"Received: from client by relay with ESMTP id q1; now\r\n".as_slice(), &mail().octets].concat();
    let told_after_the_drain_began_by = |late: u64| {
        let mut history = well();
        (history.bypass, history.arrivals[0].octets) = (true, Arc::new(octets.clone()));
        history.arrivals.pop();
        history.spool = Vec::new();
        let fields = [("organization", "south"), ("queue_id", "q1")];
        history.log = vec![Logged { when: 100_000 + late, ..logged("record.bypassed", &fields) }];
        history.troubles.push(Trouble { what: Wrong::Disk, from: 0, until: 200_000 });
        history.troubles.push(Trouble { what: Wrong::Restart, from: 100_000, until: 100_700 });
        check(&history).into_iter().any(|complaint| complaint.starts_with("1 journaled"))
    };
    assert!(!told_after_the_drain_began_by(100));
    assert!(told_after_the_drain_began_by(60_000));
}

fn returned(kind: Kind, reply: &str) -> Returned {
    let (about, diagnostic) = ("r1".to_owned(), "552 full".to_owned());
    let octets = Arc::default();
    let at = Peer::Two;
    Returned { at, kind, about, diagnostic, octets, began: 5_000, ended: 5_100, reply: Some(reply.to_owned()) }
}

#[test]
fn a_record_that_came_back_and_is_not_kept_as_failed_is_seen() {
    let failed = || Logged {
        when: 5_050,
        ..logged("record.failed", &[("record", "r1"), ("reply", "bounced: 552 full"), ("reason", "bounced")])
    };
    let kept = "250 2.0.0 the record is kept as failed";
    let again = |history: &mut History| {
        let again = Arrival { when: 9_000, ..history.arrivals[1].clone() };
        history.arrivals.push(again);
    };
    let mut history = well();
    history.returned.push(returned(Kind::Whole, kept));
    history.log.push(failed());
    again(&mut history);
    assert_eq!(check(&history), Vec::<String>::new());
    broken("2 kept", |history| {
        history.returned.push(returned(Kind::Whole, kept));
        history.log.push(failed());
    });
    broken("6 honest", |history| {
        history.returned.push(returned(Kind::Whole, kept));
        again(history);
    });
    broken("2 kept", |history| history.log.push(failed()));
    broken("6 honest", |history| history.returned.push(returned(Kind::Whole, "550 5.1.1 who?")));
    for kind in [Kind::Stranger, Kind::Foreign, Kind::Nothing, Kind::Letter] {
        broken("6 honest", |history| history.returned.push(returned(kind, "250 2.0.0 noted")));
    }
}

#[test]
fn our_own_mail_that_goes_on_without_a_word_is_seen() {
    let loops = |history: &mut History, kind: &str| {
        let octets = [b"Received: by two\r\n".as_slice(), &history.arrivals[1].octets].concat();
        let relayed = [b"Received: from two by relay id q9; now\r\n".as_slice(), &octets].concat();
        history.arrivals.push(arrival(Peer::NextHop, 6_000, 4, relayed));
        history.returned.push(Returned { octets: Arc::new(octets), ..returned(Kind::Loop, "250 2.0.0 taken #4") });
        history.log.push(logged("loop.detected", &[("queue_id", "q9"), ("kind", kind)]));
    };
    let mut history = well();
    loops(&mut history, "record");
    assert_eq!(check(&history), Vec::<String>::new());
    broken("5 quiet", |history| loops(history, "report"));
}

#[test]
fn a_failure_that_is_not_told_or_told_again_is_seen() {
    let fails = |history: &mut History| {
        let fields = [("record", "r1"), ("organization", "south"), ("reply", "550 5.7.1 never #6")];
        history.log.push(logged("record.failed", &fields));
    };
    let told = |history: &mut History, text: &str| {
        let octets = format!("To: you\r\n\r\nAction: failed\r\n\r\n{text}\r\n").into_bytes();
        history.arrivals.push(arrival(Peer::Reports, 8_000, 7, octets));
    };
    for text in ["record,reply\r\nr1,550", "Record: r1"] {
        let mut history = well();
        fails(&mut history);
        told(&mut history, text);
        assert_eq!(check(&history), Vec::<String>::new());
    }
    broken("5 quiet", fails);
    broken("5 quiet", |history| {
        fails(history);
        told(history, "r1,550");
        told(history, "Record: r1");
    });
    broken("5 quiet", |history| {
        fails(history);
        told(history, "r1,550\r\nr1,550");
    });
}

#[test]
fn a_repeat_without_a_reason_is_seen() {
    let repeat = |history: &mut History| {
        let again = Arrival { when: 9_000, ..history.arrivals[1].clone() };
        history.arrivals.push(again);
    };
    broken("3 once", repeat);
    for excuse in [Wrong::Power, Wrong::Crash, Wrong::Line(Peer::Two), Wrong::Down(Peer::Two)] {
        let mut history = well();
        repeat(&mut history);
        history.troubles.push(Trouble { what: excuse, from: 3_100, until: 4_000 });
        assert_eq!(check(&history), Vec::<String>::new(), "{excuse:?}");
        // Long over, or long after.
        for at in [500, 8_000] {
            history.troubles = vec![Trouble { what: excuse, from: at, until: at + 100 }];
            assert_eq!(check(&history).len(), 1, "{excuse:?} at {at}");
        }
    }
}

#[test]
fn a_repeat_that_differs_is_seen() {
    broken("3 once", |history| {
        history.arrivals[1].replied = false;
        second_record(history, "r1", &[RECIPIENT], "Date: another\r\n");
    });
    broken("3 once", |history| {
        let octets = record("r1", &[RECIPIENT], "", &mail().octets);
        let octets = String::from_utf8(octets).unwrap().replace("<r1@", "<r2@").into_bytes();
        history.arrivals[1].replied = false;
        history.arrivals.push(arrival(Peer::Two, 4_000, 5, octets));
    });
}

#[test]
fn a_second_record_of_a_message_is_seen() {
    broken("3 once", |history| second_record(history, "r2", &[RECIPIENT], ""));
    broken("3 once", |history| second_record(history, "r2", &[OTHER], ""));
    broken("3 once", |history| second_record(history, "r2", &[OTHER], "X-Journal-Supplement: <r9@x>\r\n"));
    let mut supplemented = well();
    let supplement = "X-Journal-Supplement: <r1@journal.report.generator>\r\n";
    second_record(&mut supplemented, "r2", &[OTHER], supplement);
    supplemented.attempts[0].accepted.push(OTHER.to_owned());
    supplemented.arrivals[0].recipients.push(OTHER.to_owned());
    assert_eq!(check(&supplemented), Vec::<String>::new());
}

#[test]
fn a_record_of_what_was_never_released_is_seen() {
    broken("3 once", |history| history.attempts[0].dot_sent = false);
    broken("3 once", |history| history.attempts[0] = attempt("550 5.7.1 never #4"));
}

#[test]
fn changed_octets_are_seen() {
    broken("4 exact", |history| {
        history.arrivals[0].octets = Arc::new(mail().octets);
    });
    broken("4 exact", |history| {
        let octets = [b"Received: from client by relay\r\n".as_slice(), &mail().octets, b"\r\n"].concat();
        history.arrivals[0].octets = Arc::new(octets);
    });
    broken("4 exact", |history| {
        history.arrivals[1].octets = Arc::new(record("r1", &[RECIPIENT], "", b"Subject: another\r\n\r\n"));
    });
    broken("4 exact", |history| history.arrivals[0].from = "somebody@elsewhere.example".to_owned());
}

#[test]
fn a_flood_of_reports_and_a_journaled_record_are_seen() {
    broken("5 quiet", |history| {
        for number in 0..200 {
            history.arrivals.push(arrival(Peer::Reports, 5_000, 5, format!("{number}\r\n").into_bytes()));
        }
    });
    broken("5 quiet", |history| history.arrivals[1].recipients.push(RECIPIENT.to_owned()));
    broken("5 quiet", |history| {
        history.arrivals.push(Arrival {
            from: "postmaster@south.example".to_owned(),
            ..arrival(Peer::Reports, 5_000, 5, b"report\r\n".to_vec())
        });
    });
    broken("4 exact", |history| {
        let octets = [b"Received: from relay by relay\r\n".as_slice(), &history.arrivals[1].octets].concat();
        history.arrivals.push(arrival(Peer::NextHop, 6_000, 4, octets));
    });
}

#[test]
fn a_lie_to_the_client_is_seen() {
    broken("6 honest", |history| history.arrivals[0].taken = false);
    broken("6 honest", |history| history.attempts[0] = attempt("250 2.0.0 taken #5"));
    broken("6 honest", |history| history.attempts[0] = attempt("250 2.0.0 taken"));
    broken("6 honest", |history| history.attempts[0] = attempt("550 5.0.0 our disk is broken"));
    broken("6 honest", |history| history.attempts[0] = attempt("451 try again"));
    // The next hop's 250 came through, and the client hears of a failure.
    broken("6 honest", |history| history.attempts[0] = attempt("451 4.4.1 lost"));
    broken("6 honest", |history| history.attempts[0].accepted = vec![OTHER.to_owned()]);
    broken("6 honest", |history| {
        history.arrivals[1].octets =
            Arc::new(record("r1", &[RECIPIENT], "X-Journal-Outcome: unknown\r\n", &mail().octets));
    });
    broken("6 honest", |history| {
        history.arrivals[0].taken = false;
        history.attempts[0] = attempt("451 4.4.1 lost");
    });
}

#[test]
fn work_left_over_is_seen() {
    broken("7 bounded", |history| history.log.push(logged("daemon.draining", &[("open", "[\"session\"]")])));
    broken("2 kept: it", |history| history.broken.push("2 kept: it does not end".to_owned()));
}
