//! Texts of others, as they may be shown: what a server, a document or a trace says must not move the cursor, recolour a
//! terminal, or turn the direction in which a line is read.

use std::borrow::Cow;

/// Whether a character is one that does something instead of showing something. Line breaks and tabs are among them.
pub fn is_hidden(character: char) -> bool {
    let directions = ['\u{200e}', '\u{200f}', '\u{061c}'];
    character.is_control()
        || directions.contains(&character)
        || ('\u{202a}'..='\u{202e}').contains(&character)
        || ('\u{2066}'..='\u{2069}').contains(&character)
        || ('\u{2028}'..='\u{2029}').contains(&character)
}

/// The text with a replacement character for each hidden one; line breaks and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    let goes = |character: char| is_hidden(character) && !matches!(character, '\n' | '\t');
    if text.contains(goes) { Cow::Owned(text.replace(goes, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_or_turns_a_line_is_replaced_and_everything_else_stays() {
        assert_eq!(
            shown("\u{1b}[31mred\u{7}\r\u{9b}2J\u{202e}back"),
            "\u{fffd}[31mred\u{fffd}\u{fffd}\u{fffd}2J\u{fffd}back"
        );
        for plain in ["", "two\nlines\tand a tab", "Grüße, 世界 🦀"] {
            assert!(matches!(shown(plain), Cow::Borrowed(text) if text == plain));
        }
    }
}
