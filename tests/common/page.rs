//! The pages of docs/ as tests use them: the blocks that an administrator copies are what is started here, and the commands
//! that he checks with are run, so that a page can't say what isn't so.

use super::{Relay, Setup};
use std::fmt::Display;
use std::path::Path;
use std::process::{Command, Stdio};

/// One page.
pub struct Page {
    name: String,
    text: String,
}

/// What stands between two fences of a page.
#[derive(Debug, Clone)]
pub struct Block {
    name: String,
    pub text: String,
}

impl Page {
    /// `docs/NAME.md`
    pub fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{name}.md"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { name: name.to_owned(), text }
    }

    /// The block whose opening fence names `title` behind the language.
    #[track_caller]
    pub fn block(&self, title: &str) -> Block {
        let mut lines = self.text.lines();
        let opens = |line: &&str| {
            line.strip_prefix("```").and_then(|info| info.split_once(' ')).is_some_and(|(_, found)| found == title)
        };
        assert!(lines.by_ref().any(|line| opens(&line)), "docs/{}.md has no block {title:?}", self.name);
        let text = lines.take_while(|line| *line != "```").fold(String::new(), |text, line| text + line + "\n");
        Block { name: format!("docs/{}.md, {title}", self.name), text }
    }
}

impl Block {
    /// Puts what there is here in the place of what the block shows, everywhere in it.
    #[track_caller]
    pub fn put(mut self, shown: &str, here: impl Display) -> Self {
        assert!(self.text.contains(shown), "{}: {shown:?} isn't in\n{}", self.name, self.text);
        self.text = self.text.replace(shown, &here.to_string());
        self
    }

    /// A relay with this configuration, its spool in a directory of its own, impatient with archives.
    #[track_caller]
    pub fn start(&self) -> Relay {
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut relay = Relay::prepare(Setup::with_routes("smtp://127.0.0.1:9", "smtp://127.0.0.1:9"), home);
        let spool = relay.spool();
        // It ends with the organization's table, which gets its keys first.
        assert_eq!(self.text.lines().rfind(|line| line.starts_with('[')), Some("[[organization]]"), "{}", self.name);
        let here = format!(
            "coalesce = \"500ms\"\n\n[spool]\npath = {spool:?}\nallow_volatile = true\n\n[retry]\nfirst = \"200ms\"\nlongest = \"1s\"\n\n\
             [log]\nformat = \"json\"\n"
        );
        relay.configure(&format!("{}{here}", self.text));
        relay.launch();
        relay
    }

    /// Runs the block's commands (behind `$ `) beside the relay; each has to print the lines that the block shows below it, in
    /// their order, others between them. `…` stands for anything.
    #[track_caller]
    pub fn run(&self, relay: &Relay) {
        let log = relay.home().join("log");
        let mut commands = 0;
        for part in format!("\n{}", self.text).split("\n$ ").skip(1) {
            let (command, expected) = part.split_once('\n').unwrap_or((part, ""));
            let lines = relay.everything().join("\n");
            std::fs::write(&log, format!("{lines}\n")).expect("a writable directory");
            let said = shell(command, relay, &log);
            let mut rest = said.lines();
            for line in expected.lines().filter(|line| !line.trim().is_empty()) {
                assert!(rest.any(|found| is_like(found, line)), "{}: {command}\nno {line:?} in\n{said}", self.name);
            }
            commands += 1;
        }
        assert!(commands > 0, "{} has no command", self.name);
    }
}

/// What a command prints. The log, which journald would have, is in a file here.
fn shell(command: &str, relay: &Relay, log: &Path) -> String {
    let program = Path::new(option_env!("CARGO_BIN_EXE_journal-relay").unwrap_or_default()).parent();
    let program = program.expect("a directory").display();
    let path = format!("{program}:{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let script = format!("journalctl() {{ cat '{}'; }}\nexec 2>&1\n{command}\n", log.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env("PATH", path).env("JOURNAL_RELAY_CONFIG", relay.config());
    let output = shell.current_dir(relay.home()).stdin(Stdio::null()).output().expect("a shell");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a line is as the page shows it.
fn is_like(line: &str, shown: &str) -> bool {
    let mut parts: Vec<_> = shown.split('…').collect();
    let last = parts.pop().unwrap_or_default();
    if parts.is_empty() {
        return line == last;
    }
    let mut rest = line;
    for (number, part) in parts.iter().enumerate() {
        match rest.find(part) {
            Some(at) if number > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn three_dots_stand_for_anything() {
    assert!(is_like("a b c", "a b c") && is_like("a b c", "a …c") && is_like("a b c", "…") && is_like("a a", "…a"));
    assert!(!is_like("a b c", "a b") && !is_like("a b c", "… d") && !is_like("a b c", "b…") && !is_like("a", "a…a"));
}
