//! The content of a notification, in a form that can be compared.

use std::borrow::Cow;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// The content of a notification, for detecting duplicates: notifications that say the same have equal
/// content.
///
/// It compares the JSON by value. The order of keys, white space, the spelling of numbers and strings, and
/// a `null` in place of a missing key make no difference. Times are kept separately, floored to the
/// millisecond, because a retry may render them with fewer digits.
///
/// # Example
///
/// ```
/// use tower_inqud::Content;
///
/// let one = Content::of_json(br#"{"paid":1.50,"at":"2026-11-22T10:05:00.123456Z","rate":7}"#, &["rate"]);
/// let two = Content::of_json(br#"{"at":"2026-11-22T10:05:00.123Z","rate":8,"paid":15E-1,"tx":null}"#, &["rate"]);
/// assert_eq!(one, two);
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Content {
    pub(super) hash: [u8; 16],
    /// In the sorted order of their keys.
    pub(super) times: Vec<i64>,
}

/// The maximum number of times that are kept. If there are more, they become part of the hash.
const TIMES: usize = 32;

/// The maximum depth at which values are compared by value. Deeper values are compared as text.
const DEPTH: u8 = 32;

impl Content {
    /// The content of a JSON object, without its `ignored_fields`.
    ///
    /// A dot in the name of an ignored field leads into an object, as in `request.convertRate`. Bytes that
    /// are not a JSON object are compared as bytes.
    #[must_use]
    pub fn of_json(json: &[u8], ignored_fields: &[&str]) -> Self {
        let text = std::str::from_utf8(json).ok();
        text.and_then(|text| Reader::read(text, ignored_fields))
            .unwrap_or_else(|| Self::of_bytes(json))
    }

    /// The content of opaque bytes, which is equal only if the bytes are.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self { hash: hash(bytes), times: Vec::new() }
    }

    /// The hash of everything except the times.
    #[must_use]
    pub fn hash(&self) -> &[u8; 16] {
        &self.hash
    }

    /// The times in the content, in milliseconds since 1970.
    ///
    /// Empty if there are more than 32: then the hash includes them.
    #[must_use]
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    pub(super) fn is_same_within(&self, other: &Self, tolerance: u64) -> bool {
        self.hash == other.hash
            && self.times.len() == other.times.len()
            && self.times.iter().zip(&other.times).all(|(a, b)| a.abs_diff(*b) <= tolerance)
    }
}

/// Milliseconds since 1970, floored. Truncation would round times before 1970 up instead.
pub(super) fn milliseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond().div_euclid(1_000_000)).unwrap_or_default()
}

fn hash(bytes: &[u8]) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    let mut half = [0; 16];
    half.copy_from_slice(hash.split_at(16).0);
    half
}

/// Parses JSON and writes it in a canonical form, which is the same for equal values. Its methods return
/// `None` if the text is not JSON.
struct Reader<'j> {
    text: &'j str,
    at: usize,
    form: Vec<u8>,
    times: Vec<i64>,
}

/// A member of an object: where its key, its form and its times are in the output so far.
struct Member {
    start: u64,
    key: std::ops::Range<usize>,
    form: std::ops::Range<usize>,
    times: std::ops::Range<usize>,
}

impl<'j> Reader<'j> {
    fn read(text: &'j str, ignored_fields: &[&str]) -> Option<Content> {
        let form = Vec::with_capacity(text.len());
        let mut reader = Self { text, at: 0, form, times: Vec::new() };
        (reader.next()? == b'{').then_some(())?;
        reader.at = reader.at.checked_add(1)?;
        reader.object(ignored_fields, DEPTH)?;
        reader.next().is_none().then_some(())?;
        let Self { mut form, mut times, .. } = reader;
        if times.len() > TIMES {
            times.drain(..).for_each(|time| form.extend(time.to_be_bytes()));
        }
        Some(Content { hash: hash(&form), times })
    }

