//! The first two blocks of README.md compile as pasted into an empty project.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

const README: &str = include_str!("../README.md");

/// The text of the first block in this language.
fn first_block<'a>(readme: &'a str, language: &str) -> &'a str {
    let is_fence = |line: &str| {
        line.strip_prefix("```").is_some_and(|info| info.split(',').next() == Some(language))
    };
    let mut start = 0;
    for line in readme.split_inclusive('\n') {
        start += line.len();
        if is_fence(line.trim_end()) {
            let rest = &readme[start..];
            return &rest[..rest.find("```").unwrap()];
        }
    }
    panic!("no {language} block in README.md")
}

/// The `cargo add` line as two commands. The package itself comes from this folder, and `cargo add` takes only one
/// path at a time.
fn commands(line: &str, root: &Path) -> [Vec<String>; 2] {
    let name = env!("CARGO_PKG_NAME");
    let mut own = vec!["add".to_owned(), "--path".to_owned(), root.to_str().unwrap().to_owned()];
    let mut others = vec!["add".to_owned()];
    let mut words = line.split_whitespace();
    assert_eq!([words.next(), words.next()], [Some("cargo"), Some("add")], "{line}");
    let mut is_named = false;
    while let Some(word) = words.next() {
        match word {
            "--features" => {
                for feature in words.next().unwrap().split(',') {
                    match feature.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')) {
                        Some(feature) => own.extend(["--features".to_owned(), feature.to_owned()]),
                        None => others.extend(["--features".to_owned(), feature.to_owned()]),
                    }
                }
            }
            word if word == name => is_named = true,
            word => others.push(word.to_owned()),
        }
    }
    assert!(is_named, "{line}");
    [own, others]
}

fn cargo<S: AsRef<OsStr>>(project: &Path, arguments: &[S]) {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).arg("--offline").current_dir(project);
    // What cargo sets for this test is not meant for another package.
    for (variable, _) in env::vars_os().filter(|(name, _)| is_of_this_package(name)) {
        command.env_remove(variable);
    }
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("quick_start"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn is_of_this_package(variable: &OsStr) -> bool {
    let variable = variable.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|it| variable.starts_with(it))
}

#[test]
fn first_block_compiles_in_an_empty_project() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path();
    cargo(project, &["init", "--quiet", "--vcs", "none", "--name", "merchant"]);
    // The versions that are tested here, instead of whatever is newest today.
    fs::copy(root.join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    for arguments in commands(first_block(README, "sh"), root) {
        cargo(project, &arguments);
    }
    fs::write(project.join("src/main.rs"), first_block(README, "rust")).unwrap();
    cargo(project, &["check", "--quiet"]);
}
