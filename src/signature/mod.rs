//! Signatures: secrets, digests, and the proof that the digest of a body matched.

mod algorithm;
mod claim;
mod cooldown;
mod current;
mod diagnoser;
mod diagnosis;
mod digest;
mod guess;
mod mac;
mod mismatch;
mod secret;
mod sign;
mod verified;
mod verifier;

pub use self::algorithm::Algorithm;
pub(crate) use self::claim::Claim;
pub use self::diagnosis::Diagnosis;
pub use self::digest::Digest;
pub use self::secret::{Secret, Secrets};
pub use self::sign::sign;
pub use self::verified::Verified;
pub use self::verifier::Verifier;
