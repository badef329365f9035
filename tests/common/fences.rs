//! The documents as tests read them: what stands between two fences, what its opening fence calls it, and what a comment
//! `<!-- here: … -->` says has happened before.

use std::path::Path;

/// A part of a page that means something to a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What is done here before a reader would look, one deed each.
    Here {
        line: usize,
        deeds: Vec<String>,
    },
    Fence(Fence),
}

/// What stands between two fences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Of the opening fence, from 1.
    pub line: usize,
    pub language: String,
    /// What stands behind the language; no reader sees it.
    pub title: String,
    /// Without the indentation that a list gives it.
    pub text: String,
}

impl Fence {
    /// Whether the commands in it are run where the page is played.
    pub fn is_played(&self) -> bool {
        ["sh", "console"].contains(&self.language.as_str()) && ["", "background"].contains(&self.title.as_str())
    }
}

/// Every page with its text: `README.md`, `docs/….md`.
pub fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").file_name());
    let docs = docs.filter_map(|name| Some(format!("docs/{}", name.to_str()?))).filter(|name| name.ends_with(".md"));
    let mut names: Vec<_> = docs.chain(["README.md".to_owned()]).collect();
    names.sort();
    let text =
        |name: &String| std::fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    names.iter().map(|name| (name.clone(), text(name))).collect()
}

/// The parts of a page, in its order. A fence that is not closed ends with the page.
pub fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    while let Some((line, found)) = lines.next() {
        let bare = found.trim_start();
        let indentation = found.len() - bare.len();
        if let Some(info) = bare.strip_prefix("```") {
            let (language, title) = info.split_once(' ').unwrap_or((info, ""));
            let inside = lines.by_ref().take_while(|(_, line)| line.trim() != "```");
            let text =
                inside.fold(String::new(), |text, (_, line)| text + line.get(indentation..).unwrap_or("") + "\n");
            let (language, title) = (language.to_owned(), title.to_owned());
            parts.push(Part::Fence(Fence { line, language, title, text }));
        } else if let Some(first) = bare.strip_prefix("<!-- here:") {
            let mut said = first.to_owned();
            while !said.contains("-->") {
                let Some((_, line)) = lines.next() else { break };
                said = said + " ; " + line;
            }
            let deeds = said.split("-->").next().unwrap_or_default().split(';').map(|deed| deed.trim().to_owned());
            parts.push(Part::Here { line, deeds: deeds.filter(|deed| !deed.is_empty()).collect() });
        }
    }
    parts
}

/// The fences of a page.
pub fn fences(text: &str) -> Vec<Fence> {
    let fence = |part| match part {
        Part::Fence(fence) => Some(fence),
        Part::Here { .. } => None,
    };
    parts(text).into_iter().filter_map(fence).collect()
}

#[test]
fn fences_and_comments_are_found_in_their_order() {
    let page = "a\n<!-- here: one; two -->\n1. b\n\n   ```sh by-hand\n   c\n     d\n   ```\n<!-- here:\nthree\n-->\n```console\n$ e\n```\n";
    let fence = |line, language: &str, title: &str, text: &str| {
        Part::Fence(Fence { line, language: language.into(), title: title.into(), text: text.into() })
    };
    let here = |line, deeds: &[&str]| Part::Here { line, deeds: deeds.iter().map(|deed| (*deed).to_owned()).collect() };
    let expected = [
        here(2, &["one", "two"]),
        fence(5, "sh", "by-hand", "c\n  d\n"),
        here(9, &["three"]),
        fence(12, "console", "", "$ e\n"),
    ];
    assert_eq!(parts(page), expected);
}
