//! The configuration that all calls of a layer share.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Response, Uri};

use crate::rejection::{Rejection, RejectionKind};
use crate::signature::Verifier;
use crate::{EventKind, contract, telemetry};

#[derive(Clone)]
pub(super) struct Config {
    pub(super) trust: Trust,
    /// Empty if the layer handles every path.
    pub(super) paths: Vec<PathAndQuery>,
    pub(super) body_limit: usize,
    pub(super) body_timeout: Duration,
    /// Set once Tokio's timers, which the timeout needs, are known to be enabled.
    pub(super) timers: OnceLock<()>,
    /// Checked only if `T` is not one of the crate's own types, which check theirs themselves.
    pub(super) kind: Option<EventKind>,
    pub(super) forwards_undecodable: bool,
    pub(super) source: Option<Arc<SourceFn>>,
    pub(super) on_rejection: Option<Arc<ObserverFn>>,
    pub(super) rejection_response: Option<Arc<ResponseFn>>,
}

#[derive(Clone)]
pub(crate) enum Trust {
    Signed(Verifier),
    /// The verifier depends on the request head.
    PerTenant(Arc<TenantFn>),
    Unsigned,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(verifier) => f.debug_tuple("Signed").field(verifier).finish(),
            Self::PerTenant(_) => f.write_str("PerTenant"),
            Self::Unsigned => f.write_str("Unsigned"),
        }
    }
}

pub(crate) type TenantFn = dyn Fn(&Parts) -> Option<Verifier> + Send + Sync;
type SourceFn = dyn Fn(&Parts) -> bool + Send + Sync;
type ObserverFn = dyn Fn(&Rejection, &Parts) + Send + Sync;
type ResponseFn = dyn Fn(&Rejection) -> Response<Bytes> + Send + Sync;

impl Config {
    /// Whether requests to this URI are webhooks.
    pub(super) fn matches(&self, uri: &Uri) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|path| path.path() == uri.path())
    }

    /// Returns the verifier of a call. `of_tenant` is the one that was chosen for it.
    pub(super) fn verifier<'v>(&'v self, of_tenant: Option<&'v Verifier>) -> Option<&'v Verifier> {
        match &self.trust {
            Trust::Signed(verifier) => Some(verifier),
            Trust::PerTenant(_) => of_tenant,
            Trust::Unsigned => None,
        }
    }

    /// Calls the merchant's function. The digest is hidden from it.
    pub(super) fn choose_verifier(&self, request: &mut Parts) -> Option<Verifier> {
        let Trust::PerTenant(choose) = &self.trust else { return None };
        for (name, value) in &mut request.headers {
            if *name == contract::DIGEST_HEADER {
                value.set_sensitive(true);
            }
        }
        choose(request)
    }

    pub(super) fn check_source(&self, request: &Parts) -> Result<(), Rejection> {
        match &self.source {
            Some(is_source) if !is_source(request) => {
                Err(Rejection::new(RejectionKind::SourceNotAllowed))
            }
            _ => Ok(()),
        }
    }

    /// Creates a timer once, so that a runtime without timers shows at the first call instead of at
    /// the first slow one.
    ///
    /// # Panics
    ///
    /// Panics without a Tokio runtime that has its timers enabled.
    pub(super) fn require_timers(&self) {
        self.timers.get_or_init(|| drop(tokio::time::sleep(self.body_timeout)));
    }

    /// Builds the response of every rejected call.
    #[cold]
    pub(super) fn refuse(
        &self,
        rejection: Rejection,
        request: &Parts,
        verifier: Option<&Verifier>,
        telemetry: &mut telemetry::Call,
    ) -> Response<Bytes> {
        let rejection = match self.verifier(verifier) {
            Some(verifier) => verifier.explain(rejection, request),
            None => rejection,
        };
        telemetry.refused(&rejection);
        if let Some(observe) = &self.on_rejection {
            observe(&rejection, request);
        }
        let mut response = match &self.rejection_response {
            Some(build) => build(&rejection),
            None => rejection.response(),
        };
        if response.status().is_success() {
            *response.status_mut() = rejection.status();
        }
        response.extensions_mut().insert(rejection);
        response
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("trust", &self.trust)
            .field("paths", &self.paths)
            .field("body_limit", &self.body_limit)
            .field("body_timeout", &self.body_timeout)
            .field("kind", &self.kind)
            .field("forwards_undecodable", &self.forwards_undecodable)
            .field("source", &self.source.is_some())
            .field("on_rejection", &self.on_rejection.is_some())
            .field("rejection_response", &self.rejection_response.is_some())
            .finish()
    }
}
