//! What all contenders are called with: bodies of any size, and their signatures.

use axum::body::Body;
use axum::http::Request;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

pub const SECRET: &str = "whsec-kiln-and-clay";
pub const PATH: &str = "/webhooks/inqud/request";
/// Room for every body here; the limits of some contenders are fixed.
pub const LIMIT: usize = 1024 * 1024;
pub const SIZES: [usize; 6] = [256, 1024, 4 * 1024, 16 * 1024, 64 * 1024, 256 * 1024];
/// The size of a Request as Inqud sends it.
pub const USUAL: usize = 1024;

const REQUEST: &str = include_str!("../../../tests/fixtures/request-waiting_payment.json");
const SMALL: &str = r#"{"id":"CAPD-a4c123b1-612d-d272-d137-1c17149d4395","status":"SUCCESS","payAmount":848.0495,"lastUpdatedAt":"2026-11-21T18:49:42.207118364Z","clientOrderId":"shop-00471","currency":"USDT","blockchain":"ETHEREUM","overpaid":false,"requestAmount":850.125}"#;

/// A Request of about this many bytes. A large one has more of what the model does not know, as
/// objects of a few fields each.
pub fn body(size: usize) -> String {
    if size <= SMALL.len() + 8 {
        return SMALL.to_owned();
    }
    if size <= REQUEST.len() {
        return REQUEST.to_owned();
    }
    let mut body = REQUEST.trim_end().trim_end_matches('}').to_owned() + r#","assets":["#;
    while body.len() + 80 < size {
        body += r#"{"asset":"ETHEREUM_USDT","min":1.25,"max":10000,"rate":null,"active":true},"#;
    }
    body + "{}]}"
}

/// Whose signatures a contender checks.
#[derive(Clone, Copy, PartialEq)]
pub enum Scheme {
    /// HMAC-SHA1 in `X-Payload-Digest`.
    Inqud,
    /// HMAC-SHA256 in `X-Hub-Signature-256`, which costs more.
    GitHub,
    /// None is checked.
    Nobody,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Self::Inqud => "HMAC-SHA1",
            Self::GitHub => "HMAC-SHA256",
            Self::Nobody => "none",
        }
    }

    fn signature(self, body: &[u8]) -> (&'static str, String) {
        match self {
            Self::Inqud | Self::Nobody => ("x-payload-digest", hex::encode(sha1(body))),
            Self::GitHub => {
                let mut mac =
                    Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
                mac.update(body);
                let digest = hex::encode(mac.finalize().into_bytes());
                ("x-hub-signature-256", format!("sha256={digest}"))
            }
        }
    }
}

pub fn sha1(body: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// A call that can be made again and again, and whether it has to be accepted.
#[derive(Clone)]
pub struct Call {
    pub body: axum::body::Bytes,
    header: &'static str,
    signature: String,
    pub is_good: bool,
}

impl Call {
    pub fn good(scheme: Scheme, size: usize) -> Self {
        let body = body(size);
        let (header, signature) = scheme.signature(body.as_bytes());
        Self { body: body.into(), header, signature, is_good: true }
    }

    /// Signed as another body, and so refused by all who check.
    pub fn forged(scheme: Scheme, size: usize) -> Self {
        let (_, signature) = scheme.signature(b"another body");
        Self { signature, is_good: scheme == Scheme::Nobody, ..Self::good(scheme, size) }
    }

    /// Whether this is the right answer: 200, or any refusal.
    pub fn is_answered_by(&self, status: u16) -> bool {
        if self.is_good { status == 200 } else { (400..500).contains(&status) }
    }

    pub fn request(&self) -> Request<Body> {
        Request::post(PATH)
            .header("host", "shop.example")
            .header("content-type", "application/json")
            .header("content-length", self.body.len())
            .header(self.header, &self.signature)
            .body(Body::from(self.body.clone()))
            .expect("a good request")
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: shop.example\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{}: {}\r\n\r\n",
            self.body.len(),
            self.header,
            self.signature
        );
        [head.as_bytes(), &self.body].concat()
    }
}
