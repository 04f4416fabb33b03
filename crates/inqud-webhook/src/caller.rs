//! An HTTP client whose errors say in words why there is no response.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower_service::Service;

use crate::target::Target;

type BoxError = Box<dyn Error + Send + Sync>;

/// Calls a server, over TLS if its URL says so.
pub(crate) enum Caller<B> {
    Plain(Client<HttpConnector, B>),
    Tls(Client<HttpsConnector<HttpConnector>, B>),
}

impl<B> Caller<B>
where
    B: Body + Send,
    B::Data: Send,
{
    /// `idle` is how many idle connections it keeps. A request on one that the server is closing gets no
    /// response.
    pub(crate) fn new(target: &Target, idle: usize) -> Result<Self, BoxError> {
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_max_idle_per_host(idle);
        // A header keeps the spelling that it arrived with.
        client.http1_preserve_header_case(true);
        if !target.is_https() {
            return Ok(Self::Plain(client.build_http()));
        }
        // Trusts the system's root certificates, or those in SSL_CERT_FILE.
        let connector = HttpsConnectorBuilder::new().with_native_roots()?;
        Ok(Self::Tls(client.build(connector.https_only().enable_http1().build())))
    }
}

impl<B> Clone for Caller<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Plain(client) => Self::Plain(client.clone()),
            Self::Tls(client) => Self::Tls(client.clone()),
        }
    }
}

impl<B> Service<Request<B>> for Caller<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = NoResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, NoResponse>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoResponse>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let uri = request.uri().clone();
        let response = match self {
            Self::Plain(client) => client.request(request),
            Self::Tls(client) => client.request(request),
        };
        Box::pin(async move { response.await.map_err(|error| NoResponse(explain(&error, &uri))) })
    }
}

/// Why a server did not respond, and what to do.
#[derive(Debug)]
pub(crate) struct NoResponse(String);

impl fmt::Display for NoResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for NoResponse {}

fn explain(error: &(dyn Error + 'static), uri: &Uri) -> String {
    let causes = || iter::successors(Some(error), |error| (*error).source());
    let host = uri.host().unwrap_or_default();
    let is_https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let text = causes().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let kind =
        causes().filter_map(|it| it.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    let is_http = |is: fn(&hyper::Error) -> bool| {
        causes().filter_map(|it| it.downcast_ref::<hyper::Error>()).any(is)
    };
    if text.contains("InvalidContentType") {
        return format!("{host}:{port} does not use TLS: use http:// instead of https://");
    }
    if text.contains("dns error") {
        return format!("there is no host named {host}: check its spelling");
    }
    if text.contains("certificate") {
        let trust =
            "use a certificate of a trusted authority, or put its root into the file SSL_CERT_FILE";
        return format!("the certificate of {host}:{port} is not trusted: {text}; {trust}");
    }
    match kind.last() {
        Some(ErrorKind::ConnectionRefused) => {
            format!("nothing listens on {host}:{port}: start the server, or check the port")
        }
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut) => {
            format!("{host}:{port} cannot be reached: check the address and the firewall")
        }
        _ if is_http(hyper::Error::is_parse) && !is_https => {
            format!("{host}:{port} does not speak HTTP: if it expects TLS, use https://")
        }
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof) => {
            format!("{host}:{port} closed the connection before it responded")
        }
        _ if is_http(hyper::Error::is_incomplete_message) => {
            format!("{host}:{port} closed the connection before it responded")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::explain;

    #[test]
    fn says_what_to_do_about_each_error() {
        let other = io::Error::other("too many open files");
        for (error, url, expected) in [
            (
                ErrorKind::ConnectionRefused.into(),
                "http://shop.example/",
                "nothing listens on shop.example:80: start the server, or check the port",
            ),
            (
                ErrorKind::HostUnreachable.into(),
                "https://shop.example/",
                "shop.example:443 cannot be reached: check the address and the firewall",
            ),
            (
                ErrorKind::NetworkUnreachable.into(),
                "http://[::1]:3000/",
                "[::1]:3000 cannot be reached: check the address and the firewall",
            ),
            (
                ErrorKind::TimedOut.into(),
                "http://127.0.0.1:1/",
                "127.0.0.1:1 cannot be reached: check the address and the firewall",
            ),
            (
                ErrorKind::ConnectionReset.into(),
                "http://127.0.0.1:1/",
                "127.0.0.1:1 closed the connection before it responded",
            ),
            (other, "http://127.0.0.1:1/", "too many open files"),
        ] {
            assert_eq!(explain(&error, &url.parse().unwrap()), expected);
        }
    }
}
