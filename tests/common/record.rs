//! Reads journal records and notifications back, strictly and without the relay's own code: what doesn't have exactly the
//! documented shape is an error that names what is wrong.

/// A journal record, taken apart.
#[derive(Debug, Clone)]
pub struct Record {
    /// The outer header fields in their order, values unfolded.
    pub header: Vec<(String, String)>,
    /// The lines of the envelope part, decoded: label and value.
    pub envelope: Vec<(String, String)>,
    /// The attached original, octet for octet.
    pub original: Vec<u8>,
    /// All of it.
    pub octets: Vec<u8>,
}

/// The labels the envelope part may have, in the order it must have them.
const LABELS: [&str; 8] = ["Sender", "On-Behalf-Of", "Subject", "Message-Id", "To", "Cc", "Bcc", "Recipient"];

impl Record {
    /// Takes a record apart; ends the test when it isn't one.
    #[track_caller]
    pub fn read(octets: &[u8]) -> Self {
        Self::try_read(octets).unwrap_or_else(|wrong| panic!("{wrong}, in:\n{}", String::from_utf8_lossy(octets)))
    }

    pub fn try_read(octets: &[u8]) -> Result<Self, String> {
        let (header, body) = split_header(octets).ok_or("no end of the header")?;
        let header = fields(header);
        let boundary = boundary(&header, "multipart/mixed")?;
        let rest = body.strip_prefix(format!("--{boundary}\r\n").as_bytes()).ok_or("octets before the first part")?;
        let (first, second) = cut(rest, format!("\r\n--{boundary}\r\n").as_bytes()).ok_or("no second part")?;
        let closing = format!("\r\n--{boundary}--\r\n");
        let second = second.strip_suffix(closing.as_bytes()).ok_or("it does not end with the closing delimiter")?;
        // The attached original starts right behind the part's blank line, and may be empty.
        let (part_header, original) = split_header(second).ok_or("no end of the second part's header")?;
        let part_header = fields(part_header);
        if find(&part_header, "Content-Type") != Some("message/rfc822") {
            return Err(format!("the second part is no message: {part_header:?}"));
        }
        if memchr::memmem::find(original, format!("\r\n--{boundary}").as_bytes()).is_some() {
            return Err("the boundary occurs in the original".into());
        }
        Ok(Self { header, envelope: envelope_lines(first)?, original: original.to_vec(), octets: octets.to_vec() })
    }

    /// The first outer field of that name.
    pub fn field(&self, name: &str) -> Option<&str> {
        find(&self.header, name)
    }

    /// The record's own Message-ID.
    pub fn message_id(&self) -> &str {
        self.field("Message-ID").unwrap_or_default()
    }

    /// The record's id.
    pub fn id(&self) -> &str {
        self.field("X-Journal-Record").unwrap_or_default()
    }

    /// The values of the lines with that label.
    pub fn lines(&self, label: &str) -> Vec<&str> {
        self.envelope.iter().filter(|(found, _)| found == label).map(|(_, value)| value.as_str()).collect()
    }

    /// The recipients of all labels, in the record's order.
    pub fn recipients(&self) -> Vec<&str> {
        ["To", "Cc", "Bcc", "Recipient"].iter().flat_map(|label| self.lines(label)).collect()
    }
}

/// A notification, taken apart.
#[derive(Debug, Clone)]
pub struct Report {
    pub header: Vec<(String, String)>,
    /// The part for people.
    pub text: String,
    /// The lines of message/delivery-status.
    pub status: String,
    /// The parts after those two.
    pub attached: Vec<Vec<u8>>,
    pub octets: Vec<u8>,
}

impl Report {
    #[track_caller]
    pub fn read(octets: &[u8]) -> Self {
        Self::try_read(octets).unwrap_or_else(|wrong| panic!("{wrong}, in:\n{}", String::from_utf8_lossy(octets)))
    }

