//! What the shop does with a notification about a Request.

use inqud_inbox::rusqlite::Connection;
use inqud_inbox::{Context, Key, Sqlite, Stored};
use tower_inqud::{Amount, PaymentRequest};

use crate::database::Database;
use crate::error::BoxError;
use crate::order::Order;
use crate::tables;

/// Everything it writes is committed together with "done".
///
/// An order that the shop does not have is an error: the notification is retried, and becomes a dead letter in the
/// end. An operator then sees it, instead of a payment that disappears.
pub async fn on_request(
    database: Database,
    request: Stored<PaymentRequest>,
    cx: Context<Sqlite>,
) -> Result<(), BoxError> {
    let id = request.client_order_id.clone().ok_or("a Request without clientOrderId")?;
    let find = id.clone();
    let order = database.read(move |db| Order::find(db, &find)).await?;
    let order = order.ok_or_else(|| format!("unknown order {id}"))?;
    let price: Amount = order.amount.parse()?;
    // `SUCCESS` alone does not mean that it pays for this order.
    let is_paid = request.is_paid_for(&price, &order.currency);
    let is_success = request.status.is_successful();
    let object = request.id.clone();
    // Another Request of a paid order may well expire.
    let was_paid = order.request.is_some_and(|known| known.id == object && known.was_paid);
    let payment = request.payment_id.clone().unwrap_or_else(|| object.clone());

    let update = id.clone();
    cx.effect(move |db| tables::update_request(db, &update, &request, is_paid));
    if is_paid {
        let again = (id.clone(), object, payment.clone());
        cx.once(
            format!("ship:{id}"),
            move |db| tables::ship(db, &id, &payment),
            move |db, _: Key| note_another_payment(db, &again),
        );
    } else if is_success {
        cx.effect(move |db| tables::note(db, &id, &object, "paid, but not what the order costs"));
    } else if was_paid {
        cx.effect(move |db| tables::note(db, &id, &object, "shipped, and no longer paid"));
    }
    Ok(())
}

/// The same payment can be reported again, with more details. Another payment means that someone paid twice.
fn note_another_payment(
    db: &Connection,
    (order, object, payment): &(String, String, String),
) -> inqud_inbox::rusqlite::Result<()> {
    let first = "SELECT payment FROM orders WHERE id = ?1";
    let first: Option<String> = db.query_row(first, [order], |row| row.get(0))?;
    if first.as_ref() == Some(payment) {
        return Ok(());
    }
    tables::note(db, order, object, "paid again")
}
