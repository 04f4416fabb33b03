//! A headless Chromium of the test's own, driven through chromedriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long a page may take to show something.
pub const PATIENCE: Duration = Duration::from_secs(60);

const ARGUMENTS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--window-size=1280,900",
];

pub struct Chrome {
    client: Client,
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Chrome {
    pub async fn start() -> Self {
        Self::with(&[], json!({})).await
    }

    pub async fn without_javascript() -> Self {
        let off = json!({"profile.managed_default_content_settings.javascript": 2});
        Self::with(&[], off).await
    }

    pub async fn with(more: &[&str], preferences: Value) -> Self {
        let (driver, port) = start_driver();
        let profile = tempfile::tempdir().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        let arguments: Vec<&str> = ARGUMENTS.iter().chain(more).copied().chain([&*data]).collect();
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments, "prefs": preferences },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Chromium did not start: `.ci/run shop` installs it");
        let session = client.session_id().await.unwrap().unwrap();
        Self { client, driver, port, session, _profile: profile }
    }

    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Runs a command of the DevTools protocol.
    pub async fn devtools(&self, name: &str, parameters: Value) -> Value {
        let body = json!({"cmd": name, "params": parameters});
        self.client.issue_cmd(Post { path: "goog/cdp/execute", body }).await.unwrap()
    }

    /// What the browser wrote to its console, violations of the content security policy included.
    pub async fn log(&self) -> Vec<String> {
        let command = Post { path: "se/log", body: json!({"type": "browser"}) };
        let log = self.client.issue_cmd(command).await.unwrap();
        log.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    pub async fn text(&self, css: &str) -> String {
        self.client.find(Locator::Css(css)).await.unwrap().text().await.unwrap()
    }

    pub async fn click(&self, css: &str) {
        self.client.find(Locator::Css(css)).await.unwrap().click().await.unwrap();
    }

    pub async fn fill(&self, css: &str, text: &str) {
        self.client.find(Locator::Css(css)).await.unwrap().send_keys(text).await.unwrap();
    }

    /// The phase that the page shows.
    pub async fn phase(&self) -> String {
        let phase = self.run("return document.getElementById('state')?.dataset.phase ?? ''").await;
        phase.as_str().unwrap().to_owned()
    }

    /// Waits until the page shows this phase.
    pub async fn shows(&self, phase: &str) {
        let script =
            format!("return document.getElementById('state')?.dataset.phase === '{phase}'");
        self.becomes_true(&script).await;
    }

    /// Records the phases that the page shows from now on. A reload removes the record.
    pub async fn record_phases(&self) {
        self.run(
            "const state = document.getElementById('state');
             window.phases = [state.dataset.phase];
             new MutationObserver(() => {
               if (window.phases.at(-1) !== state.dataset.phase) window.phases.push(state.dataset.phase);
             }).observe(state, { attributes: true });",
        )
        .await;
    }

    pub async fn phases(&self) -> Vec<String> {
        let phases = self.run("return window.phases ?? []").await;
        phases.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    }

    /// A picture of the page.
    pub async fn picture(&self, width: u32) -> Vec<u8> {
        let size = self.devtools("Page.getLayoutMetrics", json!({})).await;
        // Long lists are cut, to keep the file small.
        let height = size["cssContentSize"]["height"].as_f64().unwrap().min(1250.0);
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let options = json!({"captureBeyondViewport": true, "clip": clip});
        let picture = self.devtools("Page.captureScreenshot", options).await;
        BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }

    pub async fn press(&self, key: Key) {
        self.type_letter(key.into()).await;
    }

    /// Types with the keyboard into whatever has the focus.
    pub async fn type_letter(&self, letter: char) {
        let press = [KeyAction::Down { value: letter }, KeyAction::Up { value: letter }];
        let keys = press
            .into_iter()
            .fold(KeyActions::new("keys".to_owned()), |keys, action| keys.then(action));
        self.perform_actions(keys).await.unwrap();
    }

    pub async fn becomes_true(&self, script: &str) {
        let ends = Instant::now() + PATIENCE;
        // A page that is loading cannot run it.
        while self.client.execute(script, Vec::new()).await.ok() != Some(Value::Bool(true)) {
            if Instant::now() > ends {
                panic!("not in time: {script}\n{}", self.text("body").await);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Deref for Chrome {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Ends Chromium too when a test fails: chromedriver leaves it running if it is killed.
impl Drop for Chrome {
    fn drop(&mut self) {
        if let Ok(mut driver) = TcpStream::connect(("127.0.0.1", self.port)) {
            let (session, port) = (&self.session, self.port);
            _ = driver.set_read_timeout(Some(Duration::from_secs(5)));
            _ = write!(
                driver,
                "DELETE /session/{session} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n"
            );
            _ = driver.read(&mut [0; 64]);
        }
        _ = self.driver.kill();
        _ = self.driver.wait();
    }
}

/// Starts chromedriver on a free port, which it chooses itself.
fn start_driver() -> (Child, u16) {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver is missing: `.ci/run shop` installs it");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = loop {
        let line = lines.next().expect("chromedriver ended").unwrap();
        let port = line.split("successfully on port ").nth(1);
        if let Some(port) = port.and_then(|it| it.trim_end_matches('.').parse().ok()) {
            break port;
        }
    };
    // It must not block on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (driver, port)
}

/// A command of chromedriver that is not in the WebDriver standard.
#[derive(Debug)]
struct Post {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Post {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}
