//! Diagnoses a mismatch: tries all secrets and all guesses on one body.

use super::{Algorithm, Diagnosis, Digest, Secret, guess};

/// The largest body that is diagnosed. Together with `MOST_SECRETS`, it bounds the time of a
/// diagnosis.
const LARGEST_BODY: usize = 64 * 1024;
/// The number of secrets that are tried.
const MOST_SECRETS: usize = 4;

/// The likely cause of a mismatch. `None` during the cooldown, or if the body is too large.
#[cold]
pub(super) fn explain(secrets: &[Secret], digest: &Digest, body: &[u8]) -> Option<Diagnosis> {
    if body.is_empty() {
        return Some(Diagnosis::BodyEmpty);
    }
    if body.len() > LARGEST_BODY || !secrets.first()?.diagnoser().may_look() {
        return None;
    }
    let secrets = secrets.get(..MOST_SECRETS).unwrap_or(secrets);
    mistaken_key(secrets, digest, body)
        .or_else(|| {
            guess::changed_body(body, |feed| {
                let mut macs = secrets.iter().map(|secret| secret.mac(digest.algorithm()));
                macs.any(|mut mac| {
                    feed(&mut mac);
                    mac.verify(digest)
                })
            })
        })
        .or(Some(Diagnosis::Unexplained))
}

fn mistaken_key(secrets: &[Secret], digest: &Digest, body: &[u8]) -> Option<Diagnosis> {
    if digest.algorithm() != Algorithm::HmacSha1 {
        return None;
    }
    let mut mistakes = secrets.iter().flat_map(|secret| &secret.diagnoser().mistakes);
    let right = mistakes.find(|(_, key)| {
        let mut mac = key.sha1();
        mac.update(body);
        mac.verify(digest)
    });
    right.map(|(why, _)| *why)
}
