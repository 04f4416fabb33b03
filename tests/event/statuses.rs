//! What a status means: whether money arrived, whether you can charge, and whether anything follows.

use serde::de::DeserializeOwned;
use tower_inqud::{
    Authorization, Checkout, Event, Invoice, Notification, Payment, PaymentRequest, Stage,
    Subscription,
};

/// Every status of every kind, and some that this version does not know.
const STATUSES: &[&str] = &[
    "ACTIVE",
    "CANCELLED",
    "COMPLETED",
    "CONFLICT",
    "EXPIRED",
    "FAILED",
    "FROZEN",
    "GRANTED",
    "INITIATED",
    "NEW",
    "PARTIAL_SUCCESS",
    "PAYMENT_DETECTED",
    "PENDING",
    "PENDING_PAYMENT",
    "REQUEST_CREATED",
    "REVOKED_BY_MERCHANT",
    "SUCCESS",
    "WAITING_PAYMENT",
    "success",
    "PAID",
    "",
];

/// The statuses of an object for which `is` holds.
fn those<T: DeserializeOwned>(id: &str, is: impl Fn(&T) -> bool) -> String {
    let holds = |status: &&&str| {
        is(&serde_json::from_str(&format!(r#"{{"id":"{id}","status":"{status}"}}"#)).unwrap())
    };
    STATUSES.iter().filter(holds).copied().collect::<Vec<_>>().join(" ")
}

#[test]
fn success_is_the_only_status_of_received_money() {
    let request = "COMPLETED SUCCESS";
    assert_eq!(those("CAPD-1", |it: &PaymentRequest| it.status.is_successful()), request);
    assert_eq!(those("CAPD-1", PaymentRequest::is_paid), request);
    assert_eq!(those("CCO-1", |it: &Checkout| it.status.is_successful()), "SUCCESS");
    assert_eq!(those("CCO-1", Checkout::is_paid), "SUCCESS");
    assert_eq!(those("PMT-1", |it: &Payment| it.status.is_successful()), "SUCCESS");
    assert_eq!(those("PMT-1", Payment::is_successful), "SUCCESS");
    assert_eq!(those("PMT-1", Payment::is_incoming_paid), "SUCCESS");
    assert_eq!(those("1", |it: &Invoice| it.status.is_paid()), "SUCCESS");
    assert_eq!(those("1", Invoice::is_paid), "SUCCESS");
}

#[test]
fn nothing_is_expected_after_a_final_status() {
    let request = "CANCELLED COMPLETED CONFLICT EXPIRED SUCCESS";
    assert_eq!(those("CAPD-1", |it: &PaymentRequest| it.status.is_final()), request);
    assert_eq!(those("CAPD-1", PaymentRequest::is_final), request);
    let checkout = "CONFLICT EXPIRED SUCCESS";
    assert_eq!(those("CCO-1", |it: &Checkout| it.status.is_final()), checkout);
    assert_eq!(those("CCO-1", Checkout::is_final), checkout);
    let payment = "CANCELLED EXPIRED FAILED SUCCESS";
    assert_eq!(those("PMT-1", |it: &Payment| it.status.is_final()), payment);
    assert_eq!(those("PMT-1", Payment::is_final), payment);
    let subscription = "CANCELLED EXPIRED";
    assert_eq!(those("SUB-1", |it: &Subscription| it.status.is_final()), subscription);
    assert_eq!(those("SUB-1", Subscription::is_final), subscription);
    let invoice = "FAILED SUCCESS";
    assert_eq!(those("1", |it: &Invoice| it.status.is_final()), invoice);
    assert_eq!(those("1", Invoice::is_final), invoice);
}

#[test]
fn only_a_granted_authorization_can_be_charged() {
    assert_eq!(those("AGR-1", |it: &Authorization| it.status.is_granted()), "GRANTED");
    assert_eq!(those("AGR-1", Authorization::is_granted), "GRANTED");
}

/// Asserts the stages of an object's statuses, which are in the order of their ranks. Those in one row have
/// the same rank.
fn assert_order(id: &str, rows: &[(&str, Stage)]) {
    for (rank, (statuses, stage)) in (0..).zip(rows) {
        for status in statuses.split(' ') {
            // Only the field of an invoice, which no other kind has, tells that it is one.
            let field = if id == "1" { r#","authorizationId":"AGR-1""# } else { "" };
            let json = format!(r#"{{"id":"{id}","status":"{status}"{field}}}"#);
            let event: Event = serde_json::from_str(&json).unwrap();
            assert_eq!((event.status_rank(), event.stage()), (rank, *stage), "{id} {status}");
            assert_eq!(event.recurs(), id == "SUB-1");
        }
    }
}

/// The stages and ranks order notifications without a time.
#[test]
fn statuses_have_a_stage_and_a_rank() {
    use Stage::{Early, Partial, Settled, Success};

    assert_order(
        "CAPD-1",
        &[
            ("WAITING_PAYMENT", Early),
            ("PENDING_PAYMENT", Early),
            ("X", Settled),
            ("CANCELLED EXPIRED", Settled),
            ("CONFLICT", Settled),
            ("SUCCESS COMPLETED", Success),
        ],
    );
    assert_order(
        "CCO-1",
        &[
            ("NEW", Early),
            ("REQUEST_CREATED", Early),
            ("PAYMENT_DETECTED", Early),
            ("X", Settled),
            ("EXPIRED", Settled),
            ("CONFLICT", Settled),
            ("SUCCESS", Success),
        ],
    );
    assert_order(
        "PMT-1",
        &[
            ("NEW", Early),
            ("PENDING", Early),
            ("FROZEN", Settled),
            ("X", Settled),
            ("PARTIAL_SUCCESS", Partial),
            ("EXPIRED", Settled),
            ("FAILED CANCELLED", Settled),
            ("SUCCESS", Success),
        ],
    );
    assert_order("ORCO-1", &[("PENDING", Early), ("SUCCESS X", Settled)]);
    assert_order(
        "SUB-1",
        &[
            ("INITIATED", Early),
            ("ACTIVE", Settled),
            ("X", Settled),
            ("EXPIRED", Settled),
            ("CANCELLED", Settled),
        ],
    );
    assert_order(
        "1",
        &[
            ("NEW", Early),
            ("PENDING", Early),
            ("X", Settled),
            ("FAILED", Settled),
            ("SUCCESS", Success),
        ],
    );
    assert_order(
        "AGR-1",
        &[("GRANTED", Settled), ("X", Settled), ("REVOKED_BY_MERCHANT", Settled)],
    );
}
