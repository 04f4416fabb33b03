//! The types and traits of other crates in the public API. A new major version of any of these crates is a breaking
//! change here, so the list grows only on purpose.
//!
//! Reads what rustdoc writes as JSON, which a stable compiler does only if told to: `.ci/run public-types`.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const LIBRARIES: [&str; 4] = ["tower-inqud", "inqud-inbox", "inqud-mock", "inqud-api"];

fn rustdoc(package: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "rustdoc",
        "--locked",
        "--quiet",
        "--all-features",
        "--lib",
        "--package",
        package,
    ]);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    command.arg("--target-dir").arg(target);
    command.args(["--", "-Z", "unstable-options", "--output-format", "json"]);
    // A wrapper, because the variable in it would have cargo build all dependencies again.
    command.current_dir(root).env("RUSTDOC", root.join(".ci/rustdoc")).env_remove("RUSTDOCFLAGS");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = target.join("doc").join(format!("{}.json", package.replace('-', "_")));
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// The paths of all items of other crates, the standard library excepted, that public items refer to.
fn foreign(docs: &Value) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for item in docs["index"].as_object().unwrap().values().filter(|it| it["crate_id"] == 0) {
        let inner = &item["inner"];
        // What holds for every type, such as `From<T> for T`, is not promised by this crate.
        let is_blanket = !inner["impl"]["blanket_impl"].is_null();
        if !is_blanket && inner["impl"]["is_synthetic"] != true {
            collect(inner, &mut ids);
        }
    }
    let path = |id: &u64| {
        let summary = &docs["paths"][id.to_string()];
        let origin = summary["crate_id"].as_u64().filter(|it| *it != 0)?;
        let origin = docs["external_crates"][origin.to_string()]["name"].as_str()?;
        if ["alloc", "core", "std"].contains(&origin) {
            return None;
        }
        let path: Vec<_> = summary["path"].as_array()?.iter().filter_map(Value::as_str).collect();
        // What a macro wrote, and nobody can name.
        (!path.contains(&"__private")).then(|| path.join("::"))
    };
    ids.iter().filter_map(path).collect()
}

/// A type, a trait and a re-export each have an `id` beside a `path` or a `source`.
fn collect(value: &Value, ids: &mut BTreeSet<u64>) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("path") || fields.contains_key("source") {
                ids.extend(fields.get("id").and_then(Value::as_u64));
            }
            fields.values().for_each(|value| collect(value, ids));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, ids)),
        _ => {}
    }
}

#[test]
#[ignore = "needs options of rustdoc that are not stable: .ci/run public-types"]
fn foreign_types_are_those_of_the_list() {
    let mut found = String::new();
    for package in LIBRARIES {
        writeln!(found, "{package}").unwrap();
        for path in foreign(&rustdoc(package)) {
            writeln!(found, "    {path}").unwrap();
        }
    }
    let listed = include_str!("fixtures/public_types.txt");
    assert!(found == listed, "if this is on purpose, change fixtures/public_types.txt:\n{found}");
}
