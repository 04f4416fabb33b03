//! Judges a run by what Inqud played, what the API was asked, and what the merchant's database holds.

use std::collections::{HashMap, HashSet};

use crate::found::Row;
use crate::world::{Deliveries, Fate, OFFSETS, World};

/// How much later than its due time a look may come: the lease of a look that was killed is 1.5 s, and the machine may be
/// busy. In microseconds.
const LATE: i64 = 10_000_000;

/// How long before `final_at` a request may arrive and still be answered with the final state. In microseconds.
const ANSWERED: i64 = 100_000;

#[derive(Debug)]
pub struct Report {
    requests: usize,
    deliveries: Deliveries,
    interrupted: usize,
    /// States that no webhook brought, of any kind and final ones.
    pub recovered: usize,
    finals: usize,
    effects: usize,
    doubled: usize,
    gets: usize,
    quiet: usize,
    /// The most requests for a quiet object without and with looks that were interrupted.
    most: [usize; 2],
    /// How late final states were recovered, in milliseconds, sorted.
    late: Vec<i64>,
    pub wrong: Vec<String>,
}

pub fn judge(
    world: &World,
    rows: &[Row],
    effects: &[(String, String)],
    interrupted: &HashMap<String, usize>,
) -> Report {
    let (fates, gets) = (world.fates(), world.gets());
    let mut report = Report {
        requests: fates.len(),
        deliveries: world.deliveries(),
        interrupted: interrupted.values().sum(),
        recovered: rows.iter().filter(|row| row.is_fetched).count(),
        finals: 0,
        effects: effects.len(),
        doubled: effects.len() - effects.iter().collect::<HashSet<_>>().len(),
        gets: gets.values().map(Vec::len).sum(),
        quiet: 0,
        most: [0, 0],
        late: Vec::new(),
        wrong: Vec::new(),
    };
    if report.doubled > 0 {
        report.wrong.push(format!("{} effects are doubled", report.doubled));
    }
    let mut of_object = HashMap::<&str, Vec<&Row>>::new();
    rows.iter().for_each(|row| of_object.entry(&row.object).or_default().push(row));
    let effects: HashSet<_> = effects.iter().map(|(id, status)| (&**id, &**status)).collect();
    for (id, fate) in &fates {
        let none = Vec::new();
        let asked = gets.get(id).unwrap_or(&none);
        let kills = interrupted.get(id).copied().unwrap_or_default();
        let rows = of_object.get(&**id).map_or(&[][..], Vec::as_slice);
        let mut judged = Judged { report: &mut report, id, fate, rows, asked, kills };
        if !effects.contains(&(&**id, fate.end())) {
            judged.wrong("its final state was not handled");
        }
        judged.recovery();
        judged.requests();
    }
    report.late.sort_unstable();
    report
}

struct Judged<'a> {
    report: &'a mut Report,
    id: &'a str,
    fate: &'a Fate,
    rows: &'a [&'a Row],
    asked: &'a [i64],
    kills: usize,
}

impl Judged<'_> {
    fn wrong(&mut self, what: &str) {
        let text = format!("{} {what}: {:?} {:?} {:?}", self.id, self.fate, self.rows, self.asked);
        self.report.wrong.push(text);
    }

    /// A final state that no webhook brought is found by the first look after it.
    fn recovery(&mut self) {
        let end = self.fate.end();
        let Some(row) = self.rows.iter().find(|row| row.status == end) else { return };
        if !row.is_fetched {
            return;
        }
        self.report.finals += 1;
        let (final_at, stored_at) = (self.fate.final_at, row.received_at);
        let looks = self.asked.iter().filter(|at| (final_at..=stored_at).contains(at)).count();
        // A request that arrives shortly before the state is published can be answered with it.
        if looks == 0 && self.asked.iter().any(|at| (final_at - ANSWERED..final_at).contains(at)) {
            return;
        }
        if !(1..=1 + self.kills).contains(&looks) {
            self.wrong(&format!("took {looks} looks"));
        }
        // The last webhook before it, or the expiry.
        let pushed = self.rows.iter().filter(|row| !row.is_fetched && row.received_at < stored_at);
        let last = pushed.max_by_key(|row| row.received_at);
        let since = match last {
            Some(row) if row.status != "WAITING_PAYMENT" => row.received_at,
            _ => self.fate.expires_at,
        };
        let due = OFFSETS.iter().map(|offset| since + micros(*offset)).find(|at| *at >= final_at);
        let Some(due) = due else { return self.wrong("was final after the last look") };
        // Up to a tenth is added at random.
        let due = due + (due - since) / 10;
        let late = (stored_at - due).max(0);
        self.report.late.push(late / 1000);
        // A look that is killed after its put starts the schedule again.
        if late > LATE + i64::try_from(self.kills).unwrap() * micros(OFFSETS[0]) {
            self.wrong(&format!("was {late} µs late"));
        }
    }

    /// A quiet object costs one request for each look of the schedule, and one for each that was interrupted.
    fn requests(&mut self) {
        // A webhook that arrives when a look is due starts the schedule again.
        let first = self.fate.expires_at + micros(OFFSETS[0]) / 2;
        let is_late = |row: &&Row| !row.is_fetched && row.received_at > first;
        if self.fate.statuses.len() > 1 || self.rows.iter().any(is_late) {
            return;
        }
        self.report.quiet += 1;
        let [usual, interrupted] = &mut self.report.most;
        let most = if self.kills == 0 { usual } else { interrupted };
        *most = self.asked.len().max(*most);
        if self.asked.len() > OFFSETS.len() + self.kills {
            self.wrong("was asked for too often");
        }
    }
}

impl Report {
    pub fn table(&self, engine: &str, outcomes: &HashMap<String, usize>) -> String {
        let of = |outcome: &str| outcomes.get(outcome).copied().unwrap_or_default();
        let Deliveries { dropped, failed, acknowledged } = self.deliveries;
        let [usual, interrupted] = self.most;
        let late = |share: usize| {
            self.late.get((self.late.len() * share / 100).min(self.late.len().saturating_sub(1)))
        };
        let [median, most] = [50, 100].map(|share| late(share).copied().unwrap_or_default());
        let p99 = late(99).copied().unwrap_or_default();
        format!(
            "{engine}: {requests} Requests, 3 kills, {looks} looks interrupted
| | |
| --- | ---: |
| webhooks acknowledged | {acknowledged} |
| webhooks dropped for ever | {dropped} |
| webhooks lost because the process was down | {failed} |
| agreed | {agreed} |
| recovered | {recovered} |
| ahead | {ahead} |
| missing | {missing} |
| later | {later} |
| states that were stored by a fetch, final ones | {stored}, {finals} |
| final states recovered after their due time: p50, p99, max | {median} ms, {p99} ms, {most} ms |
| effects, doubled ones | {effects}, {doubled} |
| GETs | {gets} |
| quiet objects, most GETs of one, of one with an interrupted look | {quiet}, {usual}, {interrupted} |
| wrong | {wrong} |
",
            requests = self.requests,
            looks = self.interrupted,
            agreed = of("agreed"),
            recovered = of("recovered"),
            ahead = of("ahead"),
            missing = of("missing"),
            later = of("later"),
            stored = self.recovered,
            finals = self.finals,
            effects = self.effects,
            doubled = self.doubled,
            gets = self.gets,
            quiet = self.quiet,
            wrong = self.wrong.len(),
        )
    }
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}
