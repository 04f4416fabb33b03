//! The API and a receiver behind HTTP, and clients for them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::post_service;
use http::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use inqud_api::{ApiClient, ApiClientBuilder, Credentials, RequestBody};
use inqud_inbox::{Inbox, Storable, Store};
use inqud_mock::{MockApi, MockInqud};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tower::ServiceBuilder;
use tower_inqud::{Secret, WebhookLayer};

pub(crate) const SECRET: &str = "whsec-kiln-and-clay";
pub(crate) const TOKEN_ID: &str = "TKN-of-a-test";
pub(crate) const TOKEN_SECRET: &str = "dBajIp3wHnw5euxohPiZvsCEorG3Fhl9";

pub(crate) fn api() -> MockApi {
    MockApi::new(TOKEN_ID, TOKEN_SECRET).unwrap()
}

pub(crate) fn http<B>() -> Client<HttpConnector, B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

/// Serves an API. Returns its base URL, and when it is asked.
pub(crate) async fn serve(api: &MockApi) -> (String, Arc<Mutex<Vec<Instant>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&asked);
    let record = move |request: Request<_>| {
        its.lock().unwrap().push(Instant::now());
        request
    };
    let service = ServiceBuilder::new().map_request(record).service(api.clone());
    (listen(Router::new().fallback_service(service)).await, asked)
}

/// Serves receivers of these paths. Returns the base URL.
pub(crate) async fn listen(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

pub(crate) fn receiver<S: Store, T: Storable>(inbox: &Inbox<S>, path: &str) -> Router {
    let webhooks = WebhookLayer::<T>::new(Secret::new(SECRET).unwrap());
    Router::new().route(path, post_service(inbox.receiver::<T>()).layer(webhooks))
}

pub(crate) fn inqud(url: &str) -> MockInqud {
    MockInqud::new(Secret::new(SECRET).unwrap(), url.parse().unwrap())
}

pub(crate) type Http = Client<HttpConnector, RequestBody>;

/// A client that is not limited to one request in a second.
pub(crate) fn fast(url: &str) -> ApiClientBuilder {
    let credentials = Credentials::signed(TOKEN_ID, TOKEN_SECRET).unwrap();
    ApiClient::builder(credentials).base_url(url).rate_limit(1_000, Duration::from_secs(1))
}
