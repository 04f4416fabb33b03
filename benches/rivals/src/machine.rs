//! Where and with what it was measured.

use std::fs;
use std::process::Command;

const LOCK: &str = include_str!("../Cargo.lock");
/// The crates whose versions matter.
const CRATES: [&str; 12] = [
    "tower-inqud",
    "axum",
    "axum-github-webhook-extract",
    "hmac",
    "hyper",
    "hyper-util",
    "serde_json",
    "sha1",
    "tokio",
    "tower",
    "tower-github-webhook",
    "webhook-verify",
];
const PYTHON: &str = include_str!("../python/requirements.txt");
const NODE: &str = include_str!("../node/package.json");

/// Its processor, cores, memory and system; never its name.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value)
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sha = if field("flags").contains("sha_ni") { "with" } else { "without" };
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory =
        memory.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok());
    let memory = memory.unwrap_or_default().div_ceil(1024 * 1024);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!(
        "{}, {cores} cores ({sha} SHA instructions), {memory} GiB, Linux {kernel}",
        field("model name")
    )
}

pub fn date() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

pub fn versions() -> Vec<String> {
    let mut versions: Vec<String> =
        ["rustc", "python3", "node"].into_iter().filter_map(said).collect();
    versions.extend(CRATES.iter().filter_map(|name| locked(name)));
    versions.extend(PYTHON.lines().map(|line| line.replace("==", " ")));
    let package: serde_json::Value = serde_json::from_str(NODE).expect("JSON");
    for (name, version) in package["dependencies"].as_object().into_iter().flatten() {
        versions.push(format!("{name} {}", version.as_str().unwrap_or_default()));
    }
    versions
}

/// Name and version, as the program itself says.
fn said(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let version = said.split_whitespace().find(|word| word.contains('.'))?;
    Some(format!("{} {}", program.trim_end_matches('3'), version.trim_start_matches('v')))
}

fn locked(name: &str) -> Option<String> {
    let (_, after) = LOCK.rsplit_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(format!("{name} {}", after.split('"').next()?))
}

/// None outside a checkout.
pub fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// How many programs wanted a core in the last minute.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}
