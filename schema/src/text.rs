//! Text that a program chose, and that may be hostile: from bytes, and on its way to people.

use std::borrow::Cow;
use std::fmt::Write;

/// The text of bytes. Each byte that is no UTF-8 becomes U+FFFD and its two hexadecimal digits, and so do the bytes of U+FFFD
/// itself: what was different stays different.
pub fn of_bytes(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::REPLACEMENT_CHARACTER) => Cow::Borrowed(text),
        _ => Cow::Owned(spelt(bytes)),
    }
}

fn spelt(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                char::REPLACEMENT_CHARACTER => spell(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
                c => text.push(c),
            }
        }
        spell(chunk.invalid(), &mut text);
    }
    text
}

fn spell(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{byte:02x}", char::REPLACEMENT_CHARACTER);
    }
}

/// Makes text that a traced program chose harmless for a terminal: control characters and what reorders or hides text
/// become `\u{…}`, a backslash doubles so that nothing is ambiguous.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => safe.push_str("\\\\"),
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            c if is_unsafe(c) => {
                // Writing to a String cannot fail.
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Control characters, and what reorders, hides or joins what stands around it, or is not seen at all: Unicode's default
/// ignorable code points, the line and paragraph separators, the bidirectional controls.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_harmless() {
        assert_eq!(escape("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(escape("x\u{202e}y\n\\"), "x\\u{202e}y\\n\\\\");
        assert_eq!(escape("größe"), "größe");
    }

    #[test]
    fn different_bytes_are_different_texts() {
        let cases: [(&[u8], &str); 6] = [
            ("größe".as_bytes(), "größe"),
            (b"a\xff", "a\u{fffd}ff"),
            (b"a\xfe", "a\u{fffd}fe"),
            (b"\xe2\x82", "\u{fffd}e2\u{fffd}82"), // cut within a character
            ("\u{fffd}ff".as_bytes(), "\u{fffd}ef\u{fffd}bf\u{fffd}bdff"),
            (b"", ""),
        ];
        for (bytes, text) in cases {
            assert_eq!(of_bytes(bytes), text);
        }
    }
}
