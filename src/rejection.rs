use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use crate::{Diagnosis, EventKind};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The reason why a call was rejected.
///
/// Every rejection is a response, never an error of the service. The extensions of that response
/// always contain a `Rejection`, even if a [builder](crate::WebhookLayer::rejection_response) made
/// the response. An outer layer can read it there:
///
/// ```
/// use http::Response;
/// use tower_inqud::{Rejection, RejectionKind};
///
/// fn was_forged<B>(response: &Response<B>) -> bool {
///     let rejection = response.extensions().get::<Rejection>();
///     rejection.is_some_and(|it| it.kind() == RejectionKind::DigestMismatch)
/// }
/// ```
///
/// `Display` writes the fixed text of the [kind](RejectionKind), which is also the text that the
/// sender gets. For [`WrongKind`](RejectionKind::WrongKind) it appends both kinds, which the sender
/// does not get. The [path](Self::field_path) of a bad field, the [diagnosis](Self::diagnosis) of a
/// wrong digest and the [source](Error::source) are for the log only. The source may quote values
/// of the body.
#[derive(Clone, Debug)]
pub struct Rejection {
    kind: RejectionKind,
    diagnosis: Option<Diagnosis>,
    detail: Option<Arc<Detail>>,
}

#[derive(Debug)]
struct Detail {
    field_path: Option<String>,
    source: BoxError,
}

impl Rejection {
    pub(crate) fn new(kind: RejectionKind) -> Self {
        Self { kind, diagnosis: None, detail: None }
    }

    pub(crate) fn caused_by(kind: RejectionKind, source: impl Into<BoxError>) -> Self {
        let detail = Detail { field_path: None, source: source.into() };
        Self { kind, diagnosis: None, detail: Some(Arc::new(detail)) }
    }

    pub(crate) fn at_field(kind: RejectionKind, path: String, source: impl Into<BoxError>) -> Self {
        let detail = Detail { field_path: Some(path), source: source.into() };
        Self { kind, diagnosis: None, detail: Some(Arc::new(detail)) }
    }

    pub(crate) fn diagnosed(mut self, diagnosis: Option<Diagnosis>) -> Self {
        self.diagnosis = diagnosis;
        self
    }

    /// The kind of the rejection.
    #[must_use]
    pub fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// The status of the response, unless a [builder](crate::WebhookLayer::rejection_response)
    /// chose another.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// The likely cause of a wrong digest, such as a mistake in the secret or a layer that changes
    /// the body.
    ///
    /// It is for the log only. At most one mismatch in 10 s is diagnosed; see
    /// [`Verifier::diagnose`](crate::Verifier::diagnose).
    #[must_use]
    pub fn diagnosis(&self) -> Option<Diagnosis> {
        self.diagnosis
    }

    /// The path of the field that could not be decoded, such as `payment.amount`.
    ///
    /// `None` unless the kind is [`UnexpectedShape`](RejectionKind::UnexpectedShape) or
    /// [`NotJson`](RejectionKind::NotJson) and a single field is the cause.
    #[must_use]
    pub fn field_path(&self) -> Option<&str> {
        self.detail.as_ref()?.field_path.as_deref()
    }

    /// The default response, with the status, headers and text of the kind.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from_static(self.kind.text().as_bytes()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self.status() {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Payload-Digest realm=\"webhook\"");
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            _ => {}
        }
        response
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.text())?;
        match self.kind {
            RejectionKind::WrongKind { expected, found } => {
                write!(f, ": expected a `{expected}`, found a `{found}`")
            }
            _ => Ok(()),
        }
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.detail.as_ref()?.source)
    }
}

