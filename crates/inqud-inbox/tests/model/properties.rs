//! What must be true, in words of its own: nothing here calls the rules that the inbox uses.

use std::collections::HashMap;

use tower_inqud::{History, Stage, Verdict};

use crate::look::Watch;
use crate::state::{Kept, Lease, MAX_ATTEMPTS, Object, Receiver, Row, Seen, State};
use crate::world::{Note, World};

/// The property that is broken.
pub(crate) type Broken = &'static str;

/// Whether the row is older than what the merchant has handled last, so that handling it would put the object back.
pub(crate) fn is_older(world: &World, object: &Object, row: u8) -> bool {
    let Some(Seen { row: shown, time }) = object.shown else { return false };
    let (next, last) = (world.note(object.row(row).note), world.note(object.row(shown).note));
    let time = time.and_then(|time| world.note(object.row(time).note).time());
    let came_earlier = row < shown;
    match (next.time(), time) {
        (Some(next_time), Some(time)) if next_time == time && next.rank == last.rank => {
            came_earlier
        }
        (Some(next_time), Some(time)) => (next_time, next.rank) < (time, last.rank),
        (Some(_), None) => false,
        // Only if a person has looked at it.
        (None, Some(_)) => !object.row(row).is_reviewed || came_earlier && !last.is_early(),
        (None, None) => match (next.is_early(), last.is_early()) {
            (true, false) => true,
            (false, true) => false,
            (true, true) if next.rank != last.rank => next.rank < last.rank,
            (false, false) => match (next.stage, last.stage) {
                (Stage::Partial, Stage::Success) => true,
                (Stage::Success, Stage::Partial) => false,
                _ => came_earlier,
            },
            _ => came_earlier,
        },
    }
}

/// Whether a delivery tells something although it was stored before: a settled status without a time, after another one.
/// A part of a payment that comes after the whole is no change.
pub(crate) fn repeat_is_news(world: &World, object: &Object, note: &Note) -> bool {
    let rows = object.rows().iter().filter(|row| !row.is_discarded);
    let notes: Vec<_> = rows.map(|row| world.note(row.note)).collect();
    let is_part =
        |note: &Note, of: &Note| (note.stage, of.stage) == (Stage::Partial, Stage::Success);
    let mut last: Option<&Note> = None;
    for it in notes.iter().filter(|it| !it.is_early()) {
        if last.is_none_or(|last| !is_part(it, last)) {
            last = Some(it);
        }
    }
    note.time().is_none()
        && !note.is_early()
        && notes.iter().all(|it| it.time().is_none())
        && last.is_some_and(|last| last.name != note.name && !is_part(note, last))
}

/// Checks a state.
pub(crate) fn broken(world: &World, state: &State, ends: &mut Ends) -> Option<Broken> {
    let is_stored = |note: u8| {
        let rows = state.objects[world.note(note).object].rows();
        rows.iter().any(|row| row.note == note)
    };
    let mut answered = (0..world.notes.len() as u8).filter(|note| state.answered >> note & 1 == 1);
    if !answered.all(is_stored) {
        return Some("what was answered with 200 is stored");
    }
    for row in state.objects.iter().flat_map(Object::rows) {
        if row.effects > 1 {
            return Some("an effect happens once");
        }
        if (row.effects == 1) != (row.kept == Kept::Done) {
            return Some("done and the effect happen together");
        }
        if row.kept == Kept::Dead && row.failed < MAX_ATTEMPTS {
            return Some("only failed attempts make a dead letter");
        }
        if row.is_deleted && !matches!(row.kept, Kept::Done | Kept::Skipped) {
            return Some("only what is settled is deleted");
        }
    }
    for (at, object) in state.objects.iter().enumerate() {
        let valid = state.runners.iter().flatten().filter(|it| it.object == at && it.is_valid);
        if valid.clone().count() > 1 || valid.clone().count() == 1 && object.lease == Lease::Free {
            return Some("an object has one lease at a time");
        }
        if replays_changed(object) {
            return Some("replays end as it was");
        }
        if ends.differ(world, at, object) {
            return Some("any order and any backlog end as a history does");
        }
    }
    None
}