    pub fn try_read(octets: &[u8]) -> Result<Self, String> {
        let (header, body) = split_header(octets).ok_or("no end of the header")?;
        let header = fields(header);
        let boundary = boundary(&header, "multipart/report")?;
        let body = [b"\r\n", body].concat();
        let (body, _) = cut(&body, format!("\r\n--{boundary}--").as_bytes()).ok_or("no closing delimiter")?;
        let mut parts = Vec::new();
        let delimiter = format!("\r\n--{boundary}\r\n");
        let mut rest = cut(body, delimiter.as_bytes()).ok_or("no first part")?.1;
        while let Some((part, more)) = cut(rest, delimiter.as_bytes()) {
            parts.push(part);
            rest = more;
        }
        parts.push(rest);
        let (text, others) = parts.split_first().ok_or("no text part")?;
        let (status, attached) = others.split_first().ok_or("no delivery-status part")?;
        let (status_header, status) = split_header(status).ok_or("no end of the status part's header")?;
        if !fields(status_header).iter().any(|(_, value)| value.starts_with("message/delivery-status")) {
            return Err("the second part is no message/delivery-status".into());
        }
        Ok(Self {
            header,
            text: String::from_utf8_lossy(text).into_owned(),
            status: String::from_utf8_lossy(status).into_owned(),
            attached: attached.iter().map(|part| part.to_vec()).collect(),
            octets: octets.to_vec(),
        })
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        find(&self.header, name)
    }
}

/// A header's fields in their order, values unfolded.
pub fn fields(header: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(header).replace("\r\n ", " ").replace("\r\n\t", "\t");
    text.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// What follows the first `Received:` field, which the octets must start with; and that field.
#[track_caller]
pub fn strip_received(octets: &[u8]) -> (String, &[u8]) {
    assert!(
        octets.starts_with(b"Received: "),
        "no Received: in front: {:?}",
        String::from_utf8_lossy(&octets[..80.min(octets.len())])
    );
    let end = memchr::memmem::find(octets, b"\r\n").expect("the Received: line ends") + 2;
    (String::from_utf8_lossy(&octets[..end]).into_owned(), &octets[end..])
}

/// The same for another server's field, which may be folded.
pub fn strip_folded_received(octets: &[u8]) -> (String, &[u8]) {
    let (mut field, mut rest) = strip_received(octets);
    while let [b' ' | b'\t', ..] = rest {
        let end = memchr::memmem::find(rest, b"\r\n").expect("the folded line ends") + 2;
        field.push_str(&String::from_utf8_lossy(&rest[..end]));
        rest = &rest[end..];
    }
    (field, rest)
}

fn find<'a>(header: &'a [(String, String)], name: &str) -> Option<&'a str> {
    header.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn split_header(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    cut(octets, b"\r\n\r\n")
}

fn cut<'a>(octets: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = memchr::memmem::find(octets, at)?;
    Some((&octets[..place], &octets[place + at.len()..]))
}

fn boundary(header: &[(String, String)], kind: &str) -> Result<String, String> {
    let value = find(header, "Content-Type").ok_or("no Content-Type")?;
    if !value.to_ascii_lowercase().starts_with(kind) {
        return Err(format!("the Content-Type is {value:?}, not {kind}"));
    }
    let behind = value.split_once("boundary=").ok_or("no boundary")?.1;
    Ok(behind.trim_start_matches('"').split(['"', ';']).next().unwrap_or_default().to_owned())
}

fn envelope_lines(part: &[u8]) -> Result<Vec<(String, String)>, String> {
    let (header, body) = split_header(part).ok_or("no end of the envelope part's header")?;
    let header = fields(header);
    let kind = find(&header, "Content-Type").unwrap_or_default();
    if !kind.starts_with("text/plain; charset=") {
        return Err(format!("the envelope part is {kind:?}"));
    }
    let text = match find(&header, "Content-Transfer-Encoding") {
        Some("7bit" | "8bit") => body.to_vec(),
        Some("quoted-printable") => unquote(body),
        other => return Err(format!("the envelope part's encoding is {other:?}")),
    };
    let text = String::from_utf8(text).map_err(|error| format!("the envelope part: {error}"))?;
    let mut lines = Vec::new();
    let mut place = 0;
    for line in text.strip_suffix("\r\n").ok_or("the envelope part's last line has no end")?.split("\r\n") {
        let (label, value) = line.split_once(": ").ok_or_else(|| format!("the envelope line {line:?}"))?;
        let at = LABELS.iter().position(|known| *known == label).ok_or_else(|| format!("the label {label:?}"))?;
        if at < place {
            return Err(format!("the label {label:?} stands too late"));
        }
        place = at;
        lines.push((label.to_owned(), value.to_owned()));
    }
    Ok(lines)
}

fn unquote(body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'=', rest) {
        octets.extend_from_slice(&rest[..at]);
        let code = rest.get(at + 1..at + 3).unwrap_or_default();
        if code != b"\r\n" {
            octets.extend(std::str::from_utf8(code).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()));
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    octets.extend_from_slice(rest);
    octets
}