/// The kind of a [`Rejection`]. The variants are in the order in which the layer checks them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RejectionKind {
    /// 405: the method is not `POST`. The body was not read.
    MethodNotAllowed,
    /// 403: [`WebhookLayer::allow_source`](crate::WebhookLayer::allow_source) does not allow the
    /// source. The body was not read.
    SourceNotAllowed,
    /// 404: [`WebhookLayer::per_tenant`](crate::WebhookLayer::per_tenant) knows no verifier for the
    /// request. The body was not read.
    UnknownTenant,
    /// 401: there is no digest header. The body was not read.
    DigestMissing,
    /// 401: there is more than one digest header, even if they are equal. The body was not read.
    DigestDuplicated,
    /// 401: the digest is not exactly as many hexadecimal digits as the algorithm has. The body was
    /// not read.
    DigestMalformed,
    /// 413: the body is larger than [`WebhookLayer::body_limit`](crate::WebhookLayer::body_limit).
    /// It was not read if its `Content-Length` said so; otherwise it was read up to the limit.
    BodyTooLarge,
    /// 415: there is a `Content-Encoding` other than `identity`. The digest covers the bytes as
    /// sent. The body was not read.
    EncodingNotSupported,
    /// 408: the body did not arrive completely within
    /// [`WebhookLayer::body_timeout`](crate::WebhookLayer::body_timeout).
    BodyTimeout,
    /// 400: the connection broke, the framing of the body is wrong, or an outer layer aborted the
    /// body, such as one with a limit of its own.
    BodyUnreadable,
    /// 401: the digest belongs to another body, or was made with another secret.
    DigestMismatch,
    /// 400: an authentic body is not one JSON text in UTF-8, or the event type cannot hold its
    /// text. The latter is a lone surrogate in a field that is kept, a number that is too large for
    /// an `f64`, or arrays nested a hundred deep in a `serde_json::Value`.
    NotJson,
    /// 422: an authentic object is of another known kind than the event type, by the prefix of its
    /// id. The URL is probably set for another of Inqud's webhooks too. See [the
    /// guide](crate::guide::mismatch#the-object-is-of-another-kind).
    WrongKind {
        /// The kind that the layer expects.
        expected: EventKind,
        /// The kind of the object.
        found: EventKind,
    },
    /// 422: authentic JSON is not an object, or not one that can be decoded into the event type.
    UnexpectedShape,
}

impl RejectionKind {
    /// The status of the response to this kind.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::SourceNotAllowed => StatusCode::FORBIDDEN,
            Self::UnknownTenant => StatusCode::NOT_FOUND,
            Self::DigestMissing
            | Self::DigestDuplicated
            | Self::DigestMalformed
            | Self::DigestMismatch => StatusCode::UNAUTHORIZED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::EncodingNotSupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyUnreadable | Self::NotJson => StatusCode::BAD_REQUEST,
            Self::WrongKind { .. } | Self::UnexpectedShape => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// The name of this kind in logs and metrics, such as `digest_mismatch`. It is stable between
    /// versions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "method_not_allowed",
            Self::SourceNotAllowed => "source_not_allowed",
            Self::UnknownTenant => "unknown_tenant",
            Self::DigestMissing => "digest_missing",
            Self::DigestDuplicated => "digest_duplicated",
            Self::DigestMalformed => "digest_malformed",
            Self::BodyTooLarge => "body_too_large",
            Self::EncodingNotSupported => "encoding_not_supported",
            Self::BodyTimeout => "body_timeout",
            Self::BodyUnreadable => "body_unreadable",
            Self::DigestMismatch => "digest_mismatch",
            Self::NotJson => "not_json",
            Self::WrongKind { .. } => "wrong_kind",
            Self::UnexpectedShape => "unexpected_shape",
        }
    }

    /// The text that the sender gets. It is fixed for each kind and contains nothing of the
    /// request.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "webhooks must be sent with POST",
            Self::SourceNotAllowed => "webhooks are not accepted from this source",
            Self::UnknownTenant => "no webhooks are expected here",
            Self::DigestMissing => "the digest header is missing",
            Self::DigestDuplicated => "there is more than one digest header",
            Self::DigestMalformed => "the digest is not a hexadecimal HMAC",
            Self::BodyTooLarge => "the body is too large",
            Self::EncodingNotSupported => "the body must not be encoded",
            Self::BodyTimeout => "the body took too long to arrive",
            Self::BodyUnreadable => "the body could not be read",
            Self::DigestMismatch => "the digest does not match the body",
            Self::NotJson => "the body is not JSON",
            Self::WrongKind { .. } => "the object is of another kind",
            Self::UnexpectedShape => "the JSON is not the expected object",
        }
    }
}
