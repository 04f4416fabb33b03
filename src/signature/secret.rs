use std::fmt;
use std::sync::Arc;

use sha1::Sha1;
use sha2::{Sha256, Sha512};
use zeroize::{Zeroize, Zeroizing};

use super::Algorithm;
use super::current::Current;
use super::diagnoser::Diagnoser;
use super::mac::{Key, Mac};
use crate::ConfigError;

/// A webhook secret, ready to verify with.
///
/// The secret is the text that is set beside the webhook's link in Inqud's back office. Its UTF-8
/// bytes are the key of the HMAC (confirmed).
///
/// `Secret` hashes the key once and does not keep the text. The HMAC states that it keeps are
/// zeroized when dropped and never printed. Cloning is cheap and shares the states.
///
/// # Example
///
/// ```
/// use tower_inqud::{ConfigError, Secret};
///
/// let secret = Secret::new("secret_value")?.label("2026-11");
/// assert_eq!(format!("{secret:?}"), r#"Secret { label: Some("2026-11"), .. }"#);
///
/// // A newline from a file would make every digest wrong.
/// assert_eq!(Secret::new("secret_value\n").unwrap_err(), ConfigError::SurroundingWhitespace);
/// assert_eq!(Secret::new("").unwrap_err(), ConfigError::SecretEmpty);
/// # Ok::<_, ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Secret {
    key: Arc<PreparedKey>,
    label: Option<Arc<str>>,
}

/// The HMAC states after the key, for each algorithm, and those of the usual mistakes.
struct PreparedKey {
    sha1: Key<Sha1>,
    sha256: Key<Sha256>,
    sha512: Key<Sha512>,
    diagnoser: Diagnoser,
}

impl PreparedKey {
    /// Is never inlined, so that its stack frame lies where [`wipe_stack`] wipes.
    #[inline(never)]
    fn new(secret: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            sha1: Key::new(secret),
            sha256: Key::new(secret),
            sha512: Key::new(secret),
            diagnoser: Diagnoser::new(secret),
        })
    }
}

/// Overwrites the stack below its caller, where the key schedules leave copies of the key.
#[inline(never)]
fn wipe_stack() {
    let mut below = [0_u8; 16 * 1024];
    below.zeroize();
    std::hint::black_box(&below);
}

impl Secret {
    /// Creates a secret from text or bytes of any length.
    ///
    /// # Errors
    ///
    /// - [`ConfigError::SecretEmpty`], because anyone can sign with an empty secret.
    /// - [`ConfigError::SecretAllZeros`], because such a secret signs like an empty one.
    /// - [`ConfigError::SurroundingWhitespace`], if there is white space, a byte order mark or a
    ///   NUL at either end, such as a newline from a file. If it belongs to the secret, use
    ///   [`verbatim`](Self::verbatim).
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Self, ConfigError> {
        let secret = Zeroizing::new(secret.into());
        if has_whitespace_around(&secret) {
            return Err(ConfigError::SurroundingWhitespace);
        }
        Self::prepare(&secret)
    }

    /// Creates a secret exactly as given, even with white space around it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::SecretEmpty`] and [`ConfigError::SecretAllZeros`].
    pub fn verbatim(secret: impl Into<Vec<u8>>) -> Result<Self, ConfigError> {
        Self::prepare(&Zeroizing::new(secret.into()))
    }

    fn prepare(secret: &[u8]) -> Result<Self, ConfigError> {
        if secret.is_empty() {
            return Err(ConfigError::SecretEmpty);
        }
        if secret.iter().all(|byte| *byte == 0) {
            return Err(ConfigError::SecretAllZeros);
        }
        Ok(Self::of_key(secret))
    }

    fn of_key(secret: &[u8]) -> Self {
        let key = PreparedKey::new(secret);
        wipe_stack();
        Self { key, label: None }
    }

    /// Sets a label, which is not secret. Defaults to none.
    ///
    /// During a rotation it shows which secret matched, in
    /// [`Webhook::secret_label`](crate::Webhook::secret_label), in logs and in metrics.
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn shared_label(&self) -> Option<&Arc<str>> {
        self.label.as_ref()
    }

    pub(super) fn diagnoser(&self) -> &Diagnoser {
        &self.key.diagnoser
    }

    pub(super) fn mac(&self, algorithm: Algorithm) -> Mac {
        match algorithm {
            Algorithm::HmacSha1 => self.key.sha1.sha1(),
            Algorithm::HmacSha256 => self.key.sha256.sha256(),
            Algorithm::HmacSha512 => self.key.sha512.sha512(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("label", &self.label).finish_non_exhaustive()
    }
}

fn has_whitespace_around(secret: &[u8]) -> bool {
    match std::str::from_utf8(secret) {
        Ok(text) => {
            text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\0') != text
        }
        Err(_) => secret.trim_ascii().len() != secret.len(),
    }
}

/// A list of accepted secrets that can be replaced while the server runs.
///
/// It always contains at least one secret. A clone is a handle to the same list. Keep one handle
/// and pass another to the layer:
///
/// ```
/// use tower_inqud::{PaymentRequest, Secret, Secrets, WebhookLayer};
///
/// let secrets = Secrets::new([
///     Secret::new("the new one")?.label("2026-11"),
///     Secret::new("the old one")?.label("2026-05"),
/// ])?;
/// let layer = WebhookLayer::<PaymentRequest>::new(secrets.clone());
///
/// // Later, when no webhook matches "2026-05" anymore:
/// secrets.replace([Secret::new("the new one")?.label("2026-11")])?;
/// # Ok::<_, tower_inqud::ConfigError>(())
/// ```
///
/// The first secret is tried while the body arrives. Each further one costs another pass over the
/// body, but only if the secrets before it do not match. Put the secret in use first.
#[derive(Clone)]
pub struct Secrets {
    current: Arc<Current<Arc<[Secret]>>>,
}

impl Secrets {
    /// Creates a list that accepts any of these secrets.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoSecrets`] if `secrets` is empty.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Result<Self, ConfigError> {
        Ok(Self { current: Arc::new(Current::new(at_least_one(secrets)?)) })
    }

    /// Replaces the secrets for every handle and layer.
    ///
    /// A call in flight is verified against the secrets from when it began, so a replacement loses
    /// no call.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoSecrets`] if `secrets` is empty. The previous secrets then stay in use.
    pub fn replace(&self, secrets: impl IntoIterator<Item = Secret>) -> Result<(), ConfigError> {
        self.current.replace(at_least_one(secrets)?);
        Ok(())
    }

    pub(super) fn snapshot(&self) -> Arc<[Secret]> {
        self.current.snapshot()
    }
}

fn at_least_one(secrets: impl IntoIterator<Item = Secret>) -> Result<Arc<[Secret]>, ConfigError> {
    let secrets: Arc<[Secret]> = secrets.into_iter().collect();
    if secrets.is_empty() { Err(ConfigError::NoSecrets) } else { Ok(secrets) }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.snapshot().iter()).finish()
    }
}

impl From<Secret> for Secrets {
    fn from(secret: Secret) -> Self {
        Self { current: Arc::new(Current::new(Arc::from([secret]))) }
    }
}
