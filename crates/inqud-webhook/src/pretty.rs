//! Makes text from elsewhere safe to print on a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Indents JSON, and returns other text unindented. Only the white space between values changes, so numbers
/// keep their digits.
///
/// Each line has a prefix, so that none can pass for the command's own output.
pub(crate) fn json(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let is_json = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
    let text = if is_json { Cow::Owned(indented(text)) } else { Cow::Borrowed(text) };
    text.split('\n').map(|line| format!("  | {}\n", printable(line))).collect()
}

/// Escapes line breaks and control characters, so that the text cannot control the terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unfit(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// Escapes the characters of serialized JSON that [`printable`] escapes, without changing its value.
/// `serde_json` escapes only what JSON requires.
pub(crate) fn escaped(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unfit(c) {
            // These characters occur only inside strings, and all are in the first plane, so one \u is enough.
            _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a character can affect the terminal or the display of the text around it.
fn is_unfit(c: char) -> bool {
    // The listed ones separate lines or change the direction of the text that follows.
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}')
}

/// Puts each member on its own line. `json` must be valid JSON.
fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        // Nobody can read deeper levels, and the total indentation would grow with the square of the depth.
        out.extend(std::iter::repeat_n("  ", depth.min(32)));
    };
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            _ if c.is_ascii_whitespace() => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(end);
                } else {
                    depth = depth.saturating_add(1);
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                out.push(c);
                in_string = c == '"';
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{json, printable};

    #[test]
    fn indents_json_and_keeps_its_values() {
        let text = r#"{"a":1.10,"b":[ ],"c":{"d":"x\"{,:\\","e":[1E-8,null]}, "f" : {}}"#;
        let shown = json(text);
        let lines = shown.lines().collect::<Vec<_>>();
        assert_eq!(lines[..3], ["  | {", "  |   \"a\": 1.10,", "  |   \"b\": [],"]);
        assert!(
            shown.contains("    \"d\": \"x\\\"{,:\\\\\",\n  |     \"e\": [\n  |       1E-8,\n")
        );
        assert!(shown.ends_with("  |   \"f\": {}\n  | }\n"), "{shown}");
    }

    #[test]
    fn escapes_control_characters_of_other_text() {
        assert_eq!(json(""), "");
        assert_eq!(json("no {json"), "  | no {json\n");
        assert_eq!(json("\u{1b}[31mred\u{202e}"), "  | \\u{1b}[31mred\\u{202e}\n");
        assert_eq!(json("\"\u{7f}\""), "  | \"\\u{7f}\"\n");
        assert_eq!(json("a\r\nb\u{2028}"), "  | a\\u{d}\n  | b\\u{2028}\n");
        assert_eq!(printable("a\r\nb\u{9b}"), "a\\u{d}\\u{a}b\\u{9b}");
    }

    #[test]
    fn bounds_the_indentation_of_deep_json() {
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(json(&deep).len() < 200 * 70);
    }
}
