//! Whether a line that a page shows is the line that came out. What is another one in each run is taken as its kind:
//!
//! | shown | stands for |
//! |---|---|
//! | an id (`01m8b115r9ts0raf`) | one id, and the same wherever the page shows it again |
//! | a time (`2026-11-26T04:15:15.721Z`) | any time |
//! | a UUID | any UUID |
//! | a time that passes (`17s`) | any such |
//! | a process's number, a port of five digits, `…KiB`, figures of [`FIGURES`] | any number |
//! | spaces | one or more, since columns are as wide as they must be |
//! | `…` | anything, on a line of its own any lines |
//!
//! Everything else is what it is.

use std::collections::BTreeMap;

/// Numbers behind these are the machine's or the moment's.
const FIGURES: [&str; 6] =
    ["process ", "\"free_octets\":", "\"free_inodes\":", "\"minimum\":", "\"age_ms\":", "\"next_s\":"];
/// Units of times that pass.
const UNITS: [&str; 5] = ["ms", "s", "m", "h", "d"];

/// The ids of a page, and what they are here.
#[derive(Debug, Clone, Default)]
pub struct Ids(BTreeMap<String, String>);

impl Ids {
    /// A command of the page, for the ids that there are here.
    pub fn put(&self, command: &str) -> String {
        self.0.iter().fold(command.to_owned(), |command, (shown, here)| command.replace(shown, here))
    }

