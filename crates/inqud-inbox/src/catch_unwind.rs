use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind as catch};
use std::task::Poll;

/// Awaits `future`, and returns `None` if it panicked, even if it did so when it was dropped.
pub(crate) async fn catch_unwind<F: Future>(future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let output = poll_fn(|task| match catch(AssertUnwindSafe(|| future.as_mut().poll(task))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await;
    catch(AssertUnwindSafe(|| drop(future))).ok().and(output)
}
