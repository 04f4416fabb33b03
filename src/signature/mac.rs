use hmac::{Hmac, KeyInit, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::{Algorithm, Digest};

/// An HMAC that has taken its key and some part of a message. Zeroized when dropped.
#[derive(Clone)]
pub(super) enum Mac {
    Sha1(Hmac<Sha1>),
    Sha256(Box<Hmac<Sha256>>),
    Sha512(Box<Hmac<Sha512>>),
}

impl Mac {
    pub(super) fn new(algorithm: Algorithm, key: &[u8]) -> Self {
        fn keyed<M: KeyInit>(key: &[u8]) -> M {
            M::new_from_slice(key).expect("an HMAC takes a key of any length")
        }
        match algorithm {
            Algorithm::HmacSha1 => Self::Sha1(keyed(key)),
            Algorithm::HmacSha256 => Self::Sha256(Box::new(keyed(key))),
            Algorithm::HmacSha512 => Self::Sha512(Box::new(keyed(key))),
        }
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha1(mac) => mac.update(data),
            Self::Sha256(mac) => mac.update(data),
            Self::Sha512(mac) => mac.update(data),
        }
    }

    /// Compares in constant time; a digest of another algorithm has another length and is refused.
    pub(super) fn verify(self, digest: &Digest) -> bool {
        let digest = digest.as_bytes();
        match self {
            Self::Sha1(mac) => mac.verify_slice(digest),
            Self::Sha256(mac) => mac.verify_slice(digest),
            Self::Sha512(mac) => mac.verify_slice(digest),
        }
        .is_ok()
    }

    pub(super) fn finalize(self) -> Digest {
        match self {
            Self::Sha1(mac) => Digest::new(Algorithm::HmacSha1, &mac.finalize().into_bytes()),
            Self::Sha256(mac) => Digest::new(Algorithm::HmacSha256, &mac.finalize().into_bytes()),
            Self::Sha512(mac) => Digest::new(Algorithm::HmacSha512, &mac.finalize().into_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sha1, Sha256, Sha512};

    /// An `Hmac` consists of two states of its hash function, and has no marker of its own.
    #[test]
    fn every_state_that_holds_a_key_is_zeroized_when_dropped() {
        fn zeroized<T: zeroize::ZeroizeOnDrop>() {}
        zeroized::<Sha1>();
        zeroized::<Sha256>();
        zeroized::<Sha512>();
    }
}
