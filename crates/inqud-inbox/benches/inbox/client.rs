//! The client, which is another process, so that its CPU time is not counted as that of the server. It knows as
//! little of HTTP as is needed here, so that it leaves the cores to the server.

use std::io::{BufRead, Write, stdin};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tower_inqud::{contract, sign};

use crate::ids;
use crate::report::Speed;

/// Sends `count` webhooks over a number of connections, the first on each untimed. Says on its standard output
/// when it is ready, waits for a line on its standard input, and then prints rate, p50 and p99.
pub(crate) async fn send(arguments: &[String]) {
    let [address, connections, count, first] = arguments else { panic!("see http.rs") };
    let address: SocketAddr = address.parse().unwrap();
    let (count, first): (u64, u64) = (count.parse().unwrap(), first.parse().unwrap());
    let connections: u64 = connections.parse().unwrap();
    let mut clients = Vec::new();
    for at in 0..connections {
        let numbers = (first..first + count).skip(at as usize).step_by(connections as usize);
        let mut requests: Vec<_> = numbers.map(request).collect();
        let mut stream = TcpStream::connect(address).await.unwrap();
        exchange(&mut stream, &requests.pop().unwrap()).await;
        clients.push((stream, requests));
    }
    println!("ready");
    std::io::stdout().flush().unwrap();
    stdin().lock().read_line(&mut String::new()).unwrap();
    let began = Instant::now();
    let mut running = JoinSet::new();
    for (mut stream, requests) in clients {
        running.spawn(async move {
            let mut times: Vec<Duration> = Vec::with_capacity(requests.len());
            for request in requests {
                let began = Instant::now();
                exchange(&mut stream, &request).await;
                times.push(began.elapsed());
            }
            times
        });
    }
    let times = running.join_all().await;
    let Speed { rate, p50, p99 } = Speed::new(began.elapsed(), times.concat());
    println!("{rate} {p50} {p99}");
}

fn request(number: u64) -> Vec<u8> {
    let body = ids::body(number);
    let digest = sign(&ids::secret(), body.as_bytes());
    let (header, length) = (contract::DIGEST_HEADER, body.len());
    let head = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{header}: {digest}\r\n\r\n"
    );
    [head, body].concat().into_bytes()
}

/// Sends a request, and reads a response that has to be 200.
async fn exchange(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).await.unwrap();
    let (mut response, mut length) = ([0; 4096], 0);
    loop {
        let read = stream.read(&mut response[length..]).await.unwrap();
        length += read;
        let text = std::str::from_utf8(&response[..length]).unwrap();
        assert!(read > 0, "incomplete response: {text}");
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("HTTP/1.1 200 "), "{text}");
        let (_, rest) = head.split_once("content-length: ").unwrap();
        let expected: usize = rest.lines().next().unwrap().parse().unwrap();
        if body.len() == expected {
            return;
        }
    }
}
