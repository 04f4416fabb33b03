use crate::BoxError;

// In the guide from here.

use inqud_inbox::{Completion, Context, Postgres, Stored};
use tokio_postgres::Client;
use tower_inqud::PaymentRequest;

pub async fn on_request(
    client: &mut Client,
    request: Stored<PaymentRequest>,
    cx: Context<Postgres>,
) -> Result<(), BoxError> {
    let done = cx.completion()?;
    let transaction = client.transaction().await?;
    transaction
        .execute("INSERT INTO paid (order_id) VALUES ($1)", &[&request.client_order_id])
        .await?;
    transaction.execute(Completion::SQL, &[&done.token()]).await?;
    Ok(transaction.commit().await?)
}
