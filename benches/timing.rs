//! Whether the time of a refusal tells where a wrong digest differs from the right one.
//!
//! Two classes of digests, both wrong: in the first byte, and in the last. Bodies are random, so that
//! the processor cannot learn them. `verifier` must show no difference, with |max t| below 5;
//! `early_exit_control`, the same with a comparison that stops at the first difference, must show one,
//! above 20, or the measurement is too coarse to show anything.
//!
//! `cargo bench --bench timing`, on a machine that has nothing else to do.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark"
)]

use std::hint::black_box;

use bytes::Bytes;
use dudect_bencher::ctbench::{BenchMetadata, BenchName, BenchOpts, run_benches_console};
use dudect_bencher::rand::{Rng, RngExt};
use dudect_bencher::{BenchRng, Class, CtRunner};
use tower_inqud::{Digest, RejectionKind, Secret, Verifier, sign};

const SECRET: &str = "whsec-kiln-and-clay";
const BODY_LEN: usize = 64;
const BATCHES: usize = 2000;
const BATCH: usize = 1000;

struct Forgery {
    class: Class,
    body: Bytes,
    digest: String,
}

fn forgery(secret: &Secret, rng: &mut BenchRng) -> Forgery {
    let mut body = [0; BODY_LEN];
    rng.fill_bytes(&mut body);
    let mut digest: [u8; 20] = sign(secret, &body).as_bytes().try_into().unwrap();
    let (class, wrong) =
        if rng.random::<bool>() { (Class::Left, 0) } else { (Class::Right, digest.len() - 1) };
    digest[wrong] ^= rng.random_range(1..=u8::MAX);
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Forgery { class, body: Bytes::copy_from_slice(&body), digest }
}

fn run(runner: &mut CtRunner, rng: &mut BenchRng, refuses: impl Fn(&Forgery) -> bool) {
    let secret = Secret::new(SECRET).unwrap();
    for _ in 0..BATCHES {
        let forgeries: Vec<_> = (0..BATCH).map(|_| forgery(&secret, rng)).collect();
        for forgery in &forgeries {
            runner.run_one(forgery.class, || assert!(refuses(forgery)));
        }
    }
}

fn verifier(runner: &mut CtRunner, rng: &mut BenchRng) {
    let verifier = Verifier::new(Secret::new(SECRET).unwrap());
    run(runner, rng, |forgery| {
        let verdict = verifier.verify(&forgery.digest, forgery.body.clone());
        verdict.is_err_and(|error| error.kind() == RejectionKind::DigestMismatch)
    });
}

fn early_exit_control(runner: &mut CtRunner, rng: &mut BenchRng) {
    let secret = Secret::new(SECRET).unwrap();
    run(runner, rng, |forgery| {
        let right: Digest = sign(&secret, &forgery.body);
        let pairs = forgery.digest.as_bytes().chunks(2).zip(right.as_bytes());
        // An optimizer could compare all of it at once.
        let mut equal = pairs.map(|(text, byte)| black_box(hex(text) == *byte));
        !equal.all(black_box)
    });
}

fn hex(text: &[u8]) -> u8 {
    u8::from_str_radix(std::str::from_utf8(text).unwrap(), 16).unwrap()
}

fn main() {
    let bench = |name, benchfn| BenchMetadata { name: BenchName(name), seed: None, benchfn };
    let benches =
        vec![bench("verifier", verifier), bench("early_exit_control", early_exit_control)];
    run_benches_console(BenchOpts::default(), benches).unwrap();
}
