//! What a seed means: the mails and who sends them when, how the servers behave, and what goes wrong.

use super::client::{HangUp, Job};
use super::dice::Dice;
use super::disk;
use super::history::Peer;
use super::mail::{Mail, USERS, mails};
use super::operator::Wish;
use super::relay::Shape;
use super::server::{Bad, Fuse, Mood, Offer};
use std::time::Duration;

/// One world.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub tick: Duration,
    pub max_latency: Duration,
    pub mails: Vec<Mail>,
    /// For each client.
    pub jobs: Vec<Vec<Job>>,
    pub patience: Duration,
    /// In the order of [`Peer::SERVERS`].
    pub moods: Vec<Vec<Mood>>,
    /// In the same order.
    pub offers: Vec<Vec<Offer>>,
    pub eight_bit_mime: [bool; 4],
    pub pipelining: [bool; 4],
    /// The next hop takes chunks.
    pub chunking: bool,
    /// In order of time, milliseconds.
    pub faults: Vec<(u64, Fault)>,
    /// When everything that is wrong ends.
    pub calm_from: u64,
    /// How many of 100 records come back from an archive.
    pub returns: u64,
    pub shape: Shape,
}

/// Something that goes wrong, and for how long (milliseconds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A server is down.
    Down(Peer, u64),
    /// Nothing gets through between the relay and the peer.
    Partition(Peer, u64),
    /// Nothing of the relay reaches the peer.
    Mute(Peer, u64),
    /// Nothing of the peer reaches the relay.
    Deaf(Peer, u64),
    /// Everything waits.
    Hold(Peer, u64),
    /// Everything takes this long, for so long.
    Slow(Peer, u64, u64),
    /// The power of the relay goes; back after so long.
    Power(u64),
    /// The power goes when this happens.
    Armed(Peer, Fuse),
    /// So many operations of the disk from now this happens to it.
    Disk(u64, disk::Fault),
    /// The disk is full.
    Full(u64),
    /// `kill -9`.
    Kill(u64),
    /// SIGTERM, and a new start.
    Restart(u64),
    /// SIGHUP with another configuration.
    Reload,
    /// A queue command for one of the entries there are.
    Queue(Wish, u64),
}

impl Fault {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Down(..) => "server down",
            Self::Partition(..) => "partition",
            Self::Mute(..) => "one-way partition outward",
            Self::Deaf(..) => "one-way partition inward",
            Self::Hold(..) => "held line",
            Self::Slow(..) => "slow line",
            Self::Power(_) => "power cut",
            Self::Armed(..) => "power cut at an end of data",
            Self::Disk(_, disk::Fault::PowerCut) => "power cut at an operation of the disk",
            Self::Disk(_, disk::Fault::FailedWrite) => "failed write",
            Self::Disk(_, disk::Fault::ShortWrite) => "short write",
            Self::Disk(_, disk::Fault::FailedSync) => "failed sync",
            Self::Full(_) => "full disk",
            Self::Kill(_) => "kill",
            Self::Restart(_) => "restart",
            Self::Reload => "reload",
            Self::Queue(Wish::Retry, _) => "queue retry",
            Self::Queue(Wish::Hold, _) => "queue hold",
            Self::Queue(Wish::Release, _) => "queue release",
            Self::Queue(Wish::Discard, _) => "queue discard",
        }
    }
}

const KINDS: [Bad; 9] = [
    Bad::NotNow,
    Bad::Never,
    Bad::Drop,
    Bad::ReplyAndDrop,
    Bad::Late(3_000),
    Bad::Twice,
    Bad::Nonsense,
    Bad::Silence,
    Bad::Closing,
];

