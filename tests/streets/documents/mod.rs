//! The documents, played: the commands of README.md and docs/*.md are run as they are written, in their page's order, and print
//! what the page shows below them ([`like`] says what is taken for what).
//!
//! A fence `console` has commands behind `$ ` with what they print, a fence `sh` has commands that succeed. What happens between them stands in
//! comments that no reader sees ([`stage`]). `json log` shows lines of the daemon's log. What can't be played says `by-hand` in its
//! opening fence; `tests/documents.rs` counts those.

mod like;
mod stage;

use crate::common::{Fence, Part, fences, installed, pages, parts};
use crate::room::Disk;
use like::Ids;
use stage::Stage;

/// Programs of others that pages use.
const PROGRAMS: [&str; 5] = ["sqlite3", "jq", "curl", "promtool", "systemd-analyze"];

/// Plays a page, its acts at the same time; how many commands there were.
fn play(page: &str) -> usize {
    let needed: Vec<_> = PROGRAMS.into_iter().filter(|program| text(page).contains(program)).collect();
    if !installed(&needed) {
        return 0;
    }
    let mut acts = vec![Vec::new()];
    for part in parts(&text(page)) {
        if matches!(&part, Part::Here { deeds, .. } if deeds.iter().any(|deed| deed == "new stage")) {
            acts.push(Vec::new());
        }
        acts.last_mut().unwrap().push(part);
    }
    acts.retain(|act| act.iter().any(|part| matches!(part, Part::Fence(fence) if fence.is_played())));
    let needs_disk =
        |part: &Part| matches!(part, Part::Here { deeds, .. } if deeds.iter().any(|it| it.starts_with("disk of ")));
    if acts.iter().flatten().any(needs_disk) && Disk::mount("4m").is_none() {
        println!("skipped: no disk can be mounted here");
        acts.retain(|act| !act.iter().any(needs_disk));
    }
    std::thread::scope(|scope| {
        let acts: Vec<_> = acts.into_iter().map(|act| scope.spawn(|| play_act(page, act))).collect();
        acts.into_iter().map(|act| act.join().unwrap_or_else(|_| panic!("{page} is not what happens"))).sum()
    })
}

/// What a page says and what happened instead, all of it: one look mends the page.
#[derive(Default)]
struct Differences(Vec<String>);

fn play_act(page: &str, act: Vec<Part>) -> usize {
    let mut stage = Stage::set();
    let (mut ids, mut commands, mut differences) = (Ids::default(), 0, Differences::default());
    for part in act {
        match part {
            Part::Here { deeds, .. } => deeds.iter().for_each(|deed| stage.act(deed)),
            Part::Fence(fence) if fence.is_played() => commands += run(&fence, &mut stage, &mut ids, &mut differences),
            Part::Fence(fence) if fence.language == "json" && fence.title == "log" => {
                logged(&fence, &stage, &mut ids, &mut differences);
            }
            Part::Fence(_) => {}
        }
    }
    assert!(differences.0.is_empty(), "{page}:{}", differences.0.join(&format!("\n\n{page}:")));
    commands
}

fn text(page: &str) -> String {
    pages().into_iter().find(|(name, _)| name == page).unwrap_or_else(|| panic!("no {page}")).1
}

/// Runs the commands of a fence.
fn run(fence: &Fence, stage: &mut Stage, ids: &mut Ids, differences: &mut Differences) -> usize {
    if fence.title == "background" {
        stage.leave_running(&fence.text);
        return 1;
    }
    if fence.language == "sh" {
        stage.mark();
        let output = stage.shell(&format!("set -e\n{}", stage.here(&ids.put(&fence.text)))).output().unwrap();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            differences.0.push(format!("{}: {}\n{}: {said}", fence.line, fence.text, output.status));
        }
        return 1;
    }
    let text = format!("\n{}", fence.text.replace("\\\n", " "));
    let commands: Vec<_> = text.split("\n$ ").skip(1).collect();
    for part in &commands {
        let (command, expected) = part.trim_end().split_once('\n').unwrap_or((part.trim_end(), ""));
        let expected: Vec<&str> = expected.lines().collect();
        let said = said(&stage.here(&ids.put(command)), &expected, stage, ids);
        let found: Vec<_> = said.iter().map(String::as_str).collect();
        if let Err(missing) = like::lines(&expected, &found, ids) {
            differences.0.push(format!("{}: $ {command}\nnot so: {missing}\n{}", fence.line, said.join("\n")));
        }
    }
    assert!(!commands.is_empty(), "line {} has no command", fence.line);
    commands.len()
}

/// What a command prints, with the places that a page shows: first what it found, then its complaints, then its own lines of the
/// log, since all three come when they come. One that goes on (`run`) ends when it has said what it should.
fn said(script: &str, expected: &[&str], stage: &mut Stage, ids: &Ids) -> Vec<String> {
    stage.mark();
    let shown = |said: &[String]| said.iter().map(|line| stage.shown(line)).collect::<Vec<_>>();
    if script.ends_with(" run") {
        let is_enough = |said: &[String]| {
            let said = shown(said);
            like::lines(expected, &said.iter().map(String::as_str).collect::<Vec<_>>(), &mut ids.clone()).is_ok()
        };
        return shown(&stage.watch(script, is_enough));
    }
    let output = stage.shell(script).output().unwrap();
    let lines = |octets: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(octets).trim_end().lines().map(str::to_owned).collect()
    };
    let (log, complaints) = lines(&output.stderr).into_iter().partition(|line| line.starts_with("{\"timestamp\":"));
    shown(&[lines(&output.stdout), complaints, log].concat())
}

/// Each line that is shown is in the daemon's log.
fn logged(fence: &Fence, stage: &Stage, ids: &mut Ids, differences: &mut Differences) {
    let log: Vec<_> = stage.relay.everything().iter().map(|line| stage.shown(line)).collect();
    for shown in fence.text.lines() {
        // As the log's reader puts its keys in order, so is what is shown.
        let ordered = serde_json::from_str::<serde_json::Value>(shown).map(|line| line.to_string());
        let ordered = ordered.unwrap_or_else(|error| panic!("line {}: {error}", fence.line));
        if !log.iter().any(|line| like::line(&ordered, line, ids)) {
            differences.0.push(format!("{}: not in the log: {ordered}\n{}", fence.line, log.join("\n")));
        }
    }
}

/// One test for each page that has something to be played.
macro_rules! played {
    ($($test:ident: $page:literal, $least:literal;)*) => {
        const PLAYED: &[&str] = &[$($page),*];
        $(
            #[test]
            fn $test() {
                let commands = play($page);
                assert!(commands == 0 || commands >= $least, "{} has only {commands} commands", $page);
            }
        )*
    };
}

played! {
    the_commands_of_the_readme_print_what_it_shows: "README.md", 4;
    the_commands_of_configuration_do_as_it_says: "docs/CONFIGURATION.md", 1;
    the_commands_of_installing_print_what_it_shows: "docs/INSTALLING.md", 3;
    the_commands_of_logs_do_as_it_says: "docs/LOGS.md", 1;
    the_commands_of_migrating_do_as_it_says: "docs/MIGRATING.md", 2;
    the_commands_of_operating_print_what_it_shows: "docs/OPERATING.md", 20;
    the_commands_of_status_print_what_it_shows: "docs/STATUS.md", 1;
}

#[test]
fn every_page_with_commands_is_played() {
    let with_commands = pages().into_iter().filter(|(_, text)| fences(text).iter().any(Fence::is_played));
    assert_eq!(with_commands.map(|(name, _)| name).collect::<Vec<_>>(), PLAYED);
}
