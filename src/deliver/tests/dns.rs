//! What a real name server's answers mean: one that speaks the DNS over UDP on the loopback.

use super::super::dns::NameServers;
use super::super::resolver::{MAX_ADDRESSES, SystemResolver};
use super::*;
use crate::net::Tlsa;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, TLSA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tokio::net::UdpSocket;

/// What a name server knows.
#[derive(Clone, Default)]
struct Zone {
    records: BTreeMap<String, Vec<RData>>,
    /// Names that it can't vouch for.
    insecure: BTreeSet<String>,
    /// Names for which it has no answer: bogus ones, perhaps.
    failing: BTreeSet<(String, RecordType)>,
}

impl Zone {
    fn with(mut self, name: &str, data: RData) -> Self {
        self.records.entry(name.to_owned()).or_default().push(data);
        self
    }

    fn insecure(mut self, name: &str) -> Self {
        self.insecure.insert(name.to_owned());
        self
    }

    fn failing(mut self, name: &str, kind: RecordType) -> Self {
        self.failing.insert((name.to_owned(), kind));
        self
    }

    fn answer(&self, asked: &Message) -> Message {
        let query = asked.queries[0].clone();
        let mut answer = Message::response(asked.metadata.id, OpCode::Query);
        answer.add_query(query.clone());
        answer.metadata.recursion_available = true;
        let mut name = query.name().to_utf8().trim_end_matches('.').to_owned();
        if self.failing.contains(&(name.clone(), query.query_type())) {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer;
        }
        let mut is_secure = asked.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let mut followed = BTreeSet::new();
        // As a name server that follows a loop once.
        while followed.insert(name.clone()) {
            let Some(records) = self.records.get(&name) else {
                answer.metadata.response_code = ResponseCode::NXDomain;
                return answer;
            };
            is_secure &= !self.insecure.contains(&name);
            let owner = Name::from_utf8(format!("{name}.")).unwrap();
            let of_kind = records.iter().filter(|data| data.record_type() == query.query_type());
            answer.add_answers(of_kind.map(|data| Record::from_rdata(owner.clone(), 60, data.clone())));
            let alias = records.iter().find(|data| data.record_type() == RecordType::CNAME);
            let (Some(RData::CNAME(target)), true) = (alias, query.query_type() != RecordType::CNAME) else { break };
            answer.add_answer(Record::from_rdata(owner, 60, RData::CNAME(target.clone())));
            name = target.0.to_utf8().trim_end_matches('.').to_owned();
        }
        answer.metadata.authentic_data = is_secure;
        answer
    }
}

/// A resolver that asks a name server with this zone and trusts its word, or doesn't.
#[allow(clippy::disallowed_methods, reason = "a test's own task, ended with its runtime")]
async fn asking(zone: Zone, are_trusted: bool) -> SystemResolver {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut octets = [0; 4_096];
        while let Ok((length, client)) = socket.recv_from(&mut octets).await {
            let asked = Message::from_vec(&octets[..length]).unwrap();
            socket.send_to(&zone.answer(&asked).to_vec().unwrap(), client).await.unwrap();
        }
    });
    let mut connection = ConnectionConfig::udp();
    connection.port = address.port();
    let server = NameServerConfig::new(address.ip(), true, vec![connection]);
    let servers = NameServers::new(vec![server], ResolverOpts::default(), are_trusted);
    SystemResolver::with_name_servers(crate::net::system(), servers)
}

fn name(text: &str) -> Name {
    Name::from_utf8(format!("{text}.")).unwrap()
}

fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(name(target)))
}

fn mx(preference: u16, host: &str) -> RData {
    RData::MX(MX::new(preference, name(host)))
}

fn v4(last: u8) -> RData {
    RData::A(A::new(192, 0, 2, last))
}

fn v6() -> RData {
    RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))
}

fn tlsa(octet: u8) -> RData {
    RData::TLSA(TLSA::new(CertUsage::DaneEe, Selector::Spki, Matching::Sha256, vec![octet; 32]))
}

fn known(names: &[&str], octet: u8) -> Option<Dane> {
    let record = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![octet; 32] };
    Some(Dane::new(names.iter().map(|name| (*name).to_owned()).collect(), vec![record]))
}

#[tokio::test]
async fn exchangers_are_found_behind_an_alias_and_the_null_mx_is_one_without_a_name() {
    let zone = Zone::default()
        .with("example.org", mx(10, "MX1.example.org"))
        .with("example.org", mx(20, "mx2.example.net"))
        .with("www.example.org", alias("example.org"))
        .with("null.example", RData::MX(MX::new(0, Name::root())))
        .with("plain.example", v4(1));
    let resolver = asking(zone, false).await;
    let exchanger = |preference, host: &str| Exchanger { preference, host: host.to_owned() };
    let both = vec![exchanger(10, "mx1.example.org"), exchanger(20, "mx2.example.net")];
    for domain in ["example.org", "www.example.org"] {
        let found = resolver.exchangers(domain).await.unwrap();
        assert_eq!(found, Exchangers { found: both.clone(), are_secure: false }, "{domain}");
    }
    let idn = asking(Zone::default().with("idn.example", mx(5, "xn--r8jz45g.example")), false).await;
    assert_eq!(idn.exchangers("idn.example").await.unwrap().found, [exchanger(5, "xn--r8jz45g.example")]);
    assert_eq!(resolver.exchangers("null.example").await.unwrap().found, [exchanger(0, "")]);
    assert_eq!(resolver.exchangers("plain.example").await.unwrap().found, []);
    let gone = resolver.exchangers("gone.example").await;
    assert!(matches!(&gone, Err(Unresolved::Never(what)) if what.contains("does not exist")), "{gone:?}");
}

