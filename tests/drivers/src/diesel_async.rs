use crate::BoxError;

// In the guide from here.

use diesel::sql_query;
use diesel::sql_types::{Nullable, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use inqud_inbox::{Completion, Context, Postgres, Stored};
use tower_inqud::PaymentRequest;

pub async fn on_request(
    connection: &mut AsyncPgConnection,
    request: Stored<PaymentRequest>,
    cx: Context<Postgres>,
) -> Result<(), BoxError> {
    let done = cx.completion()?;
    let order = request.client_order_id.clone();
    connection
        .transaction(async |connection| {
            sql_query("INSERT INTO paid (order_id) VALUES ($1)")
                .bind::<Nullable<Text>, _>(&order)
                .execute(connection)
                .await?;
            sql_query(Completion::SQL).bind::<Text, _>(done.token()).execute(connection).await?;
            Ok::<_, diesel::result::Error>(())
        })
        .await?;
    Ok(())
}
