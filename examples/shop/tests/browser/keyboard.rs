//! From the front to the payment, without a mouse.

use fantoccini::key::Key;

use crate::chrome::Chrome;
use crate::process::Shop;

/// Presses Tab until the focus is on this. Each stop on the way must be visible, and have a name.
async fn tab_to(chrome: &Chrome, css: &str) {
    for _ in 0..20 {
        chrome.press(Key::Tab).await;
        let stop = chrome
            .run(
                "const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
                 return {
                   ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
                   seen: box.width > 1 && box.height > 1 && box.top >= 0,
                   name: at.labels?.[0]?.textContent ?? at.textContent,
                 }",
            )
            .await;
        assert_eq!((&stop["ring"], &stop["seen"]), (&true.into(), &true.into()), "{stop}");
        assert!(!stop["name"].as_str().unwrap().trim().is_empty(), "{stop}");
        if chrome.run(&format!("return document.activeElement.matches('{css}')")).await == true {
            return;
        }
    }
    panic!("Tab does not reach {css}");
}

#[tokio::test]
async fn keyboard_reaches_everything() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    chrome.goto(&shop.url("/")).await.unwrap();
    tab_to(&chrome, ".skip").await;
    chrome.press(Key::Enter).await;
    assert_eq!(chrome.run("return document.activeElement.id").await, "main");
    tab_to(&chrome, "a[href=\"/products/pen\"]").await;
    chrome.press(Key::Enter).await;
    chrome.becomes_true("return location.pathname === '/products/pen'").await;

    tab_to(&chrome, "#recipient").await;
    for letter in "Ada".chars() {
        chrome.type_letter(letter).await;
    }
    tab_to(&chrome, "button.primary").await;
    chrome.press(Key::Enter).await;
    chrome.shows("waiting").await;
    assert!(chrome.text(".facts").await.contains("Ada"));

    tab_to(&chrome, "button[data-copy=address]").await;
    // The button disappears when the payment is seen, and the focus does not fall back to the top.
    let order = chrome.current_url().await.unwrap().path().rsplit('/').next().unwrap().to_owned();
    let seen = &crate::process::story(inqud_mock::Scenario::Success, &order)[1..2];
    shop.accept(seen).await;
    chrome.shows("seen").await;
    assert_eq!(chrome.run("return document.activeElement.id").await, "headline");
    // A screen reader is told of the change, and not of the countdown.
    assert_eq!(
        chrome
            .run("return document.getElementById('headline').closest('[role=status]') !== null")
            .await,
        true
    );
}
