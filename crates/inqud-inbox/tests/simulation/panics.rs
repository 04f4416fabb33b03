//! A panic anywhere in a run is a violation, even if a task or its owner hides it.

use std::cell::RefCell;
use std::panic::{set_hook, take_hook};
use std::sync::{Arc, Once, Weak};

use crate::world::World;

thread_local! {
    /// The world of the run on this thread.
    static WORLD: RefCell<Weak<World>> = RefCell::default();
}

/// Reports each panic on this thread to the world. The planned panics of handlers do not call the hook.
pub(crate) fn report_to(world: &Arc<World>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            usual(panic);
            if let Some(world) = WORLD.with_borrow(Weak::upgrade) {
                world.violate(panic.to_string());
            }
        }));
    });
    WORLD.set(Arc::downgrade(world));
}
