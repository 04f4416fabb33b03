//! TLS between `inqud-webhook inbox` and a Postgres server, with an authority of the test's own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::postgres::{self, Server};

/// The password of `postgres::Server`.
const PASSWORD: &str = "loopback-only";

/// Not a loopback address, although it reaches this machine.
const ELSEWHERE: &str = "0.0.0.0";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &TempDir, name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = folder.path().join(name);
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    fn file(&self) -> &str {
        self.file.to_str().unwrap()
    }
}

/// Gives the server a certificate for these names, and refuses connections that are not encrypted.
async fn require_tls(server: &Server, authority: &Authority, names: &[&str]) {
    let client = postgres::connect(&server.config("postgres")).await;
    let data: String = client.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
    let data = Path::new(&data);
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let file = data.join("server.key");
    fs::write(data.join("server.crt"), certificate.pem()).unwrap();
    fs::write(&file, key.serialize_pem()).unwrap();
    let reference = format!("--reference={}", data.join("PG_VERSION").display());
    for program in ["chown", "chmod"] {
        let status = Command::new(program).arg(&reference).arg(&file).status().unwrap();
        assert!(status.success(), "{program}");
    }
    fs::write(data.join("pg_hba.conf"), "hostssl all all all scram-sha-256\n").unwrap();
    client.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // The postmaster reads the configuration after it has answered.
    let began = std::time::Instant::now();
    while server.config("postgres").connect(inqud_inbox::tokio_postgres::NoTls).await.is_ok() {
        assert!(began.elapsed().as_secs() < 30, "the server does not require TLS");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Runs `inbox stats` with this URL. Returns the exit code and standard error.
async fn stats(url: &str, trusted: Option<&str>) -> (i32, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_inqud-webhook"));
    command.args(["inbox", "stats", "--postgres"]).env("DATABASE_URL", url).kill_on_drop(true);
    command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
    if let Some(file) = trusted {
        command.env("SSL_CERT_FILE", file);
    }
    let output = command.output().await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains(PASSWORD), "{error}");
    (output.status.code().unwrap(), error)
}

#[track_caller]
fn refused(url: &str, (code, error): (i32, String), reason: &str) {
    assert_eq!(code, 2, "{url}: {error}");
    assert!(error.contains(reason), "{url}: {error}");
}

#[tokio::test]
async fn checks_the_certificate_of_the_server() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(&folder, "authority.pem");
    let other = Authority::new(&folder, "other.pem");
    let (root, wrong_root) = (authority.file(), other.file());
    server.inbox("inbox").await;
    require_tls(&server, &authority, &["localhost", ELSEWHERE]).await;
    // The certificate does not have this name.
    let unnamed = server.url("inbox");
    let named = unnamed.replace("127.0.0.1", "localhost");
    let remote = unnamed.replace("127.0.0.1", ELSEWHERE);
    let port = server.config("inbox").get_ports().first().copied().unwrap();

    for (url, trusted) in [
        (format!("{named}?sslmode=verify-full&sslrootcert={root}"), None),
        (format!("{named}?sslmode=require&sslrootcert={root}"), None),
        (format!("{named}?sslrootcert={root}"), None),
        (format!("{named}?sslmode=require"), Some(root)),
        (format!("{named}?sslmode=verify-full&sslrootcert=system"), Some(root)),
        (format!("{named}?sslmode=require&channel_binding=require"), Some(root)),
        (remote.clone(), Some(root)),
        (format!("{unnamed}?sslmode=verify-ca&sslrootcert={root}"), None),
        (
            format!(
                "host=localhost port={port} user=inqud password={PASSWORD} dbname=inbox sslmode=verify-full \
                 sslrootcert='{root}'"
            ),
            None,
        ),
    ] {
        let (code, error) = stats(&url, trusted).await;
        assert_eq!((code, &*error), (0, ""), "{url}");
    }

    let name = "certificate not valid for name";
    let issuer = "UnknownIssuer: add sslrootcert=FILE";
    for (url, trusted, reason) in [
        (format!("{unnamed}?sslmode=verify-full&sslrootcert={root}"), None, name),
        (format!("{unnamed}?sslmode=require&sslrootcert={root}"), None, name),
        (format!("{unnamed}?sslmode=require"), Some(root), name),
        (format!("{named}?sslmode=verify-full&sslrootcert={wrong_root}"), None, issuer),
        (format!("{named}?sslmode=verify-ca&sslrootcert={wrong_root}"), None, issuer),
        (format!("{named}?sslmode=require"), Some(wrong_root), issuer),
        // A file replaces the system's roots.
        (format!("{named}?sslmode=require&sslrootcert={wrong_root}"), Some(root), issuer),
        (remote.clone(), Some(wrong_root), issuer),
        (remote.clone(), None, issuer),
        // Not encrypted, which only this machine and `disable` are allowed, and this server refuses.
        (named.clone(), Some(root), "no encryption"),
        (format!("{remote}?sslmode=disable"), Some(root), "no encryption"),
        (format!("{remote}?sslmode=prefer"), Some(root), "another machine"),
        (format!("{remote}?sslmode=allow"), Some(root), "another machine"),
    ] {
        refused(&url, stats(&url, trusted).await, reason);
    }
}

#[tokio::test]
async fn never_falls_back_to_an_unencrypted_connection() {
    let Some(server) = postgres::shared() else { return };
    server.inbox("plain").await;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(&folder, "authority.pem");
    let root = authority.file();
    let near = server.url("plain");
    let remote = near.replace("127.0.0.1", ELSEWHERE);
    for url in [
        format!("{near}?sslmode=require"),
        format!("{near}?sslmode=verify-full"),
        format!("{near}?sslmode=verify-ca&sslrootcert={root}"),
        format!("{near}?sslrootcert={root}"),
        remote.clone(),
        format!("{remote}?sslrootcert={root}"),
    ] {
        refused(&url, stats(&url, Some(root)).await, "server does not support TLS: turn `ssl` on");
    }
}

#[tokio::test]
async fn refuses_unusable_roots() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let url = format!("postgres://inqud:{PASSWORD}@db.invalid/inbox");
    let begin = "-----BEGIN CERTIFICATE-----\n";
    let cut = file("cut.pem", begin);
    let empty = file("empty.pem", "no certificate\n");
    let noise = file("noise.pem", &format!("{begin}AAAA\n-----END CERTIFICATE-----\n"));
    for (query, reason) in [
        ("sslrootcert=/nowhere/root.pem", "sslrootcert: No such file"),
        (&*format!("sslrootcert={cut}"), "sslrootcert: "),
        (&*format!("sslrootcert={empty}"), "contains no certificate"),
        (&*format!("sslrootcert={noise}"), "sslrootcert: "),
        ("sslmode=verify-ca", "needs sslrootcert"),
        ("sslmode=verify-ca&sslrootcert=system", "needs sslrootcert"),
        ("sslmode=full", "sslmode must be"),
        ("sslcert=a.pem&sslkey=a.key", "client certificates"),
    ] {
        let url = format!("{url}?{query}");
        refused(&url, stats(&url, None).await, reason);
    }
    let nothing = file("nothing.pem", "");
    refused(&url, stats(&url, Some(&nothing)).await, "no root certificates");
}
