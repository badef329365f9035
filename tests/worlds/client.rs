//! A client that keeps what it has until the relay has taken it, as mail servers do: after 4yz or a lost connection it comes
//! again with the same octets. Sometimes it hangs up in the middle, and some messages it gives up after a few attempts: what
//! the next hop took of them has no other chance of a record than the attempts there were.

use super::dice::Dice;
use super::history::{Attempt, Chronicle, Stage};
use super::mail::Mail;
use super::trace::Trace;
use super::wire::{Wire, chunks, stuffed};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

/// Where the relay listens.
pub const RELAY: &str = "relay.example";

/// One message to be sent in one transaction, and what is left of it in further ones.
#[derive(Debug, Clone)]
pub struct Job {
    pub mail: usize,
    pub recipients: Vec<String>,
    /// When the client begins with it, if it has nothing else to do.
    pub at: u64,
    /// MAIL, RCPT and DATA in one write.
    pub pipelined: bool,
    /// Its MAIL, RCPT and DATA may go in one write with the final dot of the message before.
    pub ahead: bool,
    /// In chunks, where the relay takes them.
    pub chunked: bool,
    /// Octets of one write of the message.
    pub piece: usize,
    /// How the first attempt ends, unless something else ends it before.
    pub hang_up: Option<HangUp>,
    /// Attempts before the client gives up what is left; none: it never does.
    pub tries: Option<u32>,
}

/// Where a client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangUp {
    /// After so many of 1000 parts of the message.
    InData(usize),
    /// Behind the final dot, without waiting for the reply.
    BehindDot,
}

/// One client.
pub struct Client {
    pub number: usize,
    pub jobs: Vec<Job>,
    pub mails: Rc<Vec<Mail>>,
    /// How long it waits for a reply.
    pub patience: Duration,
    pub dice: Dice,
    pub chronicle: Chronicle,
    pub trace: Trace,
    /// Jobs of all clients that are not done.
    pub open: Rc<Cell<usize>>,
}

/// How a transaction ended, for the client.
enum End {
    /// By the reply to the dot.
    Replied(String),
    /// By a refusal before: the recipients that stay are tried again, or not.
    Refused(String),
    /// The connection is gone.
    Lost,
}

impl Client {
    pub async fn run(mut self) {
        let mut wire = None;
        let jobs = std::mem::take(&mut self.jobs);
        let mut following = jobs.clone().into_iter().skip(1);
        for job in jobs {
            let next = following.next().filter(|next| next.ahead && next.pipelined);
            let now = now();
            if job.at > now {
                sleep(Duration::from_millis(job.at - now)).await;
            }
            self.deliver(&mut wire, job, next.as_ref()).await;
            self.open.set(self.open.get() - 1);
        }
        if let Some(mut wire) = wire {
            let _ = wire.write(b"QUIT\r\n").await;
            let _ = wire.reply().await;
        }
    }

    /// Tries until every recipient is taken or refused for good.
    async fn deliver(&mut self, wire: &mut Option<Wire>, mut job: Job, next: Option<&Job>) {
        let mut pending = job.recipients.clone();
        let mut tried = 0;
        while !pending.is_empty() {
            if job.tries.is_some_and(|most| tried >= most) {
                self.trace.note(format!("client {}: mail {} is given up for {pending:?}", self.number, job.mail));
                self.chronicle.write().given_up += 1;
                return;
            }
            tried += 1;
            let mut attempt = Attempt {
                client: self.number,
                mail: job.mail,
                began: now(),
                ended: 0,
                replies: Vec::new(),
                accepted: Vec::new(),
                dot_sent: false,
                end: None,
            };
            let mut talk = match wire.take() {
                Some(open) => Some(open),
                None => self.connect(&mut attempt).await,
            };
            let end = match &mut talk {
                Some(open) => self.transaction(open, &job, &pending, next, &mut attempt).await.unwrap_or(End::Lost),
                None => End::Lost,
            };
            self.judge(&end, &attempt, &mut pending);
            let closing = attempt.replies.last().is_some_and(|(_, reply)| reply.starts_with("421"));
            // Behind a message that has to be sent again, an envelope that went ahead is another one's.
            let is_in_step = pending.is_empty() || talk.as_ref().is_some_and(|talk| !talk.is_ahead);
            if !matches!(end, End::Lost) && !closing && is_in_step && self.dice.chance(60) {
                *wire = talk;
            }
            attempt.ended = now();
            let last = attempt.replies.last().map_or("nothing", |(_, reply)| reply.as_str());
            let (number, mail) = (self.number, job.mail);
            self.trace.note(format!("client {number}: mail {mail} to {:?}: {last}", attempt.accepted));
            self.chronicle.write().attempts.push(attempt);
            job.hang_up = None;
            if !pending.is_empty() {
                sleep(Duration::from_millis(self.dice.between(500, 4_000))).await;
            }
        }
    }