    fn are(&mut self, shown: &str, here: &str) -> bool {
        match self.0.get(shown) {
            Some(known) => known == here,
            None if self.0.values().any(|known| known == here) => false,
            None => {
                self.0.insert(shown.to_owned(), here.to_owned());
                true
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Id,
    Time,
    Uuid,
    Passing,
    Figure,
}

/// What stands at this place of a line, with its length.
fn kind(line: &str, at: usize) -> Option<(Kind, usize)> {
    let (before, rest) = line.split_at(at);
    if before.ends_with(|letter: char| letter.is_ascii_alphanumeric()) {
        return None;
    }
    let word = rest.find(|letter: char| !letter.is_ascii_alphanumeric()).map_or(rest, |end| &rest[..end]);
    let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let like = |pattern: &str| {
        rest.len() >= pattern.len()
            && rest.bytes().zip(pattern.bytes()).all(|(found, wanted)| match wanted {
                b'9' => found.is_ascii_digit(),
                b'x' => found.is_ascii_hexdigit(),
                wanted => found == wanted,
            })
    };
    let (time, uuid) = ("9999-99-99T99:99:99.999Z", "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
    if like(time) {
        return Some((Kind::Time, time.len()));
    }
    if like(&time.replace(".999", "")) {
        return Some((Kind::Time, time.len() - 4));
    }
    if like(uuid) {
        return Some((Kind::Uuid, uuid.len()));
    }
    if word.len() == 16 && word.starts_with("01") && !word.contains(|letter: char| letter.is_ascii_uppercase()) {
        return Some((Kind::Id, word.len()));
    }
    if digits == 0 {
        return None;
    }
    if UNITS.contains(&&word[digits..]) {
        return Some((Kind::Passing, word.len()));
    }
    let is_port =
        before.ends_with(':') && digits == 5 && before.trim_end_matches(':').ends_with(|it: char| it.is_ascii_digit());
    let behind = rest[digits..].trim_start_matches(|letter: char| letter == '.' || letter.is_ascii_digit());
    let is_room = [" KiB", " MiB", " GiB"].iter().any(|unit| behind.starts_with(unit));
    if is_room {
        return Some((Kind::Figure, rest.len() - behind.len() + 4));
    }
    (is_port || FIGURES.iter().any(|figure| before.ends_with(figure))).then_some((Kind::Figure, digits))
}

/// Whether one line is as it is shown; ids are learned from it only then.
pub fn line(shown: &str, found: &str, ids: &mut Ids) -> bool {
    let mut learned = ids.clone();
    let is_like = from(shown.trim_end(), 0, found.trim_end(), 0, &mut learned);
    if is_like {
        *ids = learned;
    }
    is_like
}

fn from(shown: &str, mut at: usize, found: &str, mut there: usize, ids: &mut Ids) -> bool {
    loop {
        let (rest, other) = (&shown[at..], &found[there..]);
        let Some(letter) = rest.chars().next() else { return other.is_empty() };
        if letter == '…' {
            let behind = at + letter.len_utf8();
            return (there..=found.len()).filter(|place| found.is_char_boundary(*place)).any(|place| {
                let mut learned = ids.clone();
                let is_like = from(shown, behind, found, place, &mut learned);
                if is_like {
                    *ids = learned;
                }
                is_like
            });
        }
        if let Some((wanted, length)) = kind(shown, at) {
            let Some((what, size)) = kind(found, there) else { return false };
            if wanted != what || (wanted == Kind::Id && !ids.are(&rest[..length], &other[..size])) {
                return false;
            }
            (at, there) = (at + length, there + size);
        } else if letter == ' ' {
            let behind = other.trim_start_matches(' ');
            if behind.len() == other.len() {
                return false;
            }
            (at, there) = (shown.len() - rest.trim_start_matches(' ').len(), found.len() - behind.len());
        } else if other.starts_with(letter) {
            (at, there) = (at + letter.len_utf8(), there + letter.len_utf8());
        } else {
            return false;
        }
    }
}

/// Whether these are all the lines that are shown; else the first one that is not there.
pub fn lines<'a>(shown: &'a [&'a str], found: &[&str], ids: &mut Ids) -> Result<(), &'a str> {
    let mut found = found.iter();
    let mut may_skip = false;
    for wanted in shown {
        if wanted.trim() == "…" {
            may_skip = true;
            continue;
        }
        let is_there = match may_skip {
            true => found.any(|found| line(wanted, found, ids)),
            false => found.next().is_some_and(|found| line(wanted, found, ids)),
        };
        if !is_there {
            return Err(wanted);
        }
        may_skip = false;
    }
    if may_skip || found.next().is_none() { Ok(()) } else { Err("nothing more") }
}

#[test]
fn what_is_another_one_each_time_is_taken_as_its_kind_and_nothing_else_is() {
    let same = |shown: &str, found: &str| line(shown, found, &mut Ids::default());
    for (shown, found) in [
        ("01m8b115r9ts0raf  acme  4s", "01zzzzzzzzzzzzzz  acme   17m"),
        ("at 2026-11-26T04:15:15.721Z.", "at 2027-01-01T00:00:00.000Z."),
        ("<0f4769d6-7797-8216-bb3b-292c5dbcd9f2@a>", "<ffffffff-7797-8216-bb3b-292c5dbcd9f2@a>"),
        ("864 KiB, 44.5 GiB free (process 10854)", "1 MiB, 4 GiB free (process 2)"),
        ("\"free_octets\":6144000,\"n\":1", "\"free_octets\":1,\"n\":1"),
        ("a … c", "a b b c"),
        ("127.0.0.1:45678 x", "127.0.0.1:34567 x"),
    ] {
        assert!(same(shown, found), "{shown} {found}");
    }
    for (shown, found) in [
        ("01m8b115r9ts0raf  01m8b115r9ts0raf", "01zzzzzzzzzzzzzz 01yyyyyyyyyyyyyy"),
        ("01m8b115r9ts0raf  01m8b11776w42pg9", "01zzzzzzzzzzzzzz 01zzzzzzzzzzzzzz"),
        ("4 entries", "5 entries"),
        ("attempt 1", "attempt 2"),
        ("4s", "soon"),
        ("a b", "ab"),
        ("127.0.0.1:2626", "127.0.0.1:2627"),
        ("a … c", "a c d"),
    ] {
        assert!(!same(shown, found), "{shown} {found}");
    }
    let all = |shown: &[&str], found: &[&str]| lines(shown, found, &mut Ids::default()).is_ok();
    assert!(all(&["a", "…", "d"], &["a", "b", "c", "d"]) && all(&["a", "…"], &["a"]));
    assert!(!all(&["a"], &["a", "b"]) && !all(&["a", "…", "d"], &["a", "d", "e"]) && !all(&["a", "b"], &["a"]));
}
