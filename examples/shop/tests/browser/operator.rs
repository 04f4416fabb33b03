//! The operator's pages: who may see them, and what they can do.

use fantoccini::Locator;
use http::StatusCode;
use inqud_mock::{Message, Scenario};

use crate::chrome::Chrome;
use crate::login::{Operator, is_idle, token};
use crate::process::{Shop, TOKEN, story};

async fn log_in(chrome: &Chrome, shop: &Shop) {
    chrome.goto(&shop.url("/operator")).await.unwrap();
    chrome.fill("#token", TOKEN).await;
    chrome.click(".primary").await;
    chrome.becomes_true("return location.pathname === '/operator'").await;
}

#[tokio::test]
async fn operator_needs_the_token() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    chrome.goto(&shop.url("/operator")).await.unwrap();
    assert_eq!(chrome.current_url().await.unwrap().path(), "/operator/login");
    chrome.fill("#token", "a wrong token, of some length").await;
    chrome.click(".primary").await;
    chrome.wait().for_element(Locator::Css("#token-error")).await.unwrap();
    assert_eq!(chrome.text("#token-error").await, "This is not the operator's token.");
    assert!(chrome.get_all_cookies().await.unwrap().is_empty());

    log_in(&chrome, &shop).await;
    assert!(chrome.text("main").await.contains("No order yet."));
    let cookie = chrome.get_named_cookie("operator").await.unwrap();
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.same_site().unwrap().to_string(), "Strict");
    assert_eq!(chrome.run("return document.cookie").await, "");
    assert!(!chrome.source().await.unwrap().contains(TOKEN));

    chrome.click(".nav button").await;
    chrome.becomes_true("return location.pathname === '/operator/login'").await;
    chrome.goto(&shop.url("/operator")).await.unwrap();
    assert_eq!(chrome.current_url().await.unwrap().path(), "/operator/login");
}

#[tokio::test]
async fn wrong_tokens_cookies_and_forms_are_refused() {
    let shop = Shop::start();
    for wrong in ["", "a token of the tesT", "a token of the test.", "a token of the tes"] {
        let response = shop.post("/operator/login", token(wrong), &[]).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{wrong:?}");
        assert!(!response.headers().contains_key("set-cookie"));
    }
    let operator = Operator::log_in(&shop).await;
    let (ends, tag) = operator.cookie.split_once('.').unwrap();
    let later = ends.replace("operator=", "operator=9");
    for cookie in [
        "".to_owned(),
        "operator=".to_owned(),
        "operator=1.00".to_owned(),
        ends.to_owned(),
        format!("{later}.{tag}"),
        format!("{ends}.{}", "0".repeat(64)),
        format!("x{}", operator.cookie),
    ] {
        for path in ["/operator", "/operator/orders/x", "/operator/notifications/x"] {
            let response = shop.get_with(path, &[("cookie", &cookie)]).await;
            assert_eq!(response.status(), StatusCode::SEE_OTHER, "{cookie:?} {path}");
        }
    }

    // A form of another site has neither the token of the session's forms nor the right header.
    let path = format!("/operator/notifications/{}", "0".repeat(32));
    let cookie = ("cookie", &*operator.cookie);
    for (form, headers) in [
        ("csrf=&action=discard".to_owned(), [cookie, ("sec-fetch-site", "same-origin")]),
        (format!("csrf={}&action=discard", "0".repeat(64)), [cookie, ("accept", "*/*")]),
        (format!("csrf={tag}&action=discard"), [cookie, ("accept", "*/*")]),
        (
            format!("csrf={}&action=discard", csrf(&operator).await),
            [cookie, ("sec-fetch-site", "cross-site")],
        ),
    ] {
        let response = shop.post(&path, form.clone(), &headers).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{form}");
    }
    let form = format!("csrf={}&action=discard", csrf(&operator).await);
    let response = shop.post(&path, form, &[cookie, ("sec-fetch-site", "same-origin")]).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
}

