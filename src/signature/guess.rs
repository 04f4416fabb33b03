//! Guesses why a digest is wrong, for the log. Nothing in here can accept a call.

use std::iter;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Version, header};
use zeroize::Zeroizing;

use super::mac::Mac;
use super::{Algorithm, Diagnosis};

/// Why a header value is not a digest of the `expected` algorithm, if that can be guessed.
#[cold]
pub(super) fn diagnose_text(expected: Algorithm, text: &[u8]) -> Option<Diagnosis> {
    const LONGEST: usize = 256;
    let text = text.get(..LONGEST).unwrap_or(text);
    let with_len = |len| Algorithm::ALL.into_iter().find(|it| it.digest_len() == len);

    let mut runs = text.split(|byte| !byte.is_ascii_hexdigit());
    match runs.find_map(|run| with_len(run.as_chunks::<2>().0.len()).filter(|_| run.len() % 2 == 0))
    {
        Some(algorithm) if algorithm == expected => Some(Diagnosis::DigestHasMoreThanDigits),
        Some(algorithm) => Some(Diagnosis::DigestOfAnotherAlgorithm(algorithm)),
        None => {
            let digits = text.iter().take_while(|byte| **byte != b'=').count();
            let is_long_enough =
                Algorithm::ALL.iter().any(|it| base64_len(it.digest_len()) == digits);
            (is_long_enough && from_base64(text).is_some()).then_some(Diagnosis::DigestIsBase64)
        }
    }
}

/// Why a request has no digest.
#[cold]
pub(super) fn diagnose_missing(headers: &HeaderMap) -> Diagnosis {
    const API_SIGNATURE: HeaderName = HeaderName::from_static("x-hmac-sha256-signature");
    if headers.contains_key(API_SIGNATURE) { Diagnosis::ApiSignature } else { Diagnosis::NotSigned }
}

/// Whether the head announces no body length, as it is after a layer that decompresses.
#[cold]
pub(super) fn is_without_length(head: &Parts) -> bool {
    // An HTTP/2 body needs neither header.
    head.version <= Version::HTTP_11
        && !head.headers.contains_key(header::CONTENT_LENGTH)
        && !head.headers.contains_key(header::TRANSFER_ENCODING)
}

type KeyBytes = Zeroizing<Vec<u8>>;