    /// Skips white space, and peeks at the next byte.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at = self.at.checked_add(1)?;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())?;
        self.at = self.at.checked_add(1)?;
        Some(())
    }

    /// Reads an object after its opening brace, without the ignored fields.
    fn object(&mut self, ignored_fields: &[&str], depth: u8) -> Option<()> {
        let (form, times) = (self.form.len(), self.times.len());
        let leads_below = ignored_fields.iter().any(|name| name.contains('.'));
        let mut members = Vec::with_capacity(if depth == DEPTH { 40 } else { 0 });
        let mut is_first = true;
        while self.next()? != b'}' {
            if !std::mem::take(&mut is_first) {
                self.expect(b',')?;
            }
            members.extend(self.member(ignored_fields, leads_below, depth)?);
        }
        self.at = self.at.checked_add(1)?;
        self.sort(form, times, members)
    }

    /// Reads a member of an object. The inner `Option` is `None` if the member is left out.
    fn member(
        &mut self,
        ignored_fields: &[&str],
        leads_below: bool,
        depth: u8,
    ) -> Option<Option<Member>> {
        let (form, times) = (self.form.len(), self.times.len());
        self.next()?;
        let key = self.string()?;
        self.expect(b':')?;
        self.form.extend_from_slice(key.as_bytes());
        let keyed = self.form.len();
        let is_left_out = self.next()? == b'n' || ignored_fields.contains(&&*key);
        let below: Vec<_> = if leads_below {
            let below =
                |name: &&'_ str| name.strip_prefix(&*key)?.strip_prefix('.').map(str::to_owned);
            ignored_fields.iter().filter_map(below).collect()
        } else {
            Vec::new()
        };
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        self.value(&below, depth)?;
        if is_left_out {
            self.form.truncate(form);
            self.times.truncate(times);
            return Some(None);
        }
        let (form, times) = (form..self.form.len(), times..self.times.len());
        let mut start = [0; 8];
        start.iter_mut().zip(key.bytes()).for_each(|(to, from)| *to = from);
        let start = u64::from_be_bytes(start);
        Some(Some(Member { start, key: form.start..keyed, form, times }))
    }

    /// Sorts the members of an object by key. The sort is stable, so equal keys keep their order.
    fn sort(&mut self, form: usize, times: usize, mut members: Vec<Member>) -> Option<()> {
        let unsorted = self.form.split_off(form);
        let unsorted_times = self.times.split_off(times);
        let of = |range: &std::ops::Range<usize>| {
            let start = range.start.saturating_sub(form);
            unsorted.get(start..range.end.saturating_sub(form)).unwrap_or_default()
        };
        // `start` holds the first eight bytes of a key as a number, which decides nearly every comparison.
        members.sort_by(|a, b| a.start.cmp(&b.start).then_with(|| of(&a.key).cmp(of(&b.key))));
        self.form.push(b'{');
        self.length(members.len());
        for member in &members {
            self.length(member.key.len());
            self.form.extend(of(&member.form));
            let start = member.times.start.saturating_sub(times);
            let end = member.times.end.saturating_sub(times);
            self.times.extend(unsorted_times.get(start..end)?);
        }
        Some(())
    }

    fn value(&mut self, ignored_fields: &[&str], depth: u8) -> Option<()> {
        match self.next()? {
            b'{' | b'[' if depth == 0 => {
                let start = self.at;
                self.skip()?;
                let text = self.text.get(start..self.at)?;
                self.form.push(b'?');
                self.length(text.len());
                self.form.extend(text.as_bytes());
            }
            b'{' => {
                self.at = self.at.checked_add(1)?;
                self.object(ignored_fields, depth.saturating_sub(1))?;
            }
            b'[' => self.array(depth.saturating_sub(1))?,
            b'"' => {
                let text = self.string()?;
                self.text(&text);
            }
            b'-' | b'0'..=b'9' => {
                let number = self.token();
                self.form.push(b'#');
                number_form(number, &mut self.form);
            }
            _ => {
                let word = self.token();
                let letter = word.as_bytes().first()?;
                matches!(word, "true" | "false" | "null").then(|| self.form.push(*letter))?;
            }
        }
        Some(())
    }

    fn array(&mut self, depth: u8) -> Option<()> {
        self.at = self.at.checked_add(1)?;
        self.form.push(b'[');
        let mut is_first = true;
        while self.next()? != b']' {
            if !std::mem::take(&mut is_first) {
                self.expect(b',')?;
            }
            self.value(&[], depth)?;
        }
        self.at = self.at.checked_add(1)?;
        self.form.push(b']');
        Some(())
    }

    fn text(&mut self, text: &str) {
        if let Some(time) = as_time(text) {
            self.form.push(b'@');
            self.times.push(milliseconds(time));
            return;
        }
        self.form.push(b'"');
        self.length(text.len());
        self.form.extend(text.as_bytes());
    }

    /// Writes a length in front of text, so that different values cannot have the same form.
    fn length(&mut self, length: usize) {
        self.form.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }

    fn string(&mut self) -> Option<Cow<'j, str>> {
        let start = self.at;
        let (end, is_escaped) = self.end_of_string()?;
        self.at = end;
        if is_escaped {
            let quoted = self.text.get(start..end)?;
            // Half a surrogate pair is not valid text, so it is compared as it is spelled.
            let text = serde_json::from_str(quoted).unwrap_or_else(|_| format!("\0{quoted}"));
            return Some(Cow::Owned(text));
        }
        self.text.get(start.checked_add(1)?..end.checked_sub(1)?).map(Cow::Borrowed)
    }

    /// The position after the closing quote, and whether the string has escapes.
    fn end_of_string(&self) -> Option<(usize, bool)> {
        let bytes = self.text.as_bytes();
        (*bytes.get(self.at)? == b'"').then_some(())?;
        let mut at = self.at.checked_add(1)?;
        let mut is_escaped = false;
        loop {
            let rest = bytes.get(at..)?;
            at = at.checked_add(rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?)?;
            if *bytes.get(at)? == b'"' {
                return Some((at.checked_add(1)?, is_escaped));
            }
            is_escaped = true;
            at = at.checked_add(2)?;
        }
    }

    /// Reads a number or a literal: every byte that can be part of one.
    fn token(&mut self) -> &'j str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let len = rest.bytes().take_while(|byte| is_part(*byte)).count();
        self.at = self.at.saturating_add(len);
        rest.get(..len).unwrap_or_default()
    }

    /// Skips an object or array of any depth, without recursion.
    fn skip(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.next()? {
                b'"' => self.at = self.end_of_string()?.0,
                byte => {
                    match byte {
                        b'{' | b'[' => open = open.checked_add(1)?,
                        b'}' | b']' => open = open.checked_sub(1)?,
                        _ => {}
                    }
                    self.at = self.at.checked_add(1)?;
                }
            }
            if open == 0 {
                return Some(());
            }
        }
    }
}

