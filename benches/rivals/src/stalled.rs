//! Senders that send all but the last byte that the limit allows, and then nothing: what each of them
//! holds of the server's memory.

use std::io;
use std::time::Duration;

use crate::contender::{FLOOR, HAND, LAYER};
use crate::effort::Effort;
use crate::load::Connection;
use crate::process::Server;
use crate::rounds::{Rounds, Spread};
use crate::sample::PATH;

pub const NAMES: [&str; 3] = [FLOOR, HAND, LAYER];
pub const LIMITS: [usize; 2] = [16 * 1024, 256 * 1024];
/// Any digest will do for a body that never ends.
const DIGEST: &str = "7e36242a10fd65cbaacd7ff288df9fd3f9e75a46";
/// A server that has not worked at all between two looks has nothing more to do.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// So that glibc gives back at once what is freed, and only what is held is counted. Otherwise the steps
/// of a growing buffer would be too, which are free for others.
const GIVE_BACK: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=4096");

/// Less than hyper's buffer has room for, so that it does not grow.
pub const PIECE: usize = 4 * 1024;

/// Bytes of memory a connection holds.
pub struct Held {
    /// With one byte of the body.
    pub begun: f64,
    /// With all bytes but one, which came piece by piece.
    pub in_pieces: f64,
    /// With all bytes but one, which came at once.
    pub at_once: f64,
}

pub struct Stalled(Rounds<Held>);

impl Stalled {
    pub fn measure(effort: &Effort) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self(Rounds::run(1, effort.stalled_rounds, LIMITS.len() * NAMES.len(), |at| {
            let (limit, name) = (LIMITS[at / NAMES.len()], NAMES[at % NAMES.len()]);
            let held =
                |sent, piece| runtime.block_on(held(name, limit, sent, piece, effort.stalled));
            Ok(Held {
                begun: held(1, limit)?,
                in_pieces: held(limit - 1, PIECE)?,
                at_once: held(limit - 1, 2 * limit)?,
            })
        })?))
    }

    pub fn spread(&self, limit: usize, name: usize, figure: impl Fn(&Held) -> f64) -> Spread {
        self.0.spread(|row| figure(&row[limit * NAMES.len() + name]))
    }
}

async fn held(
    name: &str,
    limit: usize,
    sent: usize,
    piece: usize,
    count: usize,
) -> io::Result<f64> {
    let server = Server::with(name, limit, [GIVE_BACK])?;
    let bytes = bytes(limit, sent);
    // One to warm up.
    let mut first = Connection::open(server.address).await?;
    first.send(&bytes).await?;
    settled(&server).await?;
    let before = server.memory()?;
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(Connection::open(server.address).await?);
    }
    for piece in bytes.chunks(piece) {
        for connection in &mut connections {
            connection.send(piece).await?;
        }
        // Each piece has to be read before the next comes.
        settled(&server).await?;
    }
    settled(&server).await?;
    let after = server.memory()?;
    if !connections.iter().all(Connection::is_silent) {
        return Err(io::Error::other(format!("{name} did not wait for the last byte")));
    }
    Ok(after.saturating_sub(before) as f64 / count as f64)
}

fn bytes(limit: usize, sent: usize) -> Vec<u8> {
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {limit}\r\n\
         x-payload-digest: {DIGEST}\r\n\r\n"
    );
    [head.into_bytes(), vec![b' '; sent]].concat()
}

async fn settled(server: &Server) -> io::Result<()> {
    let mut cpu = server.cpu()?;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = server.cpu()?;
        if now == cpu {
            return Ok(());
        }
        cpu = now;
    }
}
