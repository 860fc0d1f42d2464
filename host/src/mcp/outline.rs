//! The outline of a JSON object that cannot be read as a whole: too large, cut off, in another encoding, or not quite JSON.
//!
//! It is made byte by byte in constant memory, so that the identifier of a message is found wherever it stands, also in a
//! message that is too large to be held. It finds what the message is about and checks no grammar beyond that: strings in single
//! quotes, which Python writes for a dict, and UTF-16, whose letters of ASCII have a zero byte each, are seen through, too.

use super::envelope::RequestId;
use super::limits::OUTLINE_TOKEN_BYTES;

/// The byte order mark of UTF-16, in either order.
const UTF_16_MARK_1: u8 = 0xff;
const UTF_16_MARK_2: u8 = 0xfe;

/// How far an outline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Nothing but white space came.
    Blank,
    /// The object has begun and not ended.
    Open,
    /// The object has ended.
    Whole,
    /// The text is no object, or certainly not JSON.
    Malformed,
}

/// The outline of one message.
#[derive(Clone, Debug)]
pub struct Outline {
    extent: Extent,
    depth: usize,
    /// The quote that ends the present string.
    quote: Option<u8>,
    escaped: bool,
    /// The bytes of the present string or word, as far as they matter.
    token: Vec<u8>,
    token_is_cut: bool,
    /// The member of the outermost object whose value comes.
    member: Member,
    has_colon: bool,
    id: Option<RequestId>,
    /// A result, or an error.
    has_outcome: bool,
    /// A result, or the protocol's version.
    has_mark: bool,
    has_method: bool,
    has_non_number: bool,
}

/// A member of the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Id,
    Method,
    Result,
    Error,
    Version,
    Other,
}

impl Outline {
    /// Returns the outline of nothing.
    pub fn new() -> Self {
        Self {
            extent: Extent::Blank,
            depth: 0,
            quote: None,
            escaped: false,
            token: Vec::new(),
            token_is_cut: false,
            member: Member::Other,
            has_colon: false,
            id: None,
            has_outcome: false,
            has_mark: false,
            has_method: false,
            has_non_number: false,
        }
    }

