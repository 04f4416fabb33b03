//! What Inqud has to tell: three notifications about one object, and two about another.

use inqud_inbox::{Record, Storable};
use tower_inqud::{OrderKey, Payment, PaymentRequest, Processed, Stage, Subscription, Verdict};

use crate::bug::Bug;

/// A notification, decoded by the real types.
pub(crate) struct Note {
    pub(crate) name: &'static str,
    pub(crate) object: usize,
    pub(crate) record: Record,
    pub(crate) rank: u8,
    pub(crate) stage: Stage,
    /// Whether the object is expected to change.
    pub(crate) is_open: bool,
    /// The index of the order key among those that [`Table`] knows.
    index: usize,
}

impl Note {
    pub(crate) fn order_key(&self) -> &OrderKey {
        &self.record.order_key
    }

    pub(crate) fn time(&self) -> Option<i64> {
        self.order_key().last_update()
    }

    pub(crate) fn is_early(&self) -> bool {
        self.stage == Stage::Early
    }

    fn new<T: Storable>(object: usize, name: &'static str, body: &str) -> Self {
        let event: T = serde_json::from_str(body).unwrap();
        let (rank, stage, is_open) = (event.status_rank(), event.stage(), event.is_open());
        let record = Record::new(&event, body.to_owned().into());
        Self { name, object, record, rank, stage, is_open, index: 0 }
    }

    /// `text` is a status, the minute of the last update or `-`, and an amount: `SUCCESS 5 100`.
    fn request(object: usize, text: &'static str) -> Self {
        let [status, minute, amount] = parts(text);
        let time = match minute {
            "-" => "null".to_owned(),
            minute => format!(r#""2026-11-22T10:0{minute}:00Z""#),
        };
        let body = format!(
            r#"{{"id":"CAPD-1","status":"{status}","lastUpdatedAt":{time},"paidAmount":{amount}}}"#
        );
        Self::new::<PaymentRequest>(object, text, &body)
    }

    fn payment(object: usize, text: &'static str) -> Self {
        let [status, _, amount] = parts(text);
        let body = format!(r#"{{"id":"PMT-1","status":"{status}","amount":{amount}}}"#);
        Self::new::<Payment>(object, text, &body)
    }

    fn subscription(object: usize, text: &'static str) -> Self {
        let [status, _, sub_status] = parts(text);
        let body = format!(r#"{{"id":"SUB-1","status":"{status}","subStatus":"{sub_status}"}}"#);
        Self::new::<Subscription>(object, text, &body)
    }
}

fn parts(text: &'static str) -> [&'static str; 3] {
    text.split(' ').collect::<Vec<_>>().try_into().unwrap()
}

/// The notifications, and the real verdicts on them.
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) notes: Vec<Note>,
    /// Whether the API is asked about the first object.
    pub(crate) is_watched: bool,
    /// Whether there are only one receiver and one runner.
    pub(crate) is_narrow: bool,
    /// Whether the runners handle the newest only.
    pub(crate) newest_only: bool,
    /// Whether an operator can reprocess, so that it counts in which order things are processed.
    pub(crate) has_replays: bool,
    table: Vec<Verdict>,
}

/// What was handled last of an object: the note whose status and content count, and the note whose time does.
pub(crate) type Handled = (usize, Option<usize>);

impl World {
    pub(crate) const ALL: [fn() -> Self; 4] =
        [Self::request, Self::payment, Self::review, Self::subscription];

    /// A Request with times, whose first state is `null`; and a payment, which has no times.
    pub(crate) fn request() -> Self {
        let request = ["WAITING_PAYMENT - 0", "PENDING_PAYMENT 1 0", "SUCCESS 5 100"];
        let payment = ["SUCCESS - 100", "FAILED - 100"];
        Self::new(
            "request",
            request.map(|it| Note::request(0, it)),
            payment.map(|it| Note::payment(1, it)),
        )
    }

    /// A Request whose states all have times.
    pub(crate) fn timed() -> Self {
        let request = ["PENDING_PAYMENT 1 0", "CONFLICT 3 50", "SUCCESS 5 100"];
        Self::of("timed", request.map(|it| Note::request(0, it)).into())
    }

    /// A payment that fails after it was paid.
    pub(crate) fn undone() -> Self {
        let payment = ["PENDING - 100", "SUCCESS - 100", "FAILED - 100"];
        Self::of("undone", payment.map(|it| Note::payment(0, it)).into())
    }

    /// A payment that comes back; and a Request that is amended at the same time.
    pub(crate) fn payment() -> Self {
        let payment = ["SUCCESS - 100", "FAILED - 100", "PENDING - 100"];
        let request = ["CONFLICT 5 50", "CONFLICT 5 99"];
        Self::new(
            "payment",
            payment.map(|it| Note::payment(0, it)),
            request.map(|it| Note::request(1, it)),
        )
    }

