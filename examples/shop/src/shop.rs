//! The shop: what all pages and tasks share.

use std::time::Duration;

use inqud_inbox::{Inbox, InboxError, Sqlite};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::access::Access;
use crate::database::Database;
use crate::error::BoxError;
use crate::gateway::Gateway;
use crate::live::Live;
use crate::order::Order;
use crate::played::Played;
use crate::product::Product;
use crate::tables;

pub struct Shop {
    pub inbox: Inbox<Sqlite>,
    pub database: Database,
    pub gateway: Box<dyn Gateway>,
    pub live: Live,
    pub access: Access,
    /// Tells the mock of new orders. `None` if nothing plays Inqud.
    pub mock: Option<mpsc::Sender<Played>>,
}

impl Shop {
    /// Stores an order and asks for a Request. If that fails, [`prepare`](Self::prepare) asks again.
    pub async fn order(
        &self,
        product: &'static Product,
        recipient: &str,
    ) -> Result<String, BoxError> {
        let id = order_id()?;
        let (row, recipient) = (id.clone(), recipient.to_owned());
        self.inbox.write(move |db| tables::insert_order(db, &row, product, &recipient)).await?;
        if let Err(error) = self.request_payment(&id).await {
            println!("order {id} has no Request yet: {error}");
        }
        Ok(id)
    }

    async fn request_payment(&self, id: &str) -> Result<(), BoxError> {
        let order = self.find(id).await?.ok_or("unknown order")?;
        let request = timeout(Duration::from_secs(10), self.gateway.create(&order)).await??;
        let insert = move |db: &_| tables::insert_request(db, &order.id, &request);
        Ok(self.inbox.write(insert).await?)
    }

    pub async fn find(&self, id: &str) -> Result<Option<Order>, BoxError> {
        let id = id.to_owned();
        self.database.read(move |db| Order::find(db, &id)).await
    }

    /// Asks for the Requests of orders that have none, because the process was killed or Inqud was not reached.
    pub async fn prepare(&self, mut stopped: watch::Receiver<bool>) -> Result<(), InboxError> {
        while !*stopped.borrow() {
            match self.database.read(|db| Order::open(db, 100)).await {
                Ok(open) => {
                    for order in open.iter().filter(|order| order.request.is_none()) {
                        if let Err(error) = self.request_payment(&order.id).await {
                            println!("order {} has no Request yet: {error}", order.id);
                        }
                    }
                }
                Err(error) => println!("cannot read the orders: {error}"),
            }
            tokio::select! {
                () = sleep(Duration::from_secs(5)) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        }
        Ok(())
    }
}

/// A new id. It cannot be guessed, because whoever has the address of a payment page can read it.
fn order_id() -> Result<String, BoxError> {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut random = [0; 20];
    getrandom::fill(&mut random)?;
    let letters = random.map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    let groups: Vec<String> = letters.chunks(5).map(|group| group.iter().collect()).collect();
    Ok(groups.join("-"))
}
