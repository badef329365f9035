//! A log that is damaged, or another database's.

use super::super::entry::Entries;
use super::super::log::{Beginning, HEAD, parts};
use super::super::recovery::copy;
use super::super::store::save_generation;
use super::*;
use std::path::PathBuf;

impl House {
    fn log(&self) -> PathBuf {
        self.directory.path().join("front")
    }

    /// Where the groups are with which a half of the log begins, of one generation.
    fn groups(&self, half: usize) -> Vec<usize> {
        let octets = std::fs::read(self.log()).unwrap();
        let head = |at: usize| parts(octets[at..at + HEAD].try_into().unwrap());
        let (mut at, mut groups) = (half * octets.len() / 2, Vec::new());
        let (first, ..) = head(at);
        while first != 0 && head(at).0 == first {
            groups.push(at);
            at += HEAD + usize::try_from(head(at).1).unwrap();
        }
        groups
    }

    /// Changes the last octet of a group.
    fn damage(&self, group: usize) {
        let mut octets = std::fs::read(self.log()).unwrap();
        let (_, length, _) = parts(octets[group..group + HEAD].try_into().unwrap());
        octets[group + HEAD + usize::try_from(length).unwrap() - 1] ^= 1;
        std::fs::write(self.log(), &octets).unwrap();
    }

    fn evidence(&self) -> Vec<PathBuf> {
        evidence(&self.disk, self.directory.path()).unwrap()
    }

    fn lacks(&self, id: RecordId) -> bool {
        rows::lacks(&self.db, id).unwrap()
    }

    fn settle(&mut self, id: RecordId) {
        let (now, acked) = (self.now, Outcome::Acked { reply: "250 ok".to_owned(), retain: false });
        self.take(|step| settle(step, id, &acked, now));
    }

    /// Messages in the database, and those of them that have octets there.
    fn messages(&self) -> (i64, i64) {
        let count = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.db.query_row("SELECT count(*), count(octets) FROM message", [], count).unwrap()
    }

    /// Everything is the database's.
    fn carry_over(&mut self) {
        let transaction = self.db.unchecked_transaction().unwrap();
        self.front.store(&transaction).unwrap();
        transaction.commit().unwrap();
        self.front.restart();
    }

    /// The other half begins with nothing that stays.
    fn begin(&mut self) -> Beginning {
        let mut stays = Entries::default();
        stays.behind(self.front.log.generation()).unwrap();
        self.front.log.begin_other(&stays.slices()).unwrap()
    }

    /// The log goes on in its other half.
    fn switch(&mut self) {
        let beginning = self.begin();
        save_generation(&self.db, beginning.generation).unwrap();
        self.front.log.switch(beginning);
    }

    /// The files of the database as it is now.
    fn backup(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let names = ["spool.sqlite", "spool.sqlite-wal"].map(|name| self.directory.path().join(name));
        names.map(|path| (path.clone(), std::fs::read(&path).unwrap())).to_vec()
    }

    /// Puts a database in the place of the one that is there, or removes that.
    fn restore(&mut self, backup: &[(PathBuf, Vec<u8>)]) {
        self.db = Connection::open_in_memory().unwrap();
        for name in ["spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm"] {
            drop(std::fs::remove_file(self.directory.path().join(name)));
        }
        if backup.is_empty() {
            return;
        }
        for (path, octets) in backup {
            std::fs::write(path, octets).unwrap();
        }
        self.db = schema::open_writable(&*self.disk, self.directory.path(), false).unwrap();
    }

    /// A start says no, and changes nothing.
    fn refuses(&mut self, why: &str) {
        let there = std::fs::read(self.log()).unwrap();
        assert!(is_left(&self.db, &self.disk, self.directory.path()).unwrap(), "{why}: a command asks");
        let error = self.recover().unwrap_err().to_string();
        assert!(error.contains("its log, `front`, has mail that the database doesn't know"), "{why}: {error}");
        assert!(std::fs::read(self.log()).unwrap() == there, "{why}");
        assert!(self.evidence().is_empty(), "{why}");
    }
}

