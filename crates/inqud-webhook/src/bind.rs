use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

const PORT: u16 = 3000;

/// Parses an address to listen on, as people type it. A port alone means this machine only.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let text = match text.split_once("://") {
        None => text,
        Some(("http", rest)) => match rest.split_once('/') {
            None | Some((_, "")) => rest.trim_end_matches('/'),
            Some((host, path)) => {
                return Err(format!("every path is accepted: use {host} without /{path}"));
            }
        },
        Some(("https", rest)) => {
            let host = rest.split('/').next().unwrap_or_default();
            return Err(format!(
                "TLS is not supported: use {host}, and put a proxy or tunnel in front"
            ));
        }
        Some((scheme, _)) => {
            return Err(format!("`{scheme}://` is not supported: use a port such as 3000"));
        }
    };
    if let Some((host, path)) = text.split_once('/') {
        return Err(format!("every path is accepted: use {host} without /{path}"));
    }
    let of_port =
        |port: &str| port.parse::<u16>().map_err(|_| "the port must be at most 65535".to_owned());
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    if is_number(text) {
        return Ok(SocketAddr::new(local, of_port(text)?));
    }
    if let Some((host @ ("" | "localhost"), port)) = text.split_once(':') {
        return match is_number(port) {
            true => Ok(SocketAddr::new(local, of_port(port)?)),
            false => Err(format!("`{port}` is not a port: use {host}:{PORT}")),
        };
    }
    if text == "localhost" {
        return Ok(SocketAddr::new(local, PORT));
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, PORT));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && is_number(port)
        && host.parse::<IpAddr>().is_ok()
    {
        of_port(port)?;
    }
    Err("must be a port such as 3000, or an IP address of this machine such as 127.0.0.1:3000"
        .to_owned())
}

/// Listens. The error says what to do.
pub(crate) async fn listener(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| explain(&error, address))
}

fn explain(error: &io::Error, address: SocketAddr) -> String {
    let port = address.port();
    let why = match error.kind() {
        ErrorKind::AddrInUse => {
            let other = if port == u16::MAX { PORT } else { port.saturating_add(1) };
            format!(
                "another program listens on port {port}: stop it, or choose another port, as in \
                 `inqud-webhook listen {other}`"
            )
        }
        ErrorKind::PermissionDenied => {
            format!("port {port} needs special rights: choose one above 1023, such as {PORT}")
        }
        ErrorKind::AddrNotAvailable => {
            let ip = address.ip();
            format!("this machine does not have the address {ip}: use 127.0.0.1 or 0.0.0.0")
        }
        _ => error.to_string(),
    };
    format!("cannot listen on {address}: {why}")
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::explain;

    #[test]
    fn says_what_to_do_about_each_error() {
        for (error, address, expected) in [
            (
                ErrorKind::PermissionDenied.into(),
                "127.0.0.1:80",
                "port 80 needs special rights: choose one above 1023, such as 3000",
            ),
            (
                ErrorKind::AddrInUse.into(),
                "127.0.0.1:65535",
                "another program listens on port 65535: stop it, or choose another port, as in \
                 `inqud-webhook listen 3000`",
            ),
            (io::Error::other("too many open files"), "127.0.0.1:1", "too many open files"),
        ] {
            let expected = format!("cannot listen on {address}: {expected}");
            assert_eq!(explain(&error, address.parse().unwrap()), expected);
        }
    }
}
