//! Logs and metrics of a call have the documented names, and show no secrets.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

#[path = "support/log.rs"]
mod log;
mod support;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use log::Log;
use metrics_exporter_prometheus::PrometheusBuilder;
use support::{SECRET, SMALL, Script, Step, call, digest, signed, signed_as};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_inqud::{
    Ack, PaymentRequest, Secret, Webhook, WebhookBody, WebhookLayer, contract, danger,
};
use tracing::{Instrument, Level};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;

type Call = Request<Full<Bytes>>;
type Inside = Request<WebhookBody<Full<Bytes>>>;

fn layer() -> WebhookLayer<PaymentRequest> {
    WebhookLayer::new(Secret::new(SECRET).unwrap().label("2026-11"))
}

/// Runs `work` and returns its log and metrics. Other threads have their own.
async fn observe<W>(work: impl FnOnce() -> W) -> (String, String)
where
    W: Future,
{
    let log = Log::default();
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    {
        let _subscriber = tracing::subscriber::set_default(log.subscriber_of_a_thread());
        let _recorder = metrics::set_default_local_recorder(&recorder);
        work().await;
    }
    let log = log.text();
    let metrics = metrics.render();
    for hidden in [SECRET, &digest(SMALL), "CAPD-1"] {
        assert!(!log.contains(hidden) && !metrics.contains(hidden), "{log}{metrics}");
    }
    (log, metrics)
}

async fn answered(status: StatusCode, request: Call) -> (String, String) {
    observe(async || {
        let inner = service_fn(move |_: Inside| async move {
            tracing::info!("in the handler");
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        });
        call(layer().layer(inner), request).await;
    })
    .await
}

/// The line of the log that contains `text`, with its span.
#[track_caller]
fn line<'a>(log: &'a str, text: &str) -> &'a str {
    log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in {log}"))
}

#[track_caller]
fn counted(metrics: &str, outcome: &str, reason: &str, secret: &str) {
    let total = format!(
        "inqud_webhook_requests_total{{outcome=\"{outcome}\",reason=\"{reason}\",secret_label=\"{secret}\"}} 1"
    );
    let duration = format!("inqud_webhook_duration_seconds_count{{outcome=\"{outcome}\"}} 1");
    for expected in [total, duration] {
        assert!(metrics.lines().any(|line| line == expected), "no {expected} in {metrics}");
    }
    let totals = metrics.lines().filter(|line| line.starts_with("inqud_webhook_requests_total{"));
    assert_eq!(totals.count(), 1, "{metrics}");
}

#[tokio::test]
async fn accepted_call_has_a_span_and_is_counted() {
    let (log, metrics) = answered(StatusCode::OK, signed(SMALL)).await;
    let close = line(&log, "close");
    for field in [
        "inqud_webhook{",
        "outcome=\"accepted\"",
        "secret_label=\"2026-11\"",
        "body_bytes=34",
        "elapsed_us=",
        "tower_inqud",
    ] {
        assert!(close.contains(field), "no {field} in {close}");
    }
    assert!(line(&log, "in the handler").contains("inqud_webhook{"));
    assert!(!log.contains("WARN") && !log.contains("changed a 2xx to 200"), "{log}");
    counted(&metrics, "accepted", "", "2026-11");
    assert!(metrics.contains("inqud_webhook_body_bytes_sum 34\n"), "{metrics}");
}

#[tokio::test]
async fn every_metric_is_described() {
    let (_, metrics) = answered(StatusCode::OK, signed(SMALL)).await;
    for help in [
        "# HELP inqud_webhook_requests_total Webhook calls by outcome, reason and label of the secret.",
        "# HELP inqud_webhook_duration_seconds Time from the request head to the response.",
        "# HELP inqud_webhook_body_bytes Sizes of bodies that arrived completely.",
    ] {
        assert!(metrics.contains(help), "{metrics}");
    }
}

#[tokio::test]
async fn logs_a_2xx_that_became_200_at_debug() {
    let (log, metrics) = answered(StatusCode::NO_CONTENT, signed(SMALL)).await;
    let told = line(&log, "changed a 2xx to 200");
    assert!(told.contains("DEBUG") && told.contains("status=204"), "{told}");
    counted(&metrics, "accepted", "", "2026-11");
}

