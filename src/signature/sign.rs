use super::{Algorithm, Digest, Secret};

/// Signs a body the way Inqud does, with HMAC-SHA1.
///
/// Use it in tests of your handler. The result converts into a header value:
///
/// ```
/// use http::Request;
/// use tower_inqud::{Secret, contract, sign};
///
/// let secret = Secret::new("secret_value")?;
/// let body = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;
/// let request = Request::post("/webhooks/inqud/request")
///     .header(contract::DIGEST_HEADER, sign(&secret, body.as_bytes()))
///     .body(body)?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn sign(secret: &Secret, body: &[u8]) -> Digest {
    Algorithm::HmacSha1.sign(secret, body)
}

impl Algorithm {
    /// Signs `body` with this algorithm.
    ///
    /// To sign like Inqud, [`sign`](super::sign) is shorter.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_inqud::{Algorithm, Secret};
    ///
    /// let secret = Secret::new("secret_value")?;
    /// let digest = Algorithm::HmacSha256.sign(&secret, b"{}");
    /// assert_eq!(digest.to_string().len(), 64);
    /// # Ok::<_, tower_inqud::ConfigError>(())
    /// ```
    #[must_use]
    pub fn sign(self, secret: &Secret, body: &[u8]) -> Digest {
        let mut mac = secret.mac(self);
        mac.update(body);
        mac.finalize()
    }
}
