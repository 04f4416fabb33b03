//! Every test that `tests/README.md` names exists.
#![allow(clippy::unwrap_used, reason = "clippy.toml does not reach the helpers of tests")]

use std::fs;
use std::path::Path;

/// Appends all Rust files in a folder to `text`.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn readme_names_only_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    sources(&root.join("tests"), &mut code);
    sources(&root.join("src"), &mut code);
    sources(&root.join("crates"), &mut code);

    let table = fs::read_to_string(root.join("tests/README.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let mut named = 0;
    for row in rows.filter(|row| !row.starts_with("| threat")) {
        let column = row.split(" | ").nth(1).unwrap();
        let names = column.split('`').skip(1).step_by(2);
        for name in names.filter(|name| !name.ends_with(".rs")) {
            let is_there = ["(", "<"].iter().any(|end| code.contains(&format!("fn {name}{end}")));
            assert!(is_there, "no test {name}, which is named in {row:?}");
            named += 1;
        }
    }
    assert!(named > 50, "only {named} tests were found in the table");
}
