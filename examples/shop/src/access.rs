//! Who may see the operator's pages: the token, the cookie of a session, and the token of its forms.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use crate::error::BoxError;
use crate::hex;

const NAME: &str = "operator";
const HOURS: i64 = 12;
const LEAST: usize = 16;

/// Checks the operator's token. All comparisons take constant time, because they compare MACs.
pub struct Access {
    key: Hmac<Sha256>,
    is_secure: bool,
}

impl Access {
    /// `is_secure` says whether browsers reach the shop by HTTPS, so that the cookie can insist on it.
    pub fn new(token: &str, is_secure: bool) -> Result<Self, BoxError> {
        if token.len() < LEAST {
            return Err(
                format!("OPERATOR_TOKEN is too short: use at least {LEAST} characters").into()
            );
        }
        Ok(Self { key: key(token)?, is_secure })
    }

    /// A random token.
    pub fn random_token() -> Result<String, BoxError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        Ok(hex::encode(&random))
    }

    /// The cookie of a new session, if this is the operator's token.
    pub fn log_in(&self, entered: &str) -> Option<String> {
        let entered = key(entered).ok()?;
        let tag = entered.chain_update("log in").finalize().into_bytes();
        self.key.clone().chain_update("log in").verify_slice(&tag).ok()?;
        let ends = Timestamp::now().as_second() + HOURS * 3600;
        Some(
            self.cookie(
                &format!("{ends}.{}", self.tag("session", &ends.to_string())),
                HOURS * 3600,
            ),
        )
    }

    pub fn log_out(&self) -> String {
        self.cookie("", 0)
    }

    fn cookie(&self, value: &str, seconds: i64) -> String {
        let secure = if self.is_secure { "; Secure" } else { "" };
        format!(
            "{NAME}={value}; Path=/operator; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
        )
    }

    /// The session that these cookies prove.
    pub fn session(&self, cookies: &str) -> Option<Session> {
        let name =
            |cookie: &&str| cookie.starts_with(NAME) && cookie[NAME.len()..].starts_with('=');
        let cookie = cookies.split(';').map(str::trim).find(name)?;
        let (ends, tag) = cookie[NAME.len() + 1..].split_once('.')?;
        self.is_tag(tag, "session", ends).then_some(())?;
        let is_over = ends.parse::<i64>().ok()? < Timestamp::now().as_second();
        (!is_over).then(|| Session { csrf: self.tag("form", ends), ends: ends.to_owned() })
    }

    /// Whether a form was made for this session, and not by another site.
    pub fn is_form_of(&self, session: &Session, csrf: &str) -> bool {
        self.is_tag(csrf, "form", &session.ends)
    }

    fn tag(&self, what: &str, of: &str) -> String {
        hex::encode(&self.mac(what, of).finalize().into_bytes())
    }

    fn is_tag(&self, tag: &str, what: &str, of: &str) -> bool {
        hex::decode::<32>(tag).is_some_and(|tag| self.mac(what, of).verify_slice(&tag).is_ok())
    }

    fn mac(&self, what: &str, of: &str) -> Hmac<Sha256> {
        self.key.clone().chain_update(what).chain_update(" ").chain_update(of)
    }
}

fn key(token: &str) -> Result<Hmac<Sha256>, BoxError> {
    Ok(<Hmac<Sha256> as KeyInit>::new_from_slice(token.as_bytes())?)
}

/// A session of the operator.
pub struct Session {
    ends: String,
    /// For the forms of the page.
    pub csrf: String,
}