#[tokio::test]
async fn a_name_server_that_fails_makes_no_domain_vanish() {
    let resolver = asking(Zone::default().failing("example.org", RecordType::MX), false).await;
    let failed = resolver.exchangers("example.org").await;
    assert!(matches!(&failed, Err(Unresolved::NotNow(_))), "{failed:?}");
    assert!(matches!(
        asking(Zone::default().failing("t.example", RecordType::TXT), true).await.texts("t.example").await,
        Err(Unresolved::NotNow(_))
    ));
}

#[tokio::test]
async fn an_alias_that_leads_nowhere_or_back_makes_no_domain_one_without_exchangers() {
    let zone = Zone::default()
        .with("self.example", alias("self.example"))
        .with("one.example", alias("two.example"))
        .with("two.example", alias("three.example"))
        .with("three.example", alias("two.example"))
        .with("four.example", alias("one.example"))
        .with("back.example", alias("forth.example"))
        .with("forth.example", alias("back.example"))
        .with("dangling.example", alias("gone.example"));
    let resolver = asking(zone, false).await;
    for domain in ["self", "one", "two", "four", "back", "dangling"] {
        let found = resolver.exchangers(&format!("{domain}.example")).await;
        assert!(matches!(&found, Err(Unresolved::NotNow(what)) if what.contains("alias")), "{domain}: {found:?}");
    }
}

#[tokio::test]
async fn tlsa_records_behind_an_alias_that_leads_nowhere_are_none() {
    let zone = Zone::default().with("mx.example", v4(1)).with("_25._tcp.mx.example", alias("gone.example"));
    assert_eq!(asking(zone, true).await.dane("mx.example", 25).await, Ok(None));
}

#[tokio::test]
async fn exchangers_are_secure_where_a_trusted_name_server_says_so() {
    let zone = Zone::default().with("a.example", mx(10, "mx")).with("b.example", mx(10, "mx")).insecure("b.example");
    for (domain, are_trusted, expected) in
        [("a.example", true, true), ("a.example", false, false), ("b.example", true, false)]
    {
        let found = asking(zone.clone(), are_trusted).await.exchangers(domain).await.unwrap();
        assert_eq!(found.are_secure, expected, "{domain} {are_trusted}");
    }
}

#[tokio::test]
async fn the_pieces_of_a_text_are_joined() {
    let pieces = TXT::new(vec!["v=STSv1; ".to_owned(), "id=1;".to_owned()]);
    let zone = Zone::default().with("_mta-sts.example.org", RData::TXT(pieces)).with("other.example", v4(1));
    let resolver = asking(zone, false).await;
    assert_eq!(resolver.texts("_mta-sts.example.org").await.unwrap(), ["v=STSv1; id=1;"]);
    assert_eq!(resolver.texts("other.example").await.unwrap(), [""; 0]);
    assert_eq!(resolver.texts("gone.example").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn tlsa_records_count_where_the_address_and_they_are_secure() {
    let zone = Zone::default()
        .with("mx.example", v4(1))
        .with("mx.example", v6())
        .with("_25._tcp.mx.example", tlsa(1))
        .with("none.example", v4(2));
    let of = |host: &'static str, zone: Zone, are_trusted| async move {
        asking(zone, are_trusted).await.dane(host, 25).await
    };
    assert_eq!(of("mx.example", zone.clone(), true).await, Ok(known(&["mx.example"], 1)));
    for (host, zone, are_trusted) in [
        ("mx.example", zone.clone(), false),
        ("mx.example", zone.clone().insecure("mx.example"), true),
        ("mx.example", zone.clone().insecure("_25._tcp.mx.example"), true),
        ("none.example", zone.clone(), true),
        ("gone.example", zone.clone(), true),
        ("192.0.2.1", zone.clone(), true),
    ] {
        assert_eq!(of(host, zone, are_trusted).await, Ok(None), "{host} {are_trusted}");
    }
    for (name, kind) in
        [("mx.example", RecordType::A), ("mx.example", RecordType::AAAA), ("_25._tcp.mx.example", RecordType::TLSA)]
    {
        let failed = of("mx.example", zone.clone().failing(name, kind), true).await;
        assert!(matches!(&failed, Err(Unresolved::NotNow(_))), "{name} {kind}: {failed:?}");
    }
}

#[tokio::test]
async fn behind_an_alias_the_records_of_its_end_count_first_and_a_secure_alias_keeps_its_own() {
    let zone = Zone::default()
        .with("mx.example", alias("host.example"))
        .with("host.example", v4(1))
        .with("_25._tcp.mx.example", tlsa(1));
    let both = zone.clone().with("_25._tcp.host.example", tlsa(2));
    let of = |zone: Zone| async move { asking(zone, true).await.dane("mx.example", 25).await.unwrap() };
    assert_eq!(of(both.clone()).await, known(&["host.example", "mx.example"], 2));
    assert_eq!(of(zone.clone()).await, known(&["mx.example"], 1));
    assert_eq!(of(both.clone().insecure("host.example")).await, known(&["mx.example"], 1));
    assert_eq!(of(both.insecure("host.example").insecure("mx.example")).await, None);
}

#[tokio::test]
async fn addresses_are_the_system_s_and_of_both_families() {
    let resolver = asking(Zone::default(), false).await;
    let found = resolver.addresses("localhost", 25).await.unwrap();
    assert!(found.iter().all(|address| address.ip().is_loopback()) && found.len() <= MAX_ADDRESSES, "{found:?}");
    let literal: IpAddr = "2001:db8::1".parse().unwrap();
    assert_eq!(resolver.addresses("2001:db8::1", 25).await.unwrap(), [SocketAddr::new(literal, 25)]);
}
