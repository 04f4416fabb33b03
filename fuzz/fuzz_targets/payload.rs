//! Bytes to a Request or an Event and back: never a panic, and what was read is written so that it is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_inqud::{Event, Notification, OrderKey, PaymentRequest, Secret, Verdict, Verifier, sign};

thread_local! {
    static SECRET: Secret = Secret::new("secret_value").unwrap();
}

/// A version is equal however the body is spaced, is kept as it is, and comes after nothing but others.
fn is_itself(event: &impl Notification, body: &[u8]) {
    let order_key = OrderKey::new(event, body);
    assert_eq!(OrderKey::new(event, &[b" ", body, b"\n"].concat()), order_key);
    assert_eq!(OrderKey::from_bytes(&order_key.to_bytes()).as_ref(), Some(&order_key));
    assert!(order_key.to_bytes().len() <= 400);
    assert!(order_key.is_duplicate_of(&order_key) && !order_key.supersedes(&order_key));
    assert_eq!(order_key.verdict(0, false, None), Verdict::Newer);
}

fuzz_target!(|body: &[u8]| {
    let secret = SECRET.with(Clone::clone);
    let digest = sign(&secret, body).to_string();
    let verifier = Verifier::new(secret);
    let verified = verifier.verify(&digest, body.to_vec()).unwrap();
    let event = verifier.verify(&digest, body.to_vec()).unwrap().decode::<Event>();
    if let Ok(first) = &event {
        let written = serde_json::to_string(&**first).unwrap();
        let second: Event = serde_json::from_str(&written).unwrap();
        assert_eq!(second, **first);
        assert_eq!(serde_json::to_string(&second).unwrap(), written);
        assert_eq!(second.delivery_key(), first.delivery_key());
        is_itself(&**first, body);
    }
    match verified.decode::<PaymentRequest>() {
        Ok(first) => {
            assert!(body.trim_ascii_start().starts_with(b"{"));
            let written = serde_json::to_string(&*first).unwrap();
            let second: PaymentRequest = serde_json::from_str(&written).unwrap();
            assert_eq!(second, *first);
            assert_eq!(serde_json::to_string(&second).unwrap(), written);
            assert_eq!(second.delivery_key(), first.delivery_key());
            is_itself(&*first, body);
            if let Some(payment) = &first.payment {
                _ = payment.view();
            }
            // What is a Request by its id is the same Request as an event.
            if first.id.starts_with("CAPD-") {
                let Ok(Event::Request(event)) = event.as_deref() else { panic!("no Request") };
                assert_eq!(**event, *first);
            }
        }
        Err(rejection) => {
            let status = rejection.status().as_u16();
            assert!(status == 400 || status == 422);
            // What is not even JSON is never called JSON of another shape.
            if status == 422 {
                serde_json::from_slice::<&serde_json::value::RawValue>(body).unwrap();
            }
        }
    }
});