/// The keys that result from the usual mistakes with a secret.
pub(super) fn mistaken_keys(secret: &[u8]) -> Vec<(Diagnosis, KeyBytes)> {
    let key = |key: &[u8]| Zeroizing::new(key.to_vec());
    let trimmed = secret.trim_ascii();
    let mut keys = vec![
        (Diagnosis::SecretLacksNewline, Zeroizing::new([secret, b"\n"].concat())),
        (Diagnosis::SecretLacksNewline, Zeroizing::new([secret, b"\r\n"].concat())),
        (Diagnosis::SecretWasHexDecoded, to_hex(secret)),
        (Diagnosis::SecretWasBase64Decoded, to_base64(secret)),
    ];
    if trimmed.len() < secret.len() {
        keys.push((Diagnosis::SecretHasWhitespace, key(trimmed)));
    }
    if let [b'"', unquoted @ .., b'"'] | [b'\'', unquoted @ .., b'\''] = trimmed {
        keys.push((Diagnosis::SecretHasQuotes, key(unquoted)));
    }
    keys.extend(from_hex(trimmed).map(|key| (Diagnosis::SecretNeedsHexDecoding, key)));
    keys.extend(from_base64(trimmed).map(|key| (Diagnosis::SecretNeedsBase64Decoding, key)));
    // Anyone can sign with an empty key or with one of zeros, so a match would say nothing.
    keys.retain(|(_, key)| key.iter().any(|byte| *byte != 0));
    keys
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Finds out how the body was changed on the way, by undoing the usual changes. `is_right` gets a
/// function that feeds a body to an HMAC, and returns whether the digest matches.
pub(super) fn changed_body(
    body: &[u8],
    is_right: impl Fn(&dyn Fn(&mut Mac)) -> bool,
) -> Option<Diagnosis> {
    let is_right_in_parts =
        |parts: &[&[u8]]| is_right(&|mac| parts.iter().for_each(|part| mac.update(part)));
    if is_right_in_parts(&[body, b"\n"]) || is_right_in_parts(&[body, b"\r\n"]) {
        return Some(Diagnosis::BodyLacksNewline);
    }
    if body.strip_prefix(BYTE_ORDER_MARK).is_some_and(|body| is_right_in_parts(&[body])) {
        return Some(Diagnosis::BodyHasByteOrderMark);
    }
    let without_newline = body.strip_suffix(b"\r\n").or_else(|| body.strip_suffix(b"\n"));
    if without_newline.is_some_and(|body| is_right_in_parts(&[body])) {
        return Some(Diagnosis::BodyHasNewline);
    }
    let is_rewritten = [Escapes::Keep, Escapes::Undo]
        .into_iter()
        .any(|escapes| is_right(&|mac| compact(body, escapes, |part| mac.update(part))));
    is_rewritten.then_some(Diagnosis::BodyRewritten)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Escapes {
    Keep,
    /// Undoes the escapes that JSON does not need.
    Undo,
}

/// Writes JSON, in parts, without the white space between its tokens.
///
/// It works on the text alone, so numbers and the order of keys do not change. For text that is not
/// JSON, the output is unspecified.
fn compact(json: &[u8], escapes: Escapes, mut write: impl FnMut(&[u8])) {
    let mut rest = json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json);
    let mut in_text = false;
    loop {
        let is_kept = |byte: &u8| match byte {
            b'"' | b'\\' => false,
            b' ' | b'\t' | b'\r' | b'\n' => in_text,
            _ => true,
        };
        let kept = rest.iter().take_while(|byte| is_kept(byte)).count();
        let (kept, from) = rest.split_at(kept);
        write(kept);
        let Some((&first, after)) = from.split_first() else { return };
        rest = after;
        match first {
            b'"' => {
                in_text = !in_text;
                write(b"\"");
            }
            b'\\' => {
                let undone = if escapes == Escapes::Undo { unescape(after) } else { None };
                if let Some((character, after)) = undone {
                    if let '"' | '\\' = character {
                        write(b"\\");
                    }
                    write(character.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = after;
                } else {
                    let (escaped, after) = after.split_at(after.len().min(1));
                    write(b"\\");
                    write(escaped);
                    rest = after;
                }
            }
            _ => {}
        }
    }
}

/// Reads the escape after a backslash. Returns the character and the rest if JSON does not need the
/// escape.
fn unescape(text: &[u8]) -> Option<(char, &[u8])> {
    fn unit(text: &[u8]) -> Option<(u16, &[u8])> {
        let (digits, after) = text.strip_prefix(b"u")?.split_at_checked(4)?;
        let digits = std::str::from_utf8(digits).ok()?;
        Some((u16::from_str_radix(digits, 16).ok()?, after))
    }
    if let Some(after) = text.strip_prefix(b"/") {
        return Some(('/', after));
    }
    let (first, after) = unit(text)?;
    let second = after.strip_prefix(b"\\").and_then(unit);
    let units = iter::once(first).chain(second.map(|(unit, _)| unit));
    let character = char::decode_utf16(units).next()?.ok()?;
    let is_pair = character.len_utf16() == 2;
    let after = second.filter(|_| is_pair).map_or(after, |(_, after)| after);
    (!character.is_ascii_control()).then_some((character, after))
}

fn to_hex(bytes: &[u8]) -> KeyBytes {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits(halves, DIGITS, bytes.len().saturating_mul(2))
}

fn from_hex(text: &[u8]) -> Option<KeyBytes> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let worth = |digit: u8| char::from(digit).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let mut key = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        key.push((worth(*high)? << 4) | worth(*low)?);
    }
    Some(key)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> KeyBytes {
    let capacity = bytes.len().div_ceil(3).saturating_mul(4);
    let sixths = bytes.chunks(3).flat_map(|chunk| {
        let mut group = [0; 4];
        for (to, from) in group.iter_mut().skip(1).zip(chunk) {
            *to = *from;
        }
        let group = u32::from_be_bytes(group);
        let digits = [group >> 18, group >> 12, group >> 6, group];
        let digits = digits.map(|it| u8::try_from(it & 0x3f).unwrap_or_default());
        digits.into_iter().take(chunk.len().saturating_add(1))
    });
    let mut text = digits(sixths, BASE64, capacity);
    text.resize(capacity, b'=');
    text
}

/// The number of base64 digits, without padding.
fn base64_len(bytes: usize) -> usize {
    bytes.saturating_mul(4).div_ceil(3)
}

/// Decodes both alphabets of base64, with or without padding.
fn from_base64(text: &[u8]) -> Option<KeyBytes> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').take(2).count();
    let text = text.get(..text.len().saturating_sub(padding))?;
    let mut key = Zeroizing::new(Vec::with_capacity(text.len()));
    for chunk in text.chunks(4) {
        let digits = chunk.iter().copied().chain(iter::repeat(b'A')).take(4);
        let group = digits.map(sixth).try_fold(0_u32, |group, it| Some((group << 6) | it?))?;
        let [_, bytes @ ..] = group.to_be_bytes();
        key.extend(bytes.iter().take(chunk.len().saturating_sub(1)));
    }
    // A single digit encodes no byte.
    (text.len() % 4 != 1).then_some(key)
}

/// The value of a base64 digit.
fn sixth(digit: u8) -> Option<u32> {
    let from = |first: u8, worth: u32| {
        Some(u32::from(digit).saturating_sub(u32::from(first)).saturating_add(worth))
    };
    match digit {
        b'A'..=b'Z' => from(b'A', 0),
        b'a'..=b'z' => from(b'a', 26),
        b'0'..=b'9' => from(b'0', 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

fn digits(worths: impl Iterator<Item = u8>, alphabet: &[u8], capacity: usize) -> KeyBytes {
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    text.extend(worths.filter_map(|worth| alphabet.get(usize::from(worth))));
    text
}
