//! The working day: everything a spool does, in an order that brings every kind of operation of the disk.

use super::SimulatedDisk;
use super::work::{Books, Desk, KEEP_HISTORY, Move, WINDOW, in_time};
use journal_relay::spool::{Spool, SpoolError, Verdict};
use std::time::Duration;

/// The whole day on `disk`, until it is over or something fails. What was promised is in the books.
pub async fn day(books: &Books, disk: &SimulatedDisk) -> Result<(), SpoolError> {
    day_at(&mut None, books, disk).await
}

/// The same; leaves the spool as it was when something failed. None: it was not open, or it was being closed.
pub async fn day_at(open: &mut Option<Desk>, books: &Books, disk: &SimulatedDisk) -> Result<(), SpoolError> {
    let (desk, _) = books.open(disk)?;
    *open = Some(desk.clone());
    let first = morning(&desk).await?;
    noon(&desk, &first).await?;
    *open = None;
    desk.spool.close().await?;
    drop(desk);
    let (desk, _) = books.open(disk)?;
    *open = Some(desk.clone());
    afternoon(&desk).await?;
    *open = None;
    desk.spool.close().await
}

/// A day that ends at noon: records of every kind are there, large and small.
pub async fn half_a_day(books: &Books, disk: &SimulatedDisk) -> Result<(), SpoolError> {
    let (desk, _) = books.open(disk)?;
    desk.spool.secret([7; 32]).await?;
    let first = morning(&desk).await?;
    noon(&desk, &first).await?;
    desk.spool.close().await
}

/// Messages come in: small and large, one by one and together; verdicts of all three kinds; repeats that are merged.
async fn morning(desk: &Desk) -> Result<Vec<usize>, SpoolError> {
    let message = |identity, recipients: &[&'static str], size| desk.books.message(identity, recipients, size, false);
    let small = message(1, &["a@x.example", "b@x.example"], 700);
    desk.relay(small).await?;
    let large = message(2, &["a@x.example"], 40_000);
    desk.relay(large).await?;
    let together = [
        message(3, &["a@x.example"], 2_000),
        message(4, &["b@x.example"], 33_000),
        message(5, &["c@x.example"], 9_000),
    ];
    let [one, two, three] = together.map(|which| desk.prepare(which));
    let (one, two, three) = tokio::join!(one, two, three);
    one.and(two).and(three)?;
    // Nobody waits for verdicts; what is asked next overtakes them, and they all gather.
    let verdicts = [
        desk.decide(together[0], Verdict::Accepted),
        desk.decide(together[1], Verdict::Refused),
        desk.decide(together[2], Verdict::Unknown),
    ];
    for verdict in verdicts {
        verdict.await?;
    }
    let joins = desk.books.message(1, &["c@x.example"], 700, true);
    desk.relay(joins).await?;
    let joins = desk.books.message(2, &["a@x.example", "d@x.example"], 40_000, true);
    desk.relay(joins).await?;
    Ok(vec![small, large, together[0], together[2]])
}

/// Attempts end in every way; a late repeat comes; an operator gives one up.
async fn noon(desk: &Desk, first: &[usize]) -> Result<(), SpoolError> {
    desk.books.advance(WINDOW);
    let claims = desk.claim().await?;
    assert_eq!(claims.iter().map(|(which, _)| *which).collect::<Vec<_>>(), first);
    desk.ack(first[0]).await?;
    let defers = desk.defer(first[1]);
    let fails = desk.fail(first[2]);
    in_time(&desk.spool, desk.books.now(), desk.spool.unclaim(desk.books.told(first[3]).record)).await?;
    defers.await?;
    fails.await?;
    let known = desk.books.message(1, &["a@x.example"], 700, true);
    desk.relay(known).await?;
    let more = desk.books.message(1, &["a@x.example", "e@x.example"], 700, false);
    desk.relay(more).await?;
    desk.discard(first[2]).await?;
    // Much at once, so that the log is carried over and begins anew.
    for identity in 10..12 {
        let bulk = desk.books.message(identity, &["a@x.example"], 20_000, false);
        desk.relay(bulk).await?;
    }
    Ok(())
}

/// Everything is sent, and in time forgotten.
async fn afternoon(desk: &Desk) -> Result<(), SpoolError> {
    desk.books.advance(Duration::from_secs(3_600));
    for (which, _) in desk.claim().await? {
        desk.ack(which).await?;
    }
    let last = desk.books.message(20, &["a@x.example"], 50_000, false);
    desk.prepare(last).await?;
    desk.books.advance(KEEP_HISTORY + Duration::from_secs(1));
    for (which, told) in desk.books.ledger.all().iter().enumerate() {
        if told.asked.last() == Some(&Move::Ack) {
            desk.books.may_forget(which);
        }
    }
    // The writer looks after history once a minute.
    tokio::time::sleep(Duration::from_secs(61)).await;
    desk.decide(last, Verdict::Accepted).await
}