/// Whether the merchant's handler has written another state than before, after all replays. It has not if some are dead
/// letters, or were discarded.
fn replays_changed(object: &Object) -> bool {
    let mut replays = object.rows().iter().filter(|row| row.is_replay);
    object.written != object.shown.map(|shown| shown.row)
        && replays.all(|row| row.kept == Kept::Done)
}

/// Whether an object has a replay that could be claimed, but for others of its notifications.
pub(crate) fn replay_is_due(object: &Object) -> bool {
    let replays = object.rows().iter().filter(|row| row.is_open_replay());
    object.lease == Lease::Free
        && replays.min_by_key(|row| row.rank).is_some_and(|first| !first.waits)
}

/// Whether a note was handled or skipped before, within the duplicate window.
pub(crate) fn was_settled_lately(object: &Object, note: u8) -> bool {
    let is_settled = |row: &Row| matches!(row.kept, Kept::Done | Kept::Skipped);
    let is_same = |row: &&Row| row.note == note && !row.is_old && !row.is_discarded;
    object.rows().iter().filter(is_same).any(is_settled)
}

/// Whether nothing is left to do.
pub(crate) fn is_settled(world: &World, state: &State) -> bool {
    let lost = state.watching.map_or(0, |it| it.lost);
    usize::try_from((state.answered | lost).count_ones()).unwrap() == world.notes.len()
        && state.receivers == [Receiver::Idle; 2]
        && state.runners == [None; 2]
        && state.objects.iter().flat_map(Object::rows).all(|row| row.kept != Kept::Open)
}

/// Checks the watch list where nothing is left to do.
pub(crate) fn broken_watch(world: &World, state: &State) -> Option<Broken> {
    let it = state.watching?;
    if it.entry != Watch::Off {
        return Some("each object leaves the watch list");
    }
    let is_last = |note: u8| usize::from(note) + 1 == world.notes.len();
    let shown = state.objects[0].shown.map(|seen| state.objects[0].row(seen.row).note);
    // A dead letter waits for an operator.
    let mut rows = state.objects[0].rows().iter();
    let is_dead = rows.any(|row| row.kept == Kept::Dead && is_last(row.note));
    let is_true = shown.is_some_and(is_last) || is_dead;
    (it.saw_end && !is_true).then_some("an object ends as the API says")
}

/// The note that a handler with a [`History`] would show last, for each order of arrival. `None` if the history keeps
/// something for review, because a person decides then.
#[derive(Default)]
pub(crate) struct Ends(HashMap<Vec<u8>, Option<u8>>);

impl Ends {
    fn differ(&mut self, world: &World, at: usize, object: &Object) -> bool {
        let is_plain = |row: &Row| {
            let is_settled = row.kept == Kept::Done || row.kept == Kept::Skipped;
            let is_as_it_was = !row.is_reviewed && !row.is_moved && !row.is_deleted;
            is_settled && row.verdict.is_some() && is_as_it_was
        };
        let Some(shown) = object.shown.filter(|_| object.rows().iter().all(is_plain)) else {
            return false;
        };
        let arrived: Vec<_> = object.rows().iter().map(|row| row.note).collect();
        debug_assert!(arrived.iter().all(|note| world.note(*note).object == at));
        let end = self.0.entry(arrived).or_insert_with_key(|arrived| {
            let mut history = History::default();
            let mut end = None;
            for note in arrived {
                match history.receive_order_key(world.note(*note).order_key().clone()) {
                    Verdict::Review => return None,
                    verdict if verdict.should_handle() => end = Some(*note),
                    _ => {}
                }
            }
            end
        });
        end.is_some_and(|end| end != object.row(shown.row).note)
    }
}
