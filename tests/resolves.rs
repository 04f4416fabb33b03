//! The database crates that resolve beside each feature of inqud-inbox are those of the table in its documentation.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const PAGE: &str = "crates/inqud-inbox/docs/inbox.md";
const HEAD: &str = "| in `Cargo.toml` | feature `sqlite` | feature `postgres` |";

/// The columns of the table, after the first.
const FEATURES: [&str; 2] = ["sqlite", "postgres"];

/// What Cargo says if two packages link SQLite.
const CONFLICT: &str = "links to the native library `sqlite3`";

/// A row of the table: a line of `Cargo.toml`, and for each feature whether it resolves.
#[derive(Debug, PartialEq)]
struct Row {
    dependency: String,
    resolves: Vec<bool>,
}

fn table(page: &str) -> Vec<Row> {
    let rows = page.lines().skip_while(|line| *line != HEAD).skip(2);
    rows.take_while(|line| line.starts_with('|')).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [dependency, resolves @ ..] = &cells[..] else { panic!("no cells: {line}") };
    let dependency = dependency.strip_prefix('`').and_then(|it| it.strip_suffix('`'));
    let resolves = resolves.iter().map(|cell| match *cell {
        "yes" => true,
        "no" => false,
        _ => panic!("neither yes nor no: {line}"),
    });
    Row {
        dependency: dependency.unwrap_or_else(|| panic!("{line}")).to_owned(),
        resolves: resolves.collect(),
    }
}

/// Resolves a package that depends on inqud-inbox with a feature, and on another crate. A resolver that gives up for
/// another reason than two copies of SQLite is a failure of the test.
fn resolves(dependency: &str, feature: &str) -> bool {
    let folder = TempDir::new().unwrap();
    let inbox = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/inqud-inbox");
    let manifest = format!(
        "[package]\nname = \"shop\"\nedition = \"2024\"\n\n[dependencies]\n\
         inqud-inbox = {{ path = {inbox:?}, features = [{feature:?}] }}\n{dependency}\n"
    );
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/lib.rs"), "").unwrap();
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.arg("generate-lockfile").current_dir(folder.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || error.contains(CONFLICT), "{dependency}: {error}");
    output.status.success()
}

#[test]
fn reads_the_table() {
    let page = format!(
        "text\n\n{HEAD}\n| --- | --- | --- |\n| `a = \"1\"` | no | yes |\n\n| `b` | no | no |"
    );
    let expected = Row { dependency: "a = \"1\"".to_owned(), resolves: vec![false, true] };
    assert_eq!(table(&page), [expected]);
}

#[test]
#[ignore = "asks the registry, and its answer changes with each release of these crates"]
fn database_crates_resolve_as_documented() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let rows = table(&page);
    assert!(rows.len() >= 15, "{rows:#?}");
    let mut wrong = String::new();
    for row in rows {
        assert_eq!(row.resolves.len(), FEATURES.len(), "{row:?}");
        for (feature, documented) in FEATURES.into_iter().zip(row.resolves) {
            let found = resolves(&row.dependency, feature);
            println!("{feature:<8}  {found:<5}  {}", row.dependency);
            if found != documented {
                _ = writeln!(
                    wrong,
                    "{} with {feature}: {found}, documented {documented}",
                    row.dependency
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{PAGE} is outdated:\n{wrong}");
}
