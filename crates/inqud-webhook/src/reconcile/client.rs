use std::env;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use inqud_api::{ApiClient, ApiClientBuilder, ConfigError, Credentials};
use inqud_inbox::{Fetch, Fetched};
use tokio::sync::watch;
use tower_inqud::EventKind;
use zeroize::Zeroizing;

use crate::chain::BoxError;
use crate::secret;

const URL: &str = "INQUD_API_URL";
const ID: &str = "INQUD_API_ID";
const SECRET: &str = "INQUD_API_SECRET";

/// The kinds of which the client knows the paths.
const WITH_PATH: [EventKind; 2] = [EventKind::Payment, EventKind::Request];

const KINDS: [EventKind; 8] = [
    EventKind::Authorization,
    EventKind::Checkout,
    EventKind::Invoice,
    EventKind::OnRampCheckout,
    EventKind::Other,
    EventKind::Payment,
    EventKind::Request,
    EventKind::Subscription,
];

const MINUTE: Duration = Duration::from_secs(60);

/// How long a request may take once it is sent.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach Inqud's API.
#[derive(Args)]
pub(super) struct ClientArgs {
    /// The base URL of the API [default: INQUD_API_URL, or api.inqud.com].
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// Reads the id of the API token from this file instead of INQUD_API_ID. A newline at its end is ignored.
    #[arg(long, value_name = "FILE")]
    api_id_file: Option<PathBuf>,
    /// Reads the secret of the API token from this file instead of INQUD_API_SECRET. A newline at its end is ignored.
    #[arg(long, value_name = "FILE")]
    api_secret_file: Option<PathBuf>,
    /// How a request proves who sends it: by a signature, or by the secret itself.
    #[arg(long, value_enum, default_value = "signature")]
    prove_by: Proof,
    /// The path of a kind in the API, such as `checkout=/v1/user/crypto-acquiring/CAP-1/checkouts/{id}`. The kind is
    /// that of the id's prefix, and `other` without a known prefix. Can be repeated.
    #[arg(long, value_name = "KIND=TEMPLATE", value_parser = path)]
    path: Vec<(EventKind, String)>,
    /// Maximum number of requests per minute.
    #[arg(long, value_name = "N", default_value = "60", value_parser = clap::value_parser!(u32).range(1..=6000))]
    per_minute: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Proof {
    Signature,
    Secret,
}

fn path(text: &str) -> Result<(EventKind, String), String> {
    let (kind, path) = text.split_once('=').ok_or("must be KIND=TEMPLATE")?;
    let names = || KINDS.map(EventKind::as_str).join(", ");
    let kind = KINDS.into_iter().find(|known| known.as_str() == kind);
    Ok((kind.ok_or_else(|| format!("unknown kind: must be one of {}", names()))?, path.to_owned()))
}

impl ClientArgs {
    /// Whether the path of ids with the prefix of this kind is known.
    pub(super) fn has_path(&self, kind: EventKind) -> bool {
        WITH_PATH.contains(&kind) || self.path.iter().any(|(known, _)| *known == kind)
    }

    pub(super) fn build(&self) -> Result<Client, BoxError> {
        let id = read(ID, "--api-id-file", self.api_id_file.as_deref())?;
        let id = std::str::from_utf8(&id).map_err(|_| ConfigError::InvalidTokenId)?;
        let secret = read(SECRET, "--api-secret-file", self.api_secret_file.as_deref())?.to_vec();
        let credentials = match self.prove_by {
            Proof::Signature => Credentials::signed(id, secret),
            Proof::Secret => Credentials::plain(id, secret),
        }?;
        let interval = MINUTE.checked_div(self.per_minute).unwrap_or(MINUTE);
        let per_hour = usize::try_from(self.per_minute)?.saturating_mul(60);
        let mut builder = ApiClient::builder(credentials)
            .rate_limit(1, interval)
            .max_wait(interval.saturating_mul(2))
            .max_per_hour(per_hour)
            .timeout(TIMEOUT);
        for (kind, path) in &self.path {
            builder = builder.path(*kind, path);
        }
        let url = self.api_url.clone().or_else(|| env::var(URL).ok());
        let is_plain = url.as_ref().is_some_and(|url| has_scheme(url, "http://"));
        if let Some(url) = url {
            builder = builder.base_url(url);
        }
        let get = if is_plain { over_http(builder) } else { over_https(builder) }?;
        let stop = watch::Sender::new(false);
        Ok(Client {
            shared: Arc::new(Shared { get, pause: Mutex::default(), stop }),
            timeout: interval.saturating_mul(2).saturating_add(TIMEOUT.saturating_mul(2)),
        })
    }
}

fn has_scheme(url: &str, scheme: &str) -> bool {
    url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn read(variable: &str, option: &str, file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, BoxError> {
    match file {
        Some(file) => secret::line(file)
            .map_err(|error| format!("{option} {}: {error}", file.display()).into()),
        None => match env::var(variable) {
            Ok(value) => Ok(Zeroizing::new(value.into_bytes())),
            Err(_) => Err(format!("no API token given: set {variable}, or pass {option}").into()),
        },
    }
}

fn over_http(builder: ApiClientBuilder) -> Result<Get, BoxError> {
    let http = legacy::Client::builder(TokioExecutor::new()).build_http();
    let client = builder.build(http).map_err(|error| match error {
        // The command has no switch that allows it.
        ConfigError::Unencrypted(host) => format!(
            "the API's URL of {host:?} is unencrypted, and a signature that is seen may authorise any request: use https"
        ),
        error => error.to_string(),
    })?;
    Ok(Box::new(move |id| {
        let client = client.clone();
        Box::pin(async move { client.get(&id).await })
    }))
}

fn over_https(builder: ApiClientBuilder) -> Result<Get, BoxError> {
    // Trusts the system's root certificates, or those in SSL_CERT_FILE.
    let connector = HttpsConnectorBuilder::new().with_native_roots()?;
    let connector = connector.https_only().enable_http1().build();
    let client = builder.build(legacy::Client::builder(TokioExecutor::new()).build(connector))?;
    Ok(Box::new(move |id| {
        let client = client.clone();
        Box::pin(async move { client.get(&id).await })
    }))
}

/// A client over any connector.
type Get = Box<dyn Fn(String) -> Pin<Box<dyn Future<Output = Fetched> + Send>> + Send + Sync>;

pub(super) struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
}

pub(super) struct Shared {
    get: Get,
    /// For how long the API asked to be left alone by its last answer.
    pause: Mutex<Option<Duration>>,
    stop: watch::Sender<bool>,
}

impl Client {
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The longest time that a fetch takes, with the wait for the rate limit.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn take_pause(&self) -> Option<Duration> {
        self.shared.pause.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Makes fetches end without an answer, if `true` is sent.
    pub(super) fn stop(&self) -> watch::Sender<bool> {
        self.shared.stop.clone()
    }

    pub(super) fn was_stopped(&self) -> bool {
        *self.shared.stop.borrow()
    }

    pub(super) async fn stopped(&self) {
        self.shared.stopped().await;
    }
}

impl Shared {
    async fn stopped(&self) {
        // The sender is a field, so it is there.
        _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

impl<T> Fetch<T> for Shared {
    async fn fetch(&self, id: &str) -> Fetched {
        let fetched = tokio::select! {
            fetched = (self.get)(id.to_owned()) => fetched,
            () = self.stopped() => Fetched::Later { after: None, reason: "interrupted".to_owned() },
        };
        let pause = match &fetched {
            Fetched::Later { after, .. } => *after,
            _ => None,
        };
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = pause;
        fetched
    }
}
