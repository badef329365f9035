//! What a simulated disk is asked, numbered, and what goes wrong at which number.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Operations that are remembered for people.
const REMEMBERED: usize = 2_000;

/// What changes a disk. Questions are not counted: no loss of power between two of them differs from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    MakeDirectory,
    SyncDirectory,
    Create,
    Write,
    SetLength,
    Sync,
    Remove,
}

impl Kind {
    /// Whether it needs room that is not there any more on a full disk.
    pub fn needs_room(self) -> bool {
        matches!(self, Self::MakeDirectory | Self::Create)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power is lost before this operation; everything fails from now on, and nothing changes any more.
    PowerCut,
    /// A write fails and writes nothing.
    FailedWrite,
    /// A write fails when half of it is done.
    ShortWrite,
    /// A sync, of a file or of a directory, fails.
    FailedSync,
}

impl Fault {
    fn suits(self, kind: Kind) -> bool {
        match self {
            Self::PowerCut => true,
            Self::FailedWrite | Self::ShortWrite => kind == Kind::Write,
            Self::FailedSync => matches!(kind, Kind::Sync | Kind::SyncDirectory),
        }
    }
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    pub number: u64,
    pub kind: Kind,
    pub path: PathBuf,
    pub fault: Option<Fault>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.number, self.kind, self.path.display())?;
        self.fault.map_or(Ok(()), |fault| write!(f, " ({fault:?})"))
    }
}

/// The count, the log and the plan.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    pub count: u64,
    pub log: VecDeque<Operation>,
    /// By the number of an operation: the first one from there on that it suits.
    planned: BTreeMap<u64, Fault>,
    /// Between these operations nothing grows.
    full: Vec<Range<u64>>,
}

impl Faults {
    pub fn plan(&mut self, at: u64, fault: Fault) {
        self.planned.insert(at, fault);
    }

    pub fn plan_full(&mut self, between: Range<u64>) {
        self.full.push(between);
    }

    pub fn clear(&mut self) {
        self.planned.clear();
        self.full.clear();
    }

    /// Whether the next operation finds no room.
    pub fn is_full(&self) -> bool {
        self.is_full_at(self.count)
    }

    fn is_full_at(&self, number: u64) -> bool {
        self.full.iter().any(|between| between.contains(&number))
    }

    /// Counts an operation; gives what goes wrong with it, and whether it finds the disk full.
    pub fn begin(&mut self, kind: Kind, path: &Path) -> (Option<Fault>, bool) {
        let number = self.count;
        self.count += 1;
        let planned = self.planned.range(..=number).find(|(_, fault)| fault.suits(kind));
        let fault = planned.map(|(at, fault)| (*at, *fault)).map(|(at, fault)| {
            self.planned.remove(&at);
            fault
        });
        if self.log.len() == REMEMBERED {
            self.log.pop_front();
        }
        self.log.push_back(Operation { number, kind, path: path.to_owned(), fault });
        (fault, self.is_full_at(number))
    }
}
