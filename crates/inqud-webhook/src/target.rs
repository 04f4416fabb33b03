use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};

/// The help of an argument that takes a [`Target`].
pub(crate) const HELP: &str =
    "The server's URL. A port, as in `3000` or `:3000/path`, means this machine";

/// The URL of a server to call, as people type it.
#[derive(Clone, Debug)]
pub(crate) struct Target(Uri);

impl Target {
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// The URL for a delivery that came to `received`: its path, unless the target has one.
    pub(crate) fn for_path(&self, received: Option<&PathAndQuery>) -> Uri {
        let has_path = self.0.path_and_query().is_some_and(|own| own.as_str() != "/");
        let mut parts = self.0.clone().into_parts();
        match received {
            Some(received) if !has_path => parts.path_and_query = Some(received.clone()),
            _ => {}
        }
        Uri::from_parts(parts).unwrap_or_else(|_| self.0.clone())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = with_scheme(text)?;
        let uri = url.parse::<Uri>().map_err(|error| format!("not a URL: {error}"))?;
        let authority = uri.authority().ok_or("has no host")?;
        // `Authority` accepts any digits as a port.
        let has_port = authority.as_str().len() > authority.host().len().saturating_add(1);
        if has_port
            && !authority.as_str().contains('@')
            && authority.port_u16().is_none_or(|it| it == 0)
        {
            return Err("the port must be between 1 and 65535".to_owned());
        }
        Ok(Self(uri))
    }
}

/// Adds `http://` to what can only be a server on this machine or in this network.
fn with_scheme(text: &str) -> Result<String, String> {
    if let Some((scheme, _)) = text.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Ok(text.to_owned()),
            _ => Err(format!("`{scheme}://` is not supported: use http:// or https://")),
        };
    }
    let end = text.find(['/', '?', '#']).unwrap_or(text.len());
    let (authority, path) = text.split_at(end);
    if authority.is_empty() {
        return Err(format!("has no host: use http://127.0.0.1:3000{path}"));
    }
    if matches!(authority.to_ascii_lowercase().as_str(), "http:" | "https:") {
        return Err(format!("write `{authority}//` with two slashes"));
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    if is_number(authority) {
        return Ok(format!("http://127.0.0.1:{text}"));
    }
    if authority.strip_prefix(':').is_some_and(is_number) {
        return Ok(format!("http://127.0.0.1{text}"));
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_number(port) => host,
        _ => authority,
    };
    if is_near(host) {
        return Ok(format!("http://{text}"));
    }
    if host.contains('.') || host.len() < authority.len() {
        return Err(format!(
            "has no scheme: use https://{text}, or http://{text} for a server without TLS"
        ));
    }
    Err("not an address: use a port such as 3000, or a URL such as http://127.0.0.1:3000/path"
        .to_owned())
}

/// Whether a host is this machine, or in a private network.
fn is_near(host: &str) -> bool {
    let name = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(it)) => it.is_loopback() || it.is_private() || it.is_unspecified(),
        Ok(IpAddr::V6(it)) => it.is_loopback() || it.is_unspecified() || it.is_unique_local(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn keeps_the_path_that_a_webhook_came_to_unless_it_has_one() {
        let received = "/received?a=1".parse().unwrap();
        for (target, expected) in [
            ("3000", "http://127.0.0.1:3000/received?a=1"),
            ("3000/", "http://127.0.0.1:3000/received?a=1"),
            ("3000/own", "http://127.0.0.1:3000/own"),
        ] {
            let target = target.parse::<Target>().unwrap();
            assert_eq!(target.for_path(Some(&received)), expected);
        }
    }

    #[test]
    fn adds_http_only_to_hosts_of_this_machine_or_network() {
        for near in [
            "127.0.0.1",
            "10.1.2.3:80",
            "0.0.0.0",
            "[::1]",
            "[::1]:3000/hook",
            "[::]:1",
            "[fd00::1]:1",
            "localhost:1",
            "shop.localhost",
        ] {
            let url = near.parse::<Target>().unwrap().uri().to_string();
            assert_eq!(url.trim_end_matches('/'), format!("http://{near}"));
        }
        for far in ["192.0.2.1", "[2001:db8::1]:80", "shop:80"] {
            let error = far.parse::<Target>().unwrap_err();
            assert!(error.starts_with(&format!("has no scheme: use https://{far}")), "{error}");
        }
        let empty_port = "http://localhost:/hook".parse::<Target>();
        assert!(empty_port.is_ok(), "an empty port is the default one: {empty_port:?}");
        for wrong in ["shop:web", "localhost:web", "shop"] {
            assert!(wrong.parse::<Target>().unwrap_err().starts_with("not an address"), "{wrong}");
        }
    }
}
