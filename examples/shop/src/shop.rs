//! The shop: what all pages and tasks share.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
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
    /// The orders that a Request is being asked for.
    pub asking: Mutex<HashSet<String>>,
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

    /// Does nothing if another task is asking for this order, or has asked: a second Request would have another address.
    async fn request_payment(&self, id: &str) -> Result<(), BoxError> {
        let Some(_asking) = Asking::new(&self.asking, id) else { return Ok(()) };
        let order = self.find(id).await?.ok_or("unknown order")?;
        if order.request.is_some() {
            return Ok(());
        }
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
            match self.database.read(|db| Order::without_request(db, 100)).await {
                Ok(open) => {
                    for order in open {
                        let asked = tokio::select! {
                            asked = self.request_payment(&order.id) => asked,
                            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
                        };
                        if let Err(error) = asked {
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

/// An order is in the set as long as this lives.
struct Asking<'a>(&'a Mutex<HashSet<String>>, String);

impl<'a> Asking<'a> {
    fn new(asking: &'a Mutex<HashSet<String>>, id: &str) -> Option<Self> {
        let is_new = asking.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        is_new.then(|| Self(asking, id.to_owned()))
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
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
