//! Headers, escaping, limits, and the content security policy as the browser enforces it.

use fantoccini::Locator;
use http::StatusCode;
use inqud_mock::Scenario;

use crate::chrome::Chrome;
use crate::login::Operator;
use crate::process::{Shop, TOKEN, story};

#[tokio::test]
async fn every_response_has_secure_headers() {
    let shop = Shop::start();
    let order = shop.order("Ada Lovelace").await;
    for path in [
        "/",
        "/products/pen",
        "/nothing",
        &format!("/orders/{order}"),
        "/operator",
        "/operator/login",
        "/assets/page.js",
        "/assets/style.css",
    ] {
        let response = shop.get(path).await;
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        let is_asset = path.starts_with("/assets/");
        assert_eq!(header("cache-control") == "no-store", !is_asset, "{path}");
        let body = String::from_utf8_lossy(response.body());
        assert!(!body.contains(TOKEN) && !body.contains("a secret of the test"), "{path}");
        assert!(!body.contains("style=") && !body.contains("onclick"), "{path}");
    }
}

#[tokio::test]
async fn browser_reports_no_violation_of_the_policy() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    let order = shop.order("Ada Lovelace").await;
    let payment = format!("/orders/{order}");
    chrome.goto(&shop.url("/operator/login")).await.unwrap();
    chrome.fill("#token", TOKEN).await;
    chrome.click(".primary").await;
    let order_page = format!("/operator/orders/{order}");
    for path in ["/", "/products/pen", "/operator", &order_page, &payment] {
        chrome.goto(&shop.url(path)).await.unwrap();
    }
    shop.accept(&story(Scenario::Success, &order)).await;
    chrome.shows("paid").await;
    assert_eq!(chrome.log().await, Vec::<String>::new());

    // The log would have shown one.
    chrome.run("document.body.append(Object.assign(document.createElement('script'), {text: 'window.evil = 1'}))").await;
    assert_eq!(chrome.run("return window.evil ?? 0").await, 0);
    let log = chrome.log().await;
    assert!(log.iter().any(|line| line.contains("Content Security Policy")), "{log:?}");
}

#[tokio::test]
async fn markup_in_a_name_is_shown_as_text() {
    const NAME: &str = r#"<b id="evil">&amp;</b>"'<script>document.title = 1</script>"#;
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    chrome.goto(&shop.url("/products/pen")).await.unwrap();
    chrome.fill("#recipient", NAME).await;
    chrome.click(".primary").await;
    chrome.shows("waiting").await;
    let order = chrome.current_url().await.unwrap().path().rsplit('/').next().unwrap().to_owned();
    assert!(chrome.text(".facts").await.contains(NAME));
    shop.accept(&story(Scenario::Success, &order)).await;
    chrome.shows("paid").await;
    // The text of this phase has the name, and came as an event.
    assert!(chrome.text("#state").await.contains(NAME));

    chrome.goto(&shop.url("/operator/login")).await.unwrap();
    chrome.fill("#token", TOKEN).await;
    chrome.click(".primary").await;
    chrome.wait().for_element(Locator::Css("table")).await.unwrap();
    assert!(chrome.text("table").await.contains(NAME));
    assert!(chrome.find_all(Locator::Css("#evil")).await.unwrap().is_empty());

    // The form shows again what was wrong.
    let long = format!("{}{}", "x".repeat(80), r#"%22%3E%3Cb+id%3Devil%3E"#);
    let response = shop.post("/orders", format!("product=pen&recipient={long}"), &[]).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = String::from_utf8_lossy(response.body()).into_owned();
    assert!(page.contains("at most 80 characters") && !page.contains("<b id=evil"), "{page}");
}

#[tokio::test]
async fn bad_forms_and_addresses_are_refused() {
    let shop = Shop::start();
    for (form, status) in [
        ("product=pen&recipient=+++".to_owned(), StatusCode::UNPROCESSABLE_ENTITY),
        ("product=pen&recipient=a%0D%0Ab".to_owned(), StatusCode::UNPROCESSABLE_ENTITY),
        ("product=pen".to_owned(), StatusCode::UNPROCESSABLE_ENTITY),
        ("product=house&recipient=a".to_owned(), StatusCode::NOT_FOUND),
        (format!("product=pen&recipient={}", "x".repeat(17 * 1024)), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let response = shop.post("/orders", form, &[]).await;
        assert_eq!(response.status(), status);
    }
    let cross = [("sec-fetch-site", "cross-site")];
    let response = shop.post("/orders", "product=pen&recipient=a".to_owned(), &cross).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);

    let operator = Operator::log_in(&shop).await;
    assert!(operator.page("/operator").await.contains("No order yet."));
    for path in ["/orders/x", "/orders/x/events", "/orders/%00", "/products/x", "/orders"] {
        assert!(shop.get(path).await.status().is_client_error(), "{path}");
    }
}
