//! The alert rules and the dashboard use metrics, labels and values that exist, and each alert is documented and tested.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post_service};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use inqud_inbox::{Context, Fetch, Fetched, Inbox, Memory, Retention, Stored};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use serde_json::Value;
use tokio::time::sleep;
use tower_inqud::{PaymentRequest, contract};

const ALERTS: &str = "docs/monitoring/alerts.yml";
const DASHBOARD: &str = "docs/monitoring/grafana.json";

/// Labels that Prometheus adds, or that belong to its alerts.
const OF_PROMETHEUS: [&str; 2] = ["job", "le"];

/// The pages that document the values of labels, in backticks.
const PAGES: [&str; 4] = [
    "src/layer/mod.rs",
    "crates/inqud-inbox/docs/inbox.md",
    "crates/inqud-inbox/docs/reconcile.md",
    "docs/production.md",
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The values of each label of each metric.
type Metrics = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Parses lines such as `name{label="value"} 1`. No value here contains a comma or an escape.
fn parse(scrape: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in scrape.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let of_metric = metrics.entry(name.to_owned()).or_default();
        let labels = labels.strip_suffix('}').unwrap();
        for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
            let (label, value) = pair.split_once('=').unwrap();
            of_metric
                .entry(label.to_owned())
                .or_default()
                .insert(value.trim_matches('"').to_owned());
        }
    }
    metrics
}

/// Has each object as a paid one.
struct Api;

