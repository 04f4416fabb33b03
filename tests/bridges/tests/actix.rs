//! The recipe of `docs/servers.md` for a server without tower, on a real actix-web server.

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use tokio::net::TcpStream;
use tower_inqud::{PaymentRequest, Rejection, Secret, Verifier, contract, sign};

const BODY: &str = r#"{"id":"CAPD-1","status":"SUCCESS"}"#;

async fn on_request(request: HttpRequest, body: Bytes, verifier: Data<Verifier>) -> HttpResponse {
    let headers = request.headers().iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    let verified = verifier.verify_headers(&headers.collect::<HeaderMap>(), body);
    match verified.and_then(|verified| verified.decode::<PaymentRequest>()) {
        Ok(request) => HttpResponse::Ok().body(request.id.clone()),
        Err(rejection) => refuse(&rejection),
    }
}

fn refuse(rejection: &Rejection) -> HttpResponse {
    eprintln!("{rejection}: {:?}", rejection.diagnosis());
    let status = StatusCode::from_u16(rejection.status().as_u16());
    HttpResponse::new(status.unwrap_or(StatusCode::BAD_REQUEST))
}

fn secret() -> Secret {
    Secret::new("secret_value").unwrap()
}

async fn serve() -> (std::net::SocketAddr, ServerHandle) {
    let verifier = Data::new(Verifier::new(secret()));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(verifier.clone())
            .app_data(web::PayloadConfig::new(256 * 1024))
            .route("/webhooks/inqud/request", web::post().to(on_request))
    });
    let server = server.workers(1).bind(("127.0.0.1", 0)).unwrap();
    let address = server.addrs()[0];
    let server = server.disable_signals().run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    (address, handle)
}

async fn post(address: std::net::SocketAddr, digests: &[&str], body: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    actix_web::rt::spawn(connection);
    let mut request = http::Request::post("/webhooks/inqud/request").header("host", "shop.test");
    for digest in digests {
        request = request.header(contract::DIGEST_HEADER, *digest);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

#[actix_web::test]
async fn verifies_in_actix_web() {
    let (address, server) = serve().await;
    let digest = sign(&secret(), BODY.as_bytes()).to_string();
    let digest = digest.as_str();

    assert_eq!(post(address, &[digest], BODY).await, (200, "CAPD-1".to_owned()));
    assert_eq!(post(address, &[], BODY).await.0, 401);
    assert_eq!(post(address, &[digest, digest], BODY).await.0, 401);
    assert_eq!(post(address, &["", digest], BODY).await.0, 401);
    assert_eq!(post(address, &[&digest[1..]], BODY).await.0, 401);
    assert_eq!(post(address, &[digest], &BODY.replace("CAPD-1", "CAPD-2")).await.0, 401);
    let payout = r#"{"id":"PMT-1","status":"SUCCESS"}"#;
    let signed = sign(&secret(), payout.as_bytes()).to_string();
    assert_eq!(post(address, &[&signed], payout).await.0, 422);
    let large = " ".repeat(256 * 1024 + 1);
    let signed = sign(&secret(), large.as_bytes()).to_string();
    assert_eq!(post(address, &[&signed], &large).await.0, 413);
    server.stop(false).await;
}

#[test]
fn is_the_code_of_the_page() {
    let this = include_str!("actix.rs");
    let (_, code) = this.split_once("\nasync fn on_request").unwrap();
    let (code, _) = code.split_once("\nfn secret()").unwrap();
    assert!(include_str!("../../../docs/servers.md").contains(code.trim_end()));
}
