//! The command `inqud-webhook`: real processes, real sockets, both outputs read.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

const COMMAND: &str = env!("CARGO_BIN_EXE_inqud-webhook");
const SECRET: &str = "whsec-lathe-and-loom";
/// Inqud's own example, whose secret is `secret_value`.
const BODY: &str = r#"{"field":"value"}"#;
const DIGEST: &str = "7e36242a10fd65cbaacd7ff288df9fd3f9e75a46";

fn command(args: &[&str]) -> Command {
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

/// Runs to the end with this on standard input.
fn run_with(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().unwrap();
    // A command that does not read it may have ended before.
    _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn run(args: &[&str]) -> Output {
    run_with(command(args), b"")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A file of this test's own.
fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, content).unwrap();
    path
}

/// A `listen` that is running; killed if a test ends before it does.
struct Listener {
    child: Child,
    stdout: BufReader<ChildStdout>,
    url: String,
}

impl Listener {
    fn start(args: &[&str]) -> Self {
        let mut child = command(&[&["listen", "127.0.0.1:0"], args].concat()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.split_once("http://").unwrap_or_else(|| panic!("no address: {line:?}")).1;
        let url = format!("http://{}/hook", url.trim_end().trim_end_matches("\"}"));
        Self { child, stdout, url }
    }

    /// Its exit code, and what it has printed since it told its address.
    fn end(mut self) -> (Option<i32>, String) {
        let mut printed = String::new();
        self.stdout.read_to_string(&mut printed).unwrap();
        (self.child.wait().unwrap().code(), printed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn what_send_sends_shuffled_and_twice_listen_shows() {
    let listener = Listener::start(&["--count", "6"]);
    let sent = run(&["send", &listener.url, "--life", "success", "--times", "2", "--shuffle"]);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let table = stdout(&sent);
    for status in ["WAITING_PAYMENT", "PENDING_PAYMENT", "SUCCESS"] {
        let row = table.lines().find(|line| line.starts_with(status)).unwrap();
        let row = row.split_whitespace().collect::<Vec<_>>();
        assert_eq!(row[1..], ["2", "0", "2", "0", "200", "OK", "(2)"], "{table}");
    }
    assert!(table.contains("all acknowledged, seed "), "{table}");

    let (code, shown) = listener.end();
    assert_eq!(code, Some(0));
    assert_eq!(shown.matches("POST /hook verified, answered 200 OK").count(), 6, "{shown}");
    assert_eq!(shown.matches("\n  \"status\": \"SUCCESS\",\n").count(), 2, "{shown}");
    assert!(shown.ends_with("6 verified, 0 refused\n"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !table.contains('\u{1b}'), "no colours in a pipe");
    assert_eq!(stderr(&sent), "", "and no progress bar");
}

#[test]
fn as_json_both_tell_the_same_and_a_seed_makes_the_order_again() {
    let order = |seed: &str| {
        let listener = Listener::start(&["--json", "--count", "8"]);
        let args = ["--life", "settled", "--times", "2", "--shuffle", "--seed", seed, "--json"];
        let sent = run(&[&["send", &listener.url], &args[..]].concat());
        let sent = json(&sent);
        assert_eq!((&sent["ok"], sent["seed"].to_string().as_str()), (&true.into(), seed));
        let sent = sent["deliveries"].as_array().unwrap();
        assert_eq!(sent.len(), 8, "or the listener would wait for more");
        let sent = sent.iter().map(|it| it["label"].as_str().unwrap().to_owned());

        let (_, shown) = listener.end();
        let shown = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let shown = shown.collect::<Vec<_>>();
        assert_eq!(shown.last().unwrap(), &serde_json::json!({ "verified": 8, "refused": 0 }));
        let came = shown[..8].iter().zip(1..).map(|(line, number)| {
            assert_eq!((&line["verified"], &line["number"]), (&true.into(), &number.into()));
            let body: Value = serde_json::from_str(line["body"].as_str().unwrap()).unwrap();
            body["status"].as_str().unwrap().to_owned()
        });
        let came = came.collect::<Vec<_>>();
        assert!(sent.eq(came.iter().cloned()));
        came
    };
    let shuffled = order("7");
    assert_eq!(shuffled, order("7"));
    let kept = ["WAITING_PAYMENT", "PENDING_PAYMENT", "CONFLICT", "SUCCESS"];
    assert_ne!(shuffled, kept.iter().flat_map(|status| [*status; 2]).collect::<Vec<_>>());
}

#[test]
fn what_is_forged_is_refused_and_that_is_well_for_the_sender() {
    let listener = Listener::start(&["--json", "--count", "3"]);
    let sent = run(&["send", &listener.url, "--forge", "--json"]);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    for delivery in json(&sent)["deliveries"].as_array().unwrap() {
        assert_eq!(delivery["answered"], 401);
        assert_eq!(delivery["text"], "the digest does not match the body");
    }
    let (code, shown) = listener.end();
    assert_eq!(code, Some(1), "{shown}");
    let first: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    assert_eq!(first["refused"]["kind"], "DigestMismatch");
    assert!(
        first["body"].as_str().unwrap().contains("WAITING_PAYMENT"),
        "it is shown all the same"
    );
}

#[test]
fn another_secret_fails_on_both_sides_and_says_why() {
    let listener = Listener::start(&["--count", "1"]);
    let mut send = command(&["send", &listener.url, "--status", "A_NEW_WORD"]);
    let sent = run_with(
        {
            send.env("INQUD_WEBHOOK_SECRET", "another");
            send
        },
        b"",
    );
    assert_eq!(sent.status.code(), Some(1));
    assert!(stdout(&sent).contains("A_NEW_WORD"), "{sent:?}");
    assert!(stdout(&sent).contains("the digest does not match the body"), "{sent:?}");
    let (code, shown) = listener.end();
    assert_eq!(code, Some(1));
    assert!(shown.contains("refused: the digest does not match the body"), "{shown}");
}

#[test]
fn listen_answers_the_status_it_is_told_and_send_tries_again() {
    let listener = Listener::start(&["--answer", "202", "--count", "3", "--json"]);
    let args = ["send", &listener.url, "--status", "SUCCESS", "--retry=0,0", "--json"];
    let sent = run(&args);
    assert_eq!(sent.status.code(), Some(1));
    let sent = json(&sent);
    let deliveries = sent["deliveries"].as_array().unwrap();
    let retries = deliveries.iter().map(|it| (it["retry"].as_u64(), it["answered"].as_u64()));
    let expected = [(Some(0), Some(202)), (Some(1), Some(202)), (Some(2), Some(202))];
    assert_eq!(retries.collect::<Vec<_>>(), expected);
    assert_eq!(deliveries[2]["lost"], true);
    assert_eq!(listener.end().0, Some(0), "for the listener all were verified");
}

#[test]
fn a_rate_is_kept() {
    let listener = Listener::start(&["--count", "3"]);
    let sent = run(&["send", &listener.url, "--rate", "20", "--json"]);
    let at = json(&sent)["deliveries"].as_array().unwrap()[2]["at_ms"].as_u64().unwrap();
    assert!(at >= 100, "the third after two twentieths of a second, not {at} ms");
}

/// A certificate for 127.0.0.1 in a file, and a server with it that answers one call with 200 and
/// gives what it received.
fn tls_server() -> (String, PathBuf, std::thread::JoinHandle<Option<String>>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let trusted = file("tls.pem", made.cert.pem().as_bytes());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/hook", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let tls = rustls::ServerConnection::new(config.into()).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, listener.accept().unwrap().0);
        let mut received = Vec::new();
        while !received.ends_with(b"}") {
            let mut buffer = [0; 4096];
            let len = stream.read(&mut buffer).ok()?;
            received.extend_from_slice(&buffer[..len]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8(received).ok()
    });
    (url, trusted, server)
}

#[test]
fn https_is_spoken_with_those_whose_certificate_is_trusted() {
    for is_trusted in [true, false] {
        let (url, trusted, server) = tls_server();
        let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let other = file("other.pem", other.cert.pem().as_bytes());
        let mut send = command(&["send", &url, "--status", "SUCCESS"]);
        send.env("SSL_CERT_FILE", if is_trusted { trusted } else { other });
        let sent = run_with(send, b"");
        assert_eq!(sent.status.code(), Some(if is_trusted { 0 } else { 1 }), "{sent:?}");
        let received = server.join().unwrap();
        assert_eq!(received.is_some(), is_trusted);
        if let Some(received) = received {
            let (head, body) = received.split_once("\r\n\r\n").unwrap();
            let secret = tower_inqud::Secret::new(SECRET).unwrap();
            let digest = tower_inqud::sign(&secret, body.as_bytes());
            assert!(head.contains(&format!("x-payload-digest: {digest}")), "{head}");
        } else {
            assert!(stdout(&sent).contains("certificate"), "{sent:?}");
        }
    }
}

#[test]
fn a_server_that_is_not_there_is_a_failure() {
    let sent = run(&["send", "http://127.0.0.1:1/", "--status", "SUCCESS"]);
    assert_eq!(sent.status.code(), Some(1));
    assert!(stdout(&sent).contains("Connection refused"), "{sent:?}");
}

#[test]
fn what_sign_signs_verify_verifies() {
    let with_inquds_secret = |args: &[&str]| {
        let mut command = command(args);
        command.env("INQUD_WEBHOOK_SECRET", "secret_value");
        command
    };
    let signed = run_with(with_inquds_secret(&["sign"]), BODY.as_bytes());
    assert_eq!((stdout(&signed), signed.status.code()), (&*format!("{DIGEST}\n"), Some(0)));
    let path = file("body.json", BODY.as_bytes());
    let path = path.to_str().unwrap();
    let signed = run_with(with_inquds_secret(&["sign", path, "--json"]), b"");
    assert_eq!(json(&signed)["digest"], DIGEST);

    for input in [["-", BODY], [path, ""]] {
        let verified = with_inquds_secret(&["verify", input[0], "--digest", DIGEST]);
        let verified = run_with(verified, input[1].as_bytes());
        assert_eq!((stdout(&verified), verified.status.code()), ("yes\n", Some(0)));
    }
    let table = [
        (
            DIGEST.to_owned(),
            "{\"field\":\"value\"}\n",
            "DigestMismatch",
            "right without the newline",
        ),
        (DIGEST.replace('7', "8"), BODY, "DigestMismatch", "none of the usual mistakes"),
        (format!("sha1={DIGEST}"), BODY, "DigestMalformed", "more than the digits"),
    ];
    for (digest, body, kind, words) in table {
        let verify = with_inquds_secret(&["verify", "--digest", &digest]);
        let refused = run_with(verify, body.as_bytes());
        assert_eq!(refused.status.code(), Some(1));
        assert!(stdout(&refused).starts_with("no: "), "{refused:?}");
        assert!(stdout(&refused).contains(words), "{refused:?}");
        let verify = with_inquds_secret(&["verify", "--digest", &digest, "--json"]);
        let refused = json(&run_with(verify, body.as_bytes()));
        assert_eq!(
            (&refused["verified"], &refused["refused"]["kind"]),
            (&false.into(), &kind.into())
        );
    }
}

#[test]
fn a_secret_can_be_in_a_file_and_its_newline_does_not_count() {
    for (name, content) in
        [("a", "secret_value"), ("b", "secret_value\n"), ("c", "secret_value\r\n")]
    {
        let path = file(name, content.as_bytes());
        let signed =
            run_with(command(&["sign", "--secret-file", path.to_str().unwrap()]), BODY.as_bytes());
        assert_eq!(stdout(&signed), format!("{DIGEST}\n"), "{content:?}: the file goes first");
    }
    for (name, content) in [("d", ""), ("e", "\n"), ("f", "secret_value \n"), ("g", "a\n\n")] {
        let path = file(name, content.as_bytes());
        let signed = run(&["sign", "--secret-file", path.to_str().unwrap()]);
        assert_eq!(signed.status.code(), Some(2), "{content:?}");
        assert!(stderr(&signed).contains("secret"), "{signed:?}");
    }
}

#[test]
fn what_cannot_be_tried_ends_with_2() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let table: &[&[&str]] = &[
        &[],
        &["unknown"],
        &["sign", "/no/such/file"],
        &["sign", "--secret-file", "/no/such/file"],
        &["sign", "--secret", "x"],
        &["verify"],
        &["send"],
        &["send", "/a/path"],
        &["send", "ftp://shop.example/"],
        &["send", "http://127.0.0.1:1/", "--life", "unknown"],
        &["send", "http://127.0.0.1:1/", "--times", "0"],
        &["send", "http://127.0.0.1:1/", "--times", "100001"],
        &["send", "http://127.0.0.1:1/", "--rate", "0"],
        &["send", "http://127.0.0.1:1/", "--amount", "much"],
        &["send", "http://127.0.0.1:1/", "--retry=soon"],
        &["listen", "nowhere"],
        &["listen", &taken],
        &["listen", "127.0.0.1:0", "--answer", "100"],
        &["listen", "127.0.0.1:0", "--count", "0"],
    ];
    for args in table {
        let ended = run(args);
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {ended:?}");
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{args:?}: {ended:?}");
    }
    for args in [&["sign"][..], &["listen", "127.0.0.1:0"], &["send", "http://127.0.0.1:1/"]] {
        for secret in [None, Some(""), Some(" x")] {
            let mut command = command(args);
            command.env_remove("INQUD_WEBHOOK_SECRET");
            command.envs(secret.map(|secret| ("INQUD_WEBHOOK_SECRET", secret)));
            let ended = run_with(command, b"");
            assert_eq!(ended.status.code(), Some(2), "{args:?} {secret:?}: {ended:?}");
            assert!(stderr(&ended).contains("INQUD_WEBHOOK_SECRET"), "{ended:?}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn no_output_and_no_list_of_processes_shows_the_secret() {
    let path = file("secret", format!("{SECRET}\n").as_bytes());
    let from_file = ["--secret-file", path.to_str().unwrap()];
    for args in [&[][..], &from_file] {
        let listener = Listener::start(&[args, &["--count", "6"]].concat());
        let processes = fs::read(format!("/proc/{}/cmdline", listener.child.id())).unwrap();
        let mut printed = String::from_utf8(processes).unwrap();
        assert!(printed.contains("listen"), "{printed:?}");
        for flaw in [&[][..], &["--forge"]] {
            let sent = run(&[&["send", &listener.url, "--json"], flaw, args].concat());
            printed += &(stdout(&sent).to_owned() + stderr(&sent));
        }
        printed += &listener.end().1;
        for args in
            [&["sign", "--help"][..], &["sign"], &["verify", "--digest", DIGEST], &["--help"]]
        {
            let ended = run(args);
            printed += &(stdout(&ended).to_owned() + stderr(&ended));
        }
        assert!(!printed.contains(SECRET), "{printed}");
        assert!(!printed.contains("whsec"), "{printed}");
    }
}

/// What one call is answered that no `send` would make.
fn call(url: &str, head: &str, body: &[u8]) -> String {
    let address = url.trim_start_matches("http://").trim_end_matches("/hook");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head =
        format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn no_body_can_steer_the_terminal() {
    let listener = Listener::start(&["--count", "2"]);
    let body = b"\x1b]0;title\x07\x1b[2J\xff";
    let answer = call(&listener.url, "POST /hook HTTP/1.1", body);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let digest = format!("POST /hook HTTP/1.1\r\nX-Payload-Digest: {DIGEST}");
    assert!(call(&listener.url, &digest, body).starts_with("HTTP/1.1 401"));
    let (code, shown) = listener.end();
    assert_eq!(code, Some(1));
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    assert!(shown.contains("the digest header is missing"), "{shown}");
    assert!(shown.contains(r"\u{1b}[2J"), "{shown}");
}

#[test]
fn colours_can_be_forced_and_not_on_those_who_want_none() {
    let run = |variables: &[(&str, &str)]| {
        let mut command = command(&["kinds"]);
        command.envs(variables.iter().copied());
        run_with(command, b"").stdout.contains(&0x1b)
    };
    assert!(!run(&[]));
    assert!(run(&[("CLICOLOR_FORCE", "1")]));
    assert!(!run(&[("NO_COLOR", "1")]));
}

#[test]
fn kinds_tells_how_well_each_word_is_known() {
    let kinds = json(&run(&["kinds", "--json"]));
    let kinds = kinds.as_array().unwrap();
    assert_eq!(kinds.len(), 7);
    let words = kinds[0]["statuses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|status| (status["value"].as_str().unwrap(), status["known"].as_str().unwrap()));
    let words = words.collect::<BTreeMap<_, _>>();
    assert_eq!((words["CONFLICT"], words["SUCCESS"]), ("confirmed", "inferred"));
    assert_eq!(kinds[5]["id_prefix"]["value"], Value::Null);

    // Each life that it names can be sent, and all that can be sent are named.
    let lives = kinds.iter().flat_map(|kind| kind["lives"].as_array().unwrap());
    let lives = lives.map(|life| life.as_str().unwrap()).collect::<HashSet<_>>();
    let stories = tower_inqud::sender::Story::ALL;
    assert_eq!(lives, stories.iter().map(|story| story.name()).collect());
    // And says only what is listed of its kind.
    for story in stories {
        let kind = kinds
            .iter()
            .find(|kind| kind["lives"].as_array().unwrap().contains(&story.name().into()));
        let listed = kind.unwrap()["statuses"].to_string();
        for status in story.statuses() {
            assert!(listed.contains(&format!("\"{status}\"")), "{status} of {story}");
        }
    }
    let text = run(&["kinds"]);
    assert!(stdout(&text).contains("  status     SUCCESS                  inferred\n"), "{text:?}");
}

#[test]
fn each_shell_gets_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0));
        assert!(stdout(&script).contains("shuffle"), "{shell}");
    }
}

#[test]
fn whoever_stops_reading_ends_it_without_a_panic() {
    let mut child = command(&["listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    drop(stdout);
    let url = line.trim_end().rsplit(' ').next().unwrap();
    _ = run(&["send", url, "--status", "SUCCESS"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), ""));
}
