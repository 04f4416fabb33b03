//! Compares the verifier with another implementation of HMAC-SHA1.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sha1_smol::Sha1;
use tower_inqud::{Secret, Verifier};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    secret: &'a [u8],
    body: &'a [u8],
    digest: Claimed<'a>,
}

#[derive(Arbitrary, Debug)]
enum Claimed<'a> {
    Any(&'a str),
    Right,
    UpperCase,
    Changed { at: u8, to: char },
    Cut(u8),
    Longer(&'a str),
}

/// <https://www.rfc-editor.org/rfc/rfc2104#section-2>
fn hmac(key: &[u8], message: &[u8]) -> String {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..20].copy_from_slice(&Sha1::from(key).digest().bytes());
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha1::from([&block.map(|byte| byte ^ 0x36), message].concat()).digest().bytes();
    let outer = [&block.map(|byte| byte ^ 0x5c)[..], &inner].concat();
    Sha1::from(outer).digest().to_string()
}

fuzz_target!(|input: Input<'_>| {
    let Ok(secret) = Secret::verbatim(input.secret) else {
        assert!(input.secret.iter().all(|byte| *byte == 0));
        return;
    };
    let right = hmac(input.secret, input.body);
    let claimed = match input.digest {
        Claimed::Any(text) => text.to_owned(),
        Claimed::Right => right.clone(),
        Claimed::UpperCase => right.to_uppercase(),
        Claimed::Changed { at, to } => {
            let at = usize::from(at) % right.len();
            format!("{}{to}{}", &right[..at], &right[at + 1..])
        }
        Claimed::Cut(len) => right[..usize::from(len) % right.len()].to_owned(),
        Claimed::Longer(more) => format!("{right}{more}"),
    };
    let accepted = Verifier::new(secret).verify(&claimed, input.body.to_vec()).is_ok();
    assert_eq!(accepted, claimed.eq_ignore_ascii_case(&right), "{claimed:?}, right is {right}");
});
