//! What is written and what is durable: the files and names of a simulated disk, and what a loss of power makes of them.
//!
//! - Octets are durable once their file is synced. Before, each sector (512 octets) of each write may survive a loss of power
//!   or not, on its own; where a file grew, what was lost reads as zeros or as garbage.
//! - Octets that nobody wrote stay what they were, also within a sector: SQLite's "power-safe overwrite", which it takes for
//!   granted on Linux, too.
//! - A name (made or removed) is durable once its directory is synced, and there only if the directories above are.
//! - After a sync that failed each sector is on the disk or not, for good: the system counts it as written, shows it as long
//!   as it runs, and a second sync says yes (as Linux does). A directory whose sync failed can't be synced any more before
//!   the next boot, as where a journal was aborted.

use super::dice::Dice;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What reaches the disk as a whole or not at all.
const SECTOR: usize = 512;

/// How much of what was not synced survives a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// Nothing.
    Lost,
    /// Everything.
    Kept,
    /// Each write and each name, or not.
    Mixed(u64),
    /// Each sector of each write, and each name, or not.
    Torn(u64),
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Directory,
    File(usize),
}

/// A change of a directory that is not durable.
#[derive(Debug, Clone)]
struct Move {
    path: PathBuf,
    /// None: removed.
    node: Option<Node>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, octets: Vec<u8> },
    Length(usize),
}

/// The octets of one file.
#[derive(Debug, Clone, Default)]
struct Content {
    /// As programs see it.
    now: Vec<u8>,
    /// As the disk has it.
    durable: Vec<u8>,
    /// What lies between.
    changes: Vec<Change>,
    sync_failed: bool,
}

/// Files and names.
#[derive(Debug, Clone, Default)]
pub struct Platter {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    moves: Vec<Move>,
}

impl Platter {
    /// A disk with one directory.
    pub fn new(root: &Path) -> Self {
        let names = BTreeMap::from([(root.to_owned(), Node::Directory)]);
        Self { durable: names.clone(), names, ..Self::default() }
    }

    pub fn find(&self, path: &Path) -> Option<Node> {
        self.names.get(path).copied()
    }

    /// The names in a directory.
    pub fn list(&self, directory: &Path) -> Vec<(PathBuf, Node)> {
        let inside = self.names.iter().filter(|(path, _)| path.parent() == Some(directory));
        inside.map(|(path, node)| (path.clone(), *node)).collect()
    }

    pub fn content(&self, file: usize) -> &[u8] {
        &self.files[file].now
    }

    pub fn make_directory(&mut self, path: &Path) {
        self.name(path, Some(Node::Directory));
    }

    pub fn create(&mut self, path: &Path) -> usize {
        let file = self.files.len();
        self.files.push(Content::default());
        self.name(path, Some(Node::File(file)));
        file
    }

    pub fn link(&mut self, file: usize, second: &Path) {
        self.name(second, Some(Node::File(file)));
    }

    pub fn remove(&mut self, path: &Path) {
        self.name(path, None);
    }

    fn name(&mut self, path: &Path, node: Option<Node>) {
        change_name(&mut self.names, path, node);
        self.moves.push(Move { path: path.to_owned(), node });
    }

    pub fn write(&mut self, file: usize, at: usize, octets: &[u8]) {
        let content = &mut self.files[file];
        put(&mut content.now, at, octets, || 0);
        content.changes.push(Change::Write { at, octets: octets.to_vec() });
    }

    pub fn set_length(&mut self, file: usize, length: usize) {
        let content = &mut self.files[file];
        content.now.resize(length, 0);
        content.changes.push(Change::Length(length));
    }

    /// Makes a file's octets durable; true when an earlier sync of it has failed, and this one says yes to nothing.
    pub fn sync(&mut self, file: usize) -> bool {
        let content = &mut self.files[file];
        for change in std::mem::take(&mut content.changes) {
            match change {
                Change::Write { at, octets } => put(&mut content.durable, at, &octets, || 0),
                Change::Length(length) => content.durable.resize(length, 0),
            }
        }
        content.sync_failed
    }

    /// A sync that fails: each sector reaches the disk now, or never.
    pub fn fail_sync(&mut self, file: usize, dice: &mut Dice) {
        let content = &mut self.files[file];
        content.durable = content.after(Aftermath::Torn(0), dice);
        content.changes.clear();
        content.sync_failed = true;
    }

