//! Where the shop gets a Request from: what the customer must pay, and to which address.

use std::future::{Future, ready};
use std::pin::Pin;

use inqud_mock::{Lifecycle, Scenario};
use tower_inqud::PaymentRequest;

use crate::error::BoxError;
use crate::order::Order;

/// Creates Requests at Inqud.
///
/// Inqud's API for this is not public, so its paths, fields and answers are unknown. Three things are assumed here.
/// Check each one against your contract documents before you write a real gateway:
///
/// - The answer has the fields of the webhook, at least the address, the amount and the expiry.
/// - Your order's id goes in, and comes back in each webhook as `clientOrderId`.
/// - A second call for the same order returns the same Request. If it creates another one instead, look the
///   Request up first, because the shop calls again after an error and after a crash, though never twice at a time.
pub trait Gateway: Send + Sync + 'static {
    fn create<'a>(&'a self, order: &'a Order) -> Creating<'a>;
}

pub type Creating<'a> = Pin<Box<dyn Future<Output = Result<PaymentRequest, BoxError>> + Send + 'a>>;

/// Plays Inqud in this process, without a network.
pub struct MockGateway;

impl Gateway for MockGateway {
    fn create<'a>(&'a self, order: &'a Order) -> Creating<'a> {
        Box::pin(ready(first_status(order)))
    }
}

fn first_status(order: &Order) -> Result<PaymentRequest, BoxError> {
    let first = lifecycle(order, Scenario::Success)?.into_iter().next();
    let first = first.ok_or("a Request without a first status")?;
    Ok(serde_json::from_slice(first.body())?)
}

/// What Inqud tells about the Request of an order. The ids in it depend on the order's id only.
pub fn lifecycle(order: &Order, scenario: Scenario) -> Result<Lifecycle, BoxError> {
    let lifecycle = Lifecycle::new(scenario).client_order_id(&order.id).starts_at(order.created_at);
    Ok(lifecycle.amount(order.amount.parse()?))
}
