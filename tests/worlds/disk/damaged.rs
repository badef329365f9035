//! A log in front of the database that is damaged: what a start makes of it, with the power lost at every operation.

use super::older::counts;
use super::power::{run, where_it_was};
use super::work::{Books, Desk, ROOT, path};
use super::{Aftermath, Fault, SimulatedDisk};
use journal_relay::spool::Spool as _;
use journal_relay::spool::disk::Disk as _;
use std::io::Read as _;

/// Small and large messages.
const SIZES: [usize; 5] = [700, 2_000, 40_000, 900, 700];
/// The one whose group is damaged has a file.
const DAMAGED: usize = 2;

/// What there is after a start: records, messages, octet files, damaged logs.
type Found = [usize; 4];

#[test]
fn a_start_on_a_damaged_log_that_loses_power_at_any_operation_costs_nothing_more() {
    run(async {
        let (books, disk) = damaged().await;
        let expected = found(&books, &disk.after_power_cut(Aftermath::Kept)).await;
        // The file of the message that is lost is there, and so is the log.
        assert_eq!(expected, [SIZES.len() - 1, SIZES.len() - 1, 1, 1]);
        let mut cut = 0;
        loop {
            let starting = disk.after_power_cut(Aftermath::Kept);
            starting.plan(cut, Fault::PowerCut);
            let opened = books.open(&starting).map(drop);
            if opened.is_ok() && !starting.is_dead() {
                break;
            }
            for aftermath in [Aftermath::Lost, Aftermath::Kept, Aftermath::Torn(cut)] {
                let context = format!("power lost before {} {aftermath:?}", where_it_was(&starting));
                assert_eq!(found(&books, &starting.after_power_cut(aftermath)).await, expected, "{context}");
            }
            cut += 1;
        }
        assert!(cut > 10, "a start has {cut} operations");
    });
}

/// Work that ends with a kill, and then the disk changes an octet of the log.
async fn damaged() -> (Books, SimulatedDisk) {
    let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, 1));
    let (desk, _) = books.open(&disk).unwrap();
    let told = relay(&desk).await;
    let disk = disk.after_kill();
    let log = path().join("front");
    let mut octets = Vec::new();
    disk.open(&log).unwrap().read_to_end(&mut octets).unwrap();
    let name = books.told(told[DAMAGED]).queue_id.to_string();
    let at = octets.windows(name.len()).position(|octets| octets == name.as_bytes()).unwrap();
    let mut log = disk.open_log(&log).unwrap();
    log.write_at(at as u64, &[&[octets[at] ^ 1]]).unwrap();
    log.sync().unwrap();
    (books, disk.after_power_cut(Aftermath::Kept))
}

async fn relay(desk: &Desk) -> Vec<usize> {
    let mut told = Vec::new();
    for (identity, size) in SIZES.into_iter().enumerate() {
        let which = desk.books.message(u8::try_from(identity).unwrap(), &["a@x.example"], size, false);
        desk.relay(which).await.unwrap();
        told.push(which);
    }
    told
}

async fn found(books: &Books, disk: &SimulatedDisk) -> Found {
    let (desk, _) = books.copy().open(disk).unwrap();
    desk.spool.close().await.unwrap();
    drop(desk);
    let rows = counts(disk);
    let files = disk.files(&path());
    let of = |part: &str| files.iter().filter(|file| file.to_str().unwrap().contains(part)).count();
    let [records, messages] = ["record", "message"].map(|table| usize::try_from(rows[table]).unwrap());
    [records, messages, of("/octets/"), of("/front.damaged-")]
}
