//! Every end of a payment is shown, by an icon and words as well as by colour.

use inqud_mock::Scenario;

use crate::chrome::Chrome;
use crate::login::is_idle;
use crate::process::{Shop, story};

#[tokio::test]
async fn every_end_is_shown() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    for (scenario, phase, headline, step, shipped) in [
        (Scenario::Success, "paid", "Paid, thank you", "Paid, done", 1),
        (Scenario::Overpaid, "overpaid", "Paid, thank you", "Paid, done", 1),
        (Scenario::Conflict, "underpaid", "Not fully paid", "Underpaid, stopped here", 0),
        (Scenario::ResolvedConflict, "underpaid", "Not fully paid", "Underpaid, stopped here", 0),
        (Scenario::Expired, "expired", "The payment window has closed", "Expired, stopped here", 0),
        (Scenario::Reversed, "reversed", "Your payment was reversed", "Reversed, stopped here", 1),
    ] {
        let order = shop.order("Ada Lovelace").await;
        chrome.goto(&shop.url(&format!("/orders/{order}"))).await.unwrap();
        chrome.shows("waiting").await;
        chrome.record_phases().await;
        // Each one is handled before the next one arrives, as in real life.
        for message in story(scenario, &order) {
            shop.accept(&[message]).await;
            is_idle(&shop).await;
        }
        chrome.shows(phase).await;
        assert_eq!(chrome.text("#headline").await, headline, "{scenario:?}");
        let steps = chrome.run("return document.querySelector('.steps').textContent").await;
        assert!(steps.as_str().unwrap().contains(step), "{scenario:?}: {steps}");
        let icon = chrome.run("return document.querySelector('.verdict use') !== null").await;
        assert_eq!(icon, true, "{scenario:?}");
        assert_eq!(shop.number("SELECT shipped FROM orders WHERE id = ?1", &order), shipped);

        // A reload shows the same, because both come from the database.
        chrome.refresh().await.unwrap();
        assert_eq!(chrome.phase().await, phase, "{scenario:?}");
    }
}

#[tokio::test]
async fn status_that_the_shop_does_not_know_is_a_problem() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    let order = shop.order("Ada Lovelace").await;
    let text = String::from_utf8(story(Scenario::Success, &order)[2].body().to_vec()).unwrap();
    let unknown = text.replace(r#""status":"SUCCESS""#, r#""status":"FROZEN_BY_A_NEW_RULE""#);
    shop.accept(&[inqud_mock::Message::new("unknown", unknown)]).await;
    chrome.goto(&shop.url(&format!("/orders/{order}"))).await.unwrap();
    chrome.shows("problem").await;
}
