//! The text of a secret does not stay in memory, and dropping a secret zeroizes it.
//!
//! A child process holds the secret, and this process searches the memory of the child. What stays depends on
//! how moves are compiled, so also run it in a release build:
//! `cargo test --release -p inqud-webhook --test memory_secret`. It is a test of this package because the release
//! build of the tests of `tower-inqud` takes minutes.
#![cfg(target_os = "linux")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

#[path = "../../../tests/support/search.rs"]
mod search;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use search::{Holder, Needles, SecretFile, hex, random};
use support::{Inner, REQUEST, Script, Step, call};
use tower::Layer;
use tower_inqud::{Algorithm, PaymentRequest, Secret, Verifier, WebhookLayer, contract, sign};

/// The variable that tells the child what to do. A process without it is not a child.
const ROLE: &str = "MEMORY_SECRET_ROLE";
const FILE: &str = "MEMORY_SECRET_FILE";

// ---------------------------------------------------------------- the child

/// Holds a secret until the parent says to drop it. Does nothing in a normal test run.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let mut file = File::open(env::var_os(FILE).unwrap()).unwrap();
    let mut text = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact(&mut text).unwrap();
    let kept = (role == "careless").then(|| text.clone());
    let secret = Secret::verbatim(text).unwrap();
    if role != "unused" {
        use_it(&secret);
    }
    tell("alive");
    drop(secret);
    tell("dropped");
    drop(kept);
}

/// Announces a stage, and waits until the parent has searched the memory.
fn tell(stage: &str) {
    println!("\nstage {stage}");
    let mut line = [0];
    std::io::stdin().read_exact(&mut line).unwrap();
}

/// Runs everything that works with a key.
#[inline(never)]
fn use_it(secret: &Secret) {
    for algorithm in [Algorithm::HmacSha1, Algorithm::HmacSha256, Algorithm::HmacSha512] {
        let right = algorithm.sign(secret, REQUEST.as_bytes()).to_string();
        let wrong = algorithm.sign(secret, b"another body").to_string();
        let verifier = Verifier::new(secret.clone().label("of the test")).algorithm(algorithm);
        assert!(verifier.verify(&right, REQUEST).is_ok());
        // Includes the diagnosis, which tries keys that are easily mistaken for the right one.
        let rejection = verifier.verify(wrong, REQUEST).unwrap_err();
        assert_eq!(rejection.diagnosis().is_some(), algorithm == Algorithm::HmacSha1);

        let service =
            WebhookLayer::<PaymentRequest>::new(verifier).layer(Inner::<PaymentRequest>::new());
        let frames = Script::new(REQUEST.as_bytes().chunks(100).map(Step::data));
        let request = Request::post("/").header(contract::DIGEST_HEADER, right);
        let request = request.body(frames).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(call(service, request)).status(), 200);
    }
    assert_eq!(sign(secret, b"{}").as_bytes().len(), 20);
}

fn start(role: &str, file: &Path) -> Holder {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(ROLE, role).env(FILE, file);
    Holder::of(command)
}

/// A secret for each form that the diagnosis treats differently, and for each way that HMAC pads a key.
fn secrets() -> [(&'static str, Vec<u8>); 6] {
    [
        ("bytes", random(32)),
        ("a text", hex(&random(16))),
        ("base64", STANDARD.encode(random(24)).into_bytes()),
        ("quoted", [b"\"", &*hex(&random(16)), b"\"\n"].concat()),
        ("a block", hex(&random(32))),
        ("more than a block", hex(&random(100))),
    ]
}

// ---------------------------------------------------------------- the tests

/// Shows that the other tests can fail.
#[test]
fn search_finds_a_live_secret() {
    let text = random(32);
    let file = SecretFile::new("careless", &text);
    let mut holder = start("careless", &file.0);
    holder.wait_for("stage alive");
    assert!(!Needles::of_text(&text).found_in(holder.child.id()).is_empty());
    let states = Needles::of_states(&text).found_in(holder.child.id());
    for algorithm in ["20 bytes", "32 bytes", "64 bytes"] {
        assert!(states.iter().any(|it| it.contains(algorithm)), "{algorithm} in {states:#?}");
    }
}

#[test]
fn secret_text_is_not_kept() {
    for (name, text) in secrets() {
        let file = SecretFile::new(&name.replace(' ', "-"), &text);
        let mut holder = start("used", &file.0);
        holder.wait_for("stage alive");
        let found = Needles::of_text(&text).found_in(holder.child.id());
        assert!(found.is_empty(), "of {name} {} pieces: {found:#?}", found.len());
    }
}

/// After a use, the states of finished calls are not searched for, because copies of them stay on the stack
/// until it is overwritten.
#[test]
fn dropping_a_secret_zeroizes_it() {
    for (name, text) in secrets() {
        for role in ["unused", "used"] {
            let file = SecretFile::new(&format!("{role}-{}", name.replace(' ', "-")), &text);
            let mut holder = start(role, &file.0);
            holder.wait_for("stage alive");
            assert!(!Needles::of_states(&text).found_in(holder.child.id()).is_empty());
            holder.go_on();
            holder.wait_for("stage dropped");
            let mut needles = Needles::of_text(&text);
            if role == "unused" {
                needles.0.extend(Needles::of_states(&text).0);
            }
            let found = needles.found_in(holder.child.id());
            assert!(found.is_empty(), "of {name} {} pieces: {found:#?}", found.len());
        }
    }
}
