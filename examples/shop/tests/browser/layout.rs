//! What pages look like: they fit a phone, their texts have contrast, and pictures of them are written with
//! `SCREENSHOTS=1`.

use std::fs;
use std::path::Path;

use inqud_mock::Scenario;
use serde_json::json;

use crate::chrome::Chrome;
use crate::login::is_idle;
use crate::process::{Shop, TOKEN, story};

const WIDTHS: [(u32, bool); 2] = [(1280, false), (390, true)];
const SCHEMES: [&str; 2] = ["light", "dark"];

/// The pictures that are kept.
const PICTURES: &[(&str, u32, &str)] = &[
    ("front", 1280, "light"),
    ("waiting", 1280, "light"),
    ("waiting", 390, "dark"),
    ("paid", 1280, "dark"),
    ("paid", 390, "light"),
    ("underpaid", 390, "light"),
    ("operator", 1280, "light"),
];

/// Texts with too little contrast, and elements that are wider than the page.
const FAULTS: &str = r#"
const faults = [];
const channel = (value) => { value /= 255; return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
const parse = (color) => color.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const color = parse(getComputedStyle(element).backgroundColor);
    if (color.length < 4 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest(".sr, .skip, option, noscript")) continue;
  const style = getComputedStyle(element);
  const [one, two] = [light(parse(style.color)), light(behind(element))].sort((a, b) => b - a);
  const ratio = (one + 0.05) / (two + 0.05);
  const isLarge = parseFloat(style.fontSize) >= 24;
  if (ratio < (isLarge ? 3 : 4.5)) faults.push(`contrast ${ratio.toFixed(2)}: ${texts.currentNode.data.trim()}`);
}
for (const element of document.querySelectorAll("main *, header *")) {
  const box = element.getBoundingClientRect();
  if (box.width > 1 && box.right > innerWidth + 0.5 && !element.closest(".sr, thead")) faults.push(`too wide: ${element.outerHTML.slice(0, 80)}`);
}
if (document.documentElement.scrollWidth > innerWidth) faults.push("scrolls sideways");
return faults;
"#;

#[tokio::test]
async fn pages_fit_and_have_contrast_in_light_and_dark() {
    let (shop, chrome) = (Shop::start(), Chrome::start().await);
    chrome.goto(&shop.url("/operator/login")).await.unwrap();
    chrome.fill("#token", TOKEN).await;
    chrome.click(".primary").await;
    chrome.becomes_true("return location.pathname === '/operator'").await;

    let mut pages = vec![
        ("front", "/".to_owned()),
        ("product", "/products/lamp".to_owned()),
        ("login", "/operator/login".to_owned()),
        ("missing", "/nothing".to_owned()),
    ];
    let writes = std::env::var_os("SCREENSHOTS").is_some();
    let all = std::env::var("SCREENSHOTS").is_ok_and(|value| value == "all");
    // Text without a place to break it, except in pictures for the documentation.
    let long = |text: &str, repeats| text.repeat(if writes && !all { 1 } else { repeats });
    let waiting = shop.order("Ada Lovelace").await;
    pages.push(("waiting", format!("/orders/{waiting}")));
    for (name, scenario, count) in [
        ("seen", Scenario::Success, 2),
        ("paid", Scenario::Success, 3),
        ("overpaid", Scenario::Overpaid, 3),
        ("underpaid", Scenario::Conflict, 3),
        ("expired", Scenario::Expired, 2),
        ("reversed", Scenario::Reversed, 4),
    ] {
        let recipient =
            if name == "overpaid" { long("Wren", 20) } else { "Ada Lovelace".to_owned() };
        let order = shop.order(&recipient).await;
        for message in &story(scenario, &order)[..count] {
            shop.accept(std::slice::from_ref(message)).await;
            is_idle(&shop).await;
        }
        pages.push((name, format!("/orders/{order}")));
        if name == "paid" {
            pages.push(("order", format!("/operator/orders/{order}")));
        }
    }
    shop.refuse(&story(Scenario::Success, &waiting)[2]).await;
    shop.accept(&story(Scenario::Success, &long("another-shop-", 16))[..1]).await;
    is_idle(&shop).await;
    pages.push(("operator", "/operator".to_owned()));

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("screenshots");
    for (width, mobile) in WIDTHS {
        for scheme in SCHEMES {
            let size =
                json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": mobile});
            chrome.devtools("Emulation.setDeviceMetricsOverride", size).await;
            let scheme_is = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]});
            chrome.devtools("Emulation.setEmulatedMedia", scheme_is).await;
            for (name, path) in &pages {
                chrome.goto(&shop.url(path)).await.unwrap();
                assert_eq!(chrome.run(FAULTS).await, json!([]), "{name} at {width} in {scheme}");
                if writes && (all || PICTURES.contains(&(name, width, scheme))) {
                    fs::create_dir_all(&folder).unwrap();
                    let picture = chrome.picture(width).await;
                    fs::write(folder.join(format!("{name}-{width}-{scheme}.png")), picture)
                        .unwrap();
                }
            }
        }
    }
}
