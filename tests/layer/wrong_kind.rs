//! Merchants paste one URL into several rows of Inqud's back office. The URL then receives authentic
//! notifications about objects of another kind.

use std::convert::Infallible;

use crate::support::{Inner, REQUEST, call, deliver, digest, layer, secret, signed, text};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tower::Layer;
use tower_inqud::{
    Authorization, Checkout, Event, EventKind, Invoice, OnRampCheckout, OtherEvent, Payment,
    PaymentRequest, Rejection, RejectionKind, Subscription, Verifier, Webhook, WebhookBody,
    WebhookLayer, danger,
};

const KNOWN: [EventKind; 6] = [
    EventKind::Request,
    EventKind::Checkout,
    EventKind::Payment,
    EventKind::OnRampCheckout,
    EventKind::Subscription,
    EventKind::Authorization,
];

/// A body that every kind can be decoded from, and that looks paid.
fn success(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","status":"SUCCESS","clientOrderId":"shop-1","authorizationId":"AGR-1"}}"#
    )
}

fn of_kind(kind: EventKind) -> String {
    success(&format!("{}1", kind.id_prefix().unwrap()))
}

/// Ids with unknown prefixes, and ids without one.
const UNTOLD: [&str; 5] = ["RFD-1", "INV-1", "1", "capd-1", "PMT1"];

async fn accept(_: Request<WebhookBody<Full<Bytes>>>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::default()))
}

/// All ways to decode a body agree.
async fn verdict<T>(body: &str) -> Result<(), RejectionKind>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let through_the_layer = deliver::<T>(body.to_owned()).await.map(drop);
    let verified = Verifier::new(secret()).verify(digest(body), body.to_owned()).unwrap();
    let by_itself = verified.decode::<T>().map(drop);
    let unsigned = danger::unsigned::<T>().layer(tower::service_fn(accept));
    let response = call(unsigned, signed(body.to_owned())).await;
    let unsigned = response.extensions().get::<Rejection>().cloned().map_or(Ok(()), Err);

    let kinds = [through_the_layer, by_itself, unsigned].map(|it| it.map_err(|it| it.kind()));
    assert!(kinds.iter().all(|it| *it == kinds[0]), "{body}: {kinds:?}");
    assert_eq!(serde_json::from_str::<T>(body).is_ok(), kinds[0].is_ok(), "{body}");
    kinds[0]
}

async fn refuses_all_others<T>(expected: EventKind)
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    for found in KNOWN {
        // With the id in another place, with an escape, and after a value of the wrong type.
        let body = of_kind(found);
        let last = format!(r#"{{"status":"SUCCESS","i\u0064":"{}1"}}"#, found.id_prefix().unwrap());
        let odd = format!(r#"{{"status":7,"id":"{}1"}}"#, found.id_prefix().unwrap());
        let wrong = RejectionKind::WrongKind { expected, found };
        let expected_of = |other| if found == expected { other } else { Err(wrong) };
        assert_eq!(verdict::<T>(&body).await, expected_of(Ok(())));
        assert_eq!(verdict::<T>(&last).await, expected_of(Ok(())));
        let unexpected = Err(RejectionKind::UnexpectedShape);
        assert_eq!(verdict::<T>(&odd).await, expected_of(unexpected));
    }
    for id in UNTOLD {
        assert_eq!(verdict::<T>(&success(id)).await, Ok(()), "{expected}: {id}");
    }
}

#[tokio::test]
async fn typed_layer_rejects_all_other_kinds() {
    refuses_all_others::<PaymentRequest>(EventKind::Request).await;
    refuses_all_others::<Checkout>(EventKind::Checkout).await;
    refuses_all_others::<Payment>(EventKind::Payment).await;
    refuses_all_others::<OnRampCheckout>(EventKind::OnRampCheckout).await;
    refuses_all_others::<Subscription>(EventKind::Subscription).await;
    refuses_all_others::<Invoice>(EventKind::Invoice).await;
    refuses_all_others::<Authorization>(EventKind::Authorization).await;
}

#[tokio::test]
async fn event_layer_accepts_every_kind() {
    for kind in KNOWN {
        assert_eq!(verdict::<Event>(&of_kind(kind)).await, Ok(()));
        assert_eq!(verdict::<OtherEvent>(&of_kind(kind)).await, Ok(()));
        assert_eq!(deliver::<Event>(of_kind(kind)).await.unwrap().kind(), kind);
    }
    for id in UNTOLD {
        assert_eq!(verdict::<Event>(&success(id)).await, Ok(()), "{id}");
    }
}

#[derive(Deserialize)]
struct Own {
    status: String,
}

async fn through<T>(layer: WebhookLayer<T>, body: &str) -> Result<Webhook<T>, RejectionKind>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let inner = Inner::<T>::new();
    let response = call(layer.layer(inner.clone()), signed(body.to_owned())).await;
    match response.extensions().get::<Rejection>() {
        Some(rejection) => Err(rejection.kind()),
        None => Ok(inner.seen().remove(0)),
    }
}