impl Plan {
    pub fn of(seed: u64) -> Self {
        let dice = Dice::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(0x1234_5678));
        let mut general = dice.fork("general");
        let length = general.between(12_000, 40_000);
        let calm_from = length + 4_000;
        let count = general.size(4, 12);
        let mails = mails(&mut dice.fork("mails"), count);
        let jobs = jobs(&mut dice.fork("jobs"), &mut dice.fork("chunks"), &mails, length);
        let mut moods_dice = dice.fork("moods");
        let moods = Peer::SERVERS.map(|peer| moods(&mut moods_dice, peer, calm_from)).to_vec();
        let archive = |general: &mut Dice| general.chance(70);
        let mut coalesce = || *general.pick(&["0s", "200ms", "3s"]);
        let (bypass, also) = (dice.fork("bypass").chance(20), dice.fork("also").chance(40));
        let shape = Shape { coalesce: [coalesce(), coalesce()], bypass, also };
        Self {
            seed,
            tick: Duration::from_millis(*general.pick(&[20, 50, 50, 100])),
            max_latency: Duration::from_millis(*general.pick(&[20, 60, 150])),
            eight_bit_mime: [true, archive(&mut general), archive(&mut general), true],
            pipelining: [general.chance(70), general.chance(50), general.chance(50), true],
            chunking: dice.fork("chunking").chance(50),
            patience: Duration::from_secs(if general.chance(4) { 700 } else { *general.pick(&[15, 40]) }),
            shape,
            faults: faults(&dice, shape, length),
            returns: *dice.fork("returns").pick(&[0, 0, 5, 15, 40]),
            mails,
            jobs,
            moods,
            offers: Peer::SERVERS.map(|peer| offers(&mut dice.fork("offers").fork(peer.host()), calm_from)).to_vec(),
            calm_from,
        }
    }
}

fn jobs(dice: &mut Dice, chunks: &mut Dice, mails: &[Mail], length: u64) -> Vec<Vec<Job>> {
    let mut jobs: Vec<Job> = Vec::new();
    for mail in 0..mails.len() {
        // Some messages come in several transactions: to others, or once more to the same.
        let times = match dice.between(0, 9) {
            0..=6 => 1,
            7..=8 => 2,
            _ => 3,
        };
        for _ in 0..times {
            let mut recipients: Vec<String> = Vec::new();
            for _ in 0..dice.between(1, 4) {
                let user = (*dice.pick(&USERS)).to_owned();
                if !recipients.contains(&user) {
                    recipients.push(user);
                }
            }
            let hang_up = match dice.between(0, 19) {
                0 => Some(HangUp::InData(dice.size(0, 999))),
                1 => Some(HangUp::BehindDot),
                _ => None,
            };
            let tries = dice.chance(30).then(|| u32::try_from(dice.between(1, 3)).unwrap());
            jobs.push(Job {
                mail,
                recipients,
                at: dice.between(0, length),
                pipelined: dice.chance(50),
                ahead: dice.fork("ahead").chance(60),
                chunked: chunks.chance(60),
                piece: *dice.pick(&[700, 4_096, 40_000, 1_000_000]),
                hang_up,
                tries,
            });
        }
    }
    jobs.sort_by_key(|job| job.at);
    let clients = dice.size(2, 5);
    let mut of_clients = vec![Vec::new(); clients];
    for job in jobs {
        of_clients[dice.size(0, clients - 1)].push(job);
    }
    of_clients
}

/// Some servers are replaced by others, for a while.
fn offers(dice: &mut Dice, calm_from: u64) -> Vec<Offer> {
    let count = if dice.chance(25) { dice.between(1, 3) } else { 0 };
    let offer = |dice: &mut Dice| {
        let from = dice.between(0, calm_from);
        let until = (from + dice.between(1_000, 15_000)).min(calm_from);
        let (extended, eight_bit_mime) = (dice.chance(50), dice.chance(50));
        Offer { from, until, extended, eight_bit_mime, chunking: dice.fork("chunking").chance(50) }
    };
    (0..count).map(|_| offer(dice)).collect()
}

