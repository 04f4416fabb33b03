//! No text of a secret stays in memory, and nothing that was kept of it after it is dropped.
//!
//! A child process holds the secret, and this one searches the child's memory. What stays is a matter of
//! how moves are compiled, so it is of use in a release build above all:
//! `cargo test --release --features cli --test memory_secret`.
#![cfg(target_os = "linux")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

mod support;

use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::Digest as _;
use hmac::digest::common::hazmat::SerializableState;
use http::Request;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
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

struct Holder {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Holder {
    fn start(role: &str, file: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(ROLE, role).env(FILE, file);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    fn wait_for(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "it ended before {text:?}");
        }
        line
    }

    fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

// ---------------------------------------------------------------- what is looked for

/// Pieces of 16 bytes, by their first eight, with what they are of. Half as many of a text in hexadecimal
/// can be anywhere by chance.
#[derive(Default)]
struct Needles(HashMap<[u8; 8], Vec<([u8; 8], String)>>);

impl Needles {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        for (at, piece) in bytes.windows(16).enumerate().step_by(4) {
            // In the order of the bytes, and as the words of a message schedule.
            for word in [1, 4, 8] {
                let mut piece = piece.to_vec();
                piece.chunks_mut(word).for_each(<[u8]>::reverse);
                let halves = piece.as_chunks::<8>().0;
                let name = format!("{name}, from {at}");
                self.0.entry(halves[0]).or_default().push((halves[1], name));
            }
        }
    }

    /// The text of a key, and what the key schedule of an HMAC makes of it.
    fn add_key(&mut self, name: &str, key: &[u8]) {
        let hashed = [
            Sha1::digest(key).to_vec(),
            Sha256::digest(key).to_vec(),
            Sha512::digest(key).to_vec(),
        ];
        self.add(name, key);
        let padded = |key: &[u8], pad: u8| key.iter().map(|byte| byte ^ pad).collect::<Vec<_>>();
        for key in std::iter::once(key).chain(hashed.iter().map(Vec::as_slice)) {
            for pad in [0x36, 0x5c] {
                self.add(&format!("{name} xor {pad:#x}"), &padded(key, pad));
            }
        }
    }

    /// What is taken for the secret in a diagnosis, too.
    fn of_text(secret: &[u8]) -> Self {
        let mut needles = Self::default();
        needles.add_key("the text", secret);
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        needles.add_key("its hexadecimal text", hex.as_bytes());
        needles.add_key("its base64 text", STANDARD.encode(secret).as_bytes());
        let trimmed = secret.trim_ascii();
        needles.add_key("its trimmed text", trimmed);
        if let [b'"', unquoted @ .., b'"'] = trimmed {
            needles.add_key("its unquoted text", unquoted);
        }
        if let Ok(bytes) = STANDARD.decode(trimmed) {
            needles.add_key("the bytes of its base64", &bytes);
        }
        let pairs = trimmed.as_chunks::<2>().0.iter();
        let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        if let Some(bytes) = bytes.collect::<Option<Vec<_>>>() {
            needles.add_key("the bytes of its hexadecimal", &bytes);
        }
        needles
    }

    /// What is kept of the key while the secret lives: whoever has it can sign.
    fn of_states(secret: &[u8]) -> Self {
        fn state<D: hmac::digest::Digest + SerializableState>(
            needles: &mut Needles,
            block: usize,
            len: usize,
            key: &[u8],
        ) {
            let hashed = D::digest(key);
            let key = if key.len() > block { &hashed } else { key };
            for pad in [0x36, 0x5c] {
                let mut padded = vec![pad; block];
                padded.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
                let state = D::new_with_prefix(&padded).serialize();
                needles.add(&format!("the state of {len} bytes after {pad:#x}"), &state[..len]);
            }
        }
        let mut needles = Self::default();
        state::<Sha1>(&mut needles, 64, 20, secret);
        state::<Sha256>(&mut needles, 64, 32, secret);
        state::<Sha512>(&mut needles, 128, 64, secret);
        needles
    }

