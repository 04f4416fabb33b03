//! Searches the memory of another process for a secret.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::Digest as _;
use hmac::digest::common::hazmat::SerializableState;
use sha1::Sha1;
use sha2::{Sha256, Sha512};

pub struct Holder {
    pub child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Holder {
    pub fn of(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    pub fn wait_for(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(
                self.stdout.read_line(&mut line).unwrap(),
                0,
                "the process ended before {text:?}"
            );
        }
        line
    }

    pub fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The pieces to search for, 16 bytes each, by their first eight bytes and with a name. Eight bytes of a
/// hexadecimal text could be found by chance.
#[derive(Default)]
pub struct Needles(pub HashMap<[u8; 8], Vec<([u8; 8], String)>>);

impl Needles {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        for (at, piece) in bytes.windows(16).enumerate().step_by(4) {
            // As bytes, and as the 4- and 8-byte words of a message schedule.
            for word in [1, 4, 8] {
                let mut piece = piece.to_vec();
                piece.chunks_mut(word).for_each(<[u8]>::reverse);
                let halves = piece.as_chunks::<8>().0;
                let name = format!("{name}, from {at}");
                self.0.entry(halves[0]).or_default().push((halves[1], name));
            }
        }
    }

    /// Adds the text of a key, and what HMAC derives from it: its hashes and padded blocks.
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

    /// The text of a secret, and the keys that a diagnosis derives from it.
    pub fn of_text(secret: &[u8]) -> Self {
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

    /// The hash states that a live secret consists of. They are enough to sign with.
    pub fn of_states(secret: &[u8]) -> Self {
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

    /// Finds the pieces in the writable memory of a process.
    pub fn found_in(&self, process: u32) -> Vec<String> {
        // A table of the first two bytes rules out nearly every position quickly.
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
            // Some mappings of the kernel cannot be read.
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

/// Random bytes, which do not occur anywhere else.
pub fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

pub fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

pub struct SecretFile(pub PathBuf);

impl SecretFile {
    pub fn new(name: &str, content: &[u8]) -> Self {
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
