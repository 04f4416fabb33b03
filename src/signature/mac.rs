use hmac::KeyInit;
use hmac::block_api::HmacCore;
use hmac::digest::Output;
use hmac::digest::block_api::{Buffer, EagerHash, FixedOutputCore, UpdateCore};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::{Algorithm, Digest};

/// An HMAC that has taken its key and nothing else. Zeroized when dropped.
///
/// It has no block buffer. `Hmac` has one, and leaves it uninitialised: a move then copies whatever the
/// stack held there, which just after the key schedule is the key.
pub(super) struct Key<D: EagerHash>(HmacCore<D>);

impl<D: EagerHash> Key<D> {
    pub(super) fn new(key: &[u8]) -> Self {
        Self(HmacCore::new_from_slice(key).expect("an HMAC takes a key of any length"))
    }

    fn start(&self) -> Running<D> {
        Running { core: self.0.clone(), buffer: Buffer::<HmacCore<D>>::default() }
    }
}

impl Key<Sha1> {
    pub(super) fn sha1(&self) -> Mac {
        Mac::Sha1(self.start())
    }
}

impl Key<Sha256> {
    pub(super) fn sha256(&self) -> Mac {
        Mac::Sha256(Box::new(self.start()))
    }
}

impl Key<Sha512> {
    pub(super) fn sha512(&self) -> Mac {
        Mac::Sha512(Box::new(self.start()))
    }
}

/// An HMAC that has taken its key and some part of a message.
pub(super) enum Mac {
    Sha1(Running<Sha1>),
    Sha256(Box<Running<Sha256>>),
    Sha512(Box<Running<Sha512>>),
}

impl Mac {
    pub(super) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha1(mac) => mac.update(data),
            Self::Sha256(mac) => mac.update(data),
            Self::Sha512(mac) => mac.update(data),
        }
    }

    /// Ends the message, and compares in constant time. A digest of another algorithm is refused.
    pub(super) fn verify(&mut self, digest: &Digest) -> bool {
        self.finalize() == *digest
    }

    /// Ends the message. In place, because a move would leave the state where it was.
    pub(super) fn finalize(&mut self) -> Digest {
        match self {
            Self::Sha1(mac) => Digest::new(Algorithm::HmacSha1, &mac.finalize()),
            Self::Sha256(mac) => Digest::new(Algorithm::HmacSha256, &mac.finalize()),
            Self::Sha512(mac) => Digest::new(Algorithm::HmacSha512, &mac.finalize()),
        }
    }
}

pub(super) struct Running<D: EagerHash> {
    core: HmacCore<D>,
    buffer: Buffer<HmacCore<D>>,
}

impl<D: EagerHash> Running<D> {
    fn update(&mut self, data: &[u8]) {
        let Self { core, buffer } = self;
        buffer.digest_blocks(data, |blocks| core.update_blocks(blocks));
    }

    fn finalize(&mut self) -> Output<HmacCore<D>> {
        let mut digest = Output::<HmacCore<D>>::default();
        self.core.finalize_fixed_core(&mut self.buffer, &mut digest);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::{EagerHash, Sha1, Sha256, Sha512};

    /// An `HmacCore` consists of two states of its hash function, and has no marker of its own.
    #[test]
    fn every_state_that_holds_a_key_is_zeroized_when_dropped() {
        fn zeroized<D: EagerHash<Core: zeroize::ZeroizeOnDrop>>() {}
        zeroized::<Sha1>();
        zeroized::<Sha256>();
        zeroized::<Sha512>();
    }
}
