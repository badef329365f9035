//! The next hop that is a maildir.

use super::*;
use std::path::Path;

fn files(path: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_maildir_takes_every_recipient_and_keeps_the_octets() {
    let directory = tempfile::tempdir().unwrap();
    let next_hop = NextHop::new(Route::Maildir(directory.path().join("box")), "relay.example".into()).unwrap();
    assert_eq!(next_hop.label(), format!("maildir:{}", directory.path().join("box").display()));
    let offered = next_hop.learn().await.unwrap();
    assert!(offered.pipelining && offered.eight_bit_mime && offered.smtp_utf8 && offered.enhanced_status_codes);
    assert!(offered.chunking, "octets are kept as they are, however they came");
    assert!(offered.size == Some(0) && !offered.dsn && !offered.starttls);

    let mut leg = next_hop.open().await.unwrap();
    assert_eq!(leg.lacks(&mail_with(&[("BODY", Some("8BITMIME")), ("SMTPUTF8", None), ("SIZE", Some("1"))])), None);
    assert_eq!(leg.lacks(&mail_with(&[("RET", Some("FULL"))])), Some("DSN"));
    leg.mail(&mail());
    leg.rcpt(&rcpt());
    leg.data();
    assert_eq!(leg.reply().await.unwrap().to_string(), "250 2.1.0 Ok");
    assert_eq!(leg.reply().await.unwrap().to_string(), "250 2.1.5 Ok");
    assert_eq!(leg.reply().await.unwrap().code(), 354);
    leg.content(b".a: b\r\n\r\n..\r\n.\r\n").await.unwrap();
    leg.content(b"\0\xff\nno end").await.unwrap();
    let reply = leg.finish().await.unwrap();
    leg.release();

    let kept = files(&directory.path().join("box/new"));
    assert_eq!(std::fs::read(&kept[0]).unwrap(), b".a: b\r\n\r\n..\r\n.\r\n\0\xff\nno end");
    let name = kept[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(reply, Reply::new(250, format!("2.0.0 Ok: kept as {name}")));
}

#[tokio::test]
async fn an_abandoned_or_dropped_message_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let next_hop = NextHop::new(Route::Maildir(directory.path().to_owned()), "relay.example".into()).unwrap();
    let mut leg = next_hop.open().await.unwrap();
    begin_message(&mut leg).await.unwrap();
    leg.content(b"half").await.unwrap();
    leg.abandon_data().await;
    assert!(matches!(leg.finish().await, Err(Lost::OutOfOrder(_))));
    begin_message(&mut leg).await.unwrap();
    drop(leg);
    assert!(files(&directory.path().join("tmp")).is_empty() && files(&directory.path().join("new")).is_empty());
}

#[tokio::test]
async fn a_maildir_that_cannot_be_written_defers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let next_hop = NextHop::new(Route::Maildir(file), "relay.example".into()).unwrap();
    let mut leg = next_hop.open().await.unwrap();
    leg.data();
    let reply = leg.reply().await.unwrap();
    assert!(reply.code() == 451 && reply.enhanced() == Some("4.3.0"), "{reply}");
    assert!(matches!(leg.content(b"x").await, Err(Lost::OutOfOrder(_))));
}

#[tokio::test]
async fn a_message_that_cannot_be_finished_defers() {
    let directory = tempfile::tempdir().unwrap();
    let next_hop = NextHop::new(Route::Maildir(directory.path().to_owned()), "relay.example".into()).unwrap();
    let mut leg = next_hop.open().await.unwrap();
    begin_message(&mut leg).await.unwrap();
    std::fs::remove_dir(directory.path().join("new")).unwrap();
    leg.content(b"x\r\n").await.unwrap();
    let reply = leg.finish().await.unwrap();
    assert!(reply.code() == 451 && reply.enhanced() == Some("4.3.0"), "{reply}");
}
