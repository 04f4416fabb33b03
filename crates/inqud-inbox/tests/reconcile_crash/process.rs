//! Starts and kills the merchant's process.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::STUCK;
use crate::child::{API, PLACE, STOP, STOPPED, Stop};
use crate::found::Place;

/// What the processes that [`Merchant`] starts have printed.
#[derive(Default)]
struct Printed {
    outcomes: Mutex<HashMap<String, usize>>,
    stopped: Notify,
}

pub struct Merchant<'p> {
    place: &'p Place,
    api: String,
    address: watch::Sender<Option<String>>,
    child: Option<Child>,
    printed: Arc<Printed>,
}

impl<'p> Merchant<'p> {
    pub fn new(place: &'p Place, api: String) -> Self {
        let address = watch::channel(None).0;
        Self { place, api, address, child: None, printed: Arc::default() }
    }

    pub fn address(&self) -> watch::Receiver<Option<String>> {
        self.address.subscribe()
    }

    /// How many looks had each outcome.
    pub fn outcomes(&self) -> HashMap<String, usize> {
        self.printed.outcomes.lock().unwrap().clone()
    }

    pub async fn start(&mut self, stop: Stop) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["merchant", "--exact", "--ignored", "--nocapture"]);
        command.env(PLACE, self.place.argument()).env(API, &self.api).env(STOP, stop.word());
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listens = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it ended before it listened");
                if let Some((_, address)) = line.split_once("listening on ") {
                    return address.to_owned();
                }
            }
        };
        let address = timeout(STUCK, listens).await.expect("it does not listen");
        let printed = Arc::clone(&self.printed);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains(STOPPED) {
                    printed.stopped.notify_one();
                }
                if let Some((_, outcome)) = line.split_once("outcome=\"") {
                    let outcome = outcome.split('"').next().unwrap().to_owned();
                    *printed.outcomes.lock().unwrap().entry(outcome).or_default() += 1;
                }
            }
        });
        self.child = Some(child);
        self.address.send_replace(Some(format!("http://{address}/")));
    }

    /// Waits until the process has stopped where it was told to.
    pub async fn stopped(&self) {
        self.printed.stopped.notified().await;
    }

    /// Kills the process with SIGKILL, unless it has killed itself. Returns the objects at which it was looking.
    pub async fn kill(&mut self) -> Vec<String> {
        self.address.send_replace(None);
        self.child.take().unwrap().kill().await.unwrap();
        self.place.interrupted().await
    }
}
