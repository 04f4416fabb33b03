//! A Postgres server for tests, on loopback, with its data in a temporary folder. It ends with the process
//! that started it, however that ends.
#![allow(dead_code, unreachable_pub, reason = "shared, and no test uses all of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use inqud_inbox::tokio_postgres::{Client, Config, NoTls};
use inqud_inbox::{Inbox, Postgres};
use tempfile::TempDir;

const PASSWORD: &str = "loopback-only";

/// The password as the server stores it. It is hashed once instead of 4,096 times, because that takes most of the
/// time of a connection in a debug build.
const VERIFIER: &str = "SCRAM-SHA-256$1:aW5xdWQtaW5ib3gtdGVzdA==\
    $eAJm6T0LlOa9oM7S3SjWtXnLGBn0jlW29NfzEOTOrfM=:AQwisfznLXgl0cHobft0MSYhtmNpdak0hmOScks0Rno=";

/// A shell script that ends the server when its standard input closes, which happens when the parent process
/// ends. It then removes the folder, unless it was told that someone else will.
const WATCH: &str = r#""$@" & server=$!
read -r keep
kill -INT "$server" 2>/dev/null
wait "$server"
[ "$keep" ] || rm -rf "$0""#;

pub struct Server {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    watch: Mutex<Option<Child>>,
}

/// Returns the server that all tests of a program share. Returns `None`, and prints why, if Postgres is not
/// installed.
pub fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(Server::start).as_ref()
}

impl Server {
    /// Starts a server. Returns `None`, and prints why, if Postgres is not installed.
    pub fn start() -> Option<Self> {
        let Some(bin) = bin() else {
            let missing = "no Postgres server is installed (Debian's package is `postgresql`)";
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("SKIPPED: {missing}");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("password"), VERIFIER).unwrap();
        // Postgres refuses to run as root.
        if is_root() {
            let mut command = Command::new("chown");
            ran(command.args(["-R", "postgres"]).arg(folder.path()));
        }
        let server = Self { bin, folder, port: free_port(), watch: Mutex::new(None) };
        let mut initdb = server.command("initdb");
        let password = server.folder.path().join("password");
        initdb.args(["--no-sync", "--auth=scram-sha-256", "--username=inqud", "--locale=C.UTF-8"]);
        ran(initdb
            .arg("--encoding=UTF8")
            .arg("--pwfile")
            .arg(password)
            .arg("-D")
            .arg(server.data()));
        server.run();
        Some(server)
    }

    /// Starts the server, again if it was killed.
    pub fn run(&self) {
        let mut command = Command::new("sh");
        command.args(["-c", WATCH]).arg(self.folder.path());
        let postgres = self.command("postgres");
        command.arg(postgres.get_program()).args(postgres.get_args()).arg("-D").arg(self.data());
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        command.args(["-c", &format!("port={}", self.port), "-c", "max_connections=300"]);
        command.current_dir(self.folder.path());
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        *self.watch() = Some(command.spawn().unwrap());
        let began = Instant::now();
        // The last line of the file is the state of the server.
        while !self.pid_file().is_some_and(|lines| lines.trim_end().ends_with("ready")) {
            let log = || fs::read_to_string(self.log()).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "it does not start: {}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the server. Unlike a power loss, this keeps what the operating system has cached.
    pub fn kill(&self) {
        let pid = self.pid_file().and_then(|lines| Some(lines.lines().next()?.to_owned())).unwrap();
        ran(Command::new("kill").args(["-QUIT", &pid]));
        self.end();
    }

    fn end(&self) {
        if let Some(mut watch) = self.watch().take() {
            let _ = watch.stdin.take().map(|mut stdin| stdin.write_all(b"keep\n"));
            let _ = watch.wait();
        }
    }

    /// Returns the configuration to connect to a database.
    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("inqud").password(PASSWORD).dbname(database);
        config.connect_timeout(Duration::from_secs(5));
        config
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://inqud:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates an empty database.
    pub async fn database(&self, name: &str) -> Config {
        self.database_with(name, "").await
    }

    pub async fn database_with(&self, name: &str, options: &str) -> Config {
        let client = connect(&self.config("postgres")).await;
        client.batch_execute(&format!("CREATE DATABASE \"{name}\" {options}")).await.unwrap();
        self.config(name)
    }

    /// Creates an inbox in a new database. Postgres truncates names to 63 bytes.
    pub async fn inbox(&self, name: &str) -> Inbox<Postgres> {
        let config = self.database(&name.chars().take(60).collect::<String>()).await;
        Inbox::migrate(&config, NoTls).await.unwrap();
        Inbox::postgres(config, NoTls).await.unwrap()
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        if !is_root() {
            return Command::new(program);
        }
        // `setpriv` replaces itself by the program, so the child's process id stays that of the program.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command.current_dir(self.folder.path());
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn pid_file(&self) -> Option<String> {
        fs::read_to_string(self.data().join("postmaster.pid")).ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

pub async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Returns the folder of the programs of the latest version that is installed.
fn bin() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file());
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let debian = debian.filter(|bin| bin.join("initdb").is_file());
    in_path.or_else(|| debian.max_by_key(|bin| version(bin)))
}

fn version(bin: &Path) -> u32 {
    let name = bin.parent().and_then(|version| version.file_name()?.to_str()?.parse().ok());
    name.unwrap_or_default()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn ran(command: &mut Command) {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
}