    /// Returns the outline of a text.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut outline = Self::new();
        outline.push(bytes);
        outline
    }

    /// Takes more of the text.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.extent == Extent::Malformed && self.depth == 0 {
                return;
            }
            self.take(*byte);
        }
    }

    /// How far it is. A text that ends within a string is not continued by a line of its own.
    pub fn extent(&self) -> Extent {
        if self.quote.is_some() && self.extent == Extent::Open { Extent::Malformed } else { self.extent }
    }

    /// Whether what began has ended, well-formed or not.
    pub fn has_ended(&self) -> bool {
        self.extent != Extent::Blank && self.depth == 0
    }

    /// The identifier of the message, where one was found.
    pub fn id(&self) -> Option<&RequestId> {
        self.id.as_ref()
    }

    /// Whether the message is certainly an answer: it has no method, and a result, or an error beside the protocol's version: the
    /// lines of logs have errors, too.
    pub fn is_answer(&self) -> bool {
        self.has_outcome && self.has_mark && !self.has_method
    }

    /// Whether anything shows that the text is a message.
    pub fn is_about_a_request(&self) -> bool {
        self.id.is_some() || self.has_mark
    }

    /// Whether the message is a request or a notification of the server.
    pub fn has_method(&self) -> bool {
        self.has_method
    }

    /// Whether a value is NaN or infinite, which some writers put into JSON.
    pub fn has_non_number(&self) -> bool {
        self.has_non_number
    }

    fn take(&mut self, byte: u8) {
        if byte == 0 {
            return;
        }
        if let Some(quote) = self.quote {
            return self.take_in_string(byte, quote);
        }
        match byte {
            UTF_16_MARK_1 | UTF_16_MARK_2 if self.extent == Extent::Blank => {}
            b' ' | b'\t' | b'\r' | b'\n' => self.end_word(),
            b'"' if self.depth > 0 => self.begin_string(byte),
            // An apostrophe within a word is none.
            b'\'' if self.depth > 0 && self.token.is_empty() => self.begin_string(byte),
            b'{' | b'[' => {
                self.end_word();
                match (self.depth, byte, self.extent) {
                    (0, b'{', Extent::Blank) => self.extent = Extent::Open,
                    (0, ..) => self.extent = Extent::Malformed,
                    _ => {}
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                self.end_word();
                match self.depth {
                    0 => self.extent = Extent::Malformed,
                    1 if self.extent == Extent::Open => self.extent = Extent::Whole,
                    _ => {}
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => self.begin_value(),
            b',' => {
                self.end_word();
                if self.depth == 1 {
                    (self.member, self.has_colon) = (Member::Other, false);
                }
            }
            b':' if self.depth > 1 => {}
            _ if self.depth == 0 => self.extent = Extent::Malformed,
            _ => self.hold(byte),
        }
    }

    fn begin_string(&mut self, quote: u8) {
        self.quote = Some(quote);
        self.clear_token();
    }

    fn take_in_string(&mut self, byte: u8, quote: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            _ if byte == quote => {
                self.quote = None;
                if self.depth == 1 {
                    self.end_string();
                }
                return;
            }
            _ => {}
        }
        if self.depth == 1 {
            self.hold(byte);
        }
    }

    fn hold(&mut self, byte: u8) {
        if self.token.len() < OUTLINE_TOKEN_BYTES {
            self.token.push(byte);
        } else {
            self.token_is_cut = true;
        }
    }

    fn clear_token(&mut self) {
        self.token.clear();
        self.token_is_cut = false;
    }

    /// A string of the outermost object has ended: a name, whose colon comes next, or a value.
    fn end_string(&mut self) {
        if self.has_colon {
            if self.member == Member::Id && !self.token_is_cut {
                let text = std::str::from_utf8(&self.token).ok();
                self.id = text.map(|text| RequestId::from_json(format!("\"{text}\"")));
            }
            self.clear_token();
        }
    }

    fn begin_value(&mut self) {
        self.member = match self.token.as_slice() {
            b"id" => Member::Id,
            b"method" => Member::Method,
            b"result" => Member::Result,
            b"error" => Member::Error,
            b"jsonrpc" => Member::Version,
            _ => Member::Other,
        };
        self.has_outcome |= matches!(self.member, Member::Result | Member::Error);
        self.has_mark |= matches!(self.member, Member::Result | Member::Version);
        self.has_method |= self.member == Member::Method;
        self.has_colon = true;
        self.clear_token();
    }

    /// A word outside of strings has ended: a number, a constant, or what only looks like one.
    fn end_word(&mut self) {
        if self.token.is_empty() || !(self.has_colon || self.depth > 1) {
            return;
        }
        let is_number = |word: &[u8]| word.first().is_some_and(|first| *first == b'-' || first.is_ascii_digit());
        match self.token.as_slice() {
            b"true" | b"false" | b"null" => {}
            b"NaN" | b"Infinity" | b"-Infinity" => self.has_non_number = true,
            word if is_number(word) => {
                if self.depth == 1 && self.member == Member::Id && !self.token_is_cut {
                    self.id = std::str::from_utf8(word).ok().map(|text| RequestId::from_json(text.to_owned()));
                }
            }
            _ => self.extent = Extent::Malformed,
        }
        self.clear_token();
    }
}

impl Default for Outline {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (Option<String>, bool, Extent) {
        let whole = Outline::from_bytes(text.as_bytes());
        // However it is cut into pieces.
        let mut pieces = Outline::new();
        text.as_bytes().chunks(3).for_each(|piece| pieces.push(piece));
        assert_eq!((pieces.id(), pieces.extent()), (whole.id(), whole.extent()), "{text}");
        (whole.id().map(|id| id.as_json().to_owned()), whole.is_answer(), whole.extent())
    }

    #[test]
    fn the_identifier_is_found_wherever_it_stands() {
        let long = "x".repeat(10_000);
        for (text, id, extent) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"id":8,"a":NaN}}"#.to_owned(), Some("7"), Extent::Whole),
            (r#"{"result":{"id":8,"s":"}]{\"id\":9"},"id" : "a-7" }"#.to_owned(), Some("\"a-7\""), Extent::Whole),
            (format!(r#"{{"result":["{long}",{{"id":5}}],"id":-3"#), None, Extent::Open),
            (format!(r#"{{"result":["{long}"],"id":12,"#), Some("12"), Extent::Open),
            (r#"{"id":7,"result":"cut"#.to_owned(), Some("7"), Extent::Malformed),
            (format!(r#"{{"id":"{long}","result":1}}"#), None, Extent::Whole),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"id":1}}"#.to_owned(), None, Extent::Whole),
            (r#"{'jsonrpc': '2.0', 'id': 7, 'result': {'id': 8, 's': "it's"}}"#.to_owned(), Some("7"), Extent::Whole),
            (r#"{'result': {'is': [None, 'a "b" it\'s']}, 'id': 7}"#.to_owned(), Some("7"), Extent::Malformed),
        ] {
            let expected = (id.map(str::to_owned), true, extent);
            assert_eq!(found(&text), expected, "{text}");
        }
        assert_eq!(found(r#"{"id":3,"method":"m","result":1}"#), (Some("3".into()), false, Extent::Whole));
    }

    #[test]
    fn the_identifier_is_found_in_utf_16() {
        let text = r#"{"jsonrpc":"2.0","id":17,"result":{"id":8,"s":"é"}}"#;
        for mark in ["", "\u{feff}"] {
            let units: Vec<u16> = format!("{mark}{text}").encode_utf16().collect();
            for to_bytes in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
                let bytes: Vec<u8> = units.iter().flat_map(|unit| to_bytes(*unit)).collect();
                let outline = Outline::from_bytes(&bytes);
                assert_eq!((outline.id().unwrap().as_json(), outline.extent()), ("17", Extent::Whole));
                assert!(outline.is_answer());
            }
        }
    }

    #[test]
    fn an_error_alone_is_no_answer() {
        for (text, is_answer) in [
            ("{\"error\": failed to connect}", false),
            (r#"{"level":"warn","error":"no route"}"#, false),
            (r#"{"error":{"code":1},"jsonrpc":"2.0"}"#, true),
            (r#"{"result":1}"#, true),
            (r#"{"jsonrpc":"2.0"}"#, false),
        ] {
            assert_eq!(Outline::from_bytes(text.as_bytes()).is_answer(), is_answer, "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_malformed_and_what_goes_on_is_open() {
        for (text, extent) in [
            ("", Extent::Blank),
            (" \t", Extent::Blank),
            ("{", Extent::Open),
            ("{\n  \"a\": [\n", Extent::Open),
            ("{ starting the server", Extent::Open),
            ("{\"a\": b c", Extent::Malformed),
            ("[1]", Extent::Malformed),
            ("Listening on stdio", Extent::Malformed),
            ("[INFO] {\"not\":\"rpc\"}", Extent::Malformed),
            ("{\"a\":1} x", Extent::Malformed),
            ("{}}", Extent::Malformed),
        ] {
            assert_eq!(found(text).2, extent, "{text:?}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_noticed_outside_of_strings() {
        for (text, is_one) in [
            (r#"{"a":[1,NaN]}"#, true),
            (r#"{"a":{"b":-Infinity }}"#, true),
            (r#"{"a":Infinity}"#, true),
            (r#"{"a":"NaN, Infinity"}"#, false),
        ] {
            assert_eq!(Outline::from_bytes(text.as_bytes()).has_non_number(), is_one, "{text}");
        }
    }
}
