//! Shows a body in lines.

/// The most levels that are indented, because a stranger can nest deeper than a page is wide.
const LEVELS: usize = 8;

/// Breaks JSON into lines. Everything else stays as it was received: amounts keep their digits, and what is not JSON is
/// still shown.
pub fn in_lines(json: &str) -> String {
    let mut lines = String::with_capacity(json.len() * 2);
    let (mut level, mut is_in_text, mut is_escaped) = (0_usize, false, false);
    for letter in json.chars() {
        if is_in_text {
            lines.push(letter);
            is_in_text = is_escaped || letter != '"';
            is_escaped = letter == '\\' && !is_escaped;
            continue;
        }
        match letter {
            '{' | '[' => {
                level = level.saturating_add(1);
                lines.push(letter);
                break_line(&mut lines, level);
            }
            '}' | ']' => {
                level = level.saturating_sub(1);
                break_line(&mut lines, level);
                lines.push(letter);
            }
            ',' => {
                lines.push(letter);
                break_line(&mut lines, level);
            }
            ':' => lines.push_str(": "),
            ' ' | '\n' | '\r' | '\t' => {}
            _ => {
                is_in_text = letter == '"';
                lines.push(letter);
            }
        }
    }
    lines
}

fn break_line(lines: &mut String, level: usize) {
    lines.push('\n');
    lines.push_str(&"  ".repeat(level.min(LEVELS)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_digits_and_texts() {
        let json = r#"{"a":0.10000000000000000001,"b":"x, \"{y}\\","c":[1]}"#;
        let lines = "{\n  \"a\": 0.10000000000000000001,\n  \"b\": \"x, \\\"{y}\\\\\",\n  \"c\": [\n    1\n  ]\n}";
        assert_eq!(in_lines(json), lines);
    }
}
