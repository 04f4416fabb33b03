//! Texts that came from elsewhere, made fit for a terminal.

/// JSON with a line for each member, or the text itself if it is not JSON. Only the white space
/// between the values changes: a number keeps its digits.
pub(crate) fn json(text: &str) -> String {
    let is_json = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
    printable(&if is_json { indented(text) } else { text.to_owned() })
}

/// Without control characters, so that no one can steer a terminal through it.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(c),
            _ if c.is_control() => shown.extend(c.escape_unicode()),
            // These would turn the direction of what follows.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => shown.extend(c.escape_unicode()),
            _ => shown.push(c),
        }
    }
    shown
}

/// `json` must be JSON.
fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        // Deeper than this it is no longer to be read, and the blanks would grow with its square.
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
    fn json_is_indented_and_keeps_its_digits_and_texts() {
        let text = r#"{"a":1.10,"b":[ ],"c":{"d":"x\"{,:\\","e":[1E-8,null]}, "f" : {}}"#;
        let shown = json(text);
        let lines = shown.lines().collect::<Vec<_>>();
        assert_eq!(lines[..3], ["{", "  \"a\": 1.10,", "  \"b\": [],"]);
        assert!(shown.contains("    \"d\": \"x\\\"{,:\\\\\",\n    \"e\": [\n      1E-8,\n"));
        assert!(shown.ends_with("  \"f\": {}\n}"), "{shown}");
    }

    #[test]
    fn what_is_not_json_is_shown_as_it_is_but_for_control_characters() {
        assert_eq!(json("no {json"), "no {json");
        assert_eq!(json("\u{1b}[31mred\u{202e}"), "\\u{1b}[31mred\\u{202e}");
        assert_eq!(json("\"\u{7f}\""), "\"\\u{7f}\"");
        assert_eq!(printable("a\r\nb\u{9b}"), "a\\u{d}\nb\\u{9b}");
    }

    #[test]
    fn a_deep_text_does_not_grow_with_its_square() {
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(json(&deep).len() < 200 * 70);
    }
}
