use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of a request to the API. It is always empty, because the client only sends `GET`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RequestBody;

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body;

    use super::RequestBody;

    #[test]
    fn is_known_to_be_empty() {
        assert!(RequestBody.is_end_stream());
        assert_eq!(RequestBody.size_hint().exact(), Some(0));
    }
}
