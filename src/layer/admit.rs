//! Admit: checks the request head before the body is read.
//!
//! The source is checked in the future instead, because that check is merchant code and may panic.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use super::config::{Config, Trust};
use crate::rejection::RejectionKind;
use crate::signature::{Claim, Digest, Verifier};

/// The proof that a request head passed every check.
pub(super) struct Admitted {
    /// `None` only behind [`danger::unsigned`](crate::danger::unsigned).
    pub(super) claim: Option<Claim>,
}

/// `of_tenant` is the verifier that was chosen for this request, if the layer chooses any.
pub(super) fn admit(
    config: &Config,
    of_tenant: Option<&Verifier>,
    parts: &mut Parts,
) -> Result<Admitted, RejectionKind> {
    let verifier = config.verifier(of_tenant);
    // Read the headers first: this marks the digest as sensitive before a callback can see the
    // head.
    let headers = Headers::read(verifier, config.body_limit, &mut parts.headers);
    if parts.method != Method::POST {
        return Err(RejectionKind::MethodNotAllowed);
    }
    let claim = match (&config.trust, verifier) {
        (Trust::Unsigned, _) => None,
        (_, Some(verifier)) => Some(verifier.claim(headers.digest?)),
        (_, None) => return Err(RejectionKind::UnknownTenant),
    };
    if headers.is_too_large {
        return Err(RejectionKind::BodyTooLarge);
    }
    if headers.is_encoded {
        return Err(RejectionKind::EncodingNotSupported);
    }
    Ok(Admitted { claim })
}

/// The facts about the headers that `admit` decides on.
struct Headers {
    digest: Result<Digest, RejectionKind>,
    is_too_large: bool,
    is_encoded: bool,
}

impl Headers {
    /// Reads all headers in one pass, which costs less than a lookup of each. Marks every digest as
    /// sensitive, which hides it from `Debug`.
    fn read(verifier: Option<&Verifier>, body_limit: usize, headers: &mut HeaderMap) -> Self {
        let mut digest = Err(RejectionKind::DigestMissing);
        let (mut is_too_large, mut is_encoded) = (false, false);
        for (name, value) in headers {
            if *name == CONTENT_LENGTH {
                is_too_large |= announces_more_than(body_limit, value);
            } else if *name == CONTENT_ENCODING {
                is_encoded |= is_coded(value);
            } else if let Some(verifier) = verifier
                && verifier.is_digest_header(name)
            {
                value.set_sensitive(true);
                digest = match digest {
                    Err(RejectionKind::DigestMissing) => verifier.read_digest(value.as_bytes()),
                    _ => Err(RejectionKind::DigestDuplicated),
                };
            }
        }
        Self { digest, is_too_large, is_encoded }
    }
}

/// Whether a `Content-Length` exceeds the limit. Rejecting one that is not a number is left to the
/// server, because the bytes that arrive are counted in any case.
fn announces_more_than(limit: usize, length: &HeaderValue) -> bool {
    let digits = length.as_bytes();
    match length.to_str().ok().and_then(|text| text.parse::<u64>().ok()) {
        Some(length) => usize::try_from(length).map_or(true, |length| length > limit),
        // A number that is too large for a u64.
        None => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
    }
}

fn is_coded(value: &HeaderValue) -> bool {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}
