//! Fetches one object from Inqud's API, and prints it.
//!
//! `INQUD_API_ID=TKN-... INQUD_API_SECRET=... cargo run -p inqud-api --example fetch -- PMT-...`
//!
//! `INQUD_API_URL` replaces the base URL, for example by that of a mock.
#![allow(clippy::print_stdout, reason = "a command")]

use std::env;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use inqud_api::{ApiClient, Credentials};
use inqud_inbox::Fetched;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let id = env::args().nth(1).ok_or("usage: fetch ID")?;
    let credentials =
        Credentials::signed(env::var("INQUD_API_ID")?, env::var("INQUD_API_SECRET")?)?;

    let tls =
        HttpsConnectorBuilder::new().with_native_roots()?.https_or_http().enable_http1().build();
    let http = Client::builder(TokioExecutor::new()).build(tls);
    let mut builder = ApiClient::builder(credentials);
    if let Ok(url) = env::var("INQUD_API_URL") {
        builder = builder.base_url(url);
    }

    match builder.build(http)?.get(&id).await {
        Fetched::Found(body) => println!("{}", String::from_utf8_lossy(&body)),
        Fetched::Missing => return Err(format!("Inqud's API has no object {id}").into()),
        Fetched::Later { reason, .. } => return Err(reason.into()),
        _ => return Err("an unknown result".into()),
    }
    Ok(())
}
