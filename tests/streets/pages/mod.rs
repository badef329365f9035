//! The pages of docs/ that show a topology: their blocks are started as they stand, with this machine's addresses, mail goes
//! through, and the commands that an administrator checks with say what the page shows.

mod both;
mod exchange;
mod inbound;
mod outbound;
mod same_host;

use crate::common::{
    Authority, Block, Client, Dovecot, Page, Postfix, Record, Relay, Running, Sink, free_port, open_to_others,
    own_loopback_address, strip_folded_received, strip_received,
};
use crate::message;
use std::net::SocketAddr;

/// What stands around the relay of a page.
struct Place {
    page: Page,
    mailboxes: Sink,
    /// Everywhere else.
    world: Sink,
    archive: Sink,
    authority: Authority,
    /// Where the relay will listen first.
    listen: SocketAddr,
    home: tempfile::TempDir,
}

impl Place {
    fn new(page: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        open_to_others(home.path());
        Self {
            page: Page::open(page),
            mailboxes: Sink::start(),
            world: Sink::start(),
            archive: Sink::start(),
            authority: Authority::new(),
            listen: free_port(own_loopback_address()),
            home,
        }
    }

    /// A configuration of the relay, with the archive here in the place of the one that it shows.
    fn config(&self, title: &str) -> Block {
        self.page.block(title).put("smtp://archive.example.com:25?tls=required", self.archive.route())
    }

    /// The same for one that shows a listener with a certificate.
    fn config_with_tls(&self, title: &str, name: &str) -> Block {
        let (certificate, key) = self.authority.certify(&[name]).write(self.home.path(), "listener");
        self.config(title)
            .put("/etc/journal-relay/tls/fullchain.pem", certificate.display())
            .put("/etc/journal-relay/tls/privkey.pem", key.display())
    }

    /// example.org's mail server, changed by these lines of a page.
    fn postfix(&self, main_cf: &str) -> Postfix {
        let (certificate, key) = self.authority.certify(&["mail.example.org"]).write(self.home.path(), "postfix");
        let listen = free_port(own_loopback_address());
        Postfix::of_example_org(listen, self.mailboxes.address(), main_cf)
            .with("smtpd_tls_cert_file", &certificate.display().to_string())
            .with("smtpd_tls_key_file", &key.display().to_string())
    }

    /// A smart host that insists on TLS and, where `dovecot` knows them, on a user and a password; where it is, as a route
    /// says it.
    fn smart_host(&self, dovecot: Option<&Dovecot>) -> (Running, String) {
        let listen = free_port(own_loopback_address());
        let name = listen.ip().to_string();
        let (certificate, key) = self.authority.certify(&[&name]).write(self.home.path(), "smarthost");
        let postfix = Postfix::new(listen, self.world.address())
            .with("smtpd_tls_security_level", "encrypt")
            .with("smtpd_tls_cert_file", &certificate.display().to_string())
            .with("smtpd_tls_key_file", &key.display().to_string());
        let postfix = match dovecot {
            None => postfix,
            Some(dovecot) => postfix
                .with("smtpd_sasl_auth_enable", "yes")
                .with("smtpd_sasl_type", "dovecot")
                .with("smtpd_sasl_path", &dovecot.socket.display().to_string())
                .with("smtpd_relay_restrictions", "permit_sasl_authenticated, reject"),
        };
        let postfix = postfix.start(&self.home.path().join("smarthost"));
        let ca_file = self.authority.write(self.home.path());
        let place = format!("{listen}?tls=required&ca_file={}", ca_file.display());
        (postfix, place)
    }

    /// A message comes in from a client at an address of its own: the field that the mail server put on top shows that
    /// address, and the record holds what the client sent.
    fn comes_in(&self, name: &str) {
        let source = own_loopback_address();
        let mut client = Client::from(source, self.listen).greeted();
        client.start_tls(&self.authority, name);
        client.mail("bob@example.net", &["alice@example.org"], &message("in")).starts("250 ");
        client.command("QUIT").starts("221");
        let copy = self.mailboxes.wait_for(1).remove(0);
        let (received, rest) = strip_folded_received(&copy.octets);
        assert!(received.contains(&format!("[{source}]")), "{received}");
        assert_eq!(strip_received(rest).1, message("in"));
        assert_eq!(Record::read(&self.archive.wait_for(1)[0].octets).original, message("in"));
    }

    /// The commands of a block, with the relay's address in the place of the server that it shows.
    fn run(&self, title: &str, server: &str, here: &str, relay: &Relay) {
        self.page.block(title).put(&format!("--server {server}"), format!("--server {here}")).run(relay);
    }
}

fn literal(address: SocketAddr) -> String {
    format!("[{}]:{}", address.ip(), address.port())
}
