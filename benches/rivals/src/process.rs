//! Server processes: this program's own, or those of other languages.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::contender;
use crate::sample::{LIMIT, SECRET};

/// Where servers run, and where what calls them.
pub const SERVER_CORE: &str = "0";
pub const CLIENT_CORE: &str = "1";

/// Ends when it is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command
            .env("INQUD_WEBHOOK_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = &mut child.stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim().parse() {
            Ok(address) => Ok(Self { child, address }),
            Err(_) => {
                child.kill()?;
                child.wait()?;
                Err(io::Error::other(format!("no address from {command:?}")))
            }
        }
    }

    /// One of the contenders in Rust.
    pub fn of(name: &str, limit: usize) -> io::Result<Self> {
        Self::with(name, limit, [])
    }

    /// The same, with more in its environment.
    pub fn with<const N: usize>(
        name: &str,
        limit: usize,
        environment: [(&str, &str); N],
    ) -> io::Result<Self> {
        let mut command = pinned(std::env::current_exe()?);
        command.envs(environment);
        command.args(["serve", name, &limit.to_string()]);
        Self::start(command)
    }

    /// The time that all its threads have spent on a core.
    pub fn cpu(&self) -> io::Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end meanwhile.
            let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanoseconds += stat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// What it has allocated and touched, in bytes.
    pub fn memory(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.map(|kilobytes| kilobytes * 1024).ok_or(io::Error::other("no RssAnon"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs on the servers' core.
pub fn pinned(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE]).arg(program);
    command
}

/// Whether there is a core for the server and one for the client, and means to bind them.
pub fn can_be_apart() -> bool {
    let cores = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    let taskset = Command::new("taskset").arg("--version").stdout(Stdio::null()).status();
    cores && taskset.is_ok() && fs::exists("/proc/self/schedstat").is_ok_and(|exists| exists)
}

/// Moves this process to another core than the servers', for as long as `run` takes.
pub fn apart<T>(run: impl FnOnce() -> T) -> io::Result<T> {
    let cores = std::thread::available_parallelism()?.get();
    let stay = |cores: &str| {
        let pid = std::process::id().to_string();
        let status =
            Command::new("taskset").args(["-acp", cores, &pid]).stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("taskset: {status}"))) }
    };
    stay(CLIENT_CORE)?;
    let done = run();
    stay(&format!("0-{}", cores - 1))?;
    Ok(done)
}

/// `serve NAME LIMIT`: prints the address, then serves on one thread until it is killed.
pub fn serve(name: &str, limit: &str) -> io::Result<()> {
    let limit = limit.parse().unwrap_or(LIMIT);
    let router = (contender::find(name).router)(limit);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        axum::serve(listener, router).await
    })
}