    /// A Request of which some notifications have no time, so that they are kept for review; and a payment in parts.
    pub(crate) fn review() -> Self {
        let request = ["WAITING_PAYMENT 2 0", "PENDING_PAYMENT - 0", "PENDING_PAYMENT 1 0"];
        let payment = ["PARTIAL_SUCCESS - 10", "PARTIAL_SUCCESS - 60"];
        Self::new(
            "review",
            request.map(|it| Note::request(0, it)),
            payment.map(|it| Note::payment(1, it)),
        )
    }

    /// A subscription, whose statuses recur; and a payment that succeeds in part and then in full.
    pub(crate) fn subscription() -> Self {
        let subscription = ["INITIATED - INITIATED", "ACTIVE - ACTIVE", "ACTIVE - RENEWING"];
        let payment = ["PARTIAL_SUCCESS - 10", "SUCCESS - 100"];
        Self::new(
            "subscription",
            subscription.map(|it| Note::subscription(0, it)),
            payment.map(|it| Note::payment(1, it)),
        )
    }

    fn new(name: &'static str, first: [Note; 3], second: [Note; 2]) -> Self {
        Self::of(name, first.into_iter().chain(second).collect())
    }

    fn of(name: &'static str, mut notes: Vec<Note>) -> Self {
        notes.iter_mut().enumerate().for_each(|(at, note)| note.index = at);
        let mut world = Self {
            name,
            notes,
            is_watched: false,
            is_narrow: false,
            newest_only: false,
            has_replays: false,
            table: Vec::new(),
        };
        world.table = world.all_verdicts();
        world
    }

    pub(crate) fn newest_only(self) -> Self {
        Self { newest_only: true, ..self }
    }

    pub(crate) fn watched(self) -> Self {
        Self { is_watched: true, is_narrow: true, ..self }
    }

    pub(crate) fn narrow(self) -> Self {
        Self { is_narrow: true, ..self }
    }

    pub(crate) fn with_replays(self) -> Self {
        Self { has_replays: true, ..self }
    }

    /// Leaves out the second object, and the last notification of the first one.
    pub(crate) fn pair(mut self) -> Self {
        self.notes.truncate(2);
        self
    }

    /// Leaves out the second object.
    pub(crate) fn alone(mut self) -> Self {
        self.notes.truncate(3);
        self
    }

    /// Leaves out the last notifications of both objects.
    pub(crate) fn smaller(mut self) -> Self {
        self.notes.remove(4);
        self.notes.remove(2);
        self
    }

    pub(crate) fn note(&self, note: u8) -> &Note {
        &self.notes[usize::from(note)]
    }

    /// The real verdict on a note. `is_later` says that it arrived after what was handled.
    pub(crate) fn verdict(
        &self,
        note: u8,
        is_reviewed: bool,
        is_later: bool,
        handled: Option<(u8, Option<u8>)>,
    ) -> Verdict {
        let index = |note: u8| self.note(note).index;
        let handled = handled.map(|(latest, time)| (index(latest), time.map(index)));
        self.table[place(index(note), is_reviewed, is_later, handled)]
    }

    fn all_verdicts(&self) -> Vec<Verdict> {
        let mut table = vec![Verdict::Newer; place(NOTES, false, false, None)];
        for note in &self.notes {
            for latest in 0..self.notes.len() {
                for time in std::iter::once(None).chain((0..self.notes.len()).map(Some)) {
                    let processed = self.processed((latest, time));
                    for (is_reviewed, is_later) in
                        [(false, false), (false, true), (true, false), (true, true)]
                    {
                        let arrival = if is_later { 2 } else { 0 };
                        table[place(note.index, is_reviewed, is_later, Some((latest, time)))] =
                            note.order_key().verdict(arrival, is_reviewed, Some(&processed));
                    }
                }
            }
        }
        table
    }

    fn processed(&self, (latest, time): Handled) -> Processed {
        let time = time.map(|it| Processed::after(None, self.notes[it].order_key(), 0));
        Processed::after(time.as_ref(), self.notes[latest].order_key(), 1)
    }

    /// The position in the order of a backlog.
    pub(crate) fn position(&self, note: u8, bug: Option<Bug>) -> i64 {
        let note = self.note(note);
        match note.time() {
            None if bug == Some(Bug::SortsByRank) => i64::from(note.rank),
            _ => note.order_key().position(),
        }
    }
}

const NOTES: usize = 5;

fn place(note: usize, is_reviewed: bool, is_later: bool, handled: Option<Handled>) -> usize {
    let handled = handled
        .map_or(0, |(latest, time)| 1 + latest * (NOTES + 1) + time.map_or(0, |time| time + 1));
    let flags = usize::from(is_reviewed) * 2 + usize::from(is_later);
    (note * 4 + flags) * (1 + NOTES * (NOTES + 1)) + handled
}
