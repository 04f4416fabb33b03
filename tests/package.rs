//! What the published package promises: its features, the size of its dependency tree, the oldest Rust, and that it
//! does not know the packages built on top of it.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Besides the package itself.
const MOST_DEPENDENCIES: usize = 40;

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).args(["--locked", "--manifest-path"]);
    let output = command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> Vec<Value> {
    // Those of other platforms need not be downloaded.
    let platform = ["--filter-platform", &host()];
    let metadata = ["metadata", "--format-version", "1", "--all-features"];
    let metadata: Value =
        serde_json::from_str(&cargo(&[&metadata[..], &platform].concat())).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// `name version` of each package in the tree of normal dependencies, with the package itself.
fn tree(package: &str, features: &[&str]) -> BTreeSet<String> {
    let tree = ["tree", "--edges", "normal", "--prefix", "none", "--no-dedupe", "--package"];
    let lines = cargo(&[&tree, &[package][..], features].concat());
    let name_and_version = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    lines.lines().filter(|line| !line.is_empty()).map(name_and_version).collect()
}

#[test]
fn features_are_axum_metrics_and_tracing() {
    let packages = packages();
    let own = packages.iter().find(|it| it["name"] == env!("CARGO_PKG_NAME")).unwrap();
    let features: Vec<_> = own["features"].as_object().unwrap().keys().collect();
    assert_eq!(features, ["axum", "default", "metrics", "tracing"]);
    assert_eq!(own["features"]["default"], serde_json::json!([]));
}

#[test]
fn dependency_tree_stays_small() {
    let tree = tree(env!("CARGO_PKG_NAME"), &[]);
    assert!(tree.len() > 20, "{tree:#?}");
    let dependencies = tree.len() - 1;
    assert!(dependencies <= MOST_DEPENDENCIES, "{dependencies}: {tree:#?}");
}

#[test]
fn client_and_mock_add_nothing_to_the_tree() {
    let inbox = tree("inqud-inbox", &[]);
    for package in ["inqud-api", "inqud-mock"] {
        let tree = tree(package, &[]);
        let added = tree.difference(&inbox).filter(|it| !it.starts_with(package));
        let added = added.collect::<Vec<_>>();
        // The mock decides with fastrand what it loses.
        let expected = if package == "inqud-mock" { ["fastrand"].as_slice() } else { &[] };
        let names = added.iter().map(|it| it.split(' ').next().unwrap()).collect::<Vec<_>>();
        assert_eq!(names, expected, "{package}");
    }
}

/// A dependency may state a newer Rust than this workspace does, in which case `cargo update` went too far.
#[test]
fn no_dependency_needs_a_newer_rust() {
    let version =
        |text: &str| -> Vec<u32> { text.split('.').map(|it| it.parse().unwrap()).collect() };
    let packages = packages();
    let own = packages.iter().filter(|it| it["source"].is_null());
    let mut compared = 0;
    for package in own {
        let name = package["name"].as_str().unwrap();
        let oldest = version(package["rust_version"].as_str().unwrap());
        let needed = tree(name, &["--all-features"]);
        for dependency in &packages {
            let field = |name: &str| dependency[name].as_str();
            let id = format!("{} v{}", field("name").unwrap(), field("version").unwrap());
            if let Some(rust) = field("rust_version").filter(|_| needed.contains(&id)) {
                assert!(version(rust)[..2] <= oldest[..2], "{name} depends on {id}: Rust {rust}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared}");
}

/// Documentation may point to the inbox; code may not know it.
#[test]
fn code_does_not_know_the_inbox() {
    let mut files = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut lines = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split("//").next().unwrap_or_default().to_lowercase();
            assert!(!code.contains("inbox"), "{}:{number}: {line}", path.display());
            lines += 1;
        }
    }
    assert!(lines > 3000, "{lines}");
}

/// The shop and the other examples have dependencies and pictures that no user needs.
#[test]
fn published_package_has_neither_examples_nor_tests() {
    let list = cargo(&["package", "--list", "--allow-dirty"]);
    let files: Vec<_> = list.lines().map(|line| line.replace('\\', "/")).collect();
    assert!(files.iter().any(|file| file == "src/lib.rs"), "{files:#?}");
    for folder in ["benches/", "crates/", "examples/", "fuzz/", "tests/"] {
        let published: Vec<_> = files.iter().filter(|file| file.starts_with(folder)).collect();
        assert!(published.is_empty(), "{published:#?}");
    }
}
