//! Private keys as text, whose lines have no form of their own.

/// The most lines of a key of which the end is not found, more than those of an RSA key of 8192 bits.
const MAX_KEY_LINES: usize = 128;

/// Whether a text has the first or the last line of a private key (<https://www.rfc-editor.org/rfc/rfc7468>).
pub(super) fn has_key_line(text: &str) -> bool {
    text.contains("PRIVATE KEY") && text.contains("-----")
}

/// Finds the lines of private keys among the lines of a stream.
#[derive(Debug, Default)]
pub struct KeyLines {
    /// How many lines may still belong to the key that was begun.
    left: usize,
}

impl KeyLines {
    /// Whether the next line of the stream belongs to a private key.
    pub fn is_key(&mut self, line: &str) -> bool {
        if has_key_line(line) {
            let begins = line.rfind("-----BEGIN") > line.rfind("-----END");
            self.left = if begins { MAX_KEY_LINES } else { 0 };
            return true;
        }
        let is_key = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_key
    }
}
