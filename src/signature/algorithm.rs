/// The HMAC that a webhook is signed with.
///
/// Inqud signs with HMAC-SHA1 (confirmed). The others serve a relay of your own that signs anew,
/// and the day Inqud changes. The algorithm is part of the receiver's configuration; no request can
/// choose it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC-SHA1, 40 hexadecimal digits: what Inqud sends (confirmed). The default.
    ///
    /// The known attacks on SHA-1 find collisions; they do not forge an HMAC.
    #[default]
    HmacSha1,
    /// HMAC-SHA256, 64 hexadecimal digits.
    HmacSha256,
    /// HMAC-SHA512, 128 hexadecimal digits.
    HmacSha512,
}

impl Algorithm {
    pub(super) const ALL: [Self; 3] = [Self::HmacSha1, Self::HmacSha256, Self::HmacSha512];

    /// The length of a digest in bytes: 20, 32 or 64. Its text is twice as long.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha512 => 64,
        }
    }
}
