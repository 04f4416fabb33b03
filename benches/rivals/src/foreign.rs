//! Those in other languages. What they need is installed into the target directory, once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::process::{Server, pinned};

pub struct Foreign {
    pub name: &'static str,
    pub how: &'static str,
    server: fn(&Path) -> Command,
}

pub const PYTHON: &str = "FastAPI";
pub const NODE: [&str; 2] = ["Fastify", "Express"];

pub const ALL: [Foreign; 3] = [
    Foreign {
        name: NODE[0],
        how: "Node: a buffer, `createHmac`, `timingSafeEqual`, `JSON.parse`",
        server: |target| node(target, "fastify"),
    },
    Foreign {
        name: NODE[1],
        how: "the same behind `express.raw`",
        server: |target| node(target, "express"),
    },
    Foreign {
        name: PYTHON,
        how: "Python on uvicorn (uvloop, httptools): `hmac`, `compare_digest`, `json.loads`",
        server: python,
    },
];

impl Foreign {
    pub fn start(&self) -> io::Result<Server> {
        Server::start((self.server)(&target()?))
    }
}

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");
const PACKAGE_LOCK: &str = include_str!("../node/package-lock.json");

/// Installs both languages' packages at once. What fails shows when a server is started.
pub fn install() -> io::Result<()> {
    let target = target()?;
    let both = [install_python, install_node].map(|install| {
        let target = target.clone();
        thread::spawn(move || install(&target))
    });
    for one in both {
        if let Ok(Err(error)) = one.join() {
            eprintln!("{error}");
        }
    }
    Ok(())
}

fn install_python(target: &Path) -> io::Result<()> {
    let folder = target.join("python");
    write(&folder, "requirements.txt", REQUIREMENTS)?;
    write(&folder, "server.py", include_str!("../python/server.py"))?;
    once(&folder, REQUIREMENTS, || {
        run(Command::new("python3").args(["-m", "venv", "--clear", "venv"]).current_dir(&folder))?;
        let mut pip = Command::new(folder.join("venv/bin/python"));
        pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]);
        run(pip.args(["-r", "requirements.txt"]).current_dir(&folder))
    })
}

fn python(target: &Path) -> Command {
    let mut command = pinned(target.join("python/venv/bin/python"));
    command.arg(target.join("python/server.py"));
    command
}

fn install_node(target: &Path) -> io::Result<()> {
    let folder = target.join("node");
    write(&folder, "package.json", include_str!("../node/package.json"))?;
    write(&folder, "package-lock.json", PACKAGE_LOCK)?;
    write(&folder, "server.mjs", include_str!("../node/server.mjs"))?;
    once(&folder, PACKAGE_LOCK, || {
        let mut npm = Command::new("npm");
        run(npm.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&folder))
    })
}

fn node(target: &Path, framework: &str) -> Command {
    let mut command = pinned("node");
    command.arg(target.join("node/server.mjs")).arg(framework).env("NODE_ENV", "production");
    command
}

/// This program is in `target/release`.
pub fn target() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    program.ancestors().nth(2).map(Path::to_owned).ok_or(io::ErrorKind::NotFound.into())
}

fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(name), text)
}

/// Installs unless this very list has been installed.
fn once(folder: &Path, list: &str, install: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let installed = folder.join("installed");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == list) {
        return Ok(());
    }
    install()?;
    fs::write(installed, list)
}

fn run(command: &mut Command) -> io::Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        failed => Err(io::Error::other(format!("{command:?} failed: {failed:?}"))),
    }
}
