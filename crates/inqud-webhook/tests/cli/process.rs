//! Runs the command `inqud-webhook` as a real process, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const COMMAND: &str = env!("CARGO_BIN_EXE_inqud-webhook");
pub(crate) const SECRET: &str = "whsec-lathe-and-loom";
/// Inqud's documented example, signed with the secret `secret_value`.
pub(crate) const BODY: &str = r#"{"field":"value"}"#;
pub(crate) const DIGEST: &str = "7e36242a10fd65cbaacd7ff288df9fd3f9e75a46";

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(COMMAND);
    command
        .args(args)
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env("INQUD_WEBHOOK_SECRET", SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Upper bound for each step, so that a test fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `work` on a thread. Returns `None` if it takes longer than `patience`.
pub(crate) fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(work()));
    told.recv_timeout(patience).ok()
}

/// Runs the command to its end with `input` on standard input.
pub(crate) fn run_with(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().unwrap();
    // A command that does not read its input may have exited already.
    _ = child.stdin.take().unwrap().write_all(input);
    let ended = within(PATIENCE, move || child.wait_with_output().unwrap());
    ended.unwrap_or_else(|| panic!("{:?} does not end", command.get_args()))
}

pub(crate) fn run(args: &[&str]) -> Output {
    run_with(command(args), b"")
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Parses the output of `send --json`: a line for each delivery, and the totals.
pub(crate) fn deliveries(output: &Output) -> (Vec<Value>, Value) {
    let lines = stdout(output).lines().map(|line| serde_json::from_str(line).unwrap());
    let mut lines = lines.collect::<Vec<Value>>();
    let all = lines.pop().unwrap();
    (lines, all)
}

/// A file for one test. Its name contains the process id, so parallel runs do not collide. Deleted on drop.
pub(crate) struct File(PathBuf);

pub(crate) fn file(name: &str, content: &[u8]) -> File {
    let name = format!("{}-{name}", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, content).unwrap();
    File(path)
}

impl Deref for File {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for File {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// A running `listen`. Killed on drop.
pub(crate) struct Listener {
    pub(crate) child: Child,
    /// All output after the line with the address, once there is no more. It is read meanwhile, otherwise the
    /// listener would block on the pipe.
    printed: mpsc::Receiver<String>,
    pub(crate) url: String,
}

impl Listener {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", args)
    }

    pub(crate) fn start_at(address: &str, args: &[&str]) -> Self {
        Self::spawn(command(&[&["listen", address], args].concat()))
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.split_once("http://").unwrap_or_else(|| panic!("no address: {line:?}")).1;
        let url = format!("http://{}/hook", url.trim_end().split('"').next().unwrap());
        let (tell, printed) = mpsc::channel();
        thread::spawn(move || {
            let mut printed = String::new();
            stdout.read_to_string(&mut printed).unwrap();
            tell.send(printed)
        });
        Self { child, printed, url }
    }

    /// Waits for the exit code, and for the output after the line with the address.
    pub(crate) fn end(self) -> (Option<i32>, String) {
        self.end_within(PATIENCE)
    }

    pub(crate) fn end_within(mut self, patience: Duration) -> (Option<i32>, String) {
        let printed = self.printed.recv_timeout(patience);
        let printed = printed.expect("listen did not end: it received fewer calls than --count");
        (self.child.wait().unwrap().code(), printed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Accepts the next connection. Returns `None` after a timeout.
pub(crate) fn accept(listener: &TcpListener) -> Option<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let began = Instant::now();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            return Some(stream);
        }
        if began.elapsed() > PATIENCE {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a request whose body ends with a brace.
pub(crate) fn read_call(stream: &mut impl Read) -> Option<String> {
    let mut received = Vec::new();
    while !received.ends_with(b"}") {
        let mut buffer = [0; 4096];
        let len = stream.read(&mut buffer).ok().filter(|len| *len > 0)?;
        received.extend_from_slice(&buffer[..len]);
    }
    String::from_utf8(received).ok()
}

/// A server that gives these responses one after another, and stops after the last.
pub(crate) fn server(answers: &'static [&'static str]) -> (String, JoinHandle<Option<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        for answer in answers {
            let mut stream = accept(&listener)?;
            read_call(&mut stream)?;
            let (status, text) = answer.split_once('|').unwrap_or((answer, ""));
            let head = format!("HTTP/1.1 {status}\r\nConnection: close");
            write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len()).ok()?;
        }
        Some(())
    });
    (url, server)
}

/// Sends a request that `send` would never send, and returns the response.
pub(crate) fn call(url: &str, head: &str, body: &[u8]) -> String {
    let address = url.trim_start_matches("http://").trim_end_matches("/hook");
    let mut stream = TcpStream::connect(address).unwrap();
    let head =
        format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub(crate) fn head_with(digest: &str) -> String {
    format!("POST /hook HTTP/1.1\r\nX-Payload-Digest: {digest}")
}
