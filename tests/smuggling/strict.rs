//! What a client has said, to a reader that keeps to RFC 5321 and nothing else: CRLF ends a line, CRLF.CRLF a message. It knows
//! the commands of [`attempt`] alone, and has nothing in common with the relay.

/// A message that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub from: String,
    pub to: Vec<String>,
    /// Without the dots that DATA adds.
    pub octets: Vec<u8>,
}

impl Said {
    /// Whether some server may read it otherwise: a CR, LF or NUL that is no line's end.
    pub fn is_flawed(&self) -> bool {
        let octets = &self.octets;
        let bare = |at: usize| match octets[at] {
            b'\r' => octets.get(at + 1) != Some(&b'\n'),
            b'\n' => at == 0 || octets[at - 1] != b'\r',
            octet => octet == 0,
        };
        (0..octets.len()).any(bare)
    }
}

/// All messages of a conversation whose server says yes to whatever is in order.
pub fn messages(wire: &[u8]) -> Vec<Said> {
    let (mut messages, mut open, mut at) = (Vec::new(), None::<Said>, 0);
    while let Some(length) = find(&wire[at..], b"\r\n") {
        let line = String::from_utf8_lossy(&wire[at..at + length]).into_owned();
        at += length + 2;
        if let Some(from) = line.strip_prefix("MAIL FROM:").filter(|_| open.is_none()) {
            open = Some(Said { from: from.to_owned(), to: Vec::new(), octets: Vec::new() });
        } else if let (Some(to), Some(said)) = (line.strip_prefix("RCPT TO:"), &mut open) {
            said.to.push(to.to_owned());
        } else if line == "RSET" {
            open = None;
        } else if line == "DATA" && open.as_ref().is_some_and(|said| !said.to.is_empty()) {
            let Some((octets, length)) = message(&wire[at..]) else { break };
            at += length;
            messages.extend(open.take().map(|said| Said { octets, ..said }));
        } else if line == "QUIT" {
            break;
        }
    }
    messages
}

/// What stands behind DATA, and how long it is with its end.
fn message(wire: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut octets, mut at) = (Vec::new(), 0);
    loop {
        let line = &wire[at..at + find(&wire[at..], b"\r\n")? + 2];
        at += line.len();
        match line.strip_prefix(b".") {
            Some(b"\r\n") => return Some((octets, at)),
            Some(stuffed) => octets.extend_from_slice(stuffed),
            None => octets.extend_from_slice(line),
        }
    }
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}

/// What stands before a dot and behind it: all pairs of sequences over CR, LF, NUL, a dot and a letter that have so many octets
/// together.
pub fn surroundings(length: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    const LETTERS: [u8; 5] = *b"\r\n\0.x";
    let all = |length: usize| -> Vec<Vec<u8>> {
        (0..5_usize.pow(u32::try_from(length).unwrap()))
            .map(|number| (0..length).map(|place| LETTERS[number / 5_usize.pow(place as u32) % 5]).collect())
            .collect()
    };
    let pairs = |before: usize| {
        let behind = all(length - before);
        all(before).into_iter().flat_map(move |before| behind.clone().into_iter().map(move |it| (before.clone(), it)))
    };
    (0..=length).flat_map(pairs).collect()
}

/// A message with such a place in it; what follows the place would be another, with an envelope of its own.
pub fn attempt(number: usize, before: &[u8], behind: &[u8]) -> Vec<u8> {
    let head = format!(
        "MAIL FROM:<sender{number}@b.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nSubject: {number}\r\n\r\nbegin"
    );
    let foreign = format!(
        "MAIL FROM:<foreign{number}@b.example>\r\nRCPT TO:<anna@example.org>\r\nDATA\r\nSubject: foreign {number}\r\n\r\nend\r\n.\r\n"
    );
    [head.as_bytes(), before, b".", behind, foreign.as_bytes()].concat()
}