/// Parses a time in RFC 3339, as Inqud writes it. A quick check rules out most other texts.
fn as_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let looks_so = (20..=40).contains(&bytes.len())
        && bytes.first().is_some_and(u8::is_ascii_digit)
        && bytes.get(4) == Some(&b'-')
        && matches!(bytes.get(10), Some(b'T' | b't' | b' '));
    looks_so.then(|| text.parse().ok())?
}

/// Writes a number as its sign, its digits without zeros at either end, and the power of ten of the last
/// digit.
fn number_form(number: &str, form: &mut Vec<u8>) {
    let (sign, rest) = match number.strip_prefix('-') {
        Some(rest) => (&b"-"[..], rest),
        None => (&b""[..], number),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let start = form.len();
    form.extend(sign);
    let digits = form.len();
    form.extend(integer.bytes().chain(fraction.bytes()).skip_while(|digit| *digit == b'0'));
    let zeros = form.iter().skip(digits).rev().take_while(|digit| **digit == b'0').count();
    form.truncate(form.len().saturating_sub(zeros));
    if form.len() == digits {
        form.truncate(start);
        form.push(b'0');
        return;
    }
    // An exponent that does not fit an `i64` is compared as it is spelled.
    let power = exponent.strip_prefix('+').unwrap_or(exponent).parse::<i64>().ok().and_then(|it| {
        let power = it.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        power.checked_add(i64::try_from(zeros).ok()?)
    });
    form.push(b'e');
    match power {
        Some(power) => form.extend(power.to_be_bytes()),
        None => form.extend(rest.bytes().chain([0])),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn of(json: &str) -> Content {
        Content::of_json(json.as_bytes(), &["rate", "request.rate"])
    }

    #[test]
    fn equal_values_have_equal_content() {
        let one = of(r#"{"a":1.50,"b":["x",{"c":null,"d":true}],"e":"\u00e9","rate":1}"#);
        for same in [
            r#" { "b" : [ "x" , { "d" : true } ] , "e" : "é" , "a" : 15e-1 } "#,
            r#"{"a":0.150E+1,"rate":{"x":2},"b":["x",{"d":true,"c":null}],"e":"é","f":null}"#,
        ] {
            assert_eq!(of(same), one, "{same}");
        }
        for other in [
            r#"{"a":1.51,"b":["x",{"d":true}],"e":"é"}"#,
            r#"{"a":"1.50","b":["x",{"d":true}],"e":"é"}"#,
            r#"{"a":1.5,"b":["x",{"d":false}],"e":"é"}"#,
            r#"{"a":1.5,"b":[{"d":true},"x"],"e":"é"}"#,
            r#"{"a":1.5,"b":["x",{"d":true}],"e":"e"}"#,
            r#"{"a":-1.5,"b":["x",{"d":true}],"e":"é"}"#,
            r#"{"a":1.5,"b":["x",{"d":true}],"e":"é","g":1}"#,
        ] {
            assert_ne!(of(other), one, "{other}");
        }
    }

    #[test]
    fn ignores_fields_only_at_their_path() {
        assert_eq!(of(r#"{"rate":1,"a":2}"#), of(r#"{"a":2,"rate":"2026-01-01T00:00:00Z"}"#));
        assert_eq!(of(r#"{"request":{"rate":1,"a":2}}"#), of(r#"{"request":{"rate":3,"a":2}}"#));
        assert_ne!(of(r#"{"other":{"rate":1}}"#), of(r#"{"other":{"rate":2}}"#));
        assert_ne!(of(r#"{"request":{"in":{"rate":1}}}"#), of(r#"{"request":{"in":{"rate":2}}}"#));
    }

    #[test]
    fn compares_times_to_the_millisecond() {
        let nanos = of(r#"{"b":"2026-11-22T10:05:00.123456789Z","a":"2026-11-22T10:06:00Z"}"#);
        let millis = of(r#"{"a":"2026-11-22T12:06:00.000+02:00","b":"2026-11-22T10:05:00.123Z"}"#);
        assert_eq!(nanos, millis);
        let rounded = of(r#"{"a":"2026-11-22T10:06:00Z","b":"2026-11-22T10:05:00.124Z"}"#);
        assert_ne!(nanos, rounded);
        assert!(nanos.is_same_within(&rounded, 1));
        let later = of(r#"{"a":"2026-11-22T10:06:00Z","b":"2026-11-22T10:05:00.125Z"}"#);
        assert!(!nanos.is_same_within(&later, 1));
        let swapped = of(r#"{"b":"2026-11-22T10:06:00Z","a":"2026-11-22T10:05:00.123Z"}"#);
        assert!(!nanos.is_same_within(&swapped, 1));
        assert_eq!(milliseconds("1969-12-31T23:59:59.9995Z".parse().unwrap()), -1);
    }

    #[test]
    fn compares_deep_values_without_recursion() {
        let deep = |inner: &str| {
            let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
            of(&format!(r#"{{"id":"1","new":{open}{inner}{close}}}"#))
        };
        assert_eq!(deep("1"), deep("1"));
        assert_ne!(deep("1"), deep("2"));
    }

    #[test]
    fn compares_by_value_around_deep_values() {
        let nested = |depth: usize, inner: &str| "[".repeat(depth) + inner + &"]".repeat(depth);
        for inner in ["1", r#"{"a":["}"],"b":"]\"["}"#] {
            let with = |depth: usize, before: u8, rate: u8, after: u8| {
                let deep = nested(depth, inner);
                of(&format!(r#"{{"a":{before},"deep":{deep},"rate":{rate},"z":{after}}}"#))
            };
            for depth in [1, 31, 32, 33, 50] {
                assert_eq!(with(depth, 1, 1, 1), with(depth, 1, 2, 1), "{depth}");
                assert_ne!(with(depth, 1, 1, 1), with(depth, 2, 1, 1), "{depth}");
                assert_ne!(with(depth, 1, 1, 1), with(depth, 1, 1, 2), "{depth}");
            }
        }
        // A number in 32 arrays is still compared by value. A deeper one is compared as text.
        for (depth, by_value) in [(31, true), (32, true), (33, false)] {
            let is = |inner: &str| of(&format!(r#"{{"deep":{}}}"#, nested(depth, inner)));
            assert_eq!(is("1") == is("1.0"), by_value, "{depth}");
        }
        let objects = |depth: usize, inner: &str| {
            of(&format!(r#"{{"o":{}{inner}{}}}"#, r#"{"o":"#.repeat(depth), "}".repeat(depth)))
        };
        for (depth, by_value) in [(31, true), (32, true), (33, false)] {
            assert_eq!(objects(depth, "1") == objects(depth, "1.0"), by_value, "{depth}");
        }
    }

    #[test]
    fn keeps_at_most_32_times() {
        let times = |count: usize, last: &str| {
            let many = r#""2026-11-22T10:05:00Z","#.repeat(count - 1);
            of(&format!(r#"{{"many":[{many}"{last}"]}}"#))
        };
        for (count, kept) in [(1, 1), (32, 32), (33, 0)] {
            assert_eq!(times(count, "2026-11-22T10:05:00Z").times().len(), kept);
        }
        let times = |last: &str| times(10_000, last);
        let content = times("2026-11-22T10:05:00Z");
        assert!(content.times.is_empty());
        assert_eq!(content, times("2026-11-22T10:05:00.0001Z"));
        assert_ne!(content, times("2026-11-22T10:05:01Z"));
    }

    /// A sender that truncates a name in the middle of an emoji sends half a pair.
    #[test]
    fn half_a_surrogate_pair_does_not_stop_comparison_by_value() {
        let cut = |rate: u32, name: &str| of(&format!(r#"{{"rate":{rate}, "name":"{name}"}}"#));
        assert_eq!(cut(1, r"a\ud83d"), cut(2, r"a\ud83d"));
        assert_ne!(cut(1, r"a\ud83d"), cut(1, r"a\ud83e"));
    }

    #[test]
    fn numbers_are_compared_by_value() {
        for (a, b) in [("0", "-0.00e7"), ("10", "1e1"), ("1e400", "10E+399"), ("12.30", "123e-1")] {
            assert_eq!(of(&format!(r#"{{"a":{a}}}"#)), of(&format!(r#"{{"a":{b}}}"#)), "{a}");
        }
        for (a, b) in [
            ("1", "10"),
            ("9007199254740993", "9007199254740992"),
            ("1e99999999999999999999", "1e99999999999999999998"),
        ] {
            assert_ne!(of(&format!(r#"{{"a":{a}}}"#)), of(&format!(r#"{{"a":{b}}}"#)), "{a}");
        }
    }

    #[test]
    fn compares_other_than_objects_as_bytes() {
        for text in ["", "[1]", "{", r#"{"a":}"#, r#"{"a":1"#, r#"{"a":1}x"#, r#"{"a" 1}"#] {
            assert_eq!(of(text), Content::of_bytes(text.as_bytes()), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-40..40_i64).prop_map(Value::from),
            "[a-c\\\\\"é]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// A value as `Content` sees it, in which `null` is the same as a missing key.
    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let members = members.iter().filter(|(_, value)| !value.is_null());
                members.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
            }
            Value::Array(items) => items.iter().map(without_nulls).collect(),
            value => value.clone(),
        }
    }

    proptest! {
        #[test]
        fn content_is_equal_exactly_if_the_values_are(a in json(), b in json()) {
            let [a, b] = [a, b].map(|it| serde_json::json!({ "it": it }));
            let equal = without_nulls(&a) == without_nulls(&b);
            let pretty = serde_json::to_string_pretty(&a).unwrap();
            prop_assert_eq!(of(&a.to_string()) == of(&b.to_string()), equal);
            prop_assert_eq!(of(&a.to_string()), of(&pretty));
        }

        #[test]
        fn no_text_panics(text in "[\\[\\]{}\",:0-9a-z\\\\ ]{0,40}") {
            let _ = of(&text);
        }
    }
}
