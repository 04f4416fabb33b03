use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{Notification, kind, lenient};

/// An authorization, a user's consent to be charged for a plan, as its webhook shows it at each
/// change of status.
///
/// The fields, their names and JSON types are confirmed by Inqud's documentation. Unknown fields are
/// ignored, and every field but `id` and `status` may be missing or `null`, which both read as
/// `None`. So does a value of another JSON type: see [the rule](crate#fields).
///
/// No published sample says when it last changed; `lastUpdatedAt` is read in case one does. If there is
/// none, grants and revocations are ordered by their arrival, and one that is told again after the other
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
    /// The address of the wallet that is charged.
    #[serde(default, deserialize_with = "lenient::text")]
    pub wallet: Option<String>,
    /// What it is charged in: blockchain and currency, such as `ETHEREUM_USDT`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub crypto_currency: Option<String>,
    /// Where the authorization stands. Never missing (confirmed).
    pub status: AuthorizationStatus,
    /// `SUB-` and a UUID.
    #[serde(default, deserialize_with = "lenient::text")]
    pub subscription_id: Option<String>,
    /// The hash of the transaction that the user approved the spending by.
    #[serde(default, deserialize_with = "lenient::text")]
    pub init_approval_tx: Option<String>,
    /// `PLAN-` and a UUID.
    #[serde(default, deserialize_with = "lenient::text")]
    pub plan_id: Option<String>,
    /// When it last changed. Inferred from the other kinds; not in Inqud's published samples.
    #[serde(default, deserialize_with = "lenient::time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_at: Option<Timestamp>,
}

impl Authorization {
    /// Whether it allows to charge: see [`AuthorizationStatus::is_granted`].
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
            // Such as a revocation by another.
            AuthorizationStatus::Other(_) => 1,
            AuthorizationStatus::RevokedByMerchant => 2,
        }
    }

    fn ignored_fields(&self) -> &'static [&'static str] {
        &["status"]
    }
}

open_enum! {
    /// The status of an authorization. The words are confirmed, what they mean is inferred from them.
    pub enum AuthorizationStatus {
        /// `GRANTED`: the user can be charged.
        Granted = "GRANTED",
        /// `REVOKED_BY_MERCHANT`: you have ended it.
        RevokedByMerchant = "REVOKED_BY_MERCHANT",
    }
}

impl AuthorizationStatus {
    /// Whether the user can be charged: only with [`Granted`](Self::Granted), and with no unknown
    /// word.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted)
    }
}
