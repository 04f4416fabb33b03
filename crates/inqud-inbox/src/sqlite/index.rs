//! The index that finds objects by a hash of their kind and id.
//!
//! # Why not an index of SQLite alone
//!
//! Ids arrive in random order, so an index that gets each id at once is written all over. Once it has many
//! rows, each new id dirties another page, which is written to the log and later to the file. Instead, the
//! newest objects are kept in memory, sorted by hash. Each commit moves about as many of them into the index
//! of the file as it has added: the next ones in hash order, which are on a few adjacent pages.
//!
//! # Sweeps
//!
//! One pass over all hashes is a sweep. When it reaches the last hash, every object that existed when it
//! began is in the file's index, so `indexed` can move up to that object's number. Objects with a higher
//! number may or may not be in the index. They are read from the table of objects when the file is opened,
//! and after a failed transaction. Reading one that is in the index already does no harm.
//!
//! So an object is always found: up to `indexed` it is in the file's index, and beyond that in memory.
//!
//! # The price
//!
//! No unique index of the engine refuses a second object with the same id. Only this code prevents it, and
//! its tests and the crash test show that it does.

use std::collections::BTreeSet;

use rusqlite::{Connection, Result, Statement, params};

use crate::key::Key;

/// How many objects are kept in memory. After they were read from the file, it can be about four times as
/// many.
const KEPT: usize = 16_384;

/// The minimum number of objects that a commit moves into the index, if any. Moving a single one would dirty
/// about as many pages.
const FEW: usize = 64;

pub(super) struct Index<'c> {
    kept: usize,
    few: usize,
    recent: BTreeSet<(i32, i64)>,
    sweep: Sweep,
    saved: Sweep,
    /// How many objects this transaction has added.
    met: usize,
    /// Whether this transaction has loaded or changed `recent` and `sweep`.
    is_touched: bool,
    /// Whether `recent` and `sweep` have to be loaded from the file.
    is_lost: bool,
    load: Statement<'c>,
    load_sweep: Statement<'c>,
    find: Statement<'c>,
    matches: Statement<'c>,
    meet: Statement<'c>,
    add: Statement<'c>,
    save: Statement<'c>,
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
struct Sweep {
    /// All objects up to this number are in the index of the file.
    indexed: i64,
    /// The highest number when this sweep began. It becomes `indexed` when the sweep ends.
    begun: i64,
    /// The hash that this sweep has reached.
    hash: i32,
}

