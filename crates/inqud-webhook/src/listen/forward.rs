use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::caller::Caller;
use crate::target::Target;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Maximum size of the app's response.
const RESPONSE_LIMIT: usize = 1024 * 1024;

/// Headers that are about one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Forwards deliveries to an app.
pub(super) struct Forward {
    target: Target,
    timeout: Duration,
    caller: Caller<Full<Bytes>>,
}

/// What came of a forwarded delivery.
pub(super) enum AppAnswer {
    Response {
        body: Bytes,
        elapsed: Duration,
    },
    /// No response that can be passed on. Says why.
    None(String),
}

impl Forward {
    pub(super) fn new(target: Target, timeout: Duration) -> Result<Self, BoxError> {
        // No idle connections: a delivery must not fail because the app closes one.
        let caller = Caller::new(&target, 0)?;
        Ok(Self { target, timeout, caller })
    }

    /// Forwards a delivery that arrived at this time.
    pub(super) async fn forward(
        &self,
        head: &Parts,
        body: Bytes,
        arrived: Instant,
    ) -> (Response<Full<Bytes>>, AppAnswer) {
        let began = Instant::now();
        let deadline = arrived.checked_add(self.timeout).unwrap_or(began);
        match timeout_at(deadline, self.call(head, body)).await {
            Ok(Ok((parts, body))) => {
                let app = AppAnswer::Response { body: body.clone(), elapsed: began.elapsed() };
                (Response::from_parts(parts, Full::new(body)), app)
            }
            Ok(Err(why)) => (instead(StatusCode::BAD_GATEWAY, &why), AppAnswer::None(why)),
            Err(_) => {
                let seconds = self.timeout.as_secs();
                let why = format!(
                    "no response within {seconds} s: store the notification, respond, and handle it afterwards"
                );
                (instead(StatusCode::GATEWAY_TIMEOUT, &why), AppAnswer::None(why))
            }
        }
    }

    async fn call(
        &self,
        head: &Parts,
        body: Bytes,
    ) -> Result<(http::response::Parts, Bytes), String> {
        let mut request = Request::from_parts(head.clone(), Full::new(body));
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = self.target.for_path(head.uri.path_and_query());
        remove_hop_by_hop(request.headers_mut());
        // It was answered when the body was read.
        request.headers_mut().remove(header::EXPECT);
        let response =
            self.caller.clone().call(request).await.map_err(|error| error.to_string())?;
        let (mut parts, body) = response.into_parts();
        if parts.status.is_informational() {
            return Err(format!("it responded with {}, which is not a final status", parts.status));
        }
        let body = Limited::new(body, RESPONSE_LIMIT).collect().await.map_err(|error| {
            match error.downcast_ref::<LengthLimitError>() {
                Some(_) => format!("its response is larger than {RESPONSE_LIMIT} bytes"),
                None => format!("its response broke off: {error}"),
            }
        })?;
        remove_hop_by_hop(&mut parts.headers);
        Ok((parts, body.to_bytes()))
    }
}

/// The response if the app has none.
pub(super) fn instead(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let text = format!("inqud-webhook listen: the app did not answer: {why}\n");
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).iter();
    let named = named.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let named = named.filter_map(|name| name.trim().parse::<HeaderName>().ok());
    for name in named.collect::<Vec<_>>().iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{HOP_BY_HOP, remove_hop_by_hop};

    #[test]
    fn removes_only_headers_of_the_connection() {
        let mut headers = HeaderMap::new();
        for name in HOP_BY_HOP.iter() {
            headers.insert(name, HeaderValue::from_static("x-named, close"));
        }
        headers.insert("x-named", HeaderValue::from_static("1"));
        for value in ["1", "2"] {
            headers.append("x-kept", HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-kept"]);
        assert_eq!(headers.len(), 2);
    }
}
