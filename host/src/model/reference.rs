//! References in values of the registry: `${file:/run/secrets/key}` and `${env:NAME}` stand for what a file or a variable of the
//! gateway's environment holds. They are parsed here and resolved at each connect (`edge::references`).

/// A part of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text as it is, any other `${...}` included.
    Text(&'a str),
    /// The content of the file at this path.
    File(&'a str),
    /// The value of this variable.
    Variable(&'a str),
}

/// Splits a value into text and references.
pub fn pieces(value: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut text, mut at) = (0, 0);
    while let Some(found) = value[at..].find("${") {
        let begin = at + found;
        at = begin + 2;
        let Some(length) = value[at..].find('}') else { break };
        let piece = match value[at..at + length].split_once(':') {
            Some(("file", path)) => Piece::File(path),
            Some(("env", name)) => Piece::Variable(name),
            _ => continue,
        };
        if begin > text {
            pieces.push(Piece::Text(&value[text..begin]));
        }
        pieces.push(piece);
        at += length + 1;
        text = at;
    }
    if text < value.len() {
        pieces.push(Piece::Text(&value[text..]));
    }
    pieces
}

/// Whether a value refers to a file or a variable.
pub fn has_reference(value: &str) -> bool {
    pieces(value).iter().any(|piece| !matches!(piece, Piece::Text(_)))
}

/// Whether a value holds references and nothing beside them that may be secret: an authentication scheme, or nothing.
pub fn is_reference(value: &str) -> bool {
    let is_scheme = |text: &str| ["bearer", "basic", "token", ""].contains(&text.trim().to_ascii_lowercase().as_str());
    has_reference(value) && pieces(value).iter().all(|piece| !matches!(piece, Piece::Text(text) if !is_scheme(text)))
}

#[cfg(test)]
mod tests {
    use super::Piece::{File, Text, Variable};
    use super::*;

    #[test]
    fn a_value_is_split_into_text_and_references() {
        for (value, expected) in [
            ("", vec![]),
            ("plain", vec![Text("plain")]),
            ("${file:/run/x}", vec![File("/run/x")]),
            ("Bearer ${env:TOKEN}", vec![Text("Bearer "), Variable("TOKEN")]),
            ("${env:A}:${env:B}!", vec![Variable("A"), Text(":"), Variable("B"), Text("!")]),
            ("${HOME}/${env:A}", vec![Text("${HOME}/"), Variable("A")]),
            ("${file:/open", vec![Text("${file:/open")]),
            ("$${env:A}é", vec![Text("$"), Variable("A"), Text("é")]),
        ] {
            assert_eq!(pieces(value), expected, "{value}");
        }
    }

    #[test]
    fn only_schemes_may_stand_beside_a_reference_that_is_shown() {
        for (value, is_shown) in
            [("${env:A}", true), ("Bearer ${file:/x}", true), ("canary${env:A}", false), ("plain", false), ("", false)]
        {
            assert_eq!(is_reference(value), is_shown, "{value}");
        }
    }
}
