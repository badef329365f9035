//! Mail servers beside Postfix that can do the relay's work with a queue on the disk: Exim, whose unseen router makes the copy for
//! the archive, and Haraka, where a small plugin adds the archive as a recipient. Neither is told to make records; a copy is
//! the most that they do.

use crate::common::{Exim, Program, RunningExim};
use crate::sinks::{Side, Sinks};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the programs of Debian's package are unpacked by `.ci/peers`, or stand in a system that has it.
pub fn has_exim() -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/usr/sbin/exim4").is_file()
        && fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"))
}

/// Everything goes on, and once a message a copy to the archive: a recipient that several others bring with them is one
/// (Exim specification, section 22.5). A message is delivered as soon as it is taken, however many a connection brings.
pub fn exim(listen: SocketAddr, sinks: &Sinks, home: &Path) -> RunningExim {
    let archive = sinks.address(Side::Archive);
    let vault = format!(
        "vault:\n  driver = manualroute\n  domains = vault.example\n  route_list = * {}::{} byname\n  self = send\n  \
         transport = world\ncopy:\n  driver = redirect\n  data = archive@vault.example\n  unseen\n",
        archive.ip(),
        archive.port()
    );
    Exim::to(listen, sinks.address(Side::NextHop))
        .with("smtp_accept_max = 0")
        .with("smtp_accept_queue_per_connection = 0")
        .with("smtp_connect_backlog = 500")
        .with("remote_max_parallel = 4")
        .with_recipients("  accept hosts = 127.0.0.0/8\n")
        .with_routers(&vault)
        .start(home)
}

/// Haraka's plugin: whoever comes may send, the archive is one more recipient, and the two places where mail goes to are told.
const PLUGIN: &str = "
const { Address } = require('@haraka/email-address')
exports.hook_connect = (next, connection) => { connection.relaying = true; next() }
exports.hook_data_post = (next, connection) => {
    connection.transaction.rcpt_to.push(new Address('<archive@vault.example>'))
    next()
}
exports.hook_get_mx = (next, hmail, domain) => next(OK, domain === 'vault.example' ? ARCHIVE : NEXT_HOP)
";

/// The program `haraka`: of a directory that `npm install Haraka` has filled, or found in PATH.
pub fn haraka_program(directory: Option<&Path>) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let own = directory.map(|directory| directory.join("node_modules/.bin"));
    let all = own.into_iter().chain(path.split(':').map(PathBuf::from));
    all.map(|directory| directory.join("haraka")).find(|program| program.is_file())
}

/// A process for each of the machine's cores, and nothing in the log but what goes wrong.
pub fn haraka(program: &Path, listen: SocketAddr, sinks: &Sinks, home: &Path) -> Program {
    let made = Command::new(program).arg("-i").arg(home).stdin(Stdio::null()).output().expect("Haraka runs");
    assert!(made.status.success(), "haraka -i: {made:?}");
    let (config, plugins) = (home.join("config"), home.join("plugins"));
    let write = |name: &str, text: String| fs::write(config.join(name), text).expect("a file for Haraka");
    write("smtp.ini", format!("listen={listen}\nnodes=cpus\n"));
    write("plugins", "journal\n".to_owned());
    write("log.ini", "[main]\nlevel=ERROR\n".to_owned());
    write("me", "haraka.example.org\n".to_owned());
    write("outbound.ini", "concurrency_max=100\nenable_tls=false\nlocal_mx_ok=true\n".to_owned());
    write("databytes", "0\n".to_owned());
    let exchange = |side| {
        let address = sinks.address(side);
        format!("{{ priority: 0, exchange: '{}', port: {} }}", address.ip(), address.port())
    };
    let plugin = PLUGIN.replace("ARCHIVE", &exchange(Side::Archive)).replace("NEXT_HOP", &exchange(Side::NextHop));
    fs::write(plugins.join("journal.js"), plugin).expect("a file for Haraka");
    let mut command = Command::new(program);
    let log = fs::File::create(home.join("log")).expect("a log");
    command.arg("-c").arg(home).stdout(log.try_clone().expect("a log")).stderr(Stdio::from(log));
    Program::start(&mut command)
}