#[test]
fn of_a_damaged_log_the_rest_is_taken_and_the_file_is_kept() {
    let mut house = House::new(BOUNDS);
    let ids: Vec<_> = (1..=4).map(|identity| house.relay_here(identity)).collect();
    // Each has a group as it comes, and one with its verdict.
    house.damage(house.groups(0)[2]);
    let damaged = std::fs::read(house.log()).unwrap();
    house.recover().unwrap();
    assert_eq!(ids.iter().map(|id| house.lacks(*id)).collect::<Vec<_>>(), [false, true, false, false]);
    house.renew();
    let kept = house.evidence();
    assert_eq!(kept.len(), 1);
    assert!(std::fs::read(&kept[0]).unwrap() == damaged);
    // The next start has nothing to say of it.
    house.relay_here(5);
    house.recover().unwrap();
    assert_eq!(house.evidence(), kept);
}

#[test]
fn a_start_that_ends_behind_the_keeping_of_a_damaged_log_is_made_up_for_by_the_next() {
    let mut house = House::new(BOUNDS);
    let ids = [1, 2].map(|identity| house.relay_here(identity));
    house.damage(house.groups(0)[0]);
    let before = house.backup();
    house.recover().unwrap();
    house.restore(&before);
    house.recover().unwrap();
    assert_eq!(house.evidence().len(), 1);
    assert_eq!(ids.map(|id| house.lacks(id)), [true, false]);
}

#[test]
fn damage_is_known_by_what_stood_behind_it_though_nothing_of_that_is_whole() {
    let mut house = House::new(BOUNDS);
    let id = house.relay_here(1);
    let groups = house.groups(0);
    groups.iter().for_each(|group| house.damage(*group));
    assert!(is_left(&house.db, &house.disk, house.directory.path()).unwrap());
    house.recover().unwrap();
    assert!(house.lacks(id));
    assert_eq!((groups.len(), house.evidence().len()), (2, 1));
    // It is told once, though the log is still there.
    std::fs::remove_file(&house.evidence()[0]).unwrap();
    house.recover().unwrap();
    assert!(house.evidence().is_empty());
}

#[test]
fn no_more_than_a_few_damaged_logs_are_kept() {
    let mut house = House::new(BOUNDS);
    for round in 1..=6 {
        house.relay_here(2 * round);
        house.relay_here(2 * round + 1);
        house.damage(house.groups(0)[0]);
        house.recover().unwrap();
        house.renew();
        assert_eq!(house.evidence().len(), usize::from(round).min(4));
    }
}

#[test]
fn a_record_that_was_sent_brings_no_message_back() {
    let mut house = House::new(BOUNDS);
    let id = house.relay_here(1);
    assert_eq!(house.claim(9).len(), 1);
    house.settle(id);
    house.recover().unwrap();
    assert!(!house.lacks(id), "it is history");
    assert_eq!(house.messages(), (0, 0));
}

#[test]
fn where_it_is_lost_that_a_record_was_sent_its_octets_are_still_there() {
    let mut house = House::new(BOUNDS);
    let pair = ["a", "b"];
    let message = Message { coalesce: Duration::ZERO, archives: pair.to_vec(), ..Message::new(1, &["a@x.example"]) };
    assert!(matches!(house.relay(&message).1, Place::Taken(())));
    let (now, mut sent) = (house.now, Vec::new());
    for key in pair {
        let archive = Archive { organization: ORGANIZATION.into(), key: key.into() };
        sent.extend(house.take(|step| claim(step, &archive, now, 9, uuid_of)));
    }
    for claim in &sent {
        house.settle(claim.fields.id);
    }
    let groups = house.groups(0);
    // The first one's acknowledgement; the message goes with the second one's.
    house.damage(groups[groups.len() - 2]);
    house.recover().unwrap();
    assert_eq!(sent.len(), 2);
    assert_eq!(house.messages(), (1, 1));
    let live = |id| rows::find(&house.db, id).unwrap().standing.ended.is_none();
    assert_eq!([live(sent[0].fields.id), live(sent[1].fields.id)], [true, false]);
}

#[test]
fn a_record_whose_message_is_lost_stays_and_has_no_octets() {
    let mut house = House::new(BOUNDS);
    let window = Message { coalesce: Duration::from_secs(3_600), ..Message::new(1, &["a@x.example"]) };
    let (id, _) = house.relay(&window);
    // A second transaction of the same message joins it.
    house.relay(&Message { recipients: vec!["b@x.example"], ..window });
    house.damage(house.groups(0)[0]);
    house.recover().unwrap();
    assert_eq!(house.evidence().len(), 1);
    assert!(!house.lacks(id));
    assert_eq!(rows::find(&house.db, id).unwrap().fields.recipients.len(), 2);
    assert_eq!(house.messages(), (1, 0));
}

