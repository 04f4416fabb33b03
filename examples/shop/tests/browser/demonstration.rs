//! What one command starts: the shop, and a mock that orders and pays.

use std::process::Command;

use crate::login::Operator;
use crate::process::Shop;

#[tokio::test]
async fn demonstration_shows_every_state_and_ends_cleanly() {
    let mut shop = Shop::demonstration();
    let operator = Operator::log_in(&shop).await;
    for phase in ["Paid", "Overpaid", "Underpaid", "Expired", "Reversed", "Seen"] {
        operator.sees(&format!("</svg>{phase}</span>")).await;
    }
    operator.sees("<dt>Dead letters</dt><dd>2</dd>").await;
    operator.sees("<dt>For review</dt><dd>1</dd>").await;
    operator.sees("<code>digest_mismatch</code>").await;

    // What Ctrl-C sends.
    let interrupt = Command::new("kill").args(["-INT", &shop.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let status = shop.wait().await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn mock_pays_what_a_customer_orders() {
    let shop = Shop::demonstration();
    let order = shop.order("Ada Lovelace").await;
    let operator = Operator::log_in(&shop).await;
    let page = format!("/operator/orders/{order}");
    operator.sees_at(&page, "PENDING_PAYMENT").await;
}
