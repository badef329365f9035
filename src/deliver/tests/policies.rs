//! What MTA-STS and DANE make of a route `mx`: which servers get mail, and under which certificates.

use super::super::tls::TlsClients;
use super::archive::{Archive, Script};
use super::sts::{ENFORCE, WebServer, names};
use super::tls::certified;
use super::*;
use crate::net::Tlsa;
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// The domain's web server, two mail exchangers of which `bad.example` comes first, and a post that trusts all of their
/// certificates.
struct Domain {
    web: WebServer,
    good: Archive,
    bad: Archive,
    /// The certificate of `good.example`.
    certificate: CertificateDer<'static>,
    names: Names,
    directory: tempfile::TempDir,
}

impl Domain {
    /// One that says `policy`; `good` offers STARTTLS with a certificate for this name, `bad` no TLS.
    async fn saying(policy: &str, certified_for: &str) -> Self {
        let web = WebServer::called("mta-sts.journal.example").await;
        web.says(policy);
        let (acceptor, pem) = certified(certified_for);
        let good = Archive::start(Script::offering(&["STARTTLS"]).with_tls(acceptor, false)).await;
        let bad = Archive::start(Script::default()).await;
        let mut names = names(&web, Some("1"));
        let exchanger = |preference, host: &str| Exchanger { preference, host: host.to_owned() };
        let exchangers = vec![exchanger(20, "good.example"), exchanger(10, "bad.example")];
        names.exchangers.insert("journal.example", Ok(exchangers));
        names.addresses.extend([("good.example", good.address), ("bad.example", bad.address)]);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("store.pem"), format!("{}{pem}", web.pem)).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        Self { web, good, bad, certificate, names, directory }
    }

    /// The same where DNSSEC vouches for all, and `host` has a TLSA record for the digest of these octets.
    fn with_tlsa(mut self, host: &'static str, usage: u8, octets: &[u8]) -> Self {
        let record = Tlsa { usage, selector: 0, matching: 1, data: Sha256::digest(octets).to_vec() };
        self.names.are_secure = true;
        self.names.dane.insert(host, Ok(Some(Dane::new(vec![host.to_owned()], vec![record]))));
        self
    }

    async fn send(self, route: MxRoute) -> (Verdict, Self) {
        let post = post_with(Names {
            exchangers: self.names.exchangers.clone(),
            addresses: self.names.addresses.clone(),
            texts: self.names.texts.clone(),
            are_secure: self.names.are_secure,
            dane: self.names.dane.clone(),
        });
        let post = post.with_tls(TlsClients::with_system_store(self.directory.path().join("store.pem")));
        (send(&post, &Route::Mx(route), &letter("x")).await, self)
    }
}

/// Who took the letter; else why nobody did, and whether the route is shut.
fn taken(verdict: &Verdict) -> Result<&str, (&str, bool)> {
    match verdict {
        Verdict::Accepted { archive, .. } => Ok(archive),
        Verdict::Deferred { reply, fault: Fault::Route { shut } } => Err((&reply.text, *shut)),
        other => panic!("{other:?}"),
    }
}

const GOOD: &str = "smtp://good.example:25";
const BAD: &str = "smtp://bad.example:25";

fn with(sts: bool, dane: bool) -> MxRoute {
    MxRoute { sts, dane, ..MxRoute::default() }
}

#[tokio::test]
async fn an_enforced_policy_sends_mail_to_the_servers_it_names_alone() {
    let (verdict, domain) = Domain::saying(ENFORCE, "good.example").await.send(MxRoute::default()).await;
    assert_eq!(taken(&verdict), Ok(GOOD), "though bad.example comes first");
    assert_eq!((domain.good.heard().tls, domain.bad.heard().connections), (1, 0));
    for (policy, route) in
        [(ENFORCE.replace("enforce", "testing"), with(true, true)), (ENFORCE.into(), with(false, true))]
    {
        let (verdict, _) = Domain::saying(&policy, "good.example").await.send(route).await;
        assert_eq!(taken(&verdict), Ok(BAD), "nothing is asked for");
    }
}

