//! The real messages of `tests/corpus`, in the form in which they can go through DATA (see its README).

use std::path::Path;

/// How a message can go through DATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// It can; the octets are ready.
    Sendable,
    /// It can't: bare CR, bare LF or NUL.
    Unsendable,
}

/// One message.
#[derive(Debug, Clone)]
pub struct Sample {
    pub file: String,
    pub tags: Vec<String>,
    pub wire: Wire,
    /// As the client sends it (before dot-stuffing) and as everybody must get it.
    pub octets: Vec<u8>,
}

impl Sample {
    pub fn is(&self, tag: &str) -> bool {
        self.tags.iter().any(|found| found == tag)
    }

    pub fn has_bare_line_end(&self) -> bool {
        self.is("bare-cr") || self.is("bare-lf")
    }
}

/// All messages of the manifest, in its order.
pub fn corpus() -> Vec<Sample> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let manifest = std::fs::read_to_string(home.join("MANIFEST.jsonl")).expect("the manifest is readable");
    manifest.lines().map(|line| sample(&home, &serde_json::from_str(line).expect("the manifest is JSON"))).collect()
}

fn sample(home: &Path, entry: &serde_json::Value) -> Sample {
    let file = entry["file"].as_str().expect("a file").to_owned();
    let raw = std::fs::read(home.join(&file)).expect("the message is readable");
    let octets = match entry["wire"].as_str() {
        Some("as-is" | "empty" | "unsendable") => raw,
        Some("crlf-convert") => convert(&raw),
        Some("as-is-plus-final-crlf") => [&raw[..], b"\r\n"].concat(),
        other => panic!("{file}: wire {other:?}"),
    };
    if let Some(expected) = entry["crlf_bytes"].as_u64() {
        assert_eq!(octets.len() as u64, expected, "{file} is as the manifest says");
    }
    let wire = if entry["wire"] == "unsendable" { Wire::Unsendable } else { Wire::Sendable };
    let tags =
        entry["tags"].as_array().expect("tags").iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
    Sample { file, tags, wire, octets }
}

/// Every line end, LF or a lone CR, becomes CRLF; the last line gets one too.
fn convert(raw: &[u8]) -> Vec<u8> {
    let line_end = if raw.contains(&b'\n') { b'\n' } else { b'\r' };
    let mut octets = Vec::with_capacity(raw.len() + raw.len() / 40);
    for line in raw.split_inclusive(|octet| *octet == line_end) {
        octets.extend_from_slice(line.strip_suffix(&[line_end]).unwrap_or(line));
        octets.extend_from_slice(b"\r\n");
    }
    octets
}
