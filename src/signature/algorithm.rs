/// The HMAC algorithm that webhooks are signed with.
///
/// Inqud signs with HMAC-SHA1 (confirmed). Use another one for a relay of your own that signs
/// bodies again, or if Inqud changes its algorithm. The algorithm is part of the receiver's
/// configuration. A request cannot choose it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC-SHA1, 40 hexadecimal digits. Inqud uses it (confirmed), and it is the default.
    ///
    /// The known attacks on SHA-1 find collisions. They do not forge an HMAC.
    #[default]
    HmacSha1,
    /// HMAC-SHA256, 64 hexadecimal digits.
    HmacSha256,
    /// HMAC-SHA512, 128 hexadecimal digits.
    HmacSha512,
}

impl Algorithm {
    pub(super) const ALL: [Self; 3] = [Self::HmacSha1, Self::HmacSha256, Self::HmacSha512];

    /// The length of a digest in bytes: 20, 32 or 64. Its hexadecimal text is twice as long.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha512 => 64,
        }
    }
}
