//! The shop is killed, and comes back. What a page shows is what the database has.

use std::time::Duration;

use inqud_mock::Scenario;
use tokio::time::sleep;

use crate::chrome::Chrome;
use crate::process::{Shop, client, story};

#[tokio::test]
async fn page_catches_up_when_the_connection_is_back() {
    let (mut shop, chrome) = (Shop::start(), Chrome::start().await);
    let order = shop.order("Ada Lovelace").await;
    chrome.goto(&shop.url(&format!("/orders/{order}"))).await.unwrap();
    chrome.shows("waiting").await;
    chrome.record_phases().await;

    shop.kill();
    chrome.becomes_true("return !document.getElementById('link').hidden").await;
    assert_eq!(chrome.phase().await, "waiting");
    shop.restart();
    shop.accept(&story(Scenario::Success, &order)).await;
    chrome.shows("paid").await;
    chrome.becomes_true("return document.getElementById('link').hidden").await;
    // No reload: the record is still there.
    assert_eq!(chrome.phases().await.last().unwrap(), "paid");
}

#[tokio::test]
async fn ten_kills_while_webhooks_arrive_lose_nothing() {
    const ORDERS: usize = 6;
    let (mut shop, chrome) = (Shop::start(), Chrome::start().await);
    let (mut orders, mut windows, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..ORDERS {
        let order = shop.order("Ada Lovelace").await;
        let window = chrome.new_window(false).await.unwrap().handle;
        chrome.switch_to_window(window.clone()).await.unwrap();
        chrome.goto(&shop.url(&format!("/orders/{order}"))).await.unwrap();
        chrome.shows("waiting").await;
        chrome.record_phases().await;
        windows.push(window);
        let underpaid = number == ORDERS - 1;
        let scenario = if underpaid { Scenario::Conflict } else { Scenario::Success };
        messages.extend(story(scenario, &order));
        orders.push(order);
    }

    // Each three times, in any order, and again after each failure, as Inqud does within days.
    let again = vec![Duration::from_millis(150); 100];
    let inqud = shop
        .inqud()
        .timeout(Duration::from_secs(2))
        .times(3)
        .shuffled()
        .interval(Duration::from_millis(60))
        .retries(&again);
    let delivering = tokio::spawn(async move { inqud.deliver(messages, client()).await });
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    for kill in 0..10 {
        // 0 to 397 ms: before, during and after commits.
        sleep(Duration::from_millis((seed * 7919 + kill * 104_729) % 398)).await;
        shop.kill();
        shop.restart();
    }
    let report = delivering.await.unwrap();
    assert!(report.all_acknowledged(), "{report}");

    for (number, (order, window)) in orders.iter().zip(windows).enumerate() {
        let end = if number == ORDERS - 1 { "underpaid" } else { "paid" };
        chrome.switch_to_window(window).await.unwrap();
        chrome.shows(end).await;
        // The page never went back, and was never reloaded.
        let rank = |phase: &String| ["waiting", "seen", end].iter().position(|it| it == phase);
        let ranks: Vec<_> = chrome.phases().await.iter().map(rank).collect();
        assert!(ranks.is_sorted() && ranks.iter().all(Option::is_some), "{ranks:?}");
        let shipped = shop.number("SELECT shipped FROM orders WHERE id = ?1", order);
        assert_eq!(shipped, i64::from(end == "paid"));
    }
}

/// Killed after the order was stored, and before its Request was.
#[tokio::test]
async fn order_without_a_request_gets_one_after_the_restart() {
    let (mut shop, chrome) = (Shop::start(), Chrome::start().await);
    let order = shop.order("Ada Lovelace").await;
    shop.kill();
    shop.write("DELETE FROM requests WHERE order_id = ?1", &order);
    // Older orders that wait must not keep it from being found.
    let older = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 101)
        INSERT INTO orders (id, product, recipient, amount, currency, created_at, version)
        SELECT 'older-' || i, product, recipient, amount, currency, created_at - 1, version FROM orders, n WHERE id = ?1";
    shop.write(older, &order);
    let waiting = "INSERT INTO requests (id, order_id, status, overpaid, is_paid, was_paid)
        SELECT 'CAPD-' || id, id, 'WAITING_PAYMENT', 0, 0, 0 FROM orders WHERE id <> ?1";
    shop.write(waiting, &order);
    shop.restart();
    chrome.goto(&shop.url(&format!("/orders/{order}"))).await.unwrap();
    chrome.shows("waiting").await;
    assert!(chrome.text("#address").await.starts_with("0x"));
}
