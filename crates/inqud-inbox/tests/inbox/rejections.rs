//! The log of rejected calls.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::claims::*;
use crate::postgres;
use crate::support;
use http::StatusCode;
use inqud_inbox::{Inbox, LoggedRejection, Sqlite, Store};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tower::Layer;
use tower_inqud::{PaymentRequest, WebhookLayer};

fn file() -> (Inbox<Sqlite>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Inbox::sqlite(folder.path().join("inbox.db")).unwrap(), folder)
}

of_each_store! {
    rejected_calls_leave_evidence
    keeps_the_newest_of_each_reason
    a_flood_is_counted
}

/// Waits until the log has so many calls, and returns them.
async fn logged(inbox: &Inbox<impl Store>, count: usize) -> Vec<LoggedRejection> {
    let all = async {
        loop {
            let all = inbox.rejections(1000).await.unwrap();
            if all.len() >= count {
                return all;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, all).await.unwrap()
}

fn layer() -> WebhookLayer<PaymentRequest> {
    support::layer()
}

async fn rejected_calls_leave_evidence(inbox: &Inbox<impl Store>) {
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    let log = inbox.rejection_log().source(move |_| Some(address));
    let service = layer().on_rejection(log.observer::<PaymentRequest>());
    let service = service.layer(inbox.receiver::<PaymentRequest>());

    let mut forged = support::signed(body(1, 0));
    *forged.body_mut() = support::signed(body(2, 0)).into_body();
    let digest = forged.headers()["x-payload-digest"].to_str().unwrap().to_owned();
    forged.headers_mut().insert("content-length", "77".parse().unwrap());
    let response = support::call(service.clone(), forged).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let shape = support::signed(r#"{"id":"CAPD-1","status":7}"#.to_owned());
    support::call(service.clone(), shape).await;
    let other = support::signed(r#"{"id":"PMT-1","status":"SUCCESS"}"#.to_owned());
    support::call(service.clone(), other).await;
    let accepted = support::call(service, support::signed(body(3, 0))).await;
    assert_eq!(accepted.status(), StatusCode::OK);

    let all = logged(inbox, 3).await;
    let shown: Vec<_> = all.iter().map(|it| (&*it.reason, it.diagnosis.as_deref())).collect();
    let kinds = "expected a `request`, found a `payment`";
    assert_eq!(
        shown,
        [
            ("wrong_kind", Some(kinds)),
            ("unexpected_shape", Some("at status")),
            ("digest_mismatch", Some("unexplained")),
        ]
    );
    assert!(all.iter().all(|it| it.kind == "request" && it.source == Some(address)));
    assert_eq!(all[2].content_length, Some(77));
    assert!(all.iter().all(|it| it.at.duration_since(jiff_now()).abs().as_secs() < 60));
    let shown = format!("{all:?}");
    assert!(!shown.contains(&digest) && !shown.contains("CAPD-2"), "{shown}");
    assert_eq!(inbox.rejections(1).await.unwrap(), all[..1], "the newest");
}

fn jiff_now() -> tower_inqud::jiff::Timestamp {
    tower_inqud::jiff::Timestamp::now()
}

async fn rejected(inbox: &Inbox<impl Store>, count: usize) -> Vec<(String, Option<u64>)> {
    let mut of_kind = Vec::new();
    for call in inbox.rejections(count).await.unwrap() {
        of_kind.push((call.reason, call.content_length));
    }
    of_kind
}

async fn keeps_the_newest_of_each_reason(inbox: &Inbox<impl Store>) {
    let log = inbox.rejection_log().keep(2);
    let service = layer().on_rejection(log.observer::<PaymentRequest>());
    let service = service.layer(inbox.receiver::<PaymentRequest>());
    let mut forged = support::signed(body(1, 0));
    *forged.body_mut() = support::signed(body(2, 0)).into_body();
    support::call(service.clone(), forged).await;
    for length in 10..15 {
        let mut strange = support::signed(body(1, 0));
        strange.headers_mut().remove("x-payload-digest");
        strange.headers_mut().insert("content-length", length.into());
        support::call(service.clone(), strange).await;
    }
    let all = async {
        loop {
            let all = rejected(inbox, 9).await;
            if all.first().is_some_and(|it| it.1 == Some(14)) {
                return all;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let all = timeout(LONG, all).await.unwrap();
    let missing = |length| ("digest_missing".to_owned(), Some(length));
    assert_eq!(all[..2], [missing(14), missing(13)]);
    assert_eq!((all.len(), &*all[2].0), (3, "digest_mismatch"));
}

async fn a_flood_is_counted(inbox: &Inbox<impl Store>) {
    let log = inbox.rejection_log().keep(1000);
    let service = layer().on_rejection(log.observer::<PaymentRequest>());
    let service = service.layer(inbox.receiver::<PaymentRequest>());
    let began = Instant::now();
    let flood = || async {
        let mut strange = support::signed(body(1, 0));
        strange.headers_mut().remove("x-payload-digest");
        support::call(service.clone(), strange).await;
    };
    for _ in 0..2000 {
        flood().await;
    }
    assert!(began.elapsed() < LONG);
    // One more, with which the rest of them is written.
    let all = async {
        loop {
            flood().await;
            let all = inbox.rejections(1000).await.unwrap();
            let dropped: u64 = all.iter().map(|it| it.dropped).sum();
            let count = dropped + u64::try_from(all.len()).unwrap();
            if count >= 2000 {
                return (all.len(), dropped);
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let (written, dropped) = timeout(LONG, all).await.unwrap();
    assert!(written < 1000 && dropped > 1000, "{written} written, {dropped} dropped");
}
