use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::iter;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{Message, MockInqud, Report, SentBody};
use crate::deliver::BoxError;
use tower_inqud::{Event, Notification, OrderKey};

/// Maximum deliveries of one message in a round.
const REPEATS: usize = 3;

impl MockInqud {
    /// Checks that every order of delivery ends in the same state, with and without repeats. Returns that state.
    ///
    /// `merchant` is called once for each round. It creates a merchant with an empty state, passes its service
    /// to [`Round::deliver`], and returns the final state: whatever matters to you, such as the rows of a
    /// table. The first round delivers each message once, in order. The [other rounds](Self::rounds)
    /// deliver each message one to three times, shuffled.
    ///
    /// # Notifications ordered only by arrival
    ///
    /// Some notifications about one object are ordered by nothing but their arrival, such as the `SUCCESS`
    /// and the `FAILED` of a payment, which carry no time: see [`Verdict`](tower_inqud::Verdict). If they
    /// arrived the other way round, another final state would be correct. Therefore they keep their
    /// order, each followed directly by its repeats, and everything else is shuffled around them.
    /// [`Scenario`](super::Scenario#order) lists the scenarios with such notifications. A notification that
    /// your handler answers with [`Ack::Retry`](tower_inqud::Ack::Retry) arrives later, as it does in production.
    ///
    /// A late repeat of the `SUCCESS` after the `FAILED` is not tried, because nothing tells it from a success
    /// that recurred. Its verdict is [`Review`](tower_inqud::Verdict::Review). Test that sequence with
    /// [`deliver`](Self::deliver).
    ///
    /// # Errors
    ///
    /// Returns a [`Disagreement`] if
    ///
    /// - a round ends in a different state than the first one;
    /// - a message was never acknowledged, because states that agree after everything was rejected prove
    ///   nothing. If your handler answers [`Ack::Retry`](tower_inqud::Ack::Retry) to early notifications,
    ///   set [retries](Self::retries);
    /// - `merchant` did not call [`Round::deliver`].
    ///
    /// # Example
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use std::sync::{Arc, Mutex};
    /// # use http::{Request, Response, Uri};
    /// # use tower::{ServiceBuilder, service_fn};
    /// # use inqud_mock::{Lifecycle, MockInqud, Scenario, SentBody};
    /// # use tower_inqud::{
    /// #     Ack, History, Notification, PaymentRequest, RequestStatus, Secret, Webhook, WebhookBody,
    /// #     WebhookLayer,
    /// # };
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let secret = Secret::new("a secret of the test")?;
    /// # type Objects = BTreeMap<String, (History, Option<RequestStatus>)>;
    /// # #[derive(Default)]
    /// # struct Shop(Arc<Mutex<Objects>>);
    /// # impl Shop {
    /// #     fn state(&self) -> Vec<String> {
    /// #         self.0.lock().unwrap().values().filter_map(|it| Some(it.1.as_ref()?.to_string())).collect()
    /// #     }
    /// # }
    /// # let layer = WebhookLayer::<PaymentRequest>::new(secret.clone());
    /// # let service = |shop: &Shop| {
    /// #     let objects = shop.0.clone();
    /// #     ServiceBuilder::new().layer(layer.clone()).service(service_fn(
    /// #         move |request: Request<WebhookBody<SentBody>>| {
    /// #             let new = request.extensions().get::<Webhook<PaymentRequest>>().unwrap();
    /// #             let mut objects = objects.lock().unwrap();
    /// #             let (history, status) = objects.entry(new.id.clone()).or_default();
    /// #             if history.receive(new).should_handle() {
    /// #                 *status = Some(new.status.clone());
    /// #             }
    /// #             let response: Response<String> = Ack::Done.into();
    /// #             std::future::ready(Ok::<_, std::convert::Infallible>(response))
    /// #         },
    /// #     ))
    /// # };
    /// let inqud = MockInqud::new(secret, Uri::from_static("/webhooks/inqud/request"));
    ///
    /// let state = inqud
    ///     .any_order(Lifecycle::new(Scenario::ResolvedConflict), async |round| {
    ///         let shop = Shop::default();
    ///         round.deliver(service(&shop)).await;
    ///         shop.state()
    ///     })
    ///     .await?;
    ///
    /// assert_eq!(state, ["SUCCESS"]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn any_order<M, F, T>(&self, messages: M, merchant: F) -> Result<T, Disagreement>
    where
        M: IntoIterator<Item = Message>,
        F: AsyncFn(Round) -> T,
        T: fmt::Debug + PartialEq,
    {
        let messages = messages.into_iter().collect::<Vec<_>>();
        let numbered = messages.iter().cloned().enumerate().collect();
        let expected = self.round(self.seed, numbered, &merchant).await?;
        let ordered = ordered_by_arrival(&messages);
        for round in 0..self.rounds {
            let seed = self.seed.wrapping_add(u64::from(round));
            let mut random = fastrand::Rng::with_seed(seed);
            let mut plan = Vec::new();
            for number in 0..messages.len() {
                plan.extend(iter::repeat_n(number, random.usize(1..=REPEATS)));
            }
            random.shuffle(&mut plan);
            keep_order(&mut plan, &ordered);
            let numbered = |number: &usize| Some((*number, messages.get(*number)?.clone()));
            let plan = plan.iter().filter_map(numbered).collect();
            let found = self.round(seed, plan, &merchant).await?;
            if found.state != expected.state {
                let expected = format!("{:#?}", expected.state);
                let differs = Why::Differs { expected, found: format!("{:#?}", found.state) };
                return Err(Disagreement { why: differs, report: found.report });
            }
        }
        Ok(expected.state)
    }

