//! A proxy between a driver and the server that breaks connections at chosen messages.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where a connection breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Point {
    /// After the effect, before the notification is settled.
    BeforeComplete,
    /// After the notification is settled, before the commit.
    BeforeCommit,
    /// The server gets the commit while the connection breaks.
    AtCommit,
    /// After the commit, before its answer.
    LostAnswer,
}

pub const POINTS: [Point; 4] =
    [Point::BeforeComplete, Point::BeforeCommit, Point::AtCommit, Point::LostAnswer];

/// A message at which a connection can break.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message {
    Complete,
    Commit,
}

/// Decides what breaks.
pub trait Faults: Send + Sync + 'static {
    /// Returns where to break the connection that sends the message.
    fn at(&self, message: Message) -> Option<Point>;

    /// Is called before the connection is closed.
    fn strike(&self) {}
}

/// How often each of [`POINTS`] was met.
#[derive(Debug, Default)]
pub struct Counts([AtomicUsize; 4]);

impl Counts {
    pub fn add(&self, point: Point) {
        self.0[point as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn all(&self) -> [usize; 4] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// Starts a proxy, and returns its port.
pub async fn start(server: u16, faults: Arc<impl Faults>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let faults = Arc::clone(&faults);
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", server)).await?;
                relay(client, server, &*faults).await
            });
        }
    });
    port
}

async fn relay(
    mut client: TcpStream,
    mut server: TcpStream,
    faults: &impl Faults,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut sent, mut is_started) = (Vec::new(), false);
    let mut received = [0; 16 * 1024];
    loop {
        tokio::select! {
            read = client.read_buf(&mut sent) => {
                if read? == 0 {
                    return Ok(());
                }
                while let Some(length) = first(&sent, is_started) {
                    let message: Vec<_> = sent.drain(..length).collect();
                    let point = kind(&message, is_started).and_then(|message| faults.at(message));
                    is_started = true;
                    match point {
                        None => server.write_all(&message).await?,
                        Some(Point::BeforeComplete | Point::BeforeCommit) => {
                            faults.strike();
                            return Ok(());
                        }
                        Some(Point::AtCommit) => {
                            server.write_all(&message).await?;
                            faults.strike();
                            return Ok(());
                        }
                        Some(Point::LostAnswer) => {
                            server.write_all(&message).await?;
                            // The message that the server is ready for the next statement.
                            let mut answer = Vec::new();
                            while !answer.ends_with(b"Z\0\0\0\x05I") && server.read_buf(&mut answer).await? > 0 {}
                            faults.strike();
                            return Ok(());
                        }
                    }
                }
            }
            read = server.read(&mut received) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                client.write_all(&received[..read]).await?;
            }
        }
    }
}

/// Returns the length of the first message, if it is complete. The very first one has no type.
fn first(sent: &[u8], is_started: bool) -> Option<usize> {
    let start = usize::from(is_started);
    let length = sent.get(start..start + 4)?;
    let length = start + u32::from_be_bytes(length.try_into().unwrap()) as usize;
    (sent.len() >= length).then_some(length)
}

fn kind(message: &[u8], is_started: bool) -> Option<Message> {
    let has = |text: &[u8]| message.windows(text.len()).any(|it| it == text);
    match message.first()? {
        _ if !is_started => None,
        // Binds the token.
        b'B' if has(b"-false-") => Some(Message::Complete),
        b'Q' if has(b"COMMIT") => Some(Message::Commit),
        _ => None,
    }
}
