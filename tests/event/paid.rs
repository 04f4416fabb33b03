//! "Paid" means paid in full, as far as is known. For a merchant's order, it means its amount in its currency.

use std::cmp::Ordering;

use tower_inqud::{Amount, Checkout, Invoice, Payment, PaymentRequest};

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn request(status: &str, fields: &str) -> PaymentRequest {
    serde_json::from_str(&format!(r#"{{"id":"CAPD-1","status":"{status}"{fields}}}"#)).unwrap()
}

#[test]
fn underpaid_request_is_not_paid() {
    for (fields, compared, is_paid) in [
        ("", None, true),
        (r#","payAmount":100"#, None, true),
        (r#","paidAmount":50"#, None, true),
        (r#","paidAmount":null,"payAmount":100"#, None, true),
        (r#","paidAmount":100,"payAmount":100.00"#, Some(Ordering::Equal), true),
        (r#","paidAmount":101,"payAmount":100"#, Some(Ordering::Greater), true),
        // A conflict that Inqud's support has settled (inferred).
        (r#","paidAmount":50,"payAmount":100"#, Some(Ordering::Less), false),
        (r#","paidAmount":99.999999999999999999,"payAmount":100"#, Some(Ordering::Less), false),
        (r#","paidAmount":1e-99,"payAmount":1e99"#, Some(Ordering::Less), false),
        (r#","paidAmount":1e99,"payAmount":1"#, Some(Ordering::Greater), true),
        (r#","paidAmount":50,"requestAmountConverted":99.5"#, Some(Ordering::Less), false),
        (r#","reason":"UNDERPAID","payAmount":100"#, None, false),
    ] {
        let success = request("SUCCESS", fields);
        assert_eq!(success.compare_paid(), compared, "{fields}");
        assert_eq!(success.is_paid(), is_paid, "{fields}");
        assert!(success.status.is_successful(), "the status is unchanged");
        assert!(request("COMPLETED", fields).is_paid() == is_paid, "{fields}");
        for status in ["WAITING_PAYMENT", "PENDING_PAYMENT", "CONFLICT", "EXPIRED", "PAID"] {
            let other = request(status, fields);
            assert!(!other.is_paid() && !other.status.is_successful(), "{status} {fields}");
        }
    }
}

#[test]
fn request_is_paid_for_an_amount_in_a_currency() {
    let fields = r#","requestAmount":100,"requestAmountIn":"USD","payAmount":99.5,"paidAmount":99.5,"currency":"USDT""#;
    let paid = request("SUCCESS", fields);
    let short = request("SUCCESS", &fields.replace(r#""paidAmount":99.5"#, r#""paidAmount":50"#));
    let over = request("SUCCESS", &fields.replace(r#""paidAmount":99.5"#, r#""paidAmount":150"#));
    for (order, currency, by_paid, by_over) in [
        ("100", "USD", true, true),
        ("99.99", "USD", true, true),
        ("100.00", "USD", true, true),
        ("100.01", "USD", false, false),
        ("1e400", "USD", false, false),
        ("99.5", "USDT", true, true),
        ("100", "USDT", false, true),
        ("1", "EUR", false, false),
        ("1", "usd", false, false),
        ("1", "", false, false),
    ] {
        let order = amount(order);
        assert_eq!(paid.is_paid_for(&order, currency), by_paid, "{order} {currency}");
        assert_eq!(over.is_paid_for(&order, currency), by_over, "{order} {currency}");
        assert!(!short.is_paid_for(&order, currency), "{order} {currency}");
        assert!(!request("CONFLICT", fields).is_paid_for(&order, currency));
        assert!(!request("SUCCESS", "").is_paid_for(&order, currency), "unknown");
    }
    // Without a price, the paid amount counts.
    let any = request("SUCCESS", r#","paidAmount":20,"currency":"USDT""#);
    assert!(any.is_paid_for(&amount("20"), "USDT") && !any.is_paid_for(&amount("21"), "USDT"));
    // The requested amount does not count if the paid amount is less or not known.
    for fields in [
        r#","requestAmount":100,"requestAmountIn":"USDT","currency":"USDT","paidAmount":50"#,
        r#","requestAmount":100,"requestAmountIn":"USDT","currency":"USDT""#,
        r#","requestAmount":100,"requestAmountIn":"USDT","payAmount":100"#,
        r#","requestAmount":100,"requestAmountIn":"USDT","paidAmount":100,"currency":"TRX""#,
    ] {
        assert!(!request("SUCCESS", fields).is_paid_for(&amount("100"), "USDT"), "{fields}");
    }
    let no_currency = request("SUCCESS", r#","paidAmount":20,"requestAmount":20"#);
    assert!(!no_currency.is_paid_for(&amount("20"), "USDT"));
}

#[test]
fn checkout_with_an_underpaid_request_is_not_paid() {
    let checkout = |status: &str, fields: &str| -> Checkout {
        serde_json::from_str(&format!(r#"{{"id":"CCO-1","status":"{status}"{fields}}}"#)).unwrap()
    };
    let nested = |paid: &str| {
        format!(
            r#","fixedAmount":{{"currency":"EUR","amount":64.9}},"request":{{"id":"CAPD-1","status":"SUCCESS","currency":"USDT","payAmount":70,"paidAmount":{paid}}}"#
        )
    };
    for (paid, is_paid) in [("70", true), ("71", true), ("69.9", false)] {
        let success = checkout("SUCCESS", &nested(paid));
        assert_eq!(success.is_paid(), is_paid, "{paid}");
        assert_eq!(success.is_paid_for(&amount("64.9"), "EUR"), is_paid, "{paid}");
        assert!(!success.is_paid_for(&amount("65"), "EUR"));
        assert!(!checkout("CONFLICT", &nested(paid)).is_paid());
    }
    assert!(checkout("SUCCESS", &nested("70")).is_paid_for(&amount("70"), "USDT"));
    assert!(!checkout("SUCCESS", &nested("70")).is_paid_for(&amount("71"), "USDT"));
    let unknown = checkout("SUCCESS", &nested("null"));
    assert!(unknown.is_paid() && !unknown.is_paid_for(&amount("64.9"), "EUR"));
    let conflict = nested("70").replace(r#""status":"SUCCESS""#, r#""status":"CONFLICT""#);
    assert!(!checkout("SUCCESS", &conflict).is_paid());
    let bare = checkout("SUCCESS", "");
    assert!(bare.is_paid() && !bare.is_paid_for(&amount("0"), "EUR"));
}

#[test]
fn payment_and_invoice_are_paid_for_their_amount() {
    let payment = |fields: &str| -> Payment {
        serde_json::from_str(&format!(r#"{{"id":"PMT-1","amount":10,"currency":"USDT"{fields}}}"#))
            .unwrap()
    };
    let ten = amount("10");
    assert!(payment(r#","status":"SUCCESS""#).is_paid_for(&ten, "USDT"));
    assert!(payment(r#","status":"SUCCESS","orderType":"PAYIN""#).is_paid_for(&ten, "USDT"));
    assert!(!payment(r#","status":"SUCCESS","orderType":"PAYOUT""#).is_paid_for(&ten, "USDT"));
    assert!(!payment(r#","status":"PARTIAL_SUCCESS""#).is_paid_for(&ten, "USDT"));
    assert!(!payment(r#","status":"SUCCESS""#).is_paid_for(&amount("10.1"), "USDT"));
    assert!(!payment(r#","status":"SUCCESS""#).is_paid_for(&ten, "USDC"));

    let invoice = |status: &str| -> Invoice {
        let json = format!(r#"{{"id":"1","status":"{status}","amount":9.99,"currency":"USD"}}"#);
        serde_json::from_str(&json).unwrap()
    };
    assert!(invoice("SUCCESS").is_paid_for(&amount("9.99"), "USD"));
    assert!(!invoice("SUCCESS").is_paid_for(&amount("10"), "USD"));
    assert!(!invoice("PENDING").is_paid_for(&amount("9.99"), "USD"));
}
