use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Amount, PaymentStatus, RawJson};

/// The payment inside a Request: its raw JSON, and a [view](Self::view) of the keys that it may have.
///
/// It is an object (confirmed), but its keys are not public. So any JSON is accepted, and in the view a
/// key that is missing or has another type than expected is `None`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct RequestPayment {
    json: RawJson,
}

impl RequestPayment {
    /// The JSON, as it was sent.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json.json()
    }

    /// Parses the keys that the payment is expected to have. Each call parses the JSON again.
    #[must_use]
    pub fn view(&self) -> PaymentView {
        let fields: Fields<'_> = serde_json::from_str(self.json()).unwrap_or_default();
        PaymentView {
            id: read(fields.id).or_else(|| read(fields.payment_id)),
            order_id: read(fields.order_id),
            client_order_id: read(fields.client_order_id),
            external_id: read(fields.external_id),
            amount: read(fields.amount),
            currency: read(fields.currency),
            method: read(fields.method),
            status: read(fields.status),
            tx_hash: read(fields.tx_hash),
            created_at: read(fields.created_at),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    payment_id: Option<&'a RawValue>,
    order_id: Option<&'a RawValue>,
    client_order_id: Option<&'a RawValue>,
    external_id: Option<&'a RawValue>,
    amount: Option<&'a RawValue>,
    currency: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    tx_hash: Option<&'a RawValue>,
    created_at: Option<&'a RawValue>,
}

fn read<T: DeserializeOwned>(json: Option<&RawValue>) -> Option<T> {
    serde_json::from_str(json?.get()).ok()
}

/// The fields of a [`RequestPayment`]. All names are inferred from Inqud's payment webhook and from the
/// Request itself.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PaymentView {
    /// `id`, or `paymentId`: `PMT-` and a UUID.
    pub id: Option<String>,
    /// `orderId`: `ORD-` and a UUID.
    pub order_id: Option<String>,
    /// `clientOrderId`: your own id of the order.
    pub client_order_id: Option<String>,
    /// `externalId`: an id whose meaning is not public.
    pub external_id: Option<String>,
    /// `amount`: the amount, in [`currency`](Self::currency).
    pub amount: Option<Amount>,
    /// `currency`: the currency of [`amount`](Self::amount).
    pub currency: Option<String>,
    /// `method`, such as `CRYPTOCOIN`.
    pub method: Option<String>,
    /// `status`: the status of the payment.
    pub status: Option<PaymentStatus>,
    /// `txHash`: the hash of the transaction.
    pub tx_hash: Option<String>,
    /// `createdAt`: when the payment was created.
    pub created_at: Option<Timestamp>,
}