    /// Takes those from `pending` whose fate is known.
    fn judge(&self, end: &End, attempt: &Attempt, pending: &mut Vec<String>) {
        let refused_for_good = |reply: &str| reply.starts_with('5');
        let rcpts: Vec<_> = attempt.replies.iter().filter(|(stage, _)| *stage == Stage::Rcpt).collect();
        let before = pending.clone();
        match end {
            End::Lost => return,
            End::Replied(reply) if reply.starts_with('2') || refused_for_good(reply) => {
                pending.retain(|recipient| !attempt.accepted.contains(recipient));
            }
            End::Refused(reply) if refused_for_good(reply) && attempt.accepted.len() == before.len() => pending.clear(),
            End::Replied(_) | End::Refused(_) => {}
        }
        for (recipient, (_, reply)) in before.iter().zip(rcpts) {
            if refused_for_good(reply) {
                pending.retain(|other| other != recipient);
            }
        }
    }

    async fn connect(&self, attempt: &mut Attempt) -> Option<Wire> {
        let connected = timeout(self.patience, TcpStream::connect((RELAY, 25))).await;
        let mut wire = Wire::new(connected.ok()?.ok()?, self.patience);
        if !hear(&mut wire, Stage::Greeting, attempt).await.ok()?.starts_with('2') {
            return None;
        }
        wire.write(format!("EHLO client{}.example\r\n", self.number).as_bytes()).await.ok()?;
        let reply = hear(&mut wire, Stage::Ehlo, attempt).await.ok()?;
        wire.takes_eight_bit = reply.contains("8BITMIME");
        wire.takes_chunks = reply.contains("CHUNKING");
        reply.starts_with('2').then_some(wire)
    }

    async fn transaction(
        &self,
        wire: &mut Wire,
        job: &Job,
        recipients: &[String],
        next: Option<&Job>,
        attempt: &mut Attempt,
    ) -> io::Result<End> {
        let is_said = std::mem::take(&mut wire.is_ahead);
        let mail = &self.mails[job.mail];
        if mail.is_eight_bit && !wire.takes_eight_bit {
            // It can't be sent as it is (RFC 6152, section 3); perhaps another time.
            wire.write(b"QUIT\r\n").await?;
            return Ok(End::Lost);
        }
        let (from, rcpts) = envelope(mail, recipients);
        let chunked = job.chunked && wire.takes_chunks && !is_said;
        if is_said {
            // With the dot before.
        } else if job.pipelined {
            let data = if chunked { "" } else { "DATA\r\n" };
            wire.write(format!("{from}{}{data}", rcpts.concat()).as_bytes()).await?;
        } else {
            wire.write(from.as_bytes()).await?;
        }
        let mut refusal = None;
        let reply = hear(wire, Stage::Mail, attempt).await?;
        if !reply.starts_with('2') {
            refusal = Some(reply);
        }
        for (recipient, rcpt) in recipients.iter().zip(&rcpts) {
            if !job.pipelined {
                if refusal.is_some() {
                    break;
                }
                wire.write(rcpt.as_bytes()).await?;
            }
            if hear(wire, Stage::Rcpt, attempt).await?.starts_with('2') {
                attempt.accepted.push(recipient.clone());
            }
        }
        if chunked || !job.pipelined {
            if refusal.is_some() || attempt.accepted.is_empty() {
                wire.write(b"RSET\r\n").await?;
                hear(wire, Stage::Other, attempt).await?;
                return Ok(End::Refused(refusal.unwrap_or_default()));
            }
            if chunked {
                return self.in_chunks(wire, job, attempt).await;
            }
            wire.write(b"DATA\r\n").await?;
        }
        let reply = hear(wire, Stage::Data, attempt).await?;
        if !reply.starts_with("354") {
            return Ok(End::Refused(refusal.unwrap_or(reply)));
        }
        self.content(wire, job, next, attempt).await
    }

