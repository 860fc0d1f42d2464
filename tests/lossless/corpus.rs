//! The documents: `tests/lossless/corpus/*.json`, each byte of which counts, and those that are too large for a file.

use std::path::Path;

/// How many there are at least; a corpus that got lost would make every test pass.
const LEAST: usize = 29;

/// One document.
pub(crate) struct Document {
    pub(crate) name: String,
    /// Any JSON value, without white space around it.
    pub(crate) text: String,
}

/// All of them, in the order of their names.
pub(crate) fn all() -> Vec<Document> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lossless/corpus");
    let mut documents: Vec<Document> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| Document {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            text: String::from_utf8(std::fs::read(&path).unwrap()).unwrap(),
        })
        .collect();
    documents.push(Document { name: "hundred-levels".to_owned(), text: nested(100) });
    documents.push(Document { name: "mebibyte".to_owned(), text: format!("{{\"text\":\"{}\"}}", long(1 << 20)) });
    documents.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(documents.len() >= LEAST, "only {} documents", documents.len());
    for document in &documents {
        let read: Result<&serde_json::value::RawValue, _> = serde_json::from_str(&document.text);
        assert_eq!(read.unwrap().get(), document.text, "{} has white space around it", document.name);
    }
    documents
}

/// A document as it is after it crossed an event stream.
pub(crate) fn over_a_stream(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Objects and arrays in turn.
fn nested(levels: usize) -> String {
    let opening = (0..levels).map(|level| if level % 2 == 0 { "{\"\":" } else { "[" });
    let closing = (0..levels).rev().map(|level| if level % 2 == 0 { "}" } else { "]" });
    opening.chain(["1.0"]).chain(closing).collect()
}

/// So many bytes of text, with characters of every length, and no two parts of it alike for long.
fn long(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 32);
    let mut number = 0_u64;
    while text.len() < bytes {
        text.push_str(&format!("{number:x}é名🦀\\u{:04x}\\/ ", number % 0xd800));
        number += 1;
    }
    text
}