async fn csrf(operator: &Operator<'_>) -> String {
    let page = operator.page("/operator").await;
    let (_, rest) = page.split_once(r#"name="csrf" value=""#).unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn redrive_accept_and_reprocess_work() {
    let (mut shop, chrome) = (Shop::start(), Chrome::start().await);
    let order = shop.order("Ada Lovelace").await;
    let messages = story(Scenario::Success, &order);
    // As if an old backup had been restored: the order is gone, and its payment arrives.
    shop.kill();
    shop.write("UPDATE orders SET id = 'lost' WHERE id = ?1", &order);
    shop.restart();
    shop.accept(&messages[2..]).await;
    Operator::log_in(&shop).await.sees("<dt>Dead letters</dt><dd>1</dd>").await;
    log_in(&chrome, &shop).await;
    assert!(chrome.text(".list").await.contains(&format!("unknown order {order}")));

    // The session outlives the restart.
    shop.kill();
    shop.write("UPDATE orders SET id = ?1 WHERE id = 'lost'", &order);
    shop.restart();
    chrome.refresh().await.unwrap();
    chrome.click(".list button[value=redrive]").await;
    chrome.wait().for_element(Locator::Css("p.done")).await.unwrap();
    assert!(chrome.text("p.done").await.starts_with("Requeued."));
    is_idle(&shop).await;
    chrome.goto(&shop.url(&format!("/orders/{order}"))).await.unwrap();
    chrome.shows("paid").await;

    chrome.goto(&shop.url(&format!("/operator/orders/{order}"))).await.unwrap();
    chrome.click("td button[value=reprocess]").await;
    chrome.wait().for_element(Locator::Css("p.done")).await.unwrap();
    assert_eq!(chrome.text("#replays").await, "1");
    is_idle(&shop).await;
    assert_eq!(shop.number("SELECT shipped FROM orders WHERE id = ?1", &order), 1);

    // A status without a time may be older or newer than one with a time, so a person decides.
    let order = shop.order("Grace Hopper").await;
    let messages = story(Scenario::Success, &order);
    shop.accept(&messages[1..2]).await;
    is_idle(&shop).await;
    let text = String::from_utf8(messages[2].body().to_vec()).unwrap();
    let time = text.split(r#""lastUpdatedAt":"#).nth(1).unwrap().split(',').next().unwrap();
    shop.accept(&[Message::new(
        "SUCCESS",
        text.replace(&format!(r#""lastUpdatedAt":{time}"#), r#""lastUpdatedAt":null"#),
    )])
    .await;
    Operator::log_in(&shop).await.sees("<dt>For review</dt><dd>1</dd>").await;
    chrome.goto(&shop.url("/operator")).await.unwrap();
    assert_eq!(chrome.text(".list button[value=redrive]").await, "Accept");
    chrome.click(".list a").await;
    chrome.wait().for_element(Locator::Css("#entry-state")).await.unwrap();
    assert_eq!(chrome.text("#entry-state").await, "review");
    // Digit for digit as it was received.
    assert!(chrome.text(".body").await.contains(r#""payAmount": 49.00,"#));
    chrome.click("button[value=redrive]").await;
    chrome.wait().for_element(Locator::Css("p.done")).await.unwrap();
    is_idle(&shop).await;
    chrome.goto(&shop.url(&format!("/orders/{order}"))).await.unwrap();
    chrome.shows("paid").await;
}

#[tokio::test]
async fn discarded_dead_letter_is_gone() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    shop.accept(&[Message::new(
        "SUCCESS",
        r#"{"id":"CAPD-1","status":"SUCCESS","payAmount":"a lot"}"#,
    )])
    .await;
    log_in(&chrome, &shop).await;
    assert!(chrome.text(".list").await.contains("Undecodable"));
    chrome.click(".list button[value=discard]").await;
    chrome.wait().for_element(Locator::Css("p.done")).await.unwrap();
    assert_eq!(chrome.text("#entry-state").await, "skipped");
    chrome.goto(&shop.url("/operator")).await.unwrap();
    assert!(chrome.text("main").await.contains("Nothing needs you."));
}
