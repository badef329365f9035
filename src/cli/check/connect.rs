//! `check --connect`: tries out every next hop, every archive and every report route, all at once, as far as RCPT. No mail is
//! sent. Each listener that runs is asked, too, see `stranger`.

use super::super::Failure;
use super::super::output::{print, print_object, table, tell_at_terminal};
use super::stranger;
use crate::config::{Config, Listener, Organization, Route};
use crate::deliver::{self, SystemResolver, Verdict};
use crate::forward::{ClientFacts, NextHop, Settings};
use crate::mail::{Address, ReversePath};
use crate::net;
use crate::receive::{self, NOWHERE};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one place may take: longer than a look-up and the fetch of a policy, 60 s each, so that a web server that lets everybody
/// wait does not hide what is behind it.
const LIMIT: Duration = Duration::from_secs(150);
/// Places tried at a time.
const AT_A_TIME: usize = 16;

/// What one place said.
pub(super) struct Answer {
    /// Whether it can be used.
    pub(super) is_fine: bool,
    /// What there is to know, a line each.
    pub(super) lines: Vec<String>,
}

impl Answer {
    pub(super) fn fine(lines: Vec<String>) -> Self {
        Self { is_fine: true, lines }
    }

    pub(super) fn bad(line: impl Into<String>) -> Self {
        Self { is_fine: false, lines: vec![line.into()] }
    }
}

/// A place to be tried.
enum Place {
    NextHop(Listener),
    Listener(Listener),
    /// One of its archives, by its key.
    Records(Organization, String),
    Reports(Organization),
}

/// Tries everything and prints what came of it, in the order of the configuration.
pub(super) fn try_everything(config: &Config, as_json: bool) -> Result<(), Failure> {
    let mut places = Vec::new();
    for listener in &config.listeners {
        places.extend([Place::NextHop(listener.clone()), Place::Listener(listener.clone())]);
    }
    for organization in &config.organizations {
        places.extend(organization.archive_keys().map(|key| Place::Records(organization.clone(), key)));
        places.push(Place::Reports(organization.clone()));
    }
    let titles: Vec<[String; 3]> = places.iter().map(Place::title).collect();
    tell_at_terminal(&format!("trying {} places, {} s each at the most", places.len(), LIMIT.as_secs()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(ask_all(places, Arc::new(config.clone())));
    // A look-up that hangs in the system must not hold up the end.
    runtime.shutdown_background();
    let mut rows = Vec::new();
    let mut bad = 0;
    for (title, answer) in titles.into_iter().zip(answers) {
        bad += usize::from(!answer.is_fine);
        if as_json {
            let [kind, name, place] = title;
            let Answer { is_fine, lines } = answer;
            let kind = kind.replace(' ', "_");
            print_object(
                &json!({ "what": "place", "kind": kind, "name": name, "place": place, "ok": is_fine, "lines": lines }),
            )?;
            continue;
        }
        let state = if answer.is_fine { "ok" } else { "FAILED" };
        let mut lines = answer.lines.into_iter();
        let mut row = title.to_vec();
        row.extend([state.to_owned(), lines.next().unwrap_or_default()]);
        rows.push(row);
        rows.extend(lines.map(|line| vec![String::new(), String::new(), String::new(), String::new(), line]));
    }
    print(table(&rows).as_bytes())?;
    if bad > 0 { Err(Failure::Failed(format!("{bad} of the places can't be used as they are"))) } else { Ok(()) }
}

impl Place {
    /// What it is, whose, and where.
    fn title(&self) -> [String; 3] {
        match self {
            Self::NextHop(listener) => ["next hop".into(), listener.name.clone(), listener.next_hop.to_string()],
            Self::Listener(listener) => ["listener".into(), listener.name.clone(), listener.address.to_string()],
            Self::Records(of, key) => {
                let route = of.archive(key).map_or_else(String::new, |(_, route)| route.to_string());
                ["records".into(), of.name.clone(), route]
            }
            Self::Reports(of) => ["reports".into(), of.name.clone(), of.report_route.to_string()],
        }
    }

    async fn ask(&self, config: &Config) -> Answer {
        let reached = Mutex::new(Vec::new());
        let tell = |what| reached.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        let answer = async {
            match self {
                Self::NextHop(listener) => ask_next_hop(listener, config).await,
                Self::Listener(listener) => stranger::ask(listener, config).await,
                Self::Records(of, key) => {
                    let Some((address, route)) = of.archive(key) else { return Answer::bad("no such archive") };
                    let sender = ReversePath::Address(of.sender.clone());
                    ask_route(route, (&sender, address), config, &tell).await
                }
                Self::Reports(of) => {
                    ask_route(&of.report_route, (&ReversePath::Null, &of.report_address), config, &tell).await
                }
            }
        };
        in_time(answer, &reached).await
    }
}

/// The answer, behind what was reached before it; at [`LIMIT`] that is all there is to say.
async fn in_time(answer: impl Future<Output = Answer>, reached: &Mutex<Vec<String>>) -> Answer {
    let late = |_| Answer::bad(format!("no answer within {} s", LIMIT.as_secs()));
    let answer = timeout(LIMIT, answer).await.unwrap_or_else(late);
    let mut lines = std::mem::take(&mut *reached.lock().unwrap_or_else(PoisonError::into_inner));
    lines.extend(answer.lines);
    Answer { lines, ..answer }
}

/// The answers in the order of the places.
async fn ask_all(places: Vec<Place>, config: Arc<Config>) -> Vec<Answer> {
    let (mut answers, mut open) = (Vec::new(), JoinSet::new());
    let mut places = places.into_iter().enumerate();
    loop {
        while open.len() < AT_A_TIME
            && let Some((number, place)) = places.next()
        {
            let config = Arc::clone(&config);
            open.spawn(async move { (number, place.ask(&config).await) });
        }
        match open.join_next().await {
            Some(Ok(answered)) => answers.push(answered),
            Some(Err(failed)) => answers.push((usize::MAX, Answer::bad(failed.to_string()))),
            None => break,
        }
    }
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// As the listener's clients would be passed on: mail from the first organization to its postmaster, whom every server knows
/// (RFC 5321, section 4.5.1), and to nobody's domain, which tells whether relay control is the relay's alone.
async fn ask_next_hop(listener: &Listener, config: &Config) -> Answer {
    let Some(organization) = config.organizations.first() else { return Answer::bad("there is no organization") };
    let exact = organization.domains.iter().map(|domain| domain.as_text()).find(|domain| !domain.starts_with('*'));
    let postmaster = exact.and_then(|domain| Address::parse(&format!("postmaster@{domain}")).ok());
    let postmaster = postmaster.unwrap_or_else(|| organization.report_address.clone());
    let Ok(elsewhere) = Address::parse(&format!("user@{NOWHERE}")) else { return Answer::bad(NOWHERE) };
    let reverse_path = Some(&organization.report_address).filter(|address| address.is_ascii());
    let reverse_path = reverse_path.map_or(ReversePath::Null, |address| ReversePath::Address(address.clone()));
    let settings =
        Settings { hello_name: config.hostname.clone(), identity: listener.client_identity, ..Settings::default() };
    let next_hop = match NextHop::with_settings(listener.next_hop.clone(), settings) {
        Ok(next_hop) => next_hop,
        Err(error) => return Answer::bad(error.to_string()),
    };
    let trial = next_hop.try_out(a_client(listener), &reverse_path, &[postmaster.clone(), elsewhere.clone()]).await;
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => return Answer::bad(error.to_string()),
    };
    let mut lines = Vec::new();
    if let Some(address) = trial.address {
        let tls = trial.tls.map_or_else(|| "plain text".to_owned(), |tls| tls.to_string());
        lines.push(format!("{address}, {tls}"));
    }
    lines.push(format!("MAIL FROM:<{}>: {}", reverse_path.as_str(), trial.mail));
    lines.extend(trial.rcpts.first().map(|reply| format!("RCPT TO:<{postmaster}>: {reply}")));
    if matches!(listener.next_hop, Route::Smtp(_))
        && let Some(reply) = trial.rcpts.get(1)
    {
        let means =
            if reply.is_completion() { "it relays for this host: relay control is this relay's alone" } else { "" };
        lines.push(format!("RCPT TO:<{elsewhere}>: {reply}"));
        lines.extend(Some(means.to_owned()).filter(|means| !means.is_empty()));
    }
    let is_fine = trial.mail.is_completion() && trial.rcpts.first().is_some_and(|reply| reply.is_completion());
    Answer { is_fine, lines }
}

/// For a next hop that learns who clients are: one from documentation (RFC 5737).
fn a_client(listener: &Listener) -> ClientFacts {
    ClientFacts {
        address: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 25)),
        destination: listener.address,
        name: "client.example".to_owned(),
        extended: true,
    }
}

