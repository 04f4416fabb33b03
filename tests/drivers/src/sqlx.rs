use crate::BoxError;

// In the guide from here.

use inqud_inbox::{Completion, Context, Postgres, Stored};
use sqlx::PgPool;
use tower_inqud::PaymentRequest;

pub async fn on_request(
    pool: PgPool,
    request: Stored<PaymentRequest>,
    cx: Context<Postgres>,
) -> Result<(), BoxError> {
    let done = cx.completion()?;
    let mut transaction = pool.begin().await?;
    sqlx::query("INSERT INTO paid (order_id) VALUES ($1)")
        .bind(&request.client_order_id)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(Completion::SQL).bind(done.token()).execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}
