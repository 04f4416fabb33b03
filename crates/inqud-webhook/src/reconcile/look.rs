use std::sync::Arc;

#[cfg(feature = "sqlite")]
use inqud_inbox::Attached;
#[cfg(feature = "postgres")]
use inqud_inbox::{Inbox, Postgres};
use inqud_inbox::{InboxError, Reconciled, Storable};
use tower_inqud::{
    Authorization, Checkout, Event, Invoice, OnRampCheckout, Payment, PaymentRequest, Subscription,
};

use super::client::{Client, Shared};
use super::ids::Object;
use crate::stored_kind::Kind;

/// How to look at objects.
pub(super) struct Look {
    pub(super) tenant: Option<String>,
    /// Whether nothing is stored.
    pub(super) is_dry: bool,
    pub(super) client: Client,
}

impl Look {
    pub(super) async fn at(
        &self,
        inbox: &impl Looker,
        object: &Object,
    ) -> Result<Reconciled, InboxError> {
        let id = &object.id;
        match object.kind {
            Kind::Authorization => inbox.look_at::<Authorization>(self, id).await,
            Kind::Checkout => inbox.look_at::<Checkout>(self, id).await,
            Kind::Event => inbox.look_at::<Event>(self, id).await,
            Kind::Invoice => inbox.look_at::<Invoice>(self, id).await,
            Kind::OnRampCheckout => inbox.look_at::<OnRampCheckout>(self, id).await,
            Kind::Payment => inbox.look_at::<Payment>(self, id).await,
            Kind::Request => inbox.look_at::<PaymentRequest>(self, id).await,
            Kind::Subscription => inbox.look_at::<Subscription>(self, id).await,
        }
    }

    /// The client, for the chosen tenant only.
    fn fetcher(&self) -> impl Fn(Option<&str>) -> Option<Arc<Shared>> + Send + Sync + 'static {
        let (tenant, client) = (self.tenant.clone(), self.client.shared());
        move |of| (of == tenant.as_deref()).then(|| Arc::clone(&client))
    }
}

/// An inbox whose objects can be looked at.
pub(super) trait Looker {
    async fn look_at<T: Storable>(&self, look: &Look, id: &str) -> Result<Reconciled, InboxError>;
}

macro_rules! looker {
    ($inbox:ty) => {
        impl Looker for $inbox {
            async fn look_at<T: Storable>(
                &self,
                look: &Look,
                id: &str,
            ) -> Result<Reconciled, InboxError> {
                let reconciler = self.reconcile_per_tenant::<T, _>(look.fetcher());
                let reconciler = reconciler.fetch_timeout(look.client.timeout());
                let reconciler = if look.is_dry { reconciler.dry_run() } else { reconciler };
                reconciler.look_at(look.tenant.as_deref(), id).await
            }
        }
    };
}

#[cfg(feature = "postgres")]
looker!(Inbox<Postgres>);
#[cfg(feature = "sqlite")]
looker!(Attached);
