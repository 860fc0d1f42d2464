//! JSON text as people and the old tools read it: two spaces of indent, as `JSON.stringify(value, null, 2)` writes it.
//!
//! Works on text that is known to be JSON, token by token: numbers and strings stay as they were spelt, so that what is not
//! understood survives unchanged. Nothing here decides what is written.

/// Appends the text without the white space between its tokens.
pub(super) fn compact(json: &str, out: &mut String) {
    for token in Tokens::of(json) {
        out.push_str(token);
    }
}

/// Appends the text with a line for each member and element; the first line is not indented.
pub(super) fn pretty(json: &str, indent: usize, out: &mut String) {
    let mut depth = indent;
    let mut tokens = Tokens::of(json).peekable();
    while let Some(token) = tokens.next() {
        match token {
            "{" | "[" => {
                out.push_str(token);
                if let Some(closing) = tokens.next_if(|token| matches!(*token, "}" | "]")) {
                    out.push_str(closing);
                } else {
                    depth += 1;
                    line(depth, out);
                }
            }
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                line(depth, out);
                out.push_str(token);
            }
            "," => {
                out.push(',');
                line(depth, out);
            }
            ":" => out.push_str(": "),
            _ => out.push_str(token),
        }
    }
}

/// Begins a line.
pub(super) fn line(depth: usize, out: &mut String) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// Appends a text as a JSON string.
pub(super) fn string(text: &str, out: &mut String) {
    // A string always has a JSON form.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// The tokens of a JSON text.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn of(json: &'a str) -> Self {
        Self { rest: json }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let bytes = self.rest.as_bytes();
        let length = match bytes.first()? {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            b'"' => {
                let mut at = 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                (at + 1).min(bytes.len())
            }
            _ => bytes
                .iter()
                .position(|byte| matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\n' | b'\r'))
                .unwrap_or(bytes.len()),
        };
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(json: &str) -> (String, String) {
        let (mut short, mut long) = (String::new(), String::new());
        compact(json, &mut short);
        pretty(json, 0, &mut long);
        (short, long)
    }

    #[test]
    fn the_text_is_laid_out_as_ecmascript_does_it() {
        let json = r#"{ "a" : [1 , 2.50, {"b":{}, "c":[ ]}] , "d":"x: \"{,}\" \\" }"#;
        let (short, long) = both(json);
        assert_eq!(short, r#"{"a":[1,2.50,{"b":{},"c":[]}],"d":"x: \"{,}\" \\"}"#);
        let expected = "{\n  \"a\": [\n    1,\n    2.50,\n    {\n      \"b\": {},\n      \"c\": []\n    }\n  ],\n  \
                        \"d\": \"x: \\\"{,}\\\" \\\\\"\n}";
        assert_eq!(long, expected);
    }

    #[test]
    fn numbers_and_strings_keep_their_spelling() {
        let json = r#"[1e400,-0,12345678901234567890,"\u0061é"]"#;
        assert_eq!(both(json).0, json);
        assert_eq!(both(&both(json).1).0, json, "laying out and taking it back is no change");
    }
}
