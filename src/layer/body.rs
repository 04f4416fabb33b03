use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The request and response body of [`WebhookService`](crate::WebhookService): either buffered
    /// bytes or an unchanged `B`.
    ///
    /// - As a request body, it gives the inner service the verified bytes, exactly as received.
    ///   Trailers are dropped. A request that is no webhook, because of
    ///   [`path`](crate::WebhookLayer::path), keeps its body.
    /// - As a response body, it is the text of a rejection or the body of the inner service.
    ///
    /// The data type is always [`Bytes`]. If that is the data type of `B` too, nothing is copied.
    /// The error type is that of `B`.
    pub struct WebhookBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Buffered { bytes: Option<Bytes> },
        AsItCame { #[pin] body: B },
    }
}

impl<B> WebhookBody<B> {
    pub(super) fn buffered(bytes: Bytes) -> Self {
        Self { kind: Kind::Buffered { bytes: (!bytes.is_empty()).then_some(bytes) } }
    }

    pub(super) fn passthrough(body: B) -> Self {
        Self { kind: Kind::AsItCame { body } }
    }
}

impl<B: Body> Body for WebhookBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Poll::Ready(match self.project().kind.project() {
            KindProj::Buffered { bytes } => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            KindProj::AsItCame { body } => {
                ready!(body.poll_frame(cx)).map(|frame| Ok(frame?.map_data(into_bytes)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Buffered { bytes } => bytes.is_none(),
            Kind::AsItCame { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Buffered { bytes } => {
                let len = bytes.as_ref().map_or(0, Bytes::len);
                u64::try_from(len).map_or_else(|_| SizeHint::new(), SizeHint::with_exact)
            }
            Kind::AsItCame { body } => body.size_hint(),
        }
    }
}

/// Creates an empty body.
impl<B> Default for WebhookBody<B> {
    fn default() -> Self {
        Self::buffered(Bytes::new())
    }
}

impl<B> fmt::Debug for WebhookBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookBody").finish_non_exhaustive()
    }
}

/// Does not copy data that is `Bytes` already.
pub(super) fn into_bytes(mut data: impl Buf) -> Bytes {
    data.copy_to_bytes(data.remaining())
}
