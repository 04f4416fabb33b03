//! The files of a crate do not import each other in circles.
//!
//! A file imports another if a path in it refers to an item that the other defines. Re-exports are resolved:
//! `crate::Webhook` refers to `webhook.rs`, and `lib.rs` may re-export everything. Method calls do not count.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

#[test]
fn no_file_imports_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = vec![root.join("src")];
    // The published package does not have these folders.
    sources.extend(Some(root.join("examples/shop/src")).filter(|source| source.is_dir()));
    if let Ok(crates) = fs::read_dir(root.join("crates")) {
        sources.extend(crates.map(|entry| entry.unwrap().path().join("src")));
    }
    for source in sources {
        let circles = circles(&source);
        assert!(circles.is_empty(), "{}: {circles:#?}", source.display());
    }
}

#[test]
fn finds_a_circle_through_re_exports() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a; mod b; pub use self::a::{Inner as A}; pub use self::b::B;");
    write("a/mod.rs", "mod deep; pub use self::deep::Inner;");
    write("a/deep.rs", "pub struct Inner { b: Vec<crate::B> }");
    write("b.rs", "pub struct B; fn below() { let _: Option<super::a::Inner> = None; }");
    let circle = ["a/deep.rs -> b.rs (crate::B)", "b.rs -> a/deep.rs (super::a::Inner)"];
    assert_eq!(circles(folder.path()), circle);

    write("b.rs", "pub struct B;");
    assert!(circles(folder.path()).is_empty());
}

/// The imports that are part of a circle, as `file -> file (path)`.
fn circles(source: &Path) -> Vec<String> {
    let mut tree = Tree::default();
    for root in ["lib.rs", "main.rs"].map(|name| source.join(name)) {
        if root.is_file() {
            tree.read(&root, source, &[]);
        }
    }
    assert!(!tree.modules.is_empty(), "no crate in {}", source.display());
    let imports = tree.imports();
    let circular = imports.iter().filter(|((from, to), _)| reaches(&imports, to, from));
    let name =
        |file: &Path| file.strip_prefix(source).unwrap().display().to_string().replace('\\', "/");
    circular.map(|((from, to), path)| format!("{} -> {} ({path})", name(from), name(to))).collect()
}

/// The importing and the imported file, with one of the paths.
type Imports = BTreeMap<(PathBuf, PathBuf), String>;

fn reaches(imports: &Imports, from: &Path, to: &Path) -> bool {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        if file == to {
            return true;
        }
        if reached.insert(file) {
            next.extend(
                imports.keys().filter(|(from, _)| from == file).map(|(_, to)| to.as_path()),
            );
        }
    }
    false
}

type ModulePath = Vec<String>;

#[derive(Default)]
struct Tree {
    modules: BTreeMap<ModulePath, Module>,
}

struct Module {
    file: PathBuf,
    items: BTreeSet<String>,
    /// The names that `use` defines, and their paths.
    aliases: BTreeMap<String, Vec<String>>,
    /// All paths of the file, except re-exports.
    paths: Vec<Vec<String>>,
}

impl Tree {
    fn read(&mut self, file: &Path, folder: &Path, module: &[String]) {
        let text =
            fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap();
        self.add(file, folder, module, &parsed.items);
    }

