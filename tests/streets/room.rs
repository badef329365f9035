//! The spool's disk: full, and filling up; in memory; and shared with nobody.

use crate::common::{Client, Event, Record, Relay, Setup, Sink, pause};
use crate::message;
use std::path::Path;
use std::process::Command;

/// A small disk of its own, as root can have one.
pub struct Disk(tempfile::TempDir);

impl Disk {
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn mount(size: &str) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"]).arg(home.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(home))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_answered_with_452_and_mail_flows_again_when_there_is_room() {
    let Some(disk) = Disk::mount("4m") else {
        println!("skipped: no disk can be mounted here");
        return;
    };
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive);
    setup.spool = Some(disk.0.path().join("spool"));
    let mut relay = setup.start();
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("before")).starts("250");
    relay.wait_events("record.acked", 1);
    // A size that does not fit is refused before it is sent.
    client.command("MAIL FROM:<alice@example.org> SIZE=4000000").starts("452 4.3.1");
    let filler = disk.0.path().join("filler");
    let _ = std::fs::write(&filler, vec![0; 8 << 20]);
    // Whether the look or the message comes first: the answer is the same.
    let mut octets = message("large");
    octets.resize(octets.len() + (1 << 20), b'x');
    octets.extend_from_slice(b"\r\n");
    refused(&mut client, &octets);
    let low = relay.wait_event("spool.pressure", |event| event.text("state") == "low");
    assert!(low.number("free_octets").is_some() && low.number("free_inodes").is_some(), "{low:?}");
    client.command("MAIL FROM:<alice@example.org>").starts("452 4.3.1");
    assert_eq!(next_hop.transactions().len(), 1, "what could not be journaled was not released");
    std::fs::remove_file(&filler).unwrap();
    relay.wait_event("spool.pressure", |event| event.text("state") == "ok" && event.number("free_octets").is_some());
    client.mail("alice@example.org", &["bob@example.net"], &message("after")).starts("250");
    assert_eq!(Record::read(&archive.wait_for(2)[1].octets).original, message("after"));
    drop(client);
    relay.finish_clean(2);
}

/// At MAIL, or at the end of data.
fn refused(client: &mut Client, octets: &[u8]) {
    let reply = client.command("MAIL FROM:<alice@example.org>");
    if reply.is_taken() {
        client.command("RCPT TO:<bob@example.net>").starts("250");
        client.command("DATA").starts("354");
        client.data(octets).starts("452 4.3.1");
    } else {
        reply.starts("452 4.3.1");
    }
}

#[test]
fn records_leave_while_new_mail_waits_for_room() {
    let Some(disk) = Disk::mount("8m") else {
        println!("skipped: no disk can be mounted here");
        return;
    };
    let (next_hop, mut archive) = (Sink::start(), Sink::start());
    archive.down();
    let mut setup = Setup::new(&next_hop, &archive);
    setup.spool = Some(disk.0.path().join("spool"));
    let mut relay = setup.start();
    let mut client = Client::ehlo(relay.address());
    let mut taken = 0;
    let is_low = |event: &Event| event.text("state") == "low";
    // Records of 256 KiB until there is too little room for another.
    while !relay.events("spool.pressure").iter().any(is_low) {
        if client.command("MAIL FROM:<alice@example.org>").is_taken() {
            client.command("RCPT TO:<bob@example.net>").starts("250");
            client.command("DATA").starts("354");
            let mut octets = message(&format!("waits-{taken}"));
            octets.resize(octets.len() + (256 << 10), b'x');
            octets.extend_from_slice(b"\r\n");
            // On so small a disk the log alone may take the rest of the room meanwhile.
            if client.data(&octets).is_taken() {
                taken += 1;
            }
            assert!(taken < 40, "the disk never gets full");
        } else {
            // Octets that no look has seen yet count, too: the next one tells.
            pause();
        }
    }
    archive.up();
    relay.wait_event("spool.pressure", |event| event.text("state") == "ok" && event.number("free_octets").is_some());
    client.mail("alice@example.org", &["bob@example.net"], &message("after")).starts("250");
    drop(client);
    relay.finish_clean(taken + 1);
}

/// What `statfs` tells of a directory, by coreutils.
fn filesystem(path: &Path) -> String {
    let output = Command::new("stat").args(["--file-system", "--format=%T"]).arg(path).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn a_spool_in_memory_is_refused_unless_it_is_meant() {
    let memory = Path::new("/dev/shm");
    if filesystem(memory) != "tmpfs" {
        println!("skipped: /dev/shm is no tmpfs here");
        return;
    }
    let place = tempfile::tempdir_in(memory).unwrap();
    let mut setup = Setup::new(&Sink::start(), &Sink::start());
    setup.spool = Some(place.path().join("spool"));
    let mut relay = Relay::prepare(setup.clone(), tempfile::tempdir().unwrap());
    let meant = setup.toml(&relay.spool());
    relay.configure(&meant.replace("allow_volatile = true\n", ""));
    let refused = relay.command(&["run"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(78), "{said}");
    for word in [place.path().to_str().unwrap(), "tmpfs", "allow_volatile = true"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    assert!(!relay.spool().exists(), "a refused spool is not made");
    relay.configure(&meant);
    relay.launch();
    relay.finish_clean(0);
}

#[test]
fn two_daemons_never_share_a_spool_and_commands_work_beside_one() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let second = relay.command(&["run"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&relay.pid().to_string()), "the process that has it is not named: {said}");
    assert!(relay.queue().is_empty());
    // The first one is none the worse for it.
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("alone")).starts("250");
    drop(client);
    relay.finish_clean(1);
}