    /// Where they are in the memory that a process can write to.
    fn found_in(&self, process: u32) -> Vec<String> {
        // Nearly all of a memory is sorted out by two bytes of each piece.
        let mut firsts = vec![false; 1 << 16];
        let first = |piece: &[u8]| usize::from(u16::from_ne_bytes([piece[0], piece[1]]));
        self.0.keys().for_each(|piece| firsts[first(piece)] = true);

        let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
        let mut memory = File::open(format!("/proc/{process}/mem")).unwrap();
        let mut found = Vec::new();
        for map in maps.lines().filter(|line| line.contains(" rw")) {
            let (range, _) = map.split_once(' ').unwrap();
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|it| u64::from_str_radix(it, 16).unwrap());
            let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
            memory.seek(SeekFrom::Start(from)).unwrap();
            // Some of the kernel's own cannot be read.
            if memory.read_exact(&mut bytes).is_err() {
                continue;
            }
            for window in bytes.windows(16).filter(|window| firsts[first(window)]) {
                let (start, rest) = window.split_at(8);
                let pieces = self.0.get(start).into_iter().flatten();
                for (_, name) in pieces.filter(|(end, _)| end == rest) {
                    found.push(format!("{name}, in {map:?}"));
                }
            }
        }
        found
    }
}

/// Bytes that are nowhere else.
fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

struct SecretFile(PathBuf);

impl SecretFile {
    fn new(name: &str, content: &[u8]) -> Self {
        let name = format!("{}-{name}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
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
fn the_search_finds_what_is_there() {
    let text = random(32);
    let file = SecretFile::new("careless", &text);
    let mut holder = Holder::start("careless", &file.0);
    holder.wait_for("stage alive");
    assert!(!Needles::of_text(&text).found_in(holder.child.id()).is_empty());
    let states = Needles::of_states(&text).found_in(holder.child.id());
    for algorithm in ["20 bytes", "32 bytes", "64 bytes"] {
        assert!(states.iter().any(|it| it.contains(algorithm)), "{algorithm} in {states:#?}");
    }
}

#[test]
fn the_text_of_a_secret_is_not_kept() {
    for (name, text) in secrets() {
        let file = SecretFile::new(&name.replace(' ', "-"), &text);
        let mut holder = Holder::start("used", &file.0);
        holder.wait_for("stage alive");
        let found = Needles::of_text(&text).found_in(holder.child.id());
        assert!(found.is_empty(), "of {name} {} pieces: {found:#?}", found.len());
    }
}

/// The states of calls are another matter: copies of them stay on the stack until it is used again.
#[test]
fn what_is_kept_of_a_secret_is_zeroized_when_it_is_dropped() {
    for (name, text) in secrets() {
        for role in ["unused", "used"] {
            let file = SecretFile::new(&format!("{role}-{}", name.replace(' ', "-")), &text);
            let mut holder = Holder::start(role, &file.0);
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

/// From a file, and from a pipe, whose length nobody knows before.
#[cfg(feature = "cli")]
#[test]
fn the_command_keeps_no_text_of_a_secret() {
    for from_pipe in [false, true] {
        let text = hex(&random(16));
        let line = [&*text, b"\n"].concat();
        let file = SecretFile::new("listen", &line);
        let mut command = Command::new(env!("CARGO_BIN_EXE_inqud-webhook"));
        let path = if from_pipe { Path::new("/dev/stdin") } else { &file.0 };
        command.args(["listen", "127.0.0.1:0", "--secret-file"]).arg(path);
        let mut holder = Holder::of(command);
        let mut stdin = holder.child.stdin.take().unwrap();
        stdin.write_all(&line).unwrap();
        drop(stdin);
        let address = holder.wait_for("listening on");
        let address = address.trim_end().split_once("http://").unwrap().1;
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let digest = sign(&Secret::new(&*text).unwrap(), b"{}");
        let head = "POST / HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 2\r\n";
        write!(stream, "{head}x-payload-digest: {digest}\r\n\r\n{{}}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        let found = Needles::of_text(&text).found_in(holder.child.id());
        assert!(found.is_empty(), "{from_pipe}: {} pieces: {found:#?}", found.len());
        // It does hold the secret.
        assert!(!Needles::of_states(&text).found_in(holder.child.id()).is_empty());
    }
}