    async fn round<F, T>(
        &self,
        seed: u64,
        plan: Vec<(usize, Message)>,
        merchant: &F,
    ) -> Result<Ended<T>, Disagreement>
    where
        F: AsyncFn(Round) -> T,
    {
        let kept = Arc::new(Mutex::new(None));
        let inqud = self.clone().seed(seed).drop_share(0.0);
        let state = merchant(Round { inqud, plan, report: Arc::clone(&kept) }).await;
        let report = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(report) = report.filter(|report: &Report| !report.deliveries.is_empty()) else {
            let report = Report { seed, deliveries: Vec::new() };
            return Err(Disagreement { why: Why::NothingDelivered, report });
        };
        if report.all_acknowledged() {
            Ok(Ended { state, report })
        } else {
            Err(Disagreement { why: Why::NotAcknowledged, report })
        }
    }
}

/// For each object, the indexes of the messages that are ordered only by arrival.
fn ordered_by_arrival(messages: &[Message]) -> Vec<BTreeSet<usize>> {
    let mut objects = BTreeMap::<_, Vec<_>>::new();
    for (number, message) in messages.iter().enumerate() {
        // A body that cannot be decoded belongs to no object.
        let Ok(event) = serde_json::from_slice::<Event>(message.body()) else { continue };
        let order_key = OrderKey::new(&event, message.body());
        objects.entry(event.id().to_owned()).or_default().push((number, order_key));
    }
    let of_object = |order_keys: Vec<(usize, OrderKey)>| {
        let mut ordered = BTreeSet::new();
        for (at, (later, order_key)) in order_keys.iter().enumerate() {
            for (earlier, before) in order_keys.iter().take(at) {
                // The earlier one would win if it arrived last, so only arrival orders the two.
                if before.supersedes(order_key) {
                    ordered.extend([*earlier, *later]);
                }
            }
        }
        ordered
    };
    objects.into_values().map(of_object).collect()
}

/// Sorts the given messages within the positions that they occupy in the plan.
fn keep_order(plan: &mut [usize], ordered: &[BTreeSet<usize>]) {
    for numbers in ordered {
        let is_one = |number: &usize| numbers.contains(number);
        let mut sorted = plan.iter().copied().filter(is_one).collect::<Vec<_>>();
        sorted.sort_unstable();
        for (place, number) in plan.iter_mut().filter(|it| is_one(it)).zip(sorted) {
            *place = number;
        }
    }
}

struct Ended<T> {
    state: T,
    report: Report,
}

/// One order of deliveries that [`MockInqud::any_order`] tries.
#[derive(Debug)]
#[must_use = "a round that is not delivered is an error"]
pub struct Round {
    inqud: MockInqud,
    plan: Vec<(usize, Message)>,
    report: Arc<Mutex<Option<Report>>>,
}

impl Round {
    /// Delivers this round to a service, as [`MockInqud::deliver`] does.
    ///
    /// It returns no report, because [`MockInqud::any_order`] evaluates it.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime with timers enabled.
    pub async fn deliver<S, B>(self, service: S)
    where
        S: Service<Request<SentBody>, Response = Response<B>>,
        S::Error: Into<BoxError>,
        B: Body,
    {
        let mut deliveries = Vec::new();
        self.inqud.deliver_plan(self.plan, service, |delivery| deliveries.push(delivery)).await;
        let report = Report { seed: self.inqud.seed, deliveries };
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }
}

/// An order of deliveries that made [`MockInqud::any_order`] fail.
///
/// `Debug` prints the same text as `Display`, so that `unwrap` in a test shows what happened.
pub struct Disagreement {
    why: Why,
    report: Report,
}

enum Why {
    Differs { expected: String, found: String },
    NotAcknowledged,
    NothingDelivered,
}

impl Disagreement {
    /// The deliveries of the failing round.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The seed of the failing round. Pass it to [`MockInqud::seed`] with [`rounds(1)`](MockInqud::rounds)
    /// to try only that round.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.report.seed
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Differs { expected, found } => writeln!(
                f,
                "this order ends in a different state\nin order: {expected}\nin this order: {found}"
            )?,
            Why::NotAcknowledged => {
                writeln!(f, "not every message was acknowledged: see the responses below")?
            }
            Why::NothingDelivered => writeln!(
                f,
                "nothing was delivered: call `Round::deliver`, with at least one message"
            )?,
        }
        writeln!(f, "{}", self.report)?;
        write!(f, "to repeat only this order: .seed({}).rounds(1)", self.report.seed)
    }
}

impl fmt::Debug for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Disagreement {}
