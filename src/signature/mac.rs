use hmac::KeyInit;
use hmac::block_api::HmacCore;
use hmac::digest::Output;
use hmac::digest::block_api::{Buffer, EagerHash, FixedOutputCore, UpdateCore};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::{Algorithm, Digest};

/// The state of an HMAC after its key. Zeroized when dropped.
///
/// It has no block buffer. `Hmac` has one and leaves it uninitialized, so a move copies whatever
/// the stack held there. Just after the key schedule, that is the key.
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

/// The state of an HMAC after its key and a part of a message.
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

    /// Finishes the HMAC and compares it with `digest` in constant time. A digest of another
    /// algorithm never matches.
    pub(super) fn verify(&mut self, digest: &Digest) -> bool {
        self.finalize() == *digest
    }

    /// Finishes the HMAC in place, because a move would leave a copy of the state behind.
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

    /// An `HmacCore` consists of two states of its hash function and does not implement
    /// `ZeroizeOnDrop` itself, so this checks the states.
    #[test]
    fn hash_states_are_zeroized_on_drop() {
        fn zeroized<D: EagerHash<Core: zeroize::ZeroizeOnDrop>>() {}
        zeroized::<Sha1>();
        zeroized::<Sha256>();
        zeroized::<Sha512>();
    }
}
