use std::net::Ipv4Addr;

use axum::routing::get;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
/// Length of a long response, and how many are more than the buffers of both sockets hold.
const LONG: usize = 200_000;
const MANY: usize = 200;

fn http1() -> Http1 {
    let late = || async {
        sleep(Duration::from_secs(600)).await;
        "late"
    };
    let router = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/late", get(late))
        .route("/long", get(|| async { vec![b'x'; LONG] }));
    Http1::new(HEAD_LIMITS, router)
}

/// The client's and the server's end of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(client, listener.accept());
    (client.unwrap(), server.unwrap().0)
}

async fn served() -> (TcpStream, JoinHandle<()>) {
    let (client, server) = connection().await;
    let serving = tokio::spawn(async move {
        http1().serve(server, &CancellationToken::new()).await;
    });
    (client, serving)
}

/// The next response with this body.
async fn response(client: &mut TcpStream, body: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(body) {
        let byte = client.read_u8().await.unwrap();
        text.push(byte.into());
    }
    text
}

#[tokio::test]
async fn an_idle_connection_returns_its_socket_with_the_beginning_of_a_request() {
    let (mut client, server) = connection().await;
    let http1 = http1();
    let stop = CancellationToken::new();
    let half = REQUEST.len() / 2;
    let sent = format!("{REQUEST}{}", &REQUEST[..half]);
    client.write_all(sent.as_bytes()).await.unwrap();
    let socket = http1.requests(&http1.first, Socket::new(server), &stop);
    let socket = socket.await.expect("the connection ended");
    assert_eq!(socket.unread, &REQUEST[..half]);
    response(&mut client, "here").await;

    client.write_all(&REQUEST.as_bytes()[half..]).await.unwrap();
    let again = http1.requests(&http1.next, socket, &stop);
    let (socket, text) = tokio::join!(again, response(&mut client, "here"));
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let socket = socket.expect("the connection ended");
    assert!(
        socket.unread.is_empty() && !socket.unread.is_unique(),
        "it keeps a buffer"
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_serves_further_requests_until_its_limit() {
    let (mut client, serving) = served().await;
    for _ in 0..3 {
        client.write_all(REQUEST.as_bytes()).await.unwrap();
        response(&mut client, "here").await;
        sleep(HEAD_LIMITS.next / 2).await;
    }
    assert!(!serving.is_finished());
    sleep(HEAD_LIMITS.next).await;
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert!(serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_client_offered_another_protocol_stays_open() {
    let (mut client, serving) = served().await;
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
    let request = REQUEST.replace("\r\n\r\n", &format!("\r\n{offer}"));
    assert!(request.contains("h2c"), "{request}");
    for _ in 0..3 {
        client.write_all(request.as_bytes()).await.unwrap();
        response(&mut client, "here").await;
        sleep(10 * QUIET).await;
    }
    assert!(!serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_response_takes_long_is_not_idle() {
    let (mut client, serving) = served().await;
    let request = REQUEST.replacen('/', "/late", 1);
    client.write_all(request.as_bytes()).await.unwrap();
    let text = response(&mut client, "late").await;
    assert!(!text.contains("close"), "{text}");
    assert!(!serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_client_reads_slowly_is_not_idle() {
    let (mut client, _serving) = served().await;
    let requests = REQUEST.replacen('/', "/long", 1).repeat(MANY);
    client.write_all(requests.as_bytes()).await.unwrap();
    for number in 0..MANY {
        sleep(Duration::from_secs(10)).await;
        let head = response(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{number}: {head}");
        client.read_exact(&mut vec![0; LONG]).await.unwrap();
    }
}