impl<'c> Index<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self> {
        Self::keeping(KEPT, FEW, connection)
    }

    fn keeping(kept: usize, few: usize, connection: &'c Connection) -> Result<Self> {
        let mut index = Self {
            kept,
            few,
            recent: BTreeSet::new(),
            sweep: Sweep::default(),
            saved: Sweep::default(),
            met: 0,
            is_touched: false,
            is_lost: true,
            load: connection
                .prepare("SELECT hash, number FROM inqud_inbox_object WHERE number > ?1")?,
            load_sweep: connection.prepare("SELECT indexed, begun, hash FROM inqud_inbox_sweep")?,
            find: connection.prepare("SELECT number FROM inqud_inbox_index WHERE hash = ?1")?,
            matches: connection.prepare(
                "SELECT 1 FROM inqud_inbox_object WHERE number = ?1 AND id = ?2 AND kind = ?3",
            )?,
            meet: connection.prepare(
                "INSERT INTO inqud_inbox_object (hash, id, kind, due_at) VALUES (?1, ?2, ?3, ?4)",
            )?,
            add: connection.prepare("INSERT OR IGNORE INTO inqud_inbox_index VALUES (?1, ?2)")?,
            save: connection
                .prepare("UPDATE inqud_inbox_sweep SET indexed = ?1, begun = ?2, hash = ?3")?,
        };
        index.load()?;
        index.is_touched = false;
        Ok(index)
    }

    /// Called at the end of a transaction. After a failed one, the next use loads everything from the file.
    pub(super) fn end(&mut self, is_committed: bool) {
        if std::mem::take(&mut self.is_touched) && !is_committed {
            self.recent.clear();
            self.met = 0;
            self.is_lost = true;
        }
    }

    /// Returns the number of an object, if it exists.
    pub(super) fn find(&mut self, kind: &str, id: &str) -> Result<Option<i64>> {
        self.load()?;
        let hash = hash(kind, id);
        for (_, number) in self.recent.range((hash, i64::MIN)..=(hash, i64::MAX)) {
            if self.matches.exists(params![number, id, kind])? {
                return Ok(Some(*number));
            }
        }
        let mut numbers = self.find.query([hash])?;
        while let Some(row) = numbers.next()? {
            let number: i64 = row.get(0)?;
            if self.matches.exists(params![number, id, kind])? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Adds an object, and returns its number.
    pub(super) fn insert_object(&mut self, kind: &str, id: &str, due: Option<i64>) -> Result<i64> {
        self.load()?;
        self.is_touched = true;
        let hash = hash(kind, id);
        let number = self.meet.insert(params![hash, id, kind, due])?;
        // If rows were deleted by hand, SQLite can reuse their numbers. Then this object has a number up to
        // `indexed` and is not in the index, so `indexed` moves back. It is saved at once and not at the
        // end of the transaction, because an effect can commit that early.
        let before = number.saturating_sub(1);
        self.sweep.indexed = self.sweep.indexed.min(before);
        self.sweep.begun = self.sweep.begun.min(before);
        self.save()?;
        self.recent.insert((hash, number));
        self.met = self.met.saturating_add(1);
        Ok(number)
    }

    /// Continues the sweep if too many objects are in memory, by up to twice as many as this transaction has
    /// added. Called before the end of each transaction.
    pub(super) fn sweep(&mut self) -> Result<()> {
        let met = std::mem::take(&mut self.met);
        let most = met.max(self.few).saturating_mul(2);
        let count = self.recent.len().saturating_sub(self.kept).min(most);
        if met > 0 && count >= self.few {
            let from = (self.sweep.hash, i64::MIN);
            let next: Vec<_> = self.recent.range(from..).take(count).copied().collect();
            for (hash, number) in &next {
                self.add.execute(params![hash, number])?;
                self.recent.remove(&(*hash, *number));
            }
            self.sweep.hash = match next.last() {
                Some((hash, _)) if next.len() == count => *hash,
                _ => self.begin_sweep(),
            };
            self.save()?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        if self.sweep != self.saved {
            let Sweep { indexed, begun, hash } = self.sweep;
            self.save.execute(params![indexed, begun, hash])?;
            self.saved = self.sweep;
        }
        Ok(())
    }

    /// Ends this sweep and begins the next, which will reach all objects that are in memory now. Returns the
    /// hash to begin with.
    fn begin_sweep(&mut self) -> i32 {
        self.sweep.indexed = self.sweep.begun;
        let last = self.recent.iter().map(|(_, number)| *number).max();
        self.sweep.begun = self.sweep.begun.max(last.unwrap_or(0));
        i32::MIN
    }

    fn load(&mut self) -> Result<()> {
        if !self.is_lost {
            return Ok(());
        }
        self.is_touched = true;
        self.sweep = self.load_sweep.query_row([], |row| {
            Ok(Sweep { indexed: row.get(0)?, begun: row.get(1)?, hash: row.get(2)? })
        })?;
        self.saved = self.sweep;
        let recent =
            self.load.query_map([self.sweep.indexed], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.recent = recent.collect::<Result<_>>()?;
        self.is_lost = false;
        Ok(())
    }
}

/// Hashes a kind and an id to 32 bits. More bits would take more pages. The few objects that have the same
/// hash are told apart by their ids. The hash is stored, so it must never change.
fn hash(kind: &str, id: &str) -> i32 {
    let key = Key::hash([kind.as_bytes(), b"/", id.as_bytes()]);
    key.as_bytes().first_chunk().map_or(0, |start| i32::from_be_bytes(*start))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "of small numbers")]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::sqlite::schema;

    const KIND: &str = "request";

    fn database() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, schema::MIGRATIONS).unwrap();
        connection
    }

    fn count(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// A database in which saving the sweep fails while `spoil` is on.
    fn spoilable() -> Connection {
        let connection = database();
        let spoil = "CREATE TABLE spoil (is_on); INSERT INTO spoil VALUES (FALSE);
            CREATE TRIGGER t BEFORE UPDATE ON inqud_inbox_sweep WHEN (SELECT is_on FROM spoil)
            BEGIN SELECT RAISE(ABORT, 'spoilt'); END";
        connection.execute_batch(spoil).unwrap();
        connection
    }

    /// Counts the objects that are only in memory.
    const NOT_INDEXED: &str = "SELECT count(*) FROM inqud_inbox_object AS it
        WHERE NOT EXISTS (SELECT 1 FROM inqud_inbox_index AS its
            WHERE its.hash = it.hash AND its.number = it.number)";

    fn insert_object(connection: &Connection, index: &mut Index<'_>, ids: std::ops::Range<u32>) {
        for id in ids {
            connection.execute_batch("BEGIN").unwrap();
            let id = id.to_string();
            assert_eq!(index.find(KIND, &id).unwrap(), None);
            index.insert_object(KIND, &id, None).unwrap();
            index.sweep().unwrap();
            connection.execute_batch("COMMIT").unwrap();
            index.end(true);
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// One transaction with new objects and some that exist already.
        Meet {
            new: u32,
            again: u32,
            fails_at: At,
        },
        Reopen,
    }

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum At {
        Never,
        /// Only if the sweep has anything to write.
        Sweep,
        Commit,
    }

    fn step() -> impl Strategy<Value = Step> {
        let fails_at =
            prop_oneof![8 => Just(At::Never), 1 => Just(At::Sweep), 1 => Just(At::Commit)];
        let meet = (0..7_u32, 0..3_u32, fails_at).prop_map(|(new, again, fails_at)| Step::Meet {
            new,
            again,
            fails_at,
        });
        prop_oneof![9 => meet, 1 => Just(Step::Reopen)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn finds_every_object_after_failures_and_reopening(
            few in 1..5_usize,
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let connection = spoilable();
            let mut index = Index::keeping(8, few, &connection).unwrap();
            let mut known = HashMap::<u32, i64>::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Reopen => index = Index::keeping(8, few, &connection).unwrap(),
                    Step::Meet { new, again, fails_at } => {
                        connection.execute_batch("BEGIN").unwrap();
                        let mut met = HashMap::new();
                        for id in (next..next + new).chain((0..again).map(|it| it * 7 % (next + 1))) {
                            let found = index.find(KIND, &id.to_string()).unwrap();
                            prop_assert_eq!(found, known.get(&id).or(met.get(&id)).copied());
                            if found.is_none() {
                                met.insert(id, index.insert_object(KIND, &id.to_string(), None).unwrap());
                            }
                        }
                        let spoil = format!("UPDATE spoil SET is_on = {}", fails_at == At::Sweep);
                        connection.execute_batch(&spoil).unwrap();
                        let is_swept = index.sweep().is_ok();
                        let is_kept = is_swept && fails_at != At::Commit;
                        connection.execute_batch(if is_kept { "COMMIT" } else { "ROLLBACK" }).unwrap();
                        index.end(is_kept);
                        if is_kept {
                            known.extend(met);
                        }
                        next += new;
                    }
                }
                let missing = "SELECT count(*) FROM inqud_inbox_object AS it, inqud_inbox_sweep AS sweep
                    WHERE it.number <= sweep.indexed
                        AND NOT EXISTS (SELECT 1 FROM inqud_inbox_index AS its
                            WHERE its.hash = it.hash AND its.number = it.number)";
                prop_assert_eq!(count(&connection, missing), 0);
            }
            for (id, number) in known {
                prop_assert_eq!(index.find(KIND, &id.to_string()).unwrap(), Some(number));
            }
        }
    }

    #[test]
    fn does_not_save_a_failed_sweep_later() {
        let connection = spoilable();
        let mut index = Index::keeping(8, 1, &connection).unwrap();
        insert_object(&connection, &mut index, 0..100);
        let before = connection.query_row("SELECT indexed, hash FROM inqud_inbox_sweep", [], both);
        connection.execute_batch("UPDATE spoil SET is_on = TRUE; BEGIN").unwrap();
        for id in 100..120 {
            index.insert_object(KIND, &id.to_string(), None).unwrap();
        }
        index.sweep().unwrap_err();
        connection.execute_batch("ROLLBACK; UPDATE spoil SET is_on = FALSE").unwrap();
        index.end(false);

        // A transaction that adds no object.
        index.sweep().unwrap();
        index.end(true);
        let after = connection.query_row("SELECT indexed, hash FROM inqud_inbox_sweep", [], both);
        assert_eq!(after, before);
        for id in 0..100 {
            assert!(index.find(KIND, &id.to_string()).unwrap().is_some(), "{id}");
        }
    }

    fn both(row: &rusqlite::Row<'_>) -> Result<(i64, i32)> {
        Ok((row.get(0)?, row.get(1)?))
    }

    #[test]
    fn hash_never_changes() {
        assert_eq!(hash("request", "CAPD-1"), -1_945_610_238);
        assert_eq!(hash("payment", "CAPD-1"), -1_798_625_509);
    }

    #[test]
    fn keeps_memory_after_a_failed_transaction_without_new_objects() {
        let connection = database();
        let mut index = Index::keeping(8, 1, &connection).unwrap();
        insert_object(&connection, &mut index, 0..5);
        index.find(KIND, "3").unwrap();
        index.end(false);
        assert!(!index.is_lost);
        index.insert_object(KIND, "5", None).unwrap();
        index.end(false);
        assert!(index.is_lost);
    }

    #[test]
    fn memory_is_bounded_across_short_runs() {
        let connection = database();
        for run in 0..400 {
            let mut index = Index::keeping(50, 1, &connection).unwrap();
            assert!(index.recent.len() <= 4 * 50, "{} in run {run}", index.recent.len());
            insert_object(&connection, &mut index, run * 10..run * 10 + 10);
        }
        assert!(count(&connection, NOT_INDEXED) <= 50);
    }

    #[test]
    fn tells_objects_with_equal_hashes_apart() {
        let mut seen = HashMap::new();
        let twins = (0_u32..).find_map(|id| {
            let id = id.to_string();
            let other = seen.insert(hash(KIND, &id), id.clone())?;
            Some((other, id))
        });
        let (one, other) = twins.unwrap();
        let connection = database();
        let mut index = Index::keeping(0, 1, &connection).unwrap();
        let number = index.insert_object(KIND, &one, None).unwrap();
        // In memory, and then in the file.
        for indexed in [0, 1] {
            assert_eq!(count(&connection, "SELECT count(*) FROM inqud_inbox_index"), indexed);
            assert_eq!(index.find(KIND, &one).unwrap(), Some(number));
            assert_eq!(index.find(KIND, &other).unwrap(), None);
            assert_eq!(index.find("payment", &one).unwrap(), None);
            index.sweep().unwrap();
        }
        let number = index.insert_object(KIND, &other, None).unwrap();
        assert_eq!(index.find(KIND, &other).unwrap(), Some(number));
        assert_ne!(index.find(KIND, &one).unwrap(), Some(number));
    }

    #[test]
    fn finds_objects_with_reused_numbers() {
        let connection = database();
        let mut index = Index::keeping(4, 1, &connection).unwrap();
        insert_object(&connection, &mut index, 0..100);
        assert!(index.sweep.indexed > 50);
        connection.execute_batch("DELETE FROM inqud_inbox_object WHERE number > 30").unwrap();
        drop(index);

        // Also if an effect commits before its transaction fails.
        let mut index = Index::keeping(4, 1, &connection).unwrap();
        index.insert_object(KIND, "199", None).unwrap();
        index.end(false);
        assert!(index.find(KIND, "199").unwrap().is_some());

        for id in 200..260 {
            insert_object(&connection, &mut index, id..id + 1);
            let mut reopened = Index::keeping(4, 1, &connection).unwrap();
            for id in 200..=id {
                assert!(reopened.find(KIND, &id.to_string()).unwrap().is_some(), "{id}");
            }
        }
        assert_eq!(index.find(KIND, "60").unwrap(), None);
    }
}
