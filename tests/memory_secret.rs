//! No text of a secret stays in memory, and nothing that was kept of it after it is dropped.
//!
//! A child process holds the secret, and this one searches the child's memory. What stays is a matter of
//! how moves are compiled, so it is of use in a release build above all:
//! `cargo test --release --test memory_secret`.
#![cfg(target_os = "linux")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

#[path = "support/search.rs"]
mod search;
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

/// Tells the child what to do; without it, it is no child.
const ROLE: &str = "MEMORY_SECRET_ROLE";
const FILE: &str = "MEMORY_SECRET_FILE";

// ---------------------------------------------------------------- the child

/// Holds a secret until it is told to drop it. Does nothing in a run of the tests.
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

/// Waits until the parent has looked.
fn tell(stage: &str) {
    println!("\nstage {stage}");
    let mut line = [0];
    std::io::stdin().read_exact(&mut line).unwrap();
}

/// Everything that works with a key.
#[inline(never)]
fn use_it(secret: &Secret) {
    for algorithm in [Algorithm::HmacSha1, Algorithm::HmacSha256, Algorithm::HmacSha512] {
        let right = algorithm.sign(secret, REQUEST.as_bytes()).to_string();
        let wrong = algorithm.sign(secret, b"another body").to_string();
        let verifier = Verifier::new(secret.clone().label("of the test")).algorithm(algorithm);
        assert!(verifier.verify(&right, REQUEST).is_ok());
        // With a look at what was easily taken for the key.
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

/// One of each form that has mistakes of its own in a diagnosis, and of each way to be padded.
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

/// Or the others would pass for nothing.
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

/// The states of calls are another matter: copies of them stay on the stack until it is used again.
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
