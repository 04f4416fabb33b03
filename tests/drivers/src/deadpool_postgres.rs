use crate::BoxError;

// In the guide from here.

use deadpool_postgres::Pool;
use inqud_inbox::{Completion, Context, Postgres, Stored};
use tower_inqud::PaymentRequest;

pub async fn on_request(
    pool: Pool,
    request: Stored<PaymentRequest>,
    cx: Context<Postgres>,
) -> Result<(), BoxError> {
    let done = cx.completion()?;
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let pay = transaction.prepare_cached("INSERT INTO paid (order_id) VALUES ($1)").await?;
    transaction.execute(&pay, &[&request.client_order_id]).await?;
    let complete = transaction.prepare_cached(Completion::SQL).await?;
    transaction.execute(&complete, &[&done.token()]).await?;
    Ok(transaction.commit().await?)
}