async fn ask_route(
    route: &Route,
    envelope: (&ReversePath, &Address),
    config: &Config,
    tell: &(dyn Fn(String) + Sync),
) -> Answer {
    let network = net::system();
    let resolver = Arc::new(SystemResolver::new(Arc::clone(&network)));
    let (is_fine, said) = match deliver::try_out(route, &config.hostname, envelope, resolver, network, tell).await {
        Verdict::Accepted { reply, .. } => (true, reply),
        Verdict::Deferred { reply, .. } | Verdict::Refused { reply } => (false, reply),
    };
    let forward_path = envelope.1;
    let line = if said.is_smtp { format!("RCPT TO:<{forward_path}>: {said}") } else { said.to_string() };
    Answer { is_fine, lines: vec![line] }
}

/// Where the relay can be asked whether it is closed.
pub(super) fn stranger_facts(listener: &Listener) -> Option<ClientFacts> {
    let address = SocketAddr::new(receive::stranger(listener)?, 25_025);
    Some(ClientFacts { address, ..a_client(listener) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_place_that_lets_everybody_wait_is_said_to_be_reached_as_far_as_it_was() {
        let reached = Mutex::new(Vec::new());
        let waiting = async {
            reached.lock().unwrap().push("mail exchangers in turn: mx.example".to_owned());
            std::future::pending().await
        };
        let answer = in_time(waiting, &reached).await;
        assert!(!answer.is_fine);
        assert_eq!(answer.lines, ["mail exchangers in turn: mx.example", "no answer within 150 s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_web_server_that_holds_a_policy_back_for_its_minute_hides_nothing() {
        let reached = Mutex::new(Vec::new());
        let late = async {
            // The TXT record's look-up and the fetch, each as late as it may be.
            tokio::time::sleep(Duration::from_secs(120)).await;
            Answer::fine(vec!["250".to_owned()])
        };
        assert_eq!(in_time(late, &reached).await.lines, ["250"]);
    }
}
