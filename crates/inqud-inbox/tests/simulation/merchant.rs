//! What the merchant does about a notification.

use std::any::Any;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;

use inqud_inbox::{Context, Storable, Stored};

use crate::bug::Bug;
use crate::disk::Disk;
use crate::ledger::is_shipped;
use crate::process::Life;
use crate::world::{Fault, World};

/// The merchant's handler.
pub(crate) async fn handle<T: Storable>(
    world: Arc<World>,
    life: Arc<Life>,
    stored: Stored<T>,
    cx: Context<Disk>,
) -> Result<(), String> {
    let handling = world.ledger().handling(cx.key(), stored.raw_body());
    let Some((object, seq)) = world.check(handling) else { return Ok(()) };
    world.note(life.process, "handles", object, seq as u64);
    world.pause(Fault::HandlerSlow).await;
    if world.fault(Fault::HandlerHangs) {
        world.note(life.process, "the handler hangs", object, seq as u64);
        pending::<()>().await;
    }
    if world.fault(Fault::HandlerPanics) {
        world.note(life.process, "the handler panics", object, seq as u64);
        // Without the message of a panic.
        let panic: Box<dyn Any + Send> = Box::new("planned");
        resume_unwind(panic);
    }
    if world.fault(Fault::HandlerFails) {
        world.note(life.process, "the handler fails", object, seq as u64);
        return Err("the shop is closed".to_owned());
    }
    let verdict = cx.verdict();
    let effect = {
        let world = Arc::clone(&world);
        move || {
            if world.fault(Fault::EffectFails) {
                return Err("a constraint".to_owned());
            }
            let done = world.ledger().effect(seq, verdict);
            world.check(done);
            Ok(())
        }
    };
    if world.has(Bug::EffectsApart) {
        effect()?;
        world.wobble().await;
    } else {
        cx.effect(effect);
    }
    if is_shipped(stored.status_text()) {
        let otherwise = Arc::clone(&world);
        cx.once(
            format!("ship:{}", stored.id()),
            move || {
                let shipped = world.ledger().ship(seq);
                world.check(shipped);
                Ok::<_, String>(())
            },
            move |_| {
                let shipped = otherwise.ledger().shipped_before(seq);
                otherwise.check(shipped);
                Ok(())
            },
        );
    }
    Ok(())
}
