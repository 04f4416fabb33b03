//! A served mock of the API, and clients for it.
#![allow(clippy::unwrap_used, reason = "clippy.toml does not reach the helpers of tests")]

use std::time::Duration;

use axum::Router;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use inqud_api::{ApiClient, ApiClientBuilder, Credentials, RequestBody};
use inqud_inbox::Fetched;
use inqud_mock::{Lifecycle, Message, MockApi, Scenario};
use tokio::net::TcpListener;

pub(crate) const TOKEN_ID: &str = "TKN-of-a-test";
pub(crate) const TOKEN_SECRET: &str = "dBajIp3wHnw5euxohPiZvsCEorG3Fhl9";

pub(crate) type Http = Client<HttpConnector, RequestBody>;

pub(crate) fn http() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

pub(crate) fn signed() -> Credentials {
    Credentials::signed(TOKEN_ID, TOKEN_SECRET).unwrap()
}

pub(crate) fn plain() -> Credentials {
    Credentials::plain(TOKEN_ID, TOKEN_SECRET).unwrap()
}

pub(crate) fn api() -> MockApi {
    MockApi::new(TOKEN_ID, TOKEN_SECRET).unwrap()
}

/// Serves an API on a free port and returns its base URL.
pub(crate) async fn serve(api: &MockApi) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback_service(api.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// A client that is not limited to one request in a second.
pub(crate) fn fast(credentials: Credentials, url: &str) -> ApiClientBuilder {
    ApiClient::builder(credentials)
        .base_url(url)
        .crypto_project("CAP-1")
        .on_ramp_project("ORP-1")
        .rate_limit(1_000, Duration::from_secs(1))
}

/// The last message of a scenario, and the id of its object.
pub(crate) fn last(scenario: Scenario) -> (Message, String) {
    let message = Lifecycle::new(scenario).into_iter().last().unwrap();
    let event: tower_inqud::Event = serde_json::from_slice(message.body()).unwrap();
    let id = tower_inqud::Notification::id(&event).to_owned();
    (message, id)
}

/// An API with a payment, and the id of that payment.
pub(crate) fn api_with_payment() -> (MockApi, String) {
    let api = api();
    let (message, id) = last(Scenario::Payment);
    api.publish(&message);
    (api, id)
}

pub(crate) fn is_found(fetched: &Fetched) -> bool {
    matches!(fetched, Fetched::Found(_))
}

/// The time and the reason of a `Later`.
pub(crate) fn later(fetched: Fetched) -> (Option<Duration>, String) {
    match fetched {
        Fetched::Later { after, reason } => (after, reason),
        other => unreachable!("{other:?}"),
    }
}
