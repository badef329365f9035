//! A log in front that is damaged, or another database's.

use super::restarts::with_something_in_front;
use super::*;
use crate::mail::OsEntropy;

#[tokio::test]
async fn while_a_damaged_log_is_kept_octet_files_that_no_message_has_stay() {
    let house = House::new();
    let clock = Arc::clone(&house.world.clock);
    let mut directory = house.copy();
    let spool = directory.path().join("spool");
    let queue_id = QueueId::new(house.world.now(), &OsEntropy);
    let (stranger, file) = (queue_id.to_string(), house.spool.store.path(queue_id));
    let file = spool.join(file.strip_prefix(house.path()).unwrap());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, b"of a message that was in the log").unwrap();
    let kept = spool.join("front.damaged-00000000000000ff");
    std::fs::write(&kept, b"").unwrap();
    for is_kept in [true, false] {
        if !is_kept {
            std::fs::remove_file(directory.path().join("spool").join(kept.file_name().unwrap())).unwrap();
        }
        let (reborn, _) = House::open(directory, Arc::clone(&clock));
        assert_eq!(reborn.files().contains(&stranger), is_kept);
        directory = reborn.copy();
    }
}

#[tokio::test]
async fn an_older_database_beside_a_later_log_is_not_opened_and_the_log_stays() {
    let house = House::new();
    // All of it is in the file.
    house.spool.clone().close().await.unwrap();
    let older = std::fs::read(house.path().join(schema::DATABASE)).unwrap();
    let (house, _) = house.killed();
    let (copy, record) = with_something_in_front(&house).await;
    let path = copy.path().join("spool");
    // Its write-ahead log was carried over when the copy was looked at.
    let names = [schema::DATABASE, "front"].map(|name| path.join(name));
    let later = names.clone().map(|path| std::fs::read(path).unwrap());
    std::fs::write(&names[0], older).unwrap();
    let opened = || EmbeddedSpool::open(&path, options(&house.world.clock)).map(|(spool, _)| spool);
    for refused in [opened(), EmbeddedSpool::open_beside(&path, system())] {
        let error = refused.err().unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains("mail that the database doesn't know"), "{error}");
    }
    assert!(std::fs::read(&names[1]).unwrap() == later[1]);
    names.iter().zip(later).for_each(|(path, octets)| std::fs::write(path, octets).unwrap());
    // What the start that said no has made of the other one.
    for name in ["spool.sqlite-wal", "spool.sqlite-shm"] {
        drop(std::fs::remove_file(path.join(name)));
    }
    let (reborn, recovered) = House::open(copy, Arc::clone(&house.world.clock));
    assert!(recovered.records > 0 && reborn.world.live().await.iter().any(|listing| listing.id == record));
}