#[test]
fn a_log_with_mail_that_another_state_of_the_database_lacks_is_refused_and_stays() {
    let mut house = House::new(BOUNDS);
    let first = house.backup();
    for identity in 1..=3 {
        house.relay_here(identity);
    }
    house.carry_over();
    // The last groups of the former generation still stand behind it.
    house.relay_here(4);
    let second = house.backup();
    house.restore(&first);
    house.refuses("a later generation in the same half");
    house.restore(&second);
    house.switch();
    let third = house.backup();
    house.relay_here(5);
    house.restore(&second);
    house.refuses("a later generation in the other half, where the older one is whole");
    let groups = house.groups(1);
    house.damage(groups[1]);
    house.refuses("the same, with damage behind its beginning");
    house.damage(groups[1]);
    house.restore(&third);
    house.carry_over();
    house.front.log.append(&[]).unwrap();
    let carried = house.backup();
    house.restore(&second);
    house.refuses("the same, of one group that was not begun behind it");
    house.restore(&carried);
    house.relay_here(7);
    let third = house.backup();
    let other = house.relay_here(8);
    house.restore(&third);
    house.recover().unwrap();
    assert!(!house.lacks(other), "put back together they are what they were");
    let fourth = house.backup();
    house.renew();
    house.relay_here(6);
    let fifth = house.backup();
    for (older, why) in [(&third, "a later life"), (&fourth, "a life behind one that was recovered")] {
        house.restore(older);
        house.refuses(why);
    }
    house.restore(&[]);
    house.db = schema::open_writable(&*house.disk, house.directory.path(), true).unwrap();
    schema::migrate(&mut house.db, schema::MIGRATIONS).unwrap();
    house.refuses("another spool");
    house.restore(&fifth);
    house.recover().unwrap();
}

#[test]
fn a_log_that_was_carried_over_is_never_refused() {
    let mut house = House::new(BOUNDS);
    let mut identity = 10;
    let mut recover = |house: &mut House, why: &str| {
        house.recover().unwrap_or_else(|error| panic!("{why}: {error}"));
        assert!(!is_left(&house.db, &house.disk, house.directory.path()).unwrap(), "{why}");
        // A start that ends before it begins another log.
        house.recover().unwrap_or_else(|error| panic!("{why}, again: {error}"));
        assert!(house.evidence().is_empty(), "{why}");
        house.renew();
        identity += 1;
        house.relay_here(identity);
    };
    recover(&mut house, "a new one");
    house.carry_over();
    recover(&mut house, "with groups that the database has");
    house.carry_over();
    house.relay_here(2);
    recover(&mut house, "with groups of two generations in a half");
    house.begin();
    recover(&mut house, "with a beginning that the database does not know");
    house.begin();
    house.carry_over();
    recover(&mut house, "the same, and all of it carried over");
    house.switch();
    house.relay_here(3);
    house.begin();
    house.carry_over();
    recover(&mut house, "with a beginning in either half");
    house.switch();
    house.carry_over();
    recover(&mut house, "with nothing but what is behind");
    std::fs::remove_file(house.log()).unwrap();
    recover(&mut house, "without a log");
}

#[test]
fn a_copy_that_was_cut_off_is_made_again() {
    let mut house = House::new(BOUNDS);
    house.relay_here(1);
    house.relay_here(2);
    house.damage(house.groups(0)[0]);
    let (damaged, before) = (std::fs::read(house.log()).unwrap(), house.backup());
    house.recover().unwrap();
    let kept = house.evidence().pop().unwrap();
    for other in 1..=3 {
        std::fs::write(house.directory.path().join(format!("front.damaged-{other}")), b"").unwrap();
    }
    for there in [&damaged[..damaged.len() / 2], &vec![0; damaged.len()]] {
        std::fs::remove_file(&kept).unwrap();
        std::fs::write(&kept, there).unwrap();
        house.restore(&before);
        house.recover().unwrap();
        assert!(std::fs::read(&kept).unwrap() == damaged);
    }
    // Where the file system knows no second names.
    let other = house.directory.path().join("other");
    copy(&house.disk, &kept, &other).unwrap();
    assert!(std::fs::read(&other).unwrap() == damaged);
}
