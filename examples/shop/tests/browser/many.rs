//! Fifty pages in one browser, all open at once.

use inqud_mock::Scenario;

use crate::chrome::Chrome;
use crate::login::Operator;
use crate::process::{Shop, story};

/// Chromium opens at most six connections to a host, so five pages share one. All names are this machine.
const HOSTS: usize = 10;
const PAGES_OF_A_HOST: usize = 5;

#[tokio::test]
async fn fifty_open_pages_all_follow() {
    let shop = Shop::start();
    // Ten hosts would be ten times five processes.
    let few = ["--renderer-process-limit=3", "--disable-site-isolation-trials"];
    let chrome = Chrome::with(&few, serde_json::json!({})).await;
    let mut orders = Vec::new();
    for _ in 0..HOSTS {
        orders.push(shop.order("Ada Lovelace").await);
    }
    let first = chrome.window().await.unwrap();
    for host in 0..HOSTS {
        for page in 0..PAGES_OF_A_HOST {
            let (order, port) = (&orders[(host + page) % HOSTS], shop.address.port());
            let url = format!("http://p{host}.localhost:{port}/orders/{order}");
            // A window, because a page in a hidden tab does not follow.
            chrome
                .run(&format!("open('{url}', '_blank', 'popup,noopener,width=400,height=600')"))
                .await;
        }
    }
    let windows = chrome.windows().await.unwrap().into_iter().filter(|it| *it != first);
    let windows: Vec<_> = windows.collect();
    assert_eq!(windows.len(), 50);
    for window in &windows {
        chrome.switch_to_window(window.clone()).await.unwrap();
        chrome.shows("waiting").await;
        chrome.record_phases().await;
    }
    Operator::log_in(&shop).await.sees("<dt>Open pages</dt><dd>50</dd>").await;

    for order in &orders {
        shop.accept(&story(Scenario::Success, order)[2..]).await;
    }
    for window in windows {
        chrome.switch_to_window(window).await.unwrap();
        chrome.shows("paid").await;
        assert_eq!(chrome.phases().await, ["waiting", "paid"]);
    }
}
