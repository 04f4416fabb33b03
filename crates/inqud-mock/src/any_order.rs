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

/// A message is delivered so many times at most in a round.
const REPEATS: usize = 3;

impl MockInqud {
    /// Checks that any order and any repeats end in the same state, and returns that state.
    ///
    /// `merchant` is called for each round. It sets up a merchant without a past, has the
    /// [`Round`] delivered to it, and returns the state that it then is in: whatever matters to you,
    /// such as the rows of a table. The first round is in order, each message once; in the
    /// [others](Self::rounds) each comes once to three times, shuffled.
    ///
    /// # What nothing but the arrival orders
    ///
    /// Some notifications about one object can be told apart by their arrival only, such as the
    /// `SUCCESS` and the `FAILED` of a payment, which carry no time: see [`Verdict`](tower_inqud::Verdict). If the
    /// second arrives first, another end is right, and no handler could agree with itself. So these keep their
    /// order, each with its repeats right behind it, and everything else is shuffled among them.
    /// [`Scenario`](super::Scenario#order) says which scenarios have such notifications. A status that
    /// [comes too early for you](tower_inqud::Ack::Retry) loses its place, as it does with Inqud.
    ///
    /// That a late repeat of the `SUCCESS` does not undo the `FAILED` is not tried here. It may be a success
    /// that came back, and is kept for [review](tower_inqud::Verdict::Review): deliver that sequence by itself.
    ///
    /// # Errors
    ///
    /// A [`Disagreement`]
    ///
    /// - if a round ends in another state than the first;
    /// - if something was never acknowledged, as nothing would be if the secrets differ: states that
    ///   agree because nothing was accepted prove nothing. If your handler answers
    ///   [`Ack::Retry`](tower_inqud::Ack::Retry) to what comes too early, set [retries](Self::retries);
    /// - if `merchant` does not have the round delivered.
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
        let expected = self.round(self.seed, messages.clone(), &merchant).await?;
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
            let plan = plan.iter().filter_map(|number| messages.get(*number).cloned()).collect();
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
        plan: Vec<Message>,
        merchant: &F,
    ) -> Result<Ended<T>, Disagreement>
    where
        F: AsyncFn(Round) -> T,
    {
        let kept = Arc::new(Mutex::new(None));
        let inqud = self.clone().seed(seed);
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

/// Of each object, the numbers of those messages that only their arrival orders.
fn ordered_by_arrival(messages: &[Message]) -> Vec<BTreeSet<usize>> {
    let mut objects = BTreeMap::<_, Vec<_>>::new();
    for (number, message) in messages.iter().enumerate() {
        // What cannot be read is about no object.
        let Ok(event) = serde_json::from_slice::<Event>(message.body()) else { continue };
        let order_key = OrderKey::new(&event, message.body());
        objects.entry(event.id().to_owned()).or_default().push((number, order_key));
    }
    let of_object = |order_keys: Vec<(usize, OrderKey)>| {
        let mut ordered = BTreeSet::new();
        for (at, (later, order_key)) in order_keys.iter().enumerate() {
            for (earlier, before) in order_keys.iter().take(at) {
                // It would count if it came behind.
                if before.supersedes(order_key) {
                    ordered.extend([*earlier, *later]);
                }
            }
        }
        ordered
    };
    objects.into_values().map(of_object).collect()
}

/// Puts these back in their order, in the places that they have among the others.
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

/// One order of deliveries, of those that [`MockInqud::any_order`] tries.
#[derive(Debug)]
#[must_use = "a round that is not delivered is an error"]
pub struct Round {
    inqud: MockInqud,
    plan: Vec<Message>,
    report: Arc<Mutex<Option<Report>>>,
}

impl Round {
    /// Delivers it, as [`MockInqud::deliver`] does.
    ///
    /// The report need not be looked at; [`MockInqud::any_order`] does.
    ///
    /// # Panics
    ///
    /// Without a Tokio runtime that has its timers enabled.
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

/// An order of deliveries after which a merchant's state is not what it should be.
///
/// `Debug` is the same text as `Display`, so that `unwrap` in a test shows what happened.
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
    /// What was delivered in that order.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The seed of that order: with [`MockInqud::seed`] and [`rounds(1)`](MockInqud::rounds) it is the only
    /// one that is tried.
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
                "this order ends in another state\nin order: {expected}\nin this order: {found}"
            )?,
            Why::NotAcknowledged => writeln!(f, "not everything was acknowledged")?,
            Why::NothingDelivered => writeln!(f, "nothing was delivered")?,
        }
        writeln!(f, "{}", self.report)?;
        write!(f, "to try only this order: .seed({}).rounds(1)", self.report.seed)
    }
}

impl fmt::Debug for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Disagreement {}
