//! What the sender sends besides the usual: forged digests, reversals, parts, amendments, other kinds.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "clippy.toml does not reach the helpers of tests"
)]

mod support;

use std::collections::HashSet;

use http::Uri;
use support::{SECRET, secret};
use tower_inqud::sender::{Flaw, Life, Message, Sender, Story};
use tower_inqud::{Diagnosis, RejectionKind, Verifier, contract};

const PATH: &str = "/webhooks/inqud/request";

fn inqud() -> Sender {
    Sender::new(secret(), Uri::from_static(PATH))
}

fn digest(sender: &Sender, message: &Message) -> String {
    let request = sender.request(message);
    request.headers()[contract::DIGEST_HEADER].to_str().unwrap().to_owned()
}

// Forged calls

#[test]
fn a_forged_digest_is_worth_nothing_under_the_secret() {
    let message = Life::new(Story::Success).into_iter().last().unwrap();
    let body = message.body();
    let text = std::str::from_utf8(body).unwrap();
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    let uri = PATH.as_bytes();
    let mut texts: Vec<Vec<u8>> = vec![
        body.to_vec(),
        Vec::new(),
        text.trim_end_matches('}').into(),
        text.to_uppercase().into(),
        text.to_lowercase().into(),
        serde_json::to_vec(&value).unwrap(),
        serde_json::to_vec_pretty(&value).unwrap(),
        body.iter().rev().copied().collect(),
        body[..body.len() / 2].to_vec(),
        [body, body].map(|it| it.to_vec()).concat(),
        [uri, body].concat(),
        [body, uri].concat(),
        [SECRET.as_bytes(), body].concat(),
        [body, SECRET.as_bytes()].concat(),
    ];
    // A byte of any value at either end, and line ends.
    texts.extend((0..=u8::MAX).map(|byte| [&body[..], &[byte]].concat()));
    texts.extend((0..=u8::MAX).map(|byte| [&[byte], &body[..]].concat()));
    texts.extend(["\r\n", "\n\n", "  "].map(|end| [&body[..], end.as_bytes()].concat()));

    let verifier = Verifier::new(secret());
    for forger in (0..20).map(|_| inqud().flaw(Flaw::Forged)) {
        let digest = digest(&forger, &message);
        // It looks like one of Inqud's, so that what refuses it has looked at the body.
        let rejection = Verifier::new(secret()).verify(&digest, body.clone()).unwrap_err();
        assert_eq!(rejection.kind(), RejectionKind::DigestMismatch);
        assert_eq!(rejection.diagnosis(), Some(Diagnosis::Unexplained));
        for text in &texts {
            let verified = verifier.verify(&digest, text.clone());
            assert!(verified.is_err(), "{:?}", String::from_utf8_lossy(text));
        }
    }
}

#[test]
fn a_sender_forges_with_a_key_of_its_own() {
    let message = Life::new(Story::Success).into_iter().next().unwrap();
    let forger = inqud().flaw(Flaw::Forged);
    assert_eq!(digest(&forger, &message), digest(&forger.clone(), &message));
    let others = (0..20).map(|_| digest(&inqud().flaw(Flaw::Forged), &message));
    assert_eq!(others.collect::<HashSet<_>>().len(), 20);
}
