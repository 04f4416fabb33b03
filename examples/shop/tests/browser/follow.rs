//! A payment page follows its order by itself.

use fantoccini::Locator;
use inqud_mock::Scenario;
use serde_json::json;

use crate::chrome::Chrome;
use crate::login::{Operator, is_idle};
use crate::process::{Shop, story};

/// Opens the page of a new order, and records each phase that it shows.
async fn open(shop: &Shop, chrome: &Chrome) -> String {
    let order = shop.order("Ada Lovelace").await;
    chrome.goto(&shop.url(&format!("/orders/{order}"))).await.unwrap();
    chrome.shows("waiting").await;
    chrome.record_phases().await;
    order
}

#[tokio::test]
async fn page_goes_from_waiting_to_paid_without_a_reload() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    let order = open(&shop, &chrome).await;
    assert!(chrome.title().await.unwrap().starts_with("Waiting for your payment"));

    let messages = story(Scenario::Success, &order);
    shop.accept(&messages[..2]).await;
    chrome.shows("seen").await;
    shop.accept(&messages[2..]).await;
    chrome.shows("paid").await;

    assert_eq!(chrome.text("#headline").await, "Paid, thank you");
    assert_eq!(chrome.title().await.unwrap(), "Paid, thank you · Fieldhouse");
    assert!(chrome.text("#pay").await.contains("49.00 USDT"));
    // A reload would have removed the record.
    assert_eq!(chrome.phases().await, ["waiting", "seen", "paid"]);
}

#[tokio::test]
async fn forged_webhook_changes_nothing() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    let order = open(&shop, &chrome).await;
    let messages = story(Scenario::Success, &order);
    shop.refuse(&messages[2]).await;
    shop.refuse(&story(Scenario::Conflict, &order)[2]).await;
    // Arrives after the forged ones, so the page would have shown them by now.
    shop.accept(&messages[1..2]).await;
    chrome.shows("seen").await;
    assert_eq!(chrome.phases().await, ["waiting", "seen"]);
}

#[tokio::test]
async fn late_webhook_regresses_nothing() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    let order = open(&shop, &chrome).await;
    let messages = story(Scenario::Reversed, &order);
    shop.accept(&messages[2..3]).await;
    chrome.shows("paid").await;
    // The first two statuses of the same Request, after the third.
    shop.accept(&messages[..2]).await;
    shop.accept(&messages[3..]).await;
    chrome.shows("reversed").await;
    assert_eq!(chrome.phases().await, ["waiting", "paid", "reversed"]);
}

/// A browser opens at most six connections to a server, so a page in the background keeps none.
#[tokio::test]
async fn hidden_page_closes_its_connection_and_catches_up() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    let order = open(&shop, &chrome).await;
    let operator = Operator::log_in(&shop).await;
    operator.sees("<dt>Open pages</dt><dd>1</dd>").await;
    let page = chrome.window().await.unwrap();
    let other = chrome.new_window(true).await.unwrap().handle;
    chrome.switch_to_window(other).await.unwrap();
    chrome.devtools("Page.bringToFront", json!({})).await;
    operator.sees("<dt>Open pages</dt><dd>0</dd>").await;

    shop.accept(&story(Scenario::Success, &order)).await;
    is_idle(&shop).await;
    chrome.switch_to_window(page).await.unwrap();
    chrome.devtools("Page.bringToFront", json!({})).await;
    chrome.shows("paid").await;
    assert_eq!(chrome.phases().await, ["waiting", "paid"]);
}

#[tokio::test]
async fn page_works_without_javascript() {
    let (shop, chrome) = (Shop::start(), Chrome::without_javascript().await);
    chrome.goto(&shop.url("/products/pen")).await.unwrap();
    chrome.fill("#recipient", "Ada Lovelace").await;
    chrome.click(".primary").await;
    let waiting = Locator::Css("[data-phase=waiting]");
    chrome.wait().for_element(waiting).await.unwrap();
    assert!(chrome.text("main").await.contains("This page reloads every five seconds."));
    assert!(chrome.text("#countdown").await.starts_with("until "));

    let url = chrome.current_url().await.unwrap();
    let order = url.path().rsplit('/').next().unwrap();
    shop.accept(&story(Scenario::Success, order)).await;
    chrome.wait().for_element(Locator::Css("[data-phase=paid]")).await.unwrap();
    assert_eq!(chrome.text("#headline").await, "Paid, thank you");
}
