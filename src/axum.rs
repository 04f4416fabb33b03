//! Extractors, and [`Ack`] as a response (feature `axum`).

use std::any::type_name;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::danger::Unverified;
use crate::{Ack, Webhook};

/// The handler asks for a web hook, but no layer in front of it makes one: 500, and a text that says
/// which to add.
///
/// This is a mistake in the program, not in the request.
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
            "no web hook of type `{event}` came with the request. Perhaps you forgot the layer, or \
             it decodes another type? Add `.layer({constructor})` to this route"
        )
    }
}

impl Error for MissingLayer {}

impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

macro_rules! extractor {
    ($name:ident, $constructor:literal) => {
        impl<S, T> FromRequestParts<S> for $name<T>
        where
            S: Sync,
            T: Send + Sync + 'static,
        {
            type Rejection = MissingLayer;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
                let missing = MissingLayer { event: type_name::<T>(), constructor: $constructor };
                parts.extensions.get::<Self>().cloned().ok_or(missing)
            }
        }

        impl<S, T> OptionalFromRequestParts<S> for $name<T>
        where
            S: Sync,
            T: Send + Sync + 'static,
        {
            type Rejection = Infallible;

            async fn from_request_parts(
                parts: &mut Parts,
                _: &S,
            ) -> Result<Option<Self>, Infallible> {
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
