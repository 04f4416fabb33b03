//! Searches the command's memory for the text of its secret. The test matters most in a release build:
//! `cargo test --release -p inqud-webhook --test memory`.
//!
//! It is a separate test binary, because other tests in the same process may hold the secret.
#![cfg(target_os = "linux")]

#[path = "../../../tests/support/search.rs"]
mod search;

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use search::{Holder, Needles, SecretFile, hex, random};
use tower_inqud::{Secret, sign};

/// Covers a file, and a pipe, whose length is not known in advance.
#[test]
fn the_command_does_not_keep_the_secret_text() {
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
        // The search works: the keyed HMAC states are found.
        assert!(!Needles::of_states(&text).found_in(holder.child.id()).is_empty());
    }
}
