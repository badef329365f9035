//! Writes the man pages of the program and all its commands, and completions for shells: `cargo run --example manual DIR`.
//!
//! Both are made from the command line as clap knows it, so they say what `--help` says. Packages and administrators call
//! this; `tests/manual.rs` checks that no command is left out.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// What the manual is called in the head of each page.
const MANUAL: &str = "journal-relay";
/// When what the pages say was last changed on purpose.
const CHANGED: &str = "2026-11-26";

/// What the main page says beyond options and commands, and each other page in part.
const EXIT_STATUS: &str = r#".SH EXIT STATUS
.TP
0
Done; the daemon ended in order.
.TP
1
The thing asked for failed; standard error says why.
.TP
2
The command line is wrong.
.TP
74
The daemon ended because its disk failed it, and is to be started again.
.TP
78
The configuration is wrong: file, line and column are named, and nothing was started.
"#;

const DAEMON: &str = r#".SH SIGNALS
.TP
SIGHUP
Reads the configuration again: the whole new file takes effect with the next transaction, or none of it and the log says why. A
changed file is taken without a signal, too.
.TP
SIGTERM, SIGINT
Ends: no new work, open transactions end within 30 seconds, the spool is closed. A second one ends at once. What is durable
stays so.
.SH ENVIRONMENT
.TP
JOURNAL_RELAY_CONFIG
The configuration file, where \-\-config does not name it.
.TP
NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS, LISTEN_FDNAMES
Set by a service manager; see \fBsd_notify\fR(3) and \fBsd_listen_fds\fR(3).
.TP
SSL_CERT_FILE
The authorities that servers' certificates are verified by, instead of the system's.
.SH FILES
.TP
/etc/journal\-relay/config.toml
The configuration. docs/CONFIGURATION.md describes every key, and the example config/journal\-relay.toml shows each with its default.
.TP
/var/lib/journal\-relay
The spool: messages and records until the archive has taken them.
"#;

const SEE_ALSO: &str = ".SH SEE ALSO\n\\fBjournal\\-relay\\fR(1), \\fBsystemctl\\fR(1), \\fBpostfix\\fR(1)\n";

/// Writes every page and every completion into `directory`, which is made where it is missing.
pub fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut command = journal_relay::cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(&command, directory, true)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut journal_relay::cli::command(), "journal-relay", directory)?;
    }
    Ok(())
}

fn write_pages(command: &Command, directory: &Path, main: bool) -> io::Result<()> {
    let page = Man::new(command.clone())
        .manual(MANUAL)
        .date(CHANGED)
        .source(concat!("journal-relay ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    if main {
        text.extend_from_slice(DAEMON.as_bytes());
    }
    text.extend_from_slice(EXIT_STATUS.as_bytes());
    text.extend_from_slice(SEE_ALSO.as_bytes());
    fs::write(directory.join(page.get_filename()), text)?;
    let own = command.get_subcommands().filter(|command| !command.is_hide_set());
    own.into_iter().try_for_each(|command| write_pages(command, directory, false))
}

#[allow(dead_code, reason = "the test includes this file for what it writes")]
fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: manual DIRECTORY");
        return ExitCode::from(2);
    };
    match write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: {}: {error}", Path::new(&directory).display());
            ExitCode::FAILURE
        }
    }
}
