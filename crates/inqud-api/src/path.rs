use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};

use crate::error::ConfigError;
use tower_inqud::EventKind;

/// Longest id in bytes. Inqud's ids have about 41.
const MAX_ID: usize = 200;

const ID: &str = "{id}";

/// The kinds whose ids have a known prefix.
const WITH_PREFIX: [EventKind; 6] = [
    EventKind::Request,
    EventKind::Checkout,
    EventKind::Payment,
    EventKind::OnRampCheckout,
    EventKind::Subscription,
    EventKind::Authorization,
];

/// The address of each object.
#[derive(Debug)]
pub(crate) struct Addresses {
    base: String,
    paths: BTreeMap<EventKind, String>,
}

impl Addresses {
    pub(crate) fn new(
        base_url: &str,
        allow_unencrypted: bool,
        paths: BTreeMap<EventKind, String>,
    ) -> Result<Self, ConfigError> {
        let base = base(base_url, allow_unencrypted)?;
        for (kind, path) in &paths {
            if *kind == EventKind::Invoice || !is_template(path) {
                return Err(ConfigError::InvalidPath(*kind, path.clone()));
            }
        }
        Ok(Self { base, paths })
    }

    /// The kind and the address of the object with this id, or why there is none.
    pub(crate) fn of(&self, id: &str) -> Result<(EventKind, Uri), String> {
        check_id(id)?;
        let kind = kind_of_id(id);
        let path = self.paths.get(&kind).ok_or_else(|| {
            format!(
                "no path is set for an id of kind `{kind}`: set it with `ApiClientBuilder::path`"
            )
        })?;
        let address = format!("{}{}", self.base, path.replace(ID, &percent_encoded(id)));
        let address = address.parse().map_err(|error| format!("invalid address: {error}"))?;
        Ok((kind, address))
    }
}

fn base(url: &str, allow_unencrypted: bool) -> Result<String, ConfigError> {
    let uri: Uri = url.parse().map_err(|_| ConfigError::InvalidBaseUrl)?;
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(ConfigError::InvalidBaseUrl);
    };
    let is_plain = *scheme == Scheme::HTTP;
    let is_http = is_plain || *scheme == Scheme::HTTPS;
    if !is_http || authority.as_str().contains('@') || url.contains(['?', '#']) {
        return Err(ConfigError::InvalidBaseUrl);
    }
    if is_plain && !allow_unencrypted && !is_loopback(authority.host()) {
        return Err(ConfigError::Unencrypted(authority.host().to_owned()));
    }
    if has_dot_segment(uri.path()) {
        return Err(ConfigError::InvalidBaseUrl);
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

fn is_template(path: &str) -> bool {
    let example = path.replace(ID, "id");
    path.starts_with('/')
        && path.matches(ID).count() == 1
        && !path.contains('#')
        && !example.contains(['{', '}'])
        && !has_dot_segment(&example)
        && example.parse::<PathAndQuery>().is_ok()
}

fn has_dot_segment(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    path.split('/').any(|segment| segment == "." || segment == "..")
}

/// The kind that the prefix of an id names.
fn kind_of_id(id: &str) -> EventKind {
    let starts = |kind: &EventKind| kind.id_prefix().is_some_and(|prefix| id.starts_with(prefix));
    WITH_PREFIX.into_iter().find(starts).unwrap_or(EventKind::Other)
}

/// Refuses ids that no object has and that could reach another address than that of an object.
fn check_id(id: &str) -> Result<(), String> {
    let reason = if id.is_empty() {
        "it is empty"
    } else if id.len() > MAX_ID {
        "it is longer than 200 bytes"
    } else if id.chars().any(char::is_control) {
        "it contains a control character"
    } else if id.contains("..") || id.contains(['/', '\\']) || id == "." {
        "it contains \"..\", a slash or a backslash"
    } else {
        return Ok(());
    };
    Err(format!("the id is not sent to the API: {reason}"))
}

/// Encodes every byte that is not unreserved in RFC 3986.
fn percent_encoded(id: &str) -> String {
    let mut encoded = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