    /// Makes a directory's names durable.
    pub fn sync_directory(&mut self, directory: &Path) {
        let (here, elsewhere) =
            std::mem::take(&mut self.moves).into_iter().partition(|change| change.path.parent() == Some(directory));
        self.moves = elsewhere;
        let here: Vec<Move> = here;
        for change in here {
            change_name(&mut self.durable, &change.path, change.node);
        }
    }

    /// What another process finds when this one has ended and the machine has not.
    pub fn after_kill(&self) -> Self {
        let mut after = self.clone();
        after.forget_failed_syncs();
        after
    }

    /// The process that has seen them fail is gone.
    pub fn forget_failed_syncs(&mut self) {
        self.files.iter_mut().for_each(|content| content.sync_failed = false);
    }

    /// What is found when the power comes back.
    pub fn after_power_cut(&self, aftermath: Aftermath, dice: &mut Dice) -> Self {
        let mut names = self.durable.clone();
        for change in &self.moves {
            if survives(aftermath, dice) {
                change_name(&mut names, &change.path, change.node);
            }
        }
        let found = names.clone();
        // What stands in a directory that is not there is not there either. Parents sort before what they hold.
        let mut here = BTreeMap::new();
        for (path, node) in found {
            let parent = path.parent().unwrap();
            if self.is_root(&path) || here.get(parent) == Some(&Node::Directory) {
                here.insert(path, node);
            }
        }
        let files = self.files.iter().map(|content| {
            let octets = content.after(aftermath, dice);
            Content { now: octets.clone(), durable: octets, ..Content::default() }
        });
        Self { files: files.collect(), durable: here.clone(), names: here, moves: Vec::new() }
    }

    fn is_root(&self, path: &Path) -> bool {
        self.durable.first_key_value().is_some_and(|(first, _)| first == path)
    }
}

impl Content {
    fn after(&self, aftermath: Aftermath, dice: &mut Dice) -> Vec<u8> {
        let torn = matches!(aftermath, Aftermath::Torn(_));
        let mut octets = self.durable.clone();
        for change in &self.changes {
            match change {
                Change::Length(length) => {
                    if survives(aftermath, dice) {
                        octets.resize(*length, 0);
                    }
                }
                Change::Write { at, octets: written } if torn => {
                    for (at, piece) in sectors(*at, written) {
                        if survives(aftermath, dice) {
                            let garbage = dice.one_in(2);
                            put(&mut octets, at, piece, || if garbage { dice.octet() } else { 0 });
                        } else if at >= octets.len() && dice.one_in(4) {
                            // The file grew, and its octets did not arrive.
                            let never: Vec<u8> = piece.iter().map(|_| dice.octet()).collect();
                            put(&mut octets, at, &never, || 0);
                        }
                    }
                }
                Change::Write { at, octets: written } => {
                    if survives(aftermath, dice) {
                        put(&mut octets, *at, written, || 0);
                    }
                }
            }
        }
        octets
    }
}

fn survives(aftermath: Aftermath, dice: &mut Dice) -> bool {
    match aftermath {
        Aftermath::Lost => false,
        Aftermath::Kept => true,
        Aftermath::Mixed(_) | Aftermath::Torn(_) => dice.one_in(2),
    }
}

fn change_name(names: &mut BTreeMap<PathBuf, Node>, path: &Path, node: Option<Node>) {
    match node {
        Some(node) => drop(names.insert(path.to_owned(), node)),
        None => drop(names.remove(path)),
    }
}

/// Puts octets somewhere; `fill` gives what lies between them and the end.
fn put(content: &mut Vec<u8>, at: usize, octets: &[u8], fill: impl FnMut() -> u8) {
    if content.len() < at {
        content.resize_with(at, fill);
    }
    let over = octets.len().min(content.len() - at);
    content[at..at + over].copy_from_slice(&octets[..over]);
    content.extend_from_slice(&octets[over..]);
}

/// A write cut where sectors end.
fn sectors(at: usize, octets: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let (mut at, mut rest) = (at, octets);
    while !rest.is_empty() {
        let (piece, more) = rest.split_at((SECTOR - at % SECTOR).min(rest.len()));
        pieces.push((at, piece));
        at += piece.len();
        rest = more;
    }
    pieces
}
