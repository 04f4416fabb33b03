//! Inqud's delivery contract: exactly 200, and what a handler may say.

use crate::support::{Inner, SMALL, call, layer, signed};
use http::{Response, StatusCode};
use tower::Layer;
use tower_inqud::{Ack, PaymentRequest, contract};

#[tokio::test]
async fn any_success_becomes_200_and_all_else_passes() {
    for code in 100..=999 {
        let answered = StatusCode::from_u16(code).unwrap();
        let inner = Inner::<PaymentRequest>::answering(answered);
        let response = call(layer::<PaymentRequest>().layer(inner), signed(SMALL)).await;
        let expected = if answered.is_success() { StatusCode::OK } else { answered };
        assert_eq!(response.status(), expected, "{answered}");
    }
}

#[test]
fn an_ack_is_a_response_and_stays_visible_to_layers_outside() {
    for (ack, status) in
        [(Ack::Done, 200), (Ack::Retry, 503), (Ack::Discard("unknown order".into()), 200)]
    {
        let response = Response::<String>::from(ack.clone());
        assert_eq!(response.status(), status);
        assert_eq!(response.extensions().get(), Some(&ack));
        assert_eq!(response.body(), "", "the reason is not sent");
    }
}

#[test]
fn the_retries_end_before_the_duplicates_are_forgotten() {
    let whole: std::time::Duration = contract::RETRY_SCHEDULE.iter().sum();
    assert_eq!(whole.as_secs(), 60 * (1 + 2 + 5 + 15 + 30 + 60 + 120 + 360 + 720 + 1440));
    assert!(whole < contract::DUPLICATE_WINDOW);
    assert!(contract::RETRY_SCHEDULE.is_sorted());
}
