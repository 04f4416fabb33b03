use jiff::Timestamp;

/// Cuts the fractions of the seconds in all times of a JSON text to at most this many digits.
///
/// It changes the text in place, because parsing and writing it again could change the numbers.
pub(super) fn shortened(json: &str, digits: usize) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, string)) = rest.split_once('"') {
        let end = end_of_string(string);
        let (content, after) = string.split_at(end);
        out.push_str(before);
        out.push('"');
        match cut(content, digits) {
            Some(time) => out.push_str(&time),
            None => out.push_str(content),
        }
        rest = match after.strip_prefix('"') {
            Some(after) => {
                out.push('"');
                after
            }
            None => after,
        };
    }
    out.push_str(rest);
    out
}

/// The position of the quote that ends a string.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    text.len()
}

fn cut(text: &str, digits: usize) -> Option<String> {
    let (seconds, fraction) = text.strip_suffix('Z')?.split_once('.')?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || text.parse::<Timestamp>().is_err() {
        return None;
    }
    Some(match fraction.get(..digits) {
        Some("") => format!("{seconds}Z"),
        Some(kept) => format!("{seconds}.{kept}Z"),
        None => text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn cuts_only_times() {
        let json = r#"{"a":"2026-01-01T00:00:00.123456789Z","b":1.123456789,"c":"1.123456789Z",
            "d":"\"2026-01-01T00:00:00.5Z","e":["2026-01-01T00:00:00.1Z","2026-01-01T00:00:00Z"]}"#;
        let cut = json.replace(".123456789Z\",\"b", ".123Z\",\"b");
        assert_eq!(shortened(json, 3), cut);
        assert_eq!(shortened(json, 9), json);
        let whole = cut.replace(":00.123Z", ":00Z").replace(":00.1Z", ":00Z");
        assert_eq!(shortened(json, 0), whole);
    }
}
