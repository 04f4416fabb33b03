use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Notification, kind, lenient};

/// An authorization, a user's consent to be charged for a plan. Its webhook is sent at each change of
/// status.
///
/// The fields, their names and their JSON types are confirmed by Inqud's documentation. Unknown fields
/// are ignored. Every field except `id` and `status` may be missing or `null`, and both read as `None`.
/// So does a value of another JSON type: see [the rule](crate#fields).
///
/// # Order
///
/// No published sample has the time of the last change. `lastUpdatedAt` is read in case Inqud sends it.
/// Without it, grants and revocations are ordered by arrival, and one that is repeated after the other
/// is kept for [review](crate::Verdict::Review).
///
/// # Example
///
/// ```
/// use tower_inqud::{Authorization, AuthorizationStatus};
///
/// let authorization: Authorization =
///     serde_json::from_str(r#"{"id":"AGR-1","status":"REVOKED_BY_MERCHANT"}"#)?;
/// assert_eq!(authorization.status, AuthorizationStatus::RevokedByMerchant);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// `AGR-` and a UUID. Never missing (confirmed).
    #[serde(deserialize_with = "kind::id::<_, Authorization>")]
    pub id: String,
    /// The address of the wallet to charge.
    #[serde(default, deserialize_with = "lenient::text")]
    pub wallet: Option<String>,
    /// The blockchain and currency to charge in, such as `ETHEREUM_USDT`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub crypto_currency: Option<String>,
    /// The status of the authorization. Never missing (confirmed).
    pub status: AuthorizationStatus,
    /// `SUB-` and a UUID: the subscription.
    #[serde(default, deserialize_with = "lenient::text")]
    pub subscription_id: Option<String>,
    /// The hash of the transaction with which the user approved the charges.
    #[serde(default, deserialize_with = "lenient::text")]
    pub init_approval_tx: Option<String>,
    /// `PLAN-` and a UUID: the plan.
    #[serde(default, deserialize_with = "lenient::text")]
    pub plan_id: Option<String>,
    /// When the authorization last changed. Inferred from the other kinds, and not in Inqud's published
    /// samples.
    #[serde(default, deserialize_with = "lenient::time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_at: Option<Timestamp>,
}

impl Authorization {
    /// Whether you can charge the user: see [`AuthorizationStatus::is_granted`].
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.status.is_granted()
    }
}

impl Notification for Authorization {
    fn id(&self) -> &str {
        &self.id
    }

    fn status_text(&self) -> &str {
        self.status.as_str()
    }

    fn last_update(&self) -> Option<Timestamp> {
        self.last_updated_at
    }

    fn status_rank(&self) -> u8 {
        match self.status {
            AuthorizationStatus::Granted => 0,
            // Such as a revocation by someone else.
            AuthorizationStatus::Other(_) => 1,
            AuthorizationStatus::RevokedByMerchant => 2,
        }
    }

    fn ignored_fields(&self) -> &'static [&'static str] {
        &["status"]
    }
}

open_enum! {
    /// The status of an authorization. The words are confirmed; their meanings are inferred from them.
    pub enum AuthorizationStatus {
        /// `GRANTED`: you can charge the user.
        Granted = "GRANTED",
        /// `REVOKED_BY_MERCHANT`: you revoked it.
        RevokedByMerchant = "REVOKED_BY_MERCHANT",
    }
}

impl AuthorizationStatus {
    /// Whether you can charge the user. Only [`Granted`](Self::Granted) allows it; an unknown status does
    /// not.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted)
    }
}