#[tokio::test]
async fn warns_of_a_failed_call_with_its_status() {
    for status in [302, 308, 400, 404, 429, 500, 503] {
        let answer = StatusCode::from_u16(status).unwrap();
        let (log, metrics) = answered(answer, signed(SMALL)).await;
        let told = line(&log, "not acknowledged; Inqud will send it again");
        assert!(told.contains("WARN") && told.contains(&format!("status={status}")), "{told}");
        let end = format!("outcome=\"failed\" reason=\"{status}\"");
        assert!(line(&log, "close").contains(&end), "{log}");
        counted(&metrics, "failed", &status.to_string(), "2026-11");
    }
}

#[tokio::test]
async fn logs_a_discard_with_its_reason() {
    let (log, metrics) = observe(async || {
        let inner = service_fn(async |_: Inside| {
            Ok::<Response<()>, Infallible>(Ack::Discard("unknown order".into()).into())
        });
        call(layer().layer(inner), signed(SMALL)).await;
    })
    .await;
    assert!(line(&log, "discarded a webhook").contains("reason=\"unknown order\""), "{log}");
    counted(&metrics, "accepted", "", "2026-11");
}

#[tokio::test]
async fn warns_of_a_rejection_with_its_reason() {
    let wrong = |header: String| {
        Request::post("/").header(contract::DIGEST_HEADER, header).body(Full::from(SMALL)).unwrap()
    };
    let get = Request::get("/").body(Full::default()).unwrap();
    for (request, reason, shown, secret) in [
        (
            wrong(digest(format!("{SMALL}\n"))),
            "digest_mismatch",
            "diagnosis=\"body_lacks_newline\"",
            "",
        ),
        (wrong(format!("sha1={}", digest("x"))), "digest_malformed", "a prefix", ""),
        (signed(r#"{"id":"1","status":7}"#), "unexpected_shape", "field=\"status\"", "2026-11"),
        (
            signed(r#"{"id":"PMT-1","status":"SUCCESS"}"#),
            "wrong_kind",
            "expected a `request`, found a `payment`",
            "2026-11",
        ),
        (signed("{"), "not_json", "the body is not JSON", "2026-11"),
        (get, "method_not_allowed", "webhooks must be sent with POST", ""),
    ] {
        let (log, metrics) = answered(StatusCode::OK, request).await;
        let told = line(&log, "rejected a webhook");
        assert!(told.contains("WARN") && told.contains(shown), "no {shown} in {told}");
        assert!(told.contains(&format!("reason=\"{reason}\"")), "{told}");
        assert!(line(&log, "close").contains("outcome=\"rejected\""), "{log}");
        counted(&metrics, "rejected", reason, secret);
    }
}

/// A key that the sender has chosen cannot start a new line of the log.
#[tokio::test]
async fn json_key_cannot_inject_a_log_line() {
    type Event = std::collections::HashMap<String, String>;
    let (log, _) = observe(async || {
        let inner = service_fn(async |_: Inside| Ok::<_, Infallible>(Response::new(())));
        let layer = WebhookLayer::<Event>::new(Secret::new(SECRET).unwrap());
        call(layer.layer(inner), signed(r#"{"a\n2026 WARN forged":7}"#)).await;
    })
    .await;
    assert!(line(&log, "rejected a webhook").contains(r"a\n2026 WARN forged"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn warns_of_a_slow_handler() {
    for (seconds, is_late) in [(9, false), (11, true)] {
        let (log, metrics) = observe(async || {
            let inner = service_fn(move |_: Inside| async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Ok::<_, Infallible>(Response::new(()))
            });
            call(layer().layer(inner), signed(SMALL)).await;
        })
        .await;
        let text = "Inqud has given up; expect a duplicate";
        assert_eq!(log.contains(text), is_late, "{log}");
        if is_late {
            assert!(line(&log, text).contains("WARN"), "{log}");
        }
        counted(&metrics, "accepted", if is_late { "late" } else { "" }, "2026-11");
        let sum = format!("inqud_webhook_duration_seconds_sum{{outcome=\"accepted\"}} {seconds}");
        assert!(metrics.contains(&sum), "{metrics}");
    }
}

#[tokio::test]
async fn warns_of_a_dropped_handler() {
    let (log, metrics) = observe(async || {
        let inner = service_fn(|_: Inside| pending::<Result<Response<()>, Infallible>>());
        let answer = call(layer().layer(inner), signed(SMALL));
        tokio::select! {
            biased;
            _ = answer => unreachable!("the handler never responds"),
            () = std::future::ready(()) => {}
        }
    })
    .await;
    assert!(line(&log, "the handler was dropped").contains("WARN"), "{log}");
    counted(&metrics, "dropped", "", "2026-11");
}

#[tokio::test]
async fn logs_a_disconnected_sender_at_debug() {
    let (log, metrics) = observe(async || {
        let inner = service_fn(async |_: Request<WebhookBody<Script>>| {
            Ok::<_, Infallible>(Response::new(()))
        });
        let request = signed_as(SMALL, Script::new([Step::data("{"), Step::Stall]));
        let answer = call(layer().layer(inner), request);
        tokio::select! {
            biased;
            _ = answer => unreachable!("the body never ends"),
            () = std::future::ready(()) => {}
        }
    })
    .await;
    assert!(line(&log, "the sender disconnected").contains("DEBUG"), "{log}");
    assert!(!log.contains("WARN") && !metrics.contains("inqud_webhook_body_bytes_sum"), "{log}");
    counted(&metrics, "disconnected", "", "");
}

/// Inqud closes the connection after 10 s. The handler has not responded, so there is no warning of a late
/// response too.
#[tokio::test(start_paused = true)]
async fn warns_once_of_a_handler_dropped_late() {
    let (log, metrics) = observe(async || {
        let inner = service_fn(|_: Inside| pending::<Result<Response<()>, Infallible>>());
        let answer = call(layer().layer(inner), signed(SMALL));
        tokio::time::timeout(Duration::from_secs(11), answer).await.unwrap_err();
    })
    .await;
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    counted(&metrics, "dropped", "", "2026-11");
}

/// Without a digest there is no label of a secret. Everything else is the same.
#[tokio::test]
async fn unverified_layer_has_the_same_telemetry() {
    let unsigned = || Request::post("/").body(Full::from(SMALL)).unwrap();
    let (log, metrics) = observe(async || {
        let inner = service_fn(|_: Inside| pending::<Result<Response<()>, Infallible>>());
        let answer = call(danger::unsigned::<PaymentRequest>().layer(inner), unsigned());
        tokio::select! {
            biased;
            _ = answer => unreachable!("the handler never responds"),
            () = std::future::ready(()) => {}
        }
    })
    .await;
    assert!(line(&log, "the handler was dropped").contains("WARN"), "{log}");
    counted(&metrics, "dropped", "", "");

    let (_, metrics) = observe(async || {
        let inner = service_fn(async |_: Inside| Ok::<_, Infallible>(Response::new(())));
        call(danger::unsigned::<PaymentRequest>().layer(inner), unsigned()).await;
    })
    .await;
    counted(&metrics, "accepted", "", "");
}

/// Logs a panic even if an outer layer catches it, and drops the future only afterwards.
#[tokio::test]
async fn logs_a_panic() {
    #[derive(Debug)]
    struct Panics;
    impl<'de> serde::Deserialize<'de> for Panics {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("in Deserialize")
        }
    }
    let handler = observe(async || {
        let inner = service_fn(async |_: Inside| -> Result<Response<Full<Bytes>>, Infallible> {
            tokio::task::yield_now().await;
            panic!("in the handler")
        });
        let service = ServiceBuilder::new().layer(CatchPanicLayer::new()).layer(layer());
        let response = call(service.service(inner), signed(SMALL)).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    });
    let decoding = observe(async || {
        let inner = service_fn(async |_: Inside| -> Result<Response<Full<Bytes>>, Infallible> {
            unreachable!("the body cannot be decoded")
        });
        let secret = Secret::new(SECRET).unwrap().label("2026-11");
        let service = ServiceBuilder::new().layer(CatchPanicLayer::new());
        let service = service.layer(WebhookLayer::<Panics>::new(secret)).service(inner);
        call(service, signed(SMALL)).await;
    });
    for (log, metrics) in [handler.await, decoding.await] {
        assert!(line(&log, "a call panicked").contains("ERROR"), "{log}");
        assert!(
            !log.contains("expect a duplicate") && !log.contains("the sender disconnected"),
            "{log}"
        );
        counted(&metrics, "panicked", "", "2026-11");
    }
}

/// If the span of the layer is filtered out, a warning still belongs to the span around the layer.
#[tokio::test]
async fn warning_belongs_to_the_outer_span() {
    let log = Log::default();
    {
        let subscriber = log.subscriber_of_a_thread().with(filter_fn(|it| {
            it.name() != "inqud_webhook" && (it.is_span() || *it.level() <= Level::WARN)
        }));
        let _subscriber = tracing::subscriber::set_default(subscriber);
        let inner = service_fn(async |_: Inside| Ok::<_, Infallible>(Response::new(())));
        let span = tracing::warn_span!("outside");
        call(layer().layer(inner), signed("{")).instrument(span).await;
    }
    let log = log.text();
    assert!(line(&log, "rejected a webhook").contains("outside"), "{log}");
}

#[tokio::test]
async fn counts_an_error_of_the_inner_service() {
    let (log, metrics) = observe(async || {
        let inner =
            service_fn(async |_: Inside| Err::<Response<()>, _>(io::Error::other("broken")));
        let mut service = layer().layer(inner);
        tower::Service::call(&mut service, signed(SMALL)).await.unwrap_err();
    })
    .await;
    assert!(line(&log, "the inner service failed").contains("WARN"), "{log}");
    counted(&metrics, "error", "", "2026-11");
}

#[tokio::test]
async fn does_not_count_other_paths() {
    let (log, metrics) = observe(async || {
        let inner = service_fn(async |_: Inside| Ok::<_, Infallible>(Response::new(())));
        let request = Request::get("/another").body(Full::default()).unwrap();
        call(layer().path("/webhooks").unwrap().layer(inner), request).await;
    })
    .await;
    assert!(
        !log.contains("inqud_webhook") && !metrics.contains("inqud_webhook_requests_total{"),
        "{log}"
    );
}

/// Scrapes a server as Prometheus does, over a connection.
#[tokio::test]
async fn prometheus_scrape_has_the_documented_names() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let handle = recorder.handle();
    let handler = post(async |_: Webhook<PaymentRequest>| Ack::Done);
    let app = Router::new()
        .route("/", handler.layer(layer()))
        .route("/metrics", get(async move || handle.render()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut forged = signed(SMALL);
    *forged.body_mut() = Full::from("{}");
    for mut request in [signed(SMALL), forged] {
        *request.uri_mut() = format!("http://{address}/").parse().unwrap();
        client.request(request).await.unwrap();
    }
    let scrape = client.get(format!("http://{address}/metrics").parse().unwrap()).await.unwrap();
    let body = scrape.into_body().collect().await.unwrap().to_bytes();
    let metrics = str::from_utf8(&body).unwrap();
    for expected in [
        "# TYPE inqud_webhook_requests_total counter",
        "inqud_webhook_requests_total{outcome=\"accepted\",reason=\"\",secret_label=\"2026-11\"} 1",
        "inqud_webhook_requests_total{outcome=\"rejected\",reason=\"digest_mismatch\",secret_label=\"\"} 1",
        "inqud_webhook_duration_seconds_count{outcome=\"accepted\"} 1",
        "inqud_webhook_duration_seconds_count{outcome=\"rejected\"} 1",
        "inqud_webhook_body_bytes_count 2",
    ] {
        assert!(metrics.lines().any(|line| line == expected), "no {expected} in {metrics}");
    }
}
