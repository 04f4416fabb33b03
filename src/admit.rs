//! Everything that can be refused before a byte of the body is read.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::layer::{Config, Trust};
use crate::rejection::RejectionKind;
use crate::signature::Claim;

/// A head that nothing is wrong with.
pub(crate) struct Admitted {
    /// `None` only behind [`danger::unsigned`](crate::danger::unsigned).
    pub(crate) claim: Option<Claim>,
}

pub(crate) fn admit(config: &Config, parts: &mut Parts) -> Result<Admitted, RejectionKind> {
    // First of all, for it hides the digest from whoever is shown the head of a refused request.
    let claim = match &config.trust {
        Trust::Signed(verifier) => Some(verifier.claim_from(&mut parts.headers)),
        Trust::Unsigned => None,
    };
    if parts.method != Method::POST {
        return Err(RejectionKind::MethodNotAllowed);
    }
    if config.source.as_ref().is_some_and(|is_source| !is_source(parts)) {
        return Err(RejectionKind::SourceNotAllowed);
    }
    let claim = claim.transpose()?;
    if announces_more_than(config.body_limit, &parts.headers) {
        return Err(RejectionKind::BodyTooLarge);
    }
    if is_encoded(&parts.headers) {
        return Err(RejectionKind::EncodingNotSupported);
    }
    Ok(Admitted { claim })
}

/// A length that is no number is the server's to refuse; what arrives is counted in any case.
fn announces_more_than(limit: usize, headers: &HeaderMap) -> bool {
    let exceeds = |length: &HeaderValue| {
        let digits = length.as_bytes();
        match length.to_str().ok().and_then(|text| text.parse::<u64>().ok()) {
            Some(length) => usize::try_from(length).map_or(true, |length| length > limit),
            // More digits than a u64 has.
            None => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        }
    };
    headers.get_all(CONTENT_LENGTH).iter().any(exceeds)
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}
