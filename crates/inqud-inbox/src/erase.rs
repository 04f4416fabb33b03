//! Deleting what an inbox has about a person.

use crate::order_id;
use crate::tenant;

/// What [`Inbox::erase`](crate::Inbox::erase) erases.
///
/// # Example
///
/// ```
/// use inqud_inbox::{Erase, Inbox, Record, Storable, Store};
/// use tower_inqud::{PaymentRequest, danger};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let inbox = Inbox::memory();
/// # let body = br#"{"id":"CAPD-1","status":"SUCCESS"}"#;
/// # let request: PaymentRequest = danger::decode(body)?;
/// # inbox.store().insert(vec![Record::new(&request, body.as_slice().into())]).await?;
/// let request = Erase::object(PaymentRequest::KIND, "CAPD-1");
/// assert!(inbox.erase(request.clone()).await.is_err(), "it is not handled yet");
/// assert_eq!(inbox.erase(request.force()).await?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "it does nothing until an inbox is given it"]
pub struct Erase {
    pub(crate) of: Of,
    pub(crate) is_forced: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Of {
    Object(ErasedObject),
    /// The id of an order, as it is stored.
    Order(String),
}

/// An object that is to be erased.
#[derive(Clone, Debug, Eq, PartialEq)]
#[doc(hidden)]
pub struct ErasedObject {
    pub(crate) kind: String,
    /// The id as it is stored.
    pub(crate) id: String,
}

impl Erase {
    /// All notifications about the object with this [kind](crate::Storable::KIND) and id.
    pub fn object(kind: impl Into<String>, id: &str) -> Self {
        let id = tenant::qualify(None, id).into_owned();
        Self { of: Of::Object(ErasedObject { kind: kind.into(), id }), is_forced: false }
    }

    /// All notifications about the objects of your order with this [id](tower_inqud::Notification::order_id), of any kind
    /// and tenant.
    ///
    /// A second call finds nothing, because the order's id is deleted too.
    pub fn order(id: &str) -> Self {
        Self { of: Of::Order(order_id::stored(id).unwrap_or_default()), is_forced: false }
    }

    /// Takes the object of a [tenant](tower_inqud::Verifier::tenant). Defaults to the one without a tenant. It has no effect
    /// on an order.
    pub fn tenant(mut self, name: &str) -> Self {
        if let Of::Object(object) = &mut self.of {
            let (_, id) = tenant::split(&object.id);
            object.id = tenant::qualify(Some(name), id).into_owned();
        }
        self
    }

    /// Erases notifications that are not settled too. They are never handled, and what a handler does at that moment is not
    /// committed. Defaults to an error if there are any.
    pub fn force(mut self) -> Self {
        self.is_forced = true;
        self
    }
}

/// The error of a row that was erased before it was handled, or before a person had decided about it.
pub(crate) const ERASED: &str = "erased";