#[tokio::test]
async fn where_no_server_meets_an_enforced_policy_the_letter_waits_and_the_reason_is_told() {
    for (policy, certified_for, why) in [
        (
            ENFORCE.replace("good.example", "*.elsewhere.example"),
            "good.example",
            "does not name its mail exchanger good",
        ),
        (ENFORCE.to_owned(), "elsewhere.example", "as the domain's MTA-STS policy requires"),
        (ENFORCE.replace("good", "bad"), "good.example", "does not name its mail exchanger good"),
    ] {
        let (verdict, domain) = Domain::saying(&policy, certified_for).await.send(MxRoute::default()).await;
        let (said, shut) = taken(&verdict).unwrap_err();
        assert!(said.contains(why) && shut, "{policy}: {said}");
        assert!(domain.good.heard().letters.is_empty() && domain.bad.heard().letters.is_empty());
    }
}

#[tokio::test]
async fn a_server_without_starttls_meets_no_policy() {
    let mut domain = Domain::saying(&ENFORCE.replace("good", "bad"), "good.example").await;
    let alone = vec![Exchanger { preference: 1, host: "bad.example".to_owned() }];
    domain.names.exchangers.insert("journal.example", Ok(alone));
    let (verdict, domain) = domain.send(MxRoute::default()).await;
    let (said, shut) = taken(&verdict).unwrap_err();
    assert!(said.contains("offers no STARTTLS, which the domain's MTA-STS policy requires") && shut, "{said}");
    assert!(domain.bad.heard().of("MAIL").is_empty());
}

#[tokio::test]
async fn a_route_without_tls_asks_for_no_policy() {
    let server = SmtpRoute::to("", 25, Tls::None);
    let domain = Domain::saying(ENFORCE, "good.example").await.with_tlsa("bad.example", 3, b"another");
    let (verdict, domain) = domain.send(MxRoute { server, ..MxRoute::default() }).await;
    assert_eq!(taken(&verdict), Ok(BAD));
    assert_eq!(domain.web.asked(), 0);
}

#[tokio::test]
async fn a_policy_takes_nothing_from_what_the_route_asks_for() {
    let server = SmtpRoute { fingerprints: vec![[7; 32]], ..SmtpRoute::to("", 25, Tls::Required) };
    let route = MxRoute { server, ..MxRoute::default() };
    let (verdict, _) = Domain::saying(ENFORCE, "good.example").await.send(route.clone()).await;
    assert!(taken(&verdict).unwrap_err().0.contains("as the route requires"), "{verdict:?}");
    let domain = Domain::saying(ENFORCE, "good.example").await;
    let certificate = domain.certificate.clone();
    let (verdict, _) = domain.with_tlsa("good.example", 3, &certificate).send(route).await;
    assert!(taken(&verdict).is_err(), "{verdict:?}");
}

#[tokio::test]
async fn a_tlsa_record_names_the_certificate_whatever_name_is_in_it_and_comes_before_mta_sts() {
    let domain = Domain::saying(&ENFORCE.replace("good", "bad"), "elsewhere.example").await;
    let certificate = domain.certificate.clone();
    let (verdict, domain) = domain.with_tlsa("good.example", 3, &certificate).send(MxRoute::default()).await;
    assert_eq!(taken(&verdict), Ok(GOOD), "the policy does not name it, its TLSA record does");
    assert_eq!(domain.good.heard().tls, 1);
}