impl Fetch<PaymentRequest> for Api {
    async fn fetch(&self, id: &str) -> Fetched {
        Fetched::Found(Bytes::from(format!(r#"{{"id":"{id}","status":"SUCCESS"}}"#)))
    }
}

/// A scrape over a connection, like that of Prometheus, from a server with a layer, an inbox, a runner and a reconciler.
async fn scrape() -> Metrics {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &[0.1, 5.0]).unwrap();
    let recorder = recorder.build_recorder();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let handle = recorder.handle();
    let inbox = Inbox::memory();
    let looked_at = inbox.clone();
    let receiver = post_service(inbox.receiver::<PaymentRequest>());
    let log = inbox.rejection_log();
    let layer = support::layer::<PaymentRequest>().on_rejection(log.observer::<PaymentRequest>());
    let app = Router::new().route("/", receiver.layer(layer)).route(
        "/metrics",
        get(async move || {
            looked_at.stats().await.unwrap();
            handle.render()
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let send = async |mut request: Request<Full<Bytes>>| {
        *request.uri_mut() = format!("http://{address}/").parse().unwrap();
        client.request(request).await.unwrap();
    };
    let body = |id: u8| format!(r#"{{"id":"CAPD-{id}","status":"SUCCESS"}}"#);
    for body in [body(1), body(1), body(2), "{}".to_owned(), "no JSON".to_owned()] {
        send(support::signed(body)).await;
    }
    let mut forged = support::signed(body(3));
    *forged.body_mut() = Full::from(body(4));
    send(forged).await;
    let handler = async |request: Stored<PaymentRequest>, _: Context<Memory>| {
        if request.id.ends_with('2') { Err("the shop is closed") } else { Ok(()) }
    };
    let drained = async {
        while inbox.stats().await.unwrap().backlog() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    inbox.process(handler).max_attempts(1).run_until(drained).await.unwrap();
    inbox.set_open_objects::<PaymentRequest>(1);
    let found = inbox.reconcile::<PaymentRequest>(Api).look_at(None, "CAPD-lost").await.unwrap();
    assert_eq!(found.outcome.as_str(), "recovered");
    let retention = Retention::new().bodies(contract::DUPLICATE_WINDOW).unwrap();
    inbox.sweep(&retention).await.unwrap();
    while inbox.rejections(1).await.unwrap().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }

    let scrape = client.get(format!("http://{address}/metrics").parse().unwrap()).await.unwrap();
    let scrape = scrape.into_body().collect().await.unwrap().to_bytes();
    parse(str::from_utf8(&scrape).unwrap())
}

/// Whether a page has the value in backticks.
fn is_documented(value: &str) -> bool {
    PAGES.iter().any(|page| read(page).contains(&format!("`{value}`")))
}

/// A metric in an expression, and its matchers: label and values.
#[derive(Debug, PartialEq)]
struct Selector {
    metric: String,
    matchers: Vec<(String, Vec<String>)>,
}

fn selectors(text: &str) -> Vec<Selector> {
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let mut found = Vec::new();
    for (at, _) in text.match_indices("inqud_") {
        // In the middle of another word, such as the name of the crate in a link.
        if text[..at].ends_with(|it| is_name(it) || it == '/') {
            continue;
        }
        let rest = &text[at..];
        let (metric, rest) = rest.split_at(rest.find(|it| !is_name(it)).unwrap_or(rest.len()));
        let matchers = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = matchers.map_or("", |(matchers, _)| matchers).split(',');
        let matchers = matchers.filter(|it| !it.is_empty()).map(matcher).collect();
        found.push(Selector { metric: metric.to_owned(), matchers });
    }
    found
}

fn matcher(text: &str) -> (String, Vec<String>) {
    let (label, value) = text.split_once(['=', '!']).unwrap_or_else(|| panic!("{text}"));
    let value = value.trim_start_matches(['=', '~']).trim_matches('"');
    let values = value.split('|').filter(|it| !it.is_empty() && !it.starts_with('$'));
    (label.to_owned(), values.map(str::to_owned).collect())
}

/// The labels of all `by (...)` and `on (...)`, of `{{ $labels... }}`, and of Grafana's `{{...}}`.
fn labels(text: &str) -> BTreeSet<&str> {
    let lists = ["by (", "on ("].into_iter().flat_map(|start| text.split(start).skip(1));
    let lists = lists.map(|rest| rest.split_once(')').unwrap().0).flat_map(|it| it.split(','));
    let templates = text.split("{{").skip(1).map(|rest| rest.split_once("}}").unwrap().0.trim());
    let templates = templates.filter(|it| !it.starts_with("$value"));
    let templates = templates.map(|it| it.strip_prefix("$labels.").unwrap_or(it));
    lists.chain(templates).map(str::trim).filter(|it| !it.is_empty()).collect()
}

#[track_caller]
fn check(text: &str, metrics: &Metrics) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for selector in selectors(text) {
        let known = metrics.get(&selector.metric);
        let known = known.unwrap_or_else(|| panic!("{} is not in the scrape", selector.metric));
        for (label, values) in &selector.matchers {
            if OF_PROMETHEUS.contains(&&**label) {
                continue;
            }
            let seen = known.get(label).unwrap_or_else(|| panic!("no such label: {selector:?}"));
            for value in values {
                let is_known = seen.contains(value) || is_documented(value);
                assert!(is_known, "{value} is in no scrape and not documented: {selector:?}");
            }
        }
        used.insert(selector.metric);
    }
    let known: BTreeSet<_> =
        metrics.values().flat_map(|it| it.keys()).map(String::as_str).collect();
    for label in labels(text) {
        assert!(known.contains(label) || OF_PROMETHEUS.contains(&label), "no label {label}");
    }
    used
}

/// All strings of a JSON value under these keys.
fn strings(json: &Value, keys: &[&str], found: &mut Vec<String>) {
    match json {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if keys.contains(&&**key) => found.push(text.clone()),
                    _ => strings(value, keys, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, keys, found)),
        _ => {}
    }
}

/// The metric that a sample of a histogram belongs to.
fn family(sample: &str) -> &str {
    let suffixes = ["_bucket", "_sum", "_count"];
    suffixes.iter().find_map(|suffix| sample.strip_suffix(suffix)).unwrap_or(sample)
}

#[tokio::test]
async fn rules_and_dashboard_use_existing_metrics() {
    let metrics = scrape().await;
    let rules = check(&read(ALERTS), &metrics);
    assert!(rules.len() >= 8, "{rules:?}");

    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut expressions = Vec::new();
    strings(&dashboard, &["expr", "legendFormat", "definition"], &mut expressions);
    let shown = check(&expressions.join("\n"), &metrics);
    // The dashboard leaves nothing out.
    let shown: BTreeSet<_> = shown.iter().map(|it| family(it)).collect();
    let exist: BTreeSet<_> = metrics.keys().map(|it| family(it)).collect();
    assert_eq!(shown, exist);
    // It asks the data source that its reader chooses.
    let mut sources = Vec::new();
    strings(&dashboard, &["uid"], &mut sources);
    sources.retain(|it| it != "${datasource}");
    assert_eq!(sources, ["inqud-webhooks"]);
}

#[test]
fn each_alert_is_documented_and_tested() {
    let rules = read(ALERTS);
    let after = |line: &str, start: &str| line.trim().strip_prefix(start).map(str::to_owned);
    let names: Vec<_> = rules.lines().filter_map(|line| after(line, "- alert: ")).collect();
    let severities: Vec<_> = rules.lines().filter_map(|line| after(line, "severity: ")).collect();
    assert!(names.len() > 20 && names.len() == severities.len(), "{names:?} {severities:?}");
    let rows =
        names.iter().zip(severities).map(|(name, severity)| format!("| `{name}` | {severity} |"));
    let page = read("docs/monitoring/README.md");
    let documented = page.lines().filter(|line| line.starts_with("| `Inqud"));
    let documented: Vec<_> =
        documented.map(|it| it.split_inclusive('|').take(3).collect::<String>()).collect();
    assert_eq!(documented, rows.collect::<Vec<_>>());
    let tests = read("docs/monitoring/alerts_test.yml") + &read("docs/monitoring/silence_test.yml");
    for name in names {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "no test lets {name} fire");
    }
}

/// As rustdoc makes the address of a heading.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = |it: &char| it.is_alphanumeric() || *it == ' ' || *it == '-' || *it == '_';
    heading.chars().filter(kept).map(|it| if it == ' ' { '-' } else { it }).collect()
}

#[test]
fn runbooks_exist() {
    let rules = read(ALERTS);
    let mut count = 0;
    for link in
        rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: https://docs.rs/"))
    {
        let (page, heading) = link.split_once("/index.html#").unwrap();
        let file = match page.split_once("/latest/").unwrap() {
            ("tower-inqud", page) => page.replace("tower_inqud/guide/", "docs/"),
            ("inqud-inbox", page) => page.replace("inqud_inbox/guide/", "crates/inqud-inbox/docs/"),
            _ => panic!("{link}"),
        };
        let text = read(&format!("{file}.md"));
        let mut headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
        assert!(headings.any(|it| it == heading), "{link}");
        count += 1;
    }
    assert_eq!(count, rules.matches("- alert: ").count());
}

#[test]
fn finds_selectors_and_labels() {
    let text = r#"sum by (a, b) (x_inqud_no) / inqud_c{d="e",f=~"g|$h",i!=""}[5m] {{ $labels.j }} {{k}} {{ $value }}"#;
    let matchers = [("d", &["e"][..]), ("f", &["g"]), ("i", &[])];
    let matchers = matchers.map(|(label, values)| {
        (label.to_owned(), values.iter().map(|&value| value.to_owned()).collect())
    });
    let expected = Selector { metric: "inqud_c".to_owned(), matchers: matchers.into() };
    assert_eq!(selectors(text), [expected]);
    assert_eq!(labels(text), BTreeSet::from(["a", "b", "j", "k"]));
}
