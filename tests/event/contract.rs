//! Inqud's delivery contract: only 200 counts, and `Ack` maps to the right status.

use crate::support::{Inner, SMALL, call, layer, signed};
use http::{Response, StatusCode};
use tower::Layer;
use tower_inqud::{Ack, PaymentRequest, contract};

#[tokio::test]
async fn any_2xx_becomes_200_and_others_pass() {
    for code in 100..=999 {
        let answered = StatusCode::from_u16(code).unwrap();
        let inner = Inner::<PaymentRequest>::answering(answered);
        let response = call(layer::<PaymentRequest>().layer(inner), signed(SMALL)).await;
        let expected = if answered.is_success() { StatusCode::OK } else { answered };
        assert_eq!(response.status(), expected, "{answered}");
    }
}

#[test]
fn ack_becomes_a_response_and_stays_in_its_extensions() {
    for (ack, status) in
        [(Ack::Done, 200), (Ack::Retry, 503), (Ack::Discard("unknown order".into()), 200)]
    {
        let response = Response::<String>::from(ack.clone());
        assert_eq!(response.status(), status);
        assert_eq!(response.extensions().get(), Some(&ack));
        assert_eq!(response.body(), "", "the reason stays private");
    }
}

#[test]
fn only_the_documented_address_is_the_source() {
    let is_source = |text: &str| contract::is_source_address(text.parse().unwrap());
    assert!(is_source("3.64.51.60") && is_source("::ffff:3.64.51.60"));
    for other in ["3.64.51.61", "60.51.64.3", "127.0.0.1", "::3.64.51.60", "64:ff9b::3.64.51.60"] {
        assert!(!is_source(other), "{other}");
    }
}

#[test]
fn retries_end_within_the_duplicate_window() {
    let whole: std::time::Duration = contract::RETRY_SCHEDULE.iter().sum();
    assert_eq!(whole.as_secs(), 60 * (1 + 2 + 5 + 15 + 30 + 60 + 120 + 360 + 720 + 1440));
    assert!(whole < contract::DUPLICATE_WINDOW);
    assert!(contract::RETRY_SCHEDULE.is_sorted());
}
