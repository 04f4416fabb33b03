use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::error::ConfigError;
use crate::random::Random;
use tower_inqud::{Algorithm, Secret};

const TOKEN_ID: HeaderName = HeaderName::from_static("x-token-api-id");
const TOKEN_SECRET: HeaderName = HeaderName::from_static("x-token-api-secret");
const SIGNATURE: HeaderName = HeaderName::from_static("x-hmac-sha256-signature");
const SALT: HeaderName = HeaderName::from_static("x-salt");

/// An API token, and how requests prove that they come from its owner.
///
/// Inqud documents two ways (confirmed). Prefer [`signed`](Self::signed), with which the secret never leaves
/// your process. The id of a token begins with `TKN-` (confirmed), which is not checked.
///
/// `Debug` shows neither the id nor the secret. The headers of a request are marked as sensitive, so `Debug` of
/// a header map hides them.
#[derive(Clone)]
pub struct Credentials {
    token_id: HeaderValue,
    proof: Proof,
}

#[derive(Clone)]
enum Proof {
    Signature(Secret),
    Secret(Arc<Zeroizing<Vec<u8>>>),
}

impl Credentials {
    /// Signs each request with the secret: HMAC-SHA256 of the body and a random salt, in hexadecimal digits
    /// (confirmed).
    ///
    /// Only the hash states that are derived from the secret are kept, and they are zeroized when dropped.
    ///
    /// # Security
    ///
    /// The body of a `GET` is empty, so the signature covers only the salt. Anyone who sees one
    /// may be able to send any `GET` with it: whether Inqud accepts a salt twice is not public.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidTokenId`], [`ConfigError::SecretEmpty`] and [`ConfigError::SurroundingWhitespace`].
    pub fn signed(
        token_id: impl AsRef<str>,
        token_secret: impl Into<Vec<u8>>,
    ) -> Result<Self, ConfigError> {
        let secret = checked(token_secret.into())?;
        Ok(Self { token_id: token_id_value(token_id.as_ref())?, proof: Proof::Signature(secret.0) })
    }

    /// Sends the secret itself in `X-Token-API-Secret` with each request (confirmed).
    ///
    /// The secret is zeroized when dropped. The copies in requests are not.
    ///
    /// # Errors
    ///
    /// Those of [`signed`](Self::signed), and [`ConfigError::InvalidSecret`].
    pub fn plain(
        token_id: impl AsRef<str>,
        token_secret: impl Into<Vec<u8>>,
    ) -> Result<Self, ConfigError> {
        let (_, text) = checked(token_secret.into())?;
        if !text.iter().all(u8::is_ascii_graphic) {
            return Err(ConfigError::InvalidSecret);
        }
        let proof = Proof::Secret(Arc::new(text));
        Ok(Self { token_id: token_id_value(token_id.as_ref())?, proof })
    }

    /// Adds the headers to a request without a body. Returns what no error may show.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap, random: &Random) -> Confidential {
        let proof = match &self.proof {
            Proof::Signature(secret) => {
                let salt = random.salt();
                // The body is empty, so the salt is the whole message.
                let signature = Algorithm::HmacSha256.sign(secret, salt.as_bytes());
                let salt = HeaderValue::try_from(salt).ok().map(|salt| (SALT, sensitive(salt)));
                [Some((SIGNATURE, signature.into())), salt]
            }
            Proof::Secret(text) => {
                let value = HeaderValue::from_bytes(text).ok();
                [value.map(|value| (TOKEN_SECRET, sensitive(value))), None]
            }
        };
        let id = (TOKEN_ID, self.token_id.clone());
        let all = proof.into_iter().flatten().chain([id]).collect::<Vec<_>>();
        headers.extend(all.iter().cloned());
        Confidential(all.into_iter().map(|(_, value)| value).collect())
    }
}

/// The secret, ready to sign, and its text.
fn checked(text: Vec<u8>) -> Result<(Secret, Zeroizing<Vec<u8>>), ConfigError> {
    let text = Zeroizing::new(text);
    // The copy that it takes is zeroized by it.
    match Secret::new(text.to_vec()) {
        Ok(secret) => Ok((secret, text)),
        Err(tower_inqud::ConfigError::SurroundingWhitespace) => {
            Err(ConfigError::SurroundingWhitespace)
        }
        Err(_) => Err(ConfigError::SecretEmpty),
    }
}

fn token_id_value(id: &str) -> Result<HeaderValue, ConfigError> {
    let is_visible = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::from_str(id).ok().filter(|_| is_visible);
    value.map(sensitive).ok_or(ConfigError::InvalidTokenId)
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.proof {
            Proof::Signature(_) => "Signed",
            Proof::Secret(_) => "Plain",
        };
        f.debug_struct("Credentials")
            .field("proof", &format_args!("{name}"))
            .finish_non_exhaustive()
    }
}

/// The values of the headers that authenticate a request.
pub(crate) struct Confidential(Vec<HeaderValue>);

impl Confidential {
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.0.iter().filter_map(|value| value.to_str().ok()).any(|value| text.contains(value))
    }
}
