//! No header, secret, salt or signature appears in a log or an error.
#![allow(clippy::unwrap_used, reason = "clippy.toml does not reach the helpers of tests")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use inqud_api::{ApiClient, Credentials, RequestBody};
use inqud_inbox::Fetched;
use inqud_mock::{ApiFault, MockApi};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::log::Log;
use crate::support::{
    TOKEN_ID, TOKEN_SECRET, api_with_payment, fast, http, is_found, later, plain, serve, signed,
};

const NAMES: [&str; 4] =
    ["x-token-api-id", "x-token-api-secret", "x-hmac-sha256-signature", "x-salt"];

/// The values that authenticate a request.
fn values(headers: &HeaderMap) -> Vec<String> {
    let values = NAMES.iter().filter_map(|name| headers.get(*name));
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn log_and_reasons_show_no_credentials() {
    let log = Log::default();
    let _subscriber = tracing::subscriber::set_default(log.subscriber_of_a_thread());
    let sent = Arc::new(Mutex::new(Vec::new()));
    let mut shown = String::new();
    for credentials in [signed(), plain(), Credentials::signed(TOKEN_ID, "wrong").unwrap()] {
        let faults = [
            None,
            Some(ApiFault::server_error()),
            Some(ApiFault::too_many_requests(Duration::from_secs(9))),
            Some(ApiFault::Redirect("http://127.0.0.1:9/".parse().unwrap())),
            Some(ApiFault::Truncated),
            Some(ApiFault::Hang),
            Some(ApiFault::NotJson),
            Some(ApiFault::WrongId),
        ];
        for fault in faults {
            let (api, id) = api_with_payment();
            let url = serve(&api).await;
            if let Some(fault) = fault {
                api.fault(fault);
            }
            let kept = Arc::clone(&sent);
            let record = move |request: Request<RequestBody>| {
                // As a careless layer would.
                tracing::trace!(headers = ?request.headers(), "sends");
                kept.lock().unwrap().extend(values(request.headers()));
                request
            };
            let service = ServiceBuilder::new().map_request(record).service(http());
            let builder = fast(credentials.clone(), &url).timeout(Duration::from_millis(200));
            shown.push_str(&format!("{builder:?} {:#?} ", credentials));
            let client = builder.build(service).unwrap();
            shown.push_str(&format!(
                "{client:?} {:?} {:?}\n",
                client.get(&id).await,
                client.get(&id).await
            ));
        }
    }
    let text = log.text();
    // The log is complete: it has the events of the client and the careless layer's.
    assert!(text.contains("response of Inqud's API") && text.contains("requests pause"), "{text}");
    assert!(text.contains("x-hmac-sha256-signature\": Sensitive"), "{text}");
    let mut hidden = sent.lock().unwrap().clone();
    assert!(hidden.len() > 3 * 8 * 2, "{}", hidden.len());
    hidden.push(TOKEN_SECRET.to_owned());
    for value in hidden {
        assert!(!text.contains(&value), "the log shows {value}");
        assert!(!shown.contains(&value), "{shown} shows {value}");
    }
}

#[tokio::test]
async fn error_of_the_service_with_a_header_in_it_is_withheld() {
    for credentials in [signed(), plain()] {
        for name in NAMES {
            let service = service_fn(move |request: Request<RequestBody>| async move {
                let value = request.headers().get(name).and_then(|value| value.to_str().ok());
                Err::<Response<String>, _>(format!("cannot send {}", value.unwrap_or("this")))
            });
            let client = fast(credentials.clone(), "https://api.test").build(service).unwrap();
            let (_, reason) = later(client.get("PMT-1").await);
            let withheld = "the request failed, with an error that shows one of its headers";
            assert!(reason == withheld || reason.ends_with("cannot send this"), "{reason}");
        }
    }
}

#[tokio::test]
async fn long_error_with_controls_is_cut_to_one_line() {
    let service = service_fn(async |_: Request<RequestBody>| {
        Err::<Response<String>, _>(format!("\u{1b}[31m\n{}", "x".repeat(10_000)))
    });
    let client = fast(signed(), "https://api.test").build(service).unwrap();
    let (_, reason) = later(client.get("PMT-1").await);
    assert!(reason.len() < 300 && !reason.chars().any(char::is_control), "{reason}");
}

#[tokio::test]
async fn each_request_has_a_new_salt_and_its_signature() {
    let headers = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&headers);
    let (api, id) = api_with_payment();
    let record = move |request: Request<RequestBody>| {
        kept.lock().unwrap().push(request.headers().clone());
        request
    };
    let service = ServiceBuilder::new().map_request(record).service(api.clone());
    let clients =
        [(); 2].map(|()| fast(signed(), "https://api.test").build(service.clone()).unwrap());
    for client in &clients {
        for _ in 0..200 {
            assert!(is_found(&client.get(&id).await));
        }
    }
    let headers = headers.lock().unwrap();
    let of =
        |name: &str| headers.iter().map(|it| it[name].as_bytes()).collect::<HashSet<_>>().len();
    assert_eq!((of("x-salt"), of("x-hmac-sha256-signature"), of("x-token-api-id")), (400, 400, 1));
    assert!(
        headers.iter().all(|it| it["x-salt"].len() == 64 && !it.contains_key("x-token-api-secret"))
    );
    assert!(
        headers
            .iter()
            .flatten()
            .all(|(name, value)| { value.is_sensitive() == NAMES.contains(&name.as_str()) })
    );
}

#[tokio::test]
async fn plain_credentials_send_the_secret_and_no_signature() {
    let service = service_fn(async |request: Request<RequestBody>| {
        let names = NAMES.map(|name| request.headers().contains_key(name));
        assert_eq!(names, [true, true, false, false]);
        assert_eq!(request.headers()["x-token-api-secret"], TOKEN_SECRET);
        assert_eq!(request.headers()["x-token-api-id"], TOKEN_ID);
        Ok::<_, std::convert::Infallible>(Response::new(String::new()))
    });
    later(fast(plain(), "https://api.test").build(service).unwrap().get("PMT-1").await);
}

#[tokio::test]
async fn signature_is_that_of_inquds_example() {
    // The token and the salt of Inqud's documentation, whose code computes this signature.
    let token = [
        "TKN-6c1296b8-6929-443b-ac06-f732e0e27be1",
        "dBajIp3wHnw5euxohPiZvsCEorG3Fhl9gsHl1UIBlsImHjWRdSJdp4Gh6e3y2PNs",
    ];
    let mut api = MockApi::new(token[0], token[1]).unwrap();
    let request = Request::get("/v1/user/payments/PMT-1")
        .header("X-Token-API-Id", token[0])
        .header("X-Salt", "someSalt")
        .header(
            "X-HMAC-SHA256-Signature",
            "302bca67ff3a72823fcd94e72fdf2fef121b8009c0c4c629722456bb2c53ffdd",
        )
        .body(())
        .unwrap();
    let response = ServiceExt::<Request<()>>::ready(&mut api).await.unwrap().call(request).await;
    assert_eq!(response.unwrap().status(), 404, "authentic, and there is no such payment");

    let credentials = Credentials::signed(token[0], token[1]).unwrap();
    let client = ApiClient::builder(credentials).build(api.clone()).unwrap();
    assert_eq!(client.get("PMT-1").await, Fetched::Missing);
    assert_eq!((api.requests(), api.refused()), (2, 0));
}