#[tokio::test]
async fn a_server_whose_certificate_no_tlsa_record_names_gets_nothing() {
    let domain = || async { Domain::saying("", "good.example").await.with_tlsa("good.example", 3, b"another") };
    let mut alone = domain().await;
    let exchangers = vec![Exchanger { preference: 1, host: "good.example".to_owned() }];
    alone.names.exchangers.insert("journal.example", Ok(exchangers.clone()));
    let (verdict, alone) = alone.send(MxRoute::default()).await;
    let (said, shut) = taken(&verdict).unwrap_err();
    assert!(said.contains("no TLSA record") && said.contains("TLSA record requires") && shut, "{said}");
    assert!(alone.good.heard().letters.is_empty());
    // Another one of the domain that can be used gets it.
    let (verdict, _) = domain().await.send(MxRoute::default()).await;
    assert_eq!(taken(&verdict), Ok(BAD));

    for (route, are_secure) in [(with(true, false), true), (with(true, true), false)] {
        let mut ignored = domain().await;
        ignored.names.exchangers.insert("journal.example", Ok(exchangers.clone()));
        ignored.names.are_secure = are_secure;
        assert_eq!(taken(&ignored.send(route).await.0), Ok(GOOD));
    }
}

#[tokio::test]
async fn a_server_whose_tlsa_records_can_t_be_looked_up_is_passed_over_for_now() {
    let mut domain = Domain::saying("", "good.example").await;
    domain.names.are_secure = true;
    for host in ["good.example", "bad.example"] {
        let failing = Err(Unresolved::NotNow(format!("TLSA of {host}: SERVFAIL")));
        domain.names.dane.insert(host, failing);
    }
    let (verdict, mut domain) = domain.send(MxRoute::default()).await;
    let (said, shut) = taken(&verdict).unwrap_err();
    assert!(said.contains("TLSA of good.example: SERVFAIL") && !shut, "{said}");
    assert_eq!((domain.good.heard().connections, domain.bad.heard().connections), (0, 0));
    domain.names.dane.remove("good.example");
    assert_eq!(taken(&domain.send(MxRoute::default()).await.0), Ok(GOOD));
}

#[tokio::test]
async fn tlsa_records_that_can_t_be_used_ask_for_tls_with_any_certificate() {
    let domain = Domain::saying("", "elsewhere.example").await.with_tlsa("good.example", 1, b"x");
    let (verdict, domain) = domain.with_tlsa("bad.example", 0, b"x").send(MxRoute::default()).await;
    assert_eq!(taken(&verdict), Ok(GOOD), "bad.example offers no TLS");
    assert_eq!((domain.good.heard().tls, domain.bad.heard().of("MAIL").len()), (1, 0));
}

#[tokio::test]
async fn tlsa_records_that_can_t_be_used_take_nothing_from_an_enforced_policy() {
    for (policy, certified_for, why) in [
        (ENFORCE.to_owned(), "elsewhere.example", "as the domain's MTA-STS policy requires"),
        (ENFORCE.replace("good", "other"), "good.example", "does not name its mail exchanger good"),
    ] {
        let domain = Domain::saying(&policy, certified_for).await.with_tlsa("good.example", 1, b"x");
        let (verdict, domain) = domain.with_tlsa("bad.example", 0, b"x").send(MxRoute::default()).await;
        let (said, shut) = taken(&verdict).unwrap_err();
        assert!(said.contains(why) && shut, "{policy}: {said}");
        assert!(domain.good.heard().letters.is_empty() && domain.bad.heard().letters.is_empty());
    }
    let domain = Domain::saying(ENFORCE, "good.example").await.with_tlsa("good.example", 1, b"x");
    let (verdict, domain) = domain.send(MxRoute::default()).await;
    assert_eq!(taken(&verdict), Ok(GOOD));
    assert_eq!((domain.good.heard().tls, domain.bad.heard().connections), (1, 0));
}

#[tokio::test]
async fn whoever_tries_a_route_out_hears_how_far_it_got() {
    let domain = Domain::saying(ENFORCE, "good.example").await;
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |what| told.lock().unwrap().push(what);
    let post =
        post_with(domain.names).with_tls(TlsClients::with_system_store(domain.directory.path().join("store.pem")));
    post.send_telling(&Route::Mx(MxRoute::default()), "relay.example.org", &letter("x"), Some(&tell)).await;
    let told = told.into_inner().unwrap();
    assert_eq!(told[..2], ["mail exchangers in turn: bad.example, good.example", "MTA-STS: a policy is enforced"]);
    assert!(told[2].starts_with(&domain.good.address.to_string()) && told[2].contains("verified"), "{told:?}");
}