fn moods(dice: &mut Dice, peer: Peer, calm_from: u64) -> Vec<Mood> {
    let mut moods = Vec::new();
    let mut from = 0;
    while from < calm_from {
        let until = (from + dice.between(2_000, 15_000)).min(calm_from);
        // The report mailbox has its bad days, too, but fewer.
        if dice.chance(if peer == Peer::Reports { 15 } else { 45 }) {
            let mut kinds: Vec<Bad> = (0..dice.between(1, 3)).map(|_| *dice.pick(&KINDS)).collect();
            // A wait for the end of a wait makes a world long.
            if !dice.chance(10) {
                kinds.retain(|kind| *kind != Bad::Silence);
            }
            if !kinds.is_empty() {
                moods.push(Mood { from, until, bad: *dice.pick(&[5, 20, 20, 50, 100]), kinds });
            }
        }
        from = until;
    }
    moods
}

fn faults(dice: &Dice, shape: Shape, length: u64) -> Vec<(u64, Fault)> {
    let mut all = wishes(&mut dice.fork("operator"), length);
    if shape.bypass {
        all.extend(disk_troubles(&mut dice.fork("disk troubles"), length));
    }
    all.extend(troubles(&mut dice.fork("faults"), length));
    all.sort_by_key(|(at, _)| *at);
    all
}

/// A spool that takes no message, again and again.
fn disk_troubles(dice: &mut Dice, length: u64) -> Vec<(u64, Fault)> {
    let trouble = |dice: &mut Dice| match dice.between(0, 9) {
        0..=5 => Fault::Full(dice.between(2_000, 15_000)),
        6..=7 => Fault::Disk(dice.between(0, 60), disk::Fault::FailedWrite),
        8 => Fault::Disk(dice.between(0, 60), disk::Fault::ShortWrite),
        _ => Fault::Disk(dice.between(0, 60), disk::Fault::FailedSync),
    };
    (0..dice.between(2, 5)).map(|_| (dice.between(500, length), trouble(dice))).collect()
}

/// In some worlds there is a restless operator.
fn wishes(dice: &mut Dice, length: u64) -> Vec<(u64, Fault)> {
    let count = if dice.chance(40) { dice.between(3, 12) } else { 0 };
    let wish = |dice: &mut Dice| match dice.between(0, 9) {
        0..=4 => Wish::Hold,
        5..=6 => Wish::Release,
        7 => Wish::Retry,
        _ => Wish::Discard,
    };
    (0..count).map(|_| (dice.between(500, length), Fault::Queue(wish(dice), dice.draw()))).collect()
}

fn troubles(dice: &mut Dice, length: u64) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    for _ in 0..dice.between(0, 5) {
        let at = dice.between(500, length);
        let peer = *dice.pick(&Peer::ALL);
        let server = *dice.pick(&Peer::SERVERS);
        let long = dice.between(300, 8_000);
        let fault = match dice.between(0, 29) {
            0..=1 => Fault::Down(server, long),
            2 => Fault::Partition(peer, long),
            3 => Fault::Mute(peer, long),
            4 => Fault::Deaf(peer, long),
            5 => Fault::Hold(peer, long),
            6 => Fault::Slow(peer, dice.between(100, 1_500), long),
            7..=10 => Fault::Power(dice.between(100, 3_000)),
            11..=13 => Fault::Armed(
                *dice.pick(&[Peer::NextHop, Peer::NextHop, Peer::One, Peer::Two]),
                *dice.pick(&[Fuse::BeforeVerdict, Fuse::BehindReply]),
            ),
            14..=16 => Fault::Kill(dice.between(50, 3_000)),
            17 => Fault::Restart(dice.between(50, 3_000)),
            18..=23 => Fault::Disk(dice.between(0, 150), disk::Fault::PowerCut),
            24 => Fault::Disk(dice.between(0, 150), disk::Fault::FailedWrite),
            25 => Fault::Disk(dice.between(0, 150), disk::Fault::ShortWrite),
            26 => Fault::Disk(dice.between(0, 150), disk::Fault::FailedSync),
            27 => Fault::Full(dice.between(500, 8_000)),
            _ => Fault::Reload,
        };
        faults.push((at, fault));
    }
    faults
}
