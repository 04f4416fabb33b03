//! Asks Inqud's API about one object, compares the answer with what is stored, and stores what is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use tower_inqud::{Content, Notification, OrderKey, Stage, danger};

use crate::admin::Admin;
use crate::error::InboxError;
use crate::fetcher::{Fetcher, Found, State};
use crate::key::Key;
use crate::record::{Record, Storable};
use crate::watch::{Compared, Known, WatchList};

/// The result of a question.
pub(crate) enum Answer {
    /// The API has answered.
    State(Answered),
    Missing {
        /// Whether notifications about the object are stored.
        is_known: bool,
    },
    /// The API could not answer.
    Later { after: Option<Duration>, reason: String },
    /// The answer is of no use, or came too late.
    Useless { reason: String },
}

pub(crate) struct Answered {
    pub(crate) compared: Compared,
    /// Whether the object is expected to change.
    pub(crate) is_open: bool,
    pub(crate) status: String,
    /// The position and the number of what was stored.
    pub(crate) stored: Option<(i64, i64)>,
    /// How many notifications that were kept for review are settled.
    pub(crate) reviews: usize,
}

/// Asks about an object. A dry run changes nothing.
///
/// What is stored is read before the object is fetched. So if a webhook arrives meanwhile, the answer can be the older
/// one of the two, and it is not stored.
pub(crate) async fn ask<S, T>(
    store: &S,
    fetcher: &Fetcher<T>,
    object: &str,
    is_dry: bool,
) -> Result<Answer, InboxError>
where
    S: Admin + WatchList,
    T: Storable,
{
    let known = store.known(T::KIND, object).await?;
    let found = match fetcher.fetch(object).await {
        State::Found(found) => *found,
        State::Missing => return Ok(Answer::Missing { is_known: !known.rows.is_empty() }),
        State::Later { after, reason } => return Ok(Answer::Later { after, reason }),
        State::Useless { reason } => return Ok(Answer::Useless { reason }),
    };
    let plan = Plan::new(&known, &found);
    let mut answered = Answered {
        compared: plan.compared,
        is_open: found.event.is_open(),
        status: found.record.order_key.status().to_owned(),
        stored: None,
        reviews: plan.redriven.iter().chain(&plan.discarded).count(),
    };
    if is_dry {
        return Ok(Answer::State(answered));
    }
    if plan.is_stored {
        let position = found.record.order_key.position();
        let mut record = found.record;
        record.key = known.key_of(&record);
        let Some(seq) = store.insert_after(record, known.extent()).await? else {
            let reason = "a webhook arrived meanwhile".to_owned();
            return Ok(Answer::Useless { reason });
        };
        answered.stored = Some((position, seq));
    }
    if let Some(key) = plan.redriven {
        store.redrive([key]).await?;
    }
    if !plan.discarded.is_empty() {
        store.discard(plan.discarded).await?;
    }
    Ok(Answer::State(answered))
}

/// What to do about an object.
struct Plan {
    compared: Compared,
    is_stored: bool,
    /// The notification kept for review that the API confirms.
    redriven: Option<Key>,
    /// The notifications kept for review that it does not confirm.
    discarded: Vec<Key>,
}

impl Plan {
    fn new<T: Storable>(known: &Known, found: &Found<T>) -> Self {
        let fetched = &found.record.order_key;
        let mut compared = known.compare(fetched);
        // Without the body, nobody can tell.
        let may_be_same = known.body.is_empty() || differs_only_in_fields(known, found);
        if compared == Compared::Amended && may_be_same {
            compared = Compared::Agreed;
        }
        if compared == Compared::Ahead {
            // The API is behind, so it cannot answer for a review either.
            return Self { compared, is_stored: false, redriven: None, discarded: Vec::new() };
        }
        let end = known.end().map_or(i64::MIN, |(row, _)| row.seq);
        let mut redriven = None;
        let mut discarded = Vec::new();
        for row in known.rows.iter().filter(|row| row.is_in_review) {
            // If something was handled that arrived later, a redriven one would be stale.
            let is_confirmed = compared != Compared::Agreed
                && row.seq > end
                && fetched.is_duplicate_of(&row.order_key);
            discarded.extend(if is_confirmed { redriven.replace(row.key) } else { Some(row.key) });
        }
        if redriven.is_some() {
            // It arrived as a webhook.
            compared = Compared::Agreed;
        }
        Self { compared, is_stored: compared != Compared::Agreed, redriven, discarded }
    }
}

/// Whether the fetched state has other fields than the latest webhook, but all that both have are the same. It is not
/// public whether the API has the same fields.
fn differs_only_in_fields<T: Storable>(known: &Known, found: &Found<T>) -> bool {
    says_the_same::<T>(&known.body, &found.event, &found.record)
}

/// Whether a stored body says the same as a fetched state, apart from fields that only one of them has.
pub(crate) fn says_the_same<T: Storable>(stored: &[u8], event: &T, fetched: &Record) -> bool {
    let names = |json: &[u8]| danger::decode::<BTreeMap<String, IgnoredAny>>(json);
    let (Ok(earlier), Ok(mine), Ok(its)) =
        (danger::decode::<T>(stored), names(stored), names(&fetched.body))
    else {
        return false;
    };
    let ignored = mine.keys().filter(|name| !its.contains_key(*name));
    let ignored = ignored.chain(its.keys().filter(|name| !mine.contains_key(*name)));
    let mut ignored: Vec<&str> = ignored.map(String::as_str).collect();
    ignored.extend(event.ignored_fields());
    let stored = OrderKey::new(&Common { event: &earlier, ignored: &ignored }, stored);
    let fetched = OrderKey::new(&Common { event, ignored: &ignored }, &fetched.body);
    stored.is_duplicate_of(&fetched)
}

/// A notification that is compared without some fields.
struct Common<'a, T> {
    event: &'a T,
    ignored: &'a [&'a str],
}

impl<T: Notification> Notification for Common<'_, T> {
    fn id(&self) -> &str {
        self.event.id()
    }

    fn status_text(&self) -> &str {
        self.event.status_text()
    }

    fn last_update(&self) -> Option<Timestamp> {
        self.event.last_update()
    }

    fn status_rank(&self) -> u8 {
        self.event.status_rank()
    }

    fn stage(&self) -> Stage {
        self.event.stage()
    }

    fn recurs(&self) -> bool {
        self.event.recurs()
    }

    fn content(&self, body: &[u8]) -> Content {
        Content::of_json(body, self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tower_inqud::PaymentRequest;

    use super::*;

    #[test]
    fn ignores_fields_that_only_one_has() {
        let same = |stored: &str, fetched: &str| {
            let event: PaymentRequest = danger::decode(fetched.as_bytes()).unwrap();
            let record = Record::new(&event, Bytes::from(fetched.to_owned()));
            says_the_same(stored.as_bytes(), &event, &record)
        };
        let stored = r#"{"id":"CAPD-1","status":"CONFLICT","paidAmount":50,"reason":"UNDERPAID"}"#;
        let fetched = r#"{"id":"CAPD-1","status":"CONFLICT","paidAmount":50.0,"network":"ETH"}"#;
        assert!(same(stored, fetched));
        assert!(!same(stored, &fetched.replace("50.0", "99")));
        assert!(!same(stored, &fetched.replace("CONFLICT", "SUCCESS")));
        assert!(!same("", fetched), "the body is deleted");
    }
}
