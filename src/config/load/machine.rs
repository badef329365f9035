//! What a default takes from the machine: its name, and whether people read stderr.

use crate::mail::DomainPattern;
use std::io::IsTerminal;

/// The name of a machine that has none.
const NAMELESS: &str = "localhost";

/// What defaults depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its fully qualified name, as far as it knows it.
    pub hostname: String,
    /// Whether stderr is a terminal.
    pub stderr_is_terminal: bool,
}

impl Machine {
    /// This machine. Asks no name server: a daemon must start without one.
    pub fn look() -> Self {
        let nodename = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        Self { hostname: qualify(&nodename, &hosts), stderr_is_terminal: std::io::stderr().is_terminal() }
    }
}

/// The name with a domain: the node's own when it has dots, else the canonical name that `hosts` (the text of hosts(5))
/// gives it, as `hostname -f` does; else the bare name.
fn qualify(nodename: &str, hosts: &str) -> String {
    let canonical = || {
        hosts.lines().find_map(|line| {
            let mut names = line.split('#').next()?.split_whitespace().skip(1);
            let first = names.next()?;
            let meant = first.eq_ignore_ascii_case(nodename) || names.any(|name| name.eq_ignore_ascii_case(nodename));
            (meant && first.contains('.')).then(|| first.to_owned())
        })
    };
    let name = if nodename.contains('.') { None } else { canonical() };
    let name = name.unwrap_or_else(|| nodename.to_owned());
    match DomainPattern::parse(&name) {
        Ok(_) if !name.starts_with('*') => name,
        _ => NAMELESS.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost\n# 10.0.0.1 no.example.org relay\n\
                         127.0.1.1\tRelay.example.org relay # the machine\n10.0.0.2 other\n";

    #[test]
    fn a_bare_name_gets_its_domain_from_the_hosts_file() {
        assert_eq!(qualify("relay", HOSTS), "Relay.example.org");
    }

    #[test]
    fn a_name_with_dots_stays_as_it_is() {
        assert_eq!(qualify("mx1.example.net", HOSTS), "mx1.example.net");
    }

    #[test]
    fn a_name_the_hosts_file_does_not_qualify_stays_bare() {
        assert_eq!(qualify("other", HOSTS), "other");
        assert_eq!(qualify("unheard-of", HOSTS), "unheard-of");
    }

    #[test]
    fn what_is_no_name_becomes_localhost() {
        for name in ["", "(none)", "*.example.org", "two words"] {
            assert_eq!(qualify(name, ""), "localhost", "{name:?}");
        }
    }
}