    /// All chunks at once, or each behind the reply to the one before.
    async fn in_chunks(&self, wire: &mut Wire, job: &Job, attempt: &mut Attempt) -> io::Result<End> {
        let octets = &self.mails[job.mail].octets;
        let chunks = chunks(octets, job.piece);
        if let Some(HangUp::InData(parts)) = job.hang_up {
            let all = chunks.concat();
            wire.write(&all[..(all.len() - 1) * parts / 1_000]).await?;
            return Ok(End::Lost);
        }
        let (last, others) = chunks.split_last().expect("one chunk at least");
        if job.pipelined {
            attempt.dot_sent = true;
            wire.write(&chunks.concat()).await?;
        }
        let mut refusal = None;
        for chunk in others {
            if !job.pipelined {
                wire.write(chunk).await?;
            }
            let reply = hear(wire, Stage::Chunk, attempt).await?;
            if !reply.starts_with('2') && refusal.is_none() {
                refusal = Some(reply);
                if !job.pipelined {
                    break;
                }
            }
        }
        if let Some(refusal) = refusal {
            if job.pipelined {
                // Nothing of a message with a chunk that was refused is there to be ended.
                let reply = hear(wire, Stage::Chunk, attempt).await?;
                assert!(!reply.starts_with('2'), "{reply} to the last chunk behind {refusal}");
            }
            wire.write(b"RSET\r\n").await?;
            hear(wire, Stage::Other, attempt).await?;
            return Ok(End::Refused(refusal));
        }
        attempt.dot_sent = true;
        if !job.pipelined {
            wire.write(last).await?;
        }
        if job.hang_up == Some(HangUp::BehindDot) {
            return Ok(End::Lost);
        }
        let reply = hear(wire, Stage::Dot, attempt).await?;
        attempt.end = Some(reply.clone());
        Ok(End::Replied(reply))
    }

    async fn content(&self, wire: &mut Wire, job: &Job, next: Option<&Job>, attempt: &mut Attempt) -> io::Result<End> {
        let mut octets = stuffed(&self.mails[job.mail].octets);
        let end = match job.hang_up {
            Some(HangUp::InData(parts)) => (octets.len() - 3) * parts / 1_000,
            _ => octets.len(),
        };
        let is_whole = end == octets.len();
        let end = match next.filter(|next| is_whole && (wire.takes_eight_bit || !self.mails[next.mail].is_eight_bit)) {
            Some(next) => {
                let (from, rcpts) = envelope(&self.mails[next.mail], &next.recipients);
                octets.extend_from_slice(format!("{from}{}DATA\r\n", rcpts.concat()).as_bytes());
                wire.is_ahead = true;
                octets.len()
            }
            None => end,
        };
        for piece in octets[..end].chunks(job.piece) {
            wire.write(piece).await?;
        }
        if !is_whole {
            return Ok(End::Lost);
        }
        attempt.dot_sent = true;
        if job.hang_up == Some(HangUp::BehindDot) {
            return Ok(End::Lost);
        }
        let reply = hear(wire, Stage::Dot, attempt).await?;
        attempt.end = Some(reply.clone());
        Ok(End::Replied(reply))
    }
}

/// MAIL, and each RCPT.
fn envelope(mail: &Mail, recipients: &[String]) -> (String, Vec<String>) {
    let body = if mail.is_eight_bit { " BODY=8BITMIME" } else { "" };
    let from = format!("MAIL FROM:<{}> SIZE={}{body}\r\n", mail.sender.as_deref().unwrap_or(""), mail.octets.len());
    (from, recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>\r\n")).collect())
}

async fn hear(wire: &mut Wire, stage: Stage, attempt: &mut Attempt) -> io::Result<String> {
    let reply = wire.reply().await?;
    attempt.replies.push((stage, reply.clone()));
    Ok(reply)
}

fn now() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap())
}