#[tokio::test]
async fn merchants_own_type_is_checked_if_its_kind_is_set() {
    for found in KNOWN {
        let body = of_kind(found);
        let own = through(layer::<Own>(), &body).await.unwrap();
        assert_eq!(own.status, "SUCCESS");
        for expected in KNOWN {
            let own = through(layer::<Own>().kind(expected), &body).await;
            let event = through(layer::<Event>().kind(expected), &body).await;
            let kinds = [own.map(drop), event.map(drop)];
            if found == expected {
                assert_eq!(kinds, [Ok(()); 2]);
            } else {
                assert_eq!(kinds, [Err(RejectionKind::WrongKind { expected, found }); 2]);
            }
            // `kind` does not override the kind of this crate's own types.
            let request = through(layer::<PaymentRequest>().kind(expected), &body).await;
            assert_eq!(request.is_ok(), found == EventKind::Request);
        }
        // A kind without a prefix still rejects the known ones.
        let invoice = through(layer::<Own>().kind(EventKind::Invoice), &body).await.map(drop);
        let expected = EventKind::Invoice;
        assert_eq!(invoice, Err(RejectionKind::WrongKind { expected, found }));
    }
    let checked = || layer::<Own>().kind(EventKind::Request);
    for id in UNTOLD {
        assert!(through(checked(), &success(id)).await.is_ok(), "{id}");
    }
    for body in [
        r#"{"status":"SUCCESS"}"#,
        r#"{"id":7,"status":"SUCCESS"}"#,
        r#"{"id":null,"paymentId":"PMT-1","status":"SUCCESS"}"#,
        r#"{"status":"SUCCESS","request":{"id":"PMT-1"}}"#,
    ] {
        assert!(through(checked(), body).await.is_ok(), "{body}");
    }
    // With two ids, nothing tells which is right.
    for body in [
        r#"{"id":"CAPD-1","status":"SUCCESS","id":"PMT-1"}"#,
        r#"{"id":"PMT-1","status":"SUCCESS","id":"PMT-1"}"#,
    ] {
        let refused = through(checked(), body).await.map(drop);
        assert_eq!(refused, Err(RejectionKind::UnexpectedShape), "{body}");
    }
    for (body, kind) in [
        (r#"{"id":"PMT-1","status":7}"#, None),
        (r#"{"id":"CAPD-1","status":7}"#, Some(RejectionKind::UnexpectedShape)),
        (r#"{"id":"PMT-1","status":"SUCCESS"}}"#, Some(RejectionKind::NotJson)),
        (r#"["PMT-1"]"#, Some(RejectionKind::UnexpectedShape)),
    ] {
        let wrong =
            RejectionKind::WrongKind { expected: EventKind::Request, found: EventKind::Payment };
        let refused = through(checked(), body).await.map(drop);
        assert_eq!(refused, Err(kind.unwrap_or(wrong)), "{body}");
    }
    let unsigned = danger::unsigned::<Own>().kind(EventKind::Request);
    let response =
        call(unsigned.layer(tower::service_fn(accept)), signed(of_kind(EventKind::Payment))).await;
    assert_eq!(response.status(), 422);
}

/// In the old form, the id of a payment is its `paymentId`.
#[tokio::test]
async fn old_form_of_a_payment_is_a_payment() {
    let old = |id: &str| {
        format!(
            r#"{{"paymentId":"{id}","status":"SUCCESS","userId":"OWN-1","timestamp":"2021-05-06T07:08:09Z"}}"#
        )
    };
    let wrong = |expected, found| Err(RejectionKind::WrongKind { expected, found });
    let (request, payment) = (EventKind::Request, EventKind::Payment);
    assert_eq!(verdict::<Payment>(&old("PMT-1")).await, Ok(()));
    assert_eq!(verdict::<Payment>(&old("1")).await, Ok(()));
    assert_eq!(verdict::<Payment>(&old("CAPD-1")).await, wrong(payment, request));
    assert_eq!(verdict::<PaymentRequest>(&old("PMT-1")).await, wrong(request, payment));
    let own = through(layer::<Own>().kind(request), &old("PMT-1")).await.map(drop);
    assert_eq!(own, wrong(request, payment));
    // In other objects, `paymentId` only refers to a payment.
    let of_request = r#"{"id":"CAPD-1","status":"SUCCESS","paymentId":"PMT-1"}"#;
    assert_eq!(verdict::<PaymentRequest>(of_request).await, Ok(()));
    let refund = r#"{"refundId":"RFD-1","paymentId":"PMT-1","status":"SUCCESS"}"#;
    assert_eq!(verdict::<Payment>(refund).await, Err(RejectionKind::UnexpectedShape));
}

#[tokio::test]
async fn nested_request_keeps_its_own_id() {
    let with = |id: &str| {
        format!(
            r#"{{"id":"CCO-1","status":"SUCCESS","request":{{"id":"{id}","status":"SUCCESS"}}}}"#
        )
    };
    let checkout = deliver::<Checkout>(with("CAPD-1")).await.unwrap();
    assert_eq!(checkout.request.as_ref().unwrap().id, "CAPD-1");
    let rejection = deliver::<Checkout>(with("PMT-1")).await.unwrap_err();
    assert_eq!(rejection.kind(), RejectionKind::UnexpectedShape);
    assert_eq!(rejection.field_path(), Some("request.id"));
}

#[tokio::test]
async fn logs_both_kinds_and_tells_the_sender_neither() {
    let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
    let response = call(service, signed(of_kind(EventKind::Payment))).await;
    assert_eq!(response.status(), 422);
    let rejection = response.extensions().get::<Rejection>().unwrap().clone();
    let kind = rejection.kind();
    assert_eq!((kind.as_str(), kind.status().as_u16()), ("wrong_kind", 422));
    assert_eq!(
        rejection.to_string(),
        "the object is of another kind: expected a `request`, found a `payment`"
    );
    assert_eq!(text(response).await, "the object is of another kind");

    let error = serde_json::from_str::<PaymentRequest>(&of_kind(EventKind::Payment)).unwrap_err();
    assert!(
        error.to_string().starts_with("the id of a `payment`, expected a `request`"),
        "{error}"
    );
    assert!(serde_json::from_str::<PaymentRequest>(REQUEST).is_ok());
}
