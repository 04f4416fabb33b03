use crate::BoxError;

// In the guide from here.

use inqud_inbox::{Completion, Context, Postgres, Stored};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait};
use tower_inqud::PaymentRequest;

pub async fn on_request(
    database: DatabaseConnection,
    request: Stored<PaymentRequest>,
    cx: Context<Postgres>,
) -> Result<(), BoxError> {
    let done = cx.completion()?;
    let transaction = database.begin().await?;
    let order = request.client_order_id.clone();
    let pay = "INSERT INTO paid (order_id) VALUES ($1)";
    transaction
        .execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, pay, [order.into()]))
        .await?;
    let token = done.token().to_owned();
    let complete =
        Statement::from_sql_and_values(DbBackend::Postgres, Completion::SQL, [token.into()]);
    transaction.execute_raw(complete).await?;
    Ok(transaction.commit().await?)
}
