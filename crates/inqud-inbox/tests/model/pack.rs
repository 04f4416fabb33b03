//! A state in bits.

use tower_inqud::Verdict;

use crate::look::{Step, Watching};
use crate::state::{Ending, Receiver, Row, Seen, State, Ticket};

impl State {
    /// The state in bits. Two states have the same bits if nothing can ever tell them apart.
    pub(crate) fn pack(&self) -> Packed {
        let mut bits = Bits { packed: [0; WORDS], at: 0 };
        for object in &self.objects {
            bits.push(object.rows().len() as u8, 3);
            for row in object.rows() {
                let flags = u8::from(row.is_reviewed) << 3
                    | u8::from(row.is_discarded) << 2
                    | u8::from(row.waits) << 1
                    | u8::from(row.is_moved);
                bits.push(row.note << 4 | flags, 7);
                bits.push(row.kept as u8, 3);
                bits.push(row.failures << 4 | row.failed << 2 | row.effects, 6);
                bits.push_history(row);
            }
            bits.push((object.lease as u8) << 2 | object.crashes, 4);
            bits.push_seen(object.processed);
            bits.push_seen(object.shown);
            bits.push(u8::from(object.is_swept), 1);
            bits.push(object.written.map_or(0, |row| row + 1), 3);
        }
        for receiver in self.receivers {
            bits.push(
                match receiver {
                    Receiver::Idle => 0,
                    Receiver::Holds(note) => 1 << 3 | note,
                    Receiver::Stored(note) => 2 << 3 | note,
                },
                5,
            );
        }
        for ticket in self.canonical_runners() {
            for word in ticket {
                bits.push(word, 8);
            }
        }
        bits.push(self.answered, 5);
        bits.push(self.left.faults << 4 | self.left.repeats << 2 | self.left.operations, 7);
        self.watching.iter().for_each(|it| bits.push_watching(it));
        bits.push(self.left.replays << 2 | self.left.sweeps, 4);
        bits.packed
    }

    /// It does not matter which runner it is.
    fn canonical_runners(&self) -> [[u8; 3]; 2] {
        let mut runners = self.runners.map(|ticket| ticket.map_or([0; 3], Ticket::bytes));
        if runners[0] > runners[1] {
            runners.swap(0, 1);
        }
        runners
    }
}

impl Ticket {
    fn bytes(self) -> [u8; 3] {
        let doubt = match self.in_doubt {
            None => 0,
            Some(Ending::Done) => 1,
            Some(Ending::Skipped) => 2,
            Some(Ending::Review) => 3,
            Some(Ending::Retry { waits }) => 4 + u8::from(waits),
            Some(Ending::Dead) => 6,
        };
        let flags = u8::from(self.is_valid) << 1 | u8::from(self.lapses);
        let object = u8::from(self.object > 0);
        [
            1 << 7 | object << 6 | self.row << 3 | doubt,
            flags << 3 | code(self.verdict),
            self.seen.map_or(0, Seen::code),
        ]
    }
}

fn code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Newer => 0,
        Verdict::Amended => 1,
        Verdict::Unordered => 2,
        Verdict::Stale => 3,
        Verdict::Review => 4,
        _ => 5,
    }
}

impl Seen {
    /// In seven bits, never zero.
    fn code(self) -> u8 {
        (self.row + 1) << 3 | self.time.map_or(0, |time| time + 1)
    }
}

const WORDS: usize = 9;

pub(crate) type Packed = [u64; WORDS];

struct Bits {
    packed: Packed,
    at: u32,
}

impl Bits {
    fn push(&mut self, value: u8, bits: u32) {
        debug_assert!(u32::from(value) < 1 << bits, "{value} in {bits} bits");
        if self.at % 64 + bits > 64 {
            self.at = (self.at / 64 + 1) * 64;
        }
        let word = &mut self.packed[(self.at / 64) as usize];
        *word |= u64::from(value) << (self.at % 64);
        self.at += bits;
    }

    /// What only worlds with replays or a retention have.
    fn push_history(&mut self, row: &Row) {
        let flags = u8::from(row.is_replay) << 3
            | u8::from(row.is_old) << 2
            | u8::from(row.is_empty) << 1
            | u8::from(row.is_deleted);
        self.push(row.rank << 4 | flags, 7);
        if row.rank > 0 {
            self.push(row.verdict.map_or(0, code), 3);
        }
    }

    fn push_watching(&mut self, it: &Watching) {
        self.push(it.happened << 5 | it.lost, 8);
        self.push(it.read << 3 | it.entry as u8, 6);
        self.push(u8::from(it.saw_end) << 2 | it.looks, 3);
        self.push(it.since.map_or(0, |row| row + 1), 3);
        let Some(look) = it.look else { return self.push(0, 2) };
        self.push(2 | u8::from(look.lapses), 2);
        self.push(u8::from(look.is_valid) << 3 | look.known, 4);
        self.push_seen(look.end);
        self.push_seen(look.heard);
        self.push(look.reviews, 7);
        let (step, of) = match look.at {
            Step::Begun => (0, 0),
            Step::Fetched(note) => (1, note),
            Step::Stored { row, is_done } => (2 + u8::from(is_done), row.map_or(0, |row| row + 1)),
            Step::Failed => (4, 0),
        };
        self.push(step << 3 | of, 6);
    }

    fn push_seen(&mut self, seen: Option<Seen>) {
        self.push(seen.map_or(0, Seen::code), 7);
    }
}
