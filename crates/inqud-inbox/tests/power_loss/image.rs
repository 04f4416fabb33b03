//! What a disk can have after a power loss.

use std::collections::BTreeMap;

use crate::disk::Op;
use crate::random::Random;

/// What a disk keeps of the writes that were not synced.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kept {
    None,
    All,
    /// The first ones of each file.
    Prefix,
    Subset,
    /// A part of the sectors of each.
    Torn,
}

pub(crate) const WAYS: [Kept; 5] = [Kept::None, Kept::All, Kept::Prefix, Kept::Subset, Kept::Torn];

const SECTOR: usize = 512;

/// The files of a disk that lost power after `ops`, by name.
///
/// - A write is certain if its file was synced after it. If that sync failed, it is not, whatever follows.
/// - A name is certain if the folder was synced after it.
/// - Anything else is there or not, as `kept` says.
pub(crate) fn image(ops: &[Op], kept: Kept, random: &mut Random) -> BTreeMap<String, Vec<u8>> {
    let is_certain = certain(ops);
    let mut prefixes = prefixes(ops, &is_certain, random);
    let mut data: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (op, is_certain) in ops.iter().zip(is_certain) {
        let is_kept = is_certain
            || match kept {
                Kept::None => false,
                Kept::All => true,
                Kept::Prefix => match prefixes.get_mut(&file(op)) {
                    None | Some(0) => false,
                    Some(left) => {
                        *left -= 1;
                        true
                    }
                },
                Kept::Subset => random.is(1, 2),
                Kept::Torn => random.is(3, 4),
            };
        if !is_kept {
            continue;
        }
        match op {
            Op::Create { node, name } => {
                names.insert(name.clone(), *node);
            }
            Op::Delete { name } => {
                names.remove(name);
            }
            Op::Truncate { node, len } => data.entry(*node).or_default().resize(*len, 0),
            Op::Write { node, at, data: written } => {
                let file = data.entry(*node).or_default();
                let len = file.len().max(at + written.len());
                file.resize(len, 0);
                let mut from = 0;
                while from < written.len() {
                    // Up to the next border of a sector of the file.
                    let to = written.len().min(from + SECTOR - (at + from) % SECTOR);
                    if is_certain || kept != Kept::Torn || random.is(1, 2) {
                        file[at + from..at + to].copy_from_slice(&written[from..to]);
                    }
                    from = to;
                }
            }
            Op::Sync { .. } | Op::FailedSync { .. } | Op::SyncFolder => {}
        }
    }
    names.into_iter().map(|(name, node)| (name, data.remove(&node).unwrap_or_default())).collect()
}

/// Which operations outlive a power loss for certain.
fn certain(ops: &[Op]) -> Vec<bool> {
    let mut is_certain = vec![false; ops.len()];
    let mut pending: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for (at, op) in ops.iter().enumerate() {
        match op {
            Op::Sync { .. } | Op::SyncFolder => {
                for at in pending.remove(&file(op)).unwrap_or_default() {
                    is_certain[at] = true;
                }
            }
            Op::FailedSync { .. } => {
                pending.remove(&file(op));
            }
            _ => pending.entry(file(op)).or_default().push(at),
        }
    }
    is_certain
}

/// How many of the uncertain operations to keep, of each file and of the folder.
fn prefixes(
    ops: &[Op],
    is_certain: &[bool],
    random: &mut Random,
) -> BTreeMap<Option<usize>, usize> {
    let mut counts = BTreeMap::new();
    for (op, _) in ops.iter().zip(is_certain).filter(|it| !it.1) {
        *counts.entry(file(op)).or_insert(0) += 1;
    }
    counts.into_iter().map(|(file, count)| (file, random.below(count + 1))).collect()
}

/// The file that an operation is about, or `None` for the folder.
fn file(op: &Op) -> Option<usize> {
    match op {
        Op::Create { .. } | Op::Delete { .. } | Op::SyncFolder => None,
        Op::Write { node, .. }
        | Op::Truncate { node, .. }
        | Op::Sync { node }
        | Op::FailedSync { node } => Some(*node),
    }
}

#[test]
fn synced_writes_are_in_each_image() {
    let (write, random) = (
        |node, at, byte| Op::Write { node, at, data: vec![byte; 2 * SECTOR] },
        &mut Random::new(7),
    );
    let create = |node, name: &str| Op::Create { node, name: name.to_owned() };
    let ops = [
        create(0, "a"),
        write(0, 0, 1),
        Op::Sync { node: 0 },
        Op::SyncFolder,
        write(0, 100, 2),
        Op::FailedSync { node: 0 },
        Op::Sync { node: 0 },
        create(1, "b"),
        write(1, 0, 3),
        Op::Sync { node: 1 },
    ];
    let none = image(&ops, Kept::None, random);
    assert_eq!(none, BTreeMap::from([("a".to_owned(), vec![1; 2 * SECTOR])]));
    let all = image(&ops, Kept::All, random);
    assert_eq!(all["a"], [vec![1; 100], vec![2; 2 * SECTOR]].concat());
    assert_eq!(all["b"], vec![3; 2 * SECTOR]);
    let torn: Vec<_> = (0..50).map(|_| image(&ops, Kept::Torn, random)).collect();
    assert!(torn.iter().all(|it| it["a"][..100] == [1; 100]));
    let has_part = |it: &BTreeMap<String, Vec<u8>>| it["a"][100] != it["a"][SECTOR];
    assert!(torn.iter().any(has_part));
    assert!(torn.iter().any(|it| it.contains_key("b")) && torn.iter().any(|it| it.len() == 1));
}
