//! The extractors, and [`Ack`] as a response (feature `axum`).

use std::any::type_name;
use std::error::Error;
use std::fmt;

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::webhook::{Undecodable, Unverified};
use crate::{Ack, Rejection, Webhook};

/// The error of a handler that extracts a webhook without a layer that makes one.
///
/// Its response is a 500 whose text names the layer to add. This is a mistake in the program, not
/// in the request.
#[derive(Clone, Debug)]
pub struct MissingLayer {
    event: &'static str,
    constructor: &'static str,
}

impl fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, constructor } = self;
        write!(
            f,
            "the request has no webhook of type `{event}`. Perhaps you forgot the layer, or it decodes \
             another type? Add `.layer({constructor})` to this route"
        )
    }
}

impl Error for MissingLayer {}

impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// The rejection of the extractors [`Webhook<T>`](Webhook) and [`Unverified<T>`](Unverified).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WebhookRejection {
    /// No layer in front of the handler makes the webhook.
    MissingLayer(MissingLayer),
    /// The body could not be decoded, and the layer forwards such bodies. The response is the one
    /// that the layer gives without that setting, with the [`Rejection`] in its extensions.
    Undecodable(Rejection),
}

impl fmt::Display for WebhookRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingLayer(missing) => missing.fmt(f),
            Self::Undecodable(rejection) => rejection.fmt(f),
        }
    }
}

impl Error for WebhookRejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::MissingLayer(missing) => missing.source(),
            Self::Undecodable(rejection) => rejection.source(),
        }
    }
}

impl IntoResponse for WebhookRejection {
    fn into_response(self) -> Response {
        match self {
            Self::MissingLayer(missing) => missing.into_response(),
            Self::Undecodable(rejection) => {
                let mut response = rejection.response().map(Body::from);
                response.extensions_mut().insert(rejection);
                response
            }
        }
    }
}

macro_rules! extractor {
    ($name:ident, $constructor:literal) => {
        impl<S, T> FromRequestParts<S> for $name<T>
        where
            S: Sync,
            T: Send + Sync + 'static,
        {
            type Rejection = WebhookRejection;

            async fn from_request_parts(
                parts: &mut Parts,
                state: &S,
            ) -> Result<Self, WebhookRejection> {
                let found = <Self as OptionalFromRequestParts<S>>::from_request_parts(parts, state);
                let missing = MissingLayer { event: type_name::<T>(), constructor: $constructor };
                found.await?.ok_or(WebhookRejection::MissingLayer(missing))
            }
        }

        impl<S, T> OptionalFromRequestParts<S> for $name<T>
        where
            S: Sync,
            T: Send + Sync + 'static,
        {
            type Rejection = WebhookRejection;

            async fn from_request_parts(
                parts: &mut Parts,
                _: &S,
            ) -> Result<Option<Self>, WebhookRejection> {
                if let Some(undecodable) = parts.extensions.get::<Undecodable<T>>() {
                    return Err(WebhookRejection::Undecodable(undecodable.rejection().clone()));
                }
                Ok(parts.extensions.get::<Self>().cloned())
            }
        }
    };
}

extractor!(Webhook, "WebhookLayer::new(secret)");
extractor!(Unverified, "danger::unsigned()");

impl IntoResponse for Ack {
    fn into_response(self) -> Response {
        http::Response::<Body>::from(self)
    }
}