    fn add(&mut self, file: &Path, folder: &Path, module: &[String], items: &[Item]) {
        let (mut names, mut aliases, mut paths) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            match item {
                Item::Mod(it) => {
                    let child = [module, &[it.ident.to_string()]].concat();
                    let inside = folder.join(it.ident.to_string());
                    if let Some((_, items)) = &it.content {
                        self.add(file, &inside, &child, items);
                    } else {
                        let named = path_attribute(&it.attrs).map(|name| file.with_file_name(name));
                        let usual = [inside.with_extension("rs"), inside.join("mod.rs")];
                        let file =
                            named.into_iter().chain(usual).find(|file| file.is_file()).unwrap();
                        // If a feature selects between two files for a module, the last one counts.
                        self.read(&file, &inside, &child);
                    }
                }
                Item::Use(it) => {
                    let mut found = Vec::new();
                    flatten(&it.tree, &mut Vec::new(), &mut found);
                    for (name, path) in found {
                        if matches!(it.vis, syn::Visibility::Inherited) {
                            paths.push(path.clone());
                        }
                        aliases.insert(name, path);
                    }
                    continue;
                }
                Item::Struct(it) => drop(names.insert(it.ident.to_string())),
                Item::Enum(it) => drop(names.insert(it.ident.to_string())),
                Item::Trait(it) => drop(names.insert(it.ident.to_string())),
                Item::Type(it) => drop(names.insert(it.ident.to_string())),
                Item::Const(it) => drop(names.insert(it.ident.to_string())),
                Item::Static(it) => drop(names.insert(it.ident.to_string())),
                Item::Fn(it) => drop(names.insert(it.sig.ident.to_string())),
                _ => {}
            }
            let mut seen = Paths(Vec::new());
            if !matches!(item, Item::Mod(_)) {
                seen.visit_item(item);
            }
            paths.extend(seen.0);
        }
        let file = file.to_owned();
        self.modules.insert(module.to_vec(), Module { file, items: names, aliases, paths });
    }

    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (at, module) in &self.modules {
            for path in &module.paths {
                if let Some(to) = self.definition(at, path, 0).filter(|to| *to != module.file) {
                    let path = path.join("::");
                    imports.entry((module.file.clone(), to)).or_insert(path);
                }
            }
        }
        imports
    }

    /// The file that defines the item at `path`, relative to the module `at`.
    fn definition(&self, at: &[String], path: &[String], depth: usize) -> Option<PathBuf> {
        let (first, mut rest) = path.split_first()?;
        let mut here = match first.as_str() {
            "crate" => Vec::new(),
            "self" => at.to_vec(),
            "super" => at.split_last()?.1.to_vec(),
            _ => {
                rest = path;
                at.to_vec()
            }
        };
        while let Some((name, after)) = rest.split_first() {
            if name == "super" {
                here.pop()?;
                rest = after;
                continue;
            }
            let module = self.modules.get(&here)?;
            let child = [&here[..], std::slice::from_ref(name)].concat();
            if module.items.contains(name) {
                return Some(module.file.clone());
            } else if let Some(alias) = module.aliases.get(name).filter(|_| depth < 16) {
                let full = [alias.as_slice(), after].concat();
                return self.definition(&here, &full, depth + 1);
            } else if self.modules.contains_key(&child) {
                here = child;
                rest = after;
            } else {
                return None;
            }
        }
        self.modules.get(&here).map(|module| module.file.clone())
    }
}

struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.0.push(path.segments.iter().map(|it| it.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    // `pub(super)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

fn flatten(tree: &UseTree, prefix: &mut Vec<String>, found: &mut Vec<(String, Vec<String>)>) {
    match tree {
        UseTree::Path(it) => {
            prefix.push(it.ident.to_string());
            flatten(&it.tree, prefix, found);
            prefix.pop();
        }
        UseTree::Name(it) if it.ident == "self" => {
            found.push((prefix.last().cloned().unwrap_or_default(), prefix.clone()));
        }
        UseTree::Name(it) => {
            let name = it.ident.to_string();
            found.push((name.clone(), [&prefix[..], &[name]].concat()));
        }
        UseTree::Rename(it) => {
            let path = [&prefix[..], &[it.ident.to_string()]].concat();
            found.push((it.rename.to_string(), path));
        }
        UseTree::Group(it) => it.items.iter().for_each(|tree| flatten(tree, prefix, found)),
        UseTree::Glob(_) => {}
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| {
        it.path().is_ident("cfg")
            && it.parse_args::<syn::Path>().is_ok_and(|cfg| cfg.is_ident("test"))
    })
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|it| {
        let syn::Meta::NameValue(syn::MetaNameValue { path, value, .. }) = &it.meta else {
            return None;
        };
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = value else {
            return None;
        };
        path.is_ident("path").then(|| text.value())
    })
}
