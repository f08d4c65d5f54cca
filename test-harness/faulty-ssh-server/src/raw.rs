//! Connections that never become SSH. Each ends when the client closes it.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

pub(crate) async fn ignore(mut stream: TcpStream) {
    let mut bytes = [0; 1024];
    while let Ok(1..) = stream.read(&mut bytes).await {}
}

pub(crate) async fn send(mut stream: TcpStream, bytes: &[u8]) {
    if stream.write_all(bytes).await.is_ok() {
        ignore(stream).await;
    }
}

pub(crate) async fn send_endlessly(mut stream: TcpStream) {
    while stream
        .write_all(b"a line before the banner\r\n")
        .await
        .is_ok()
    {}
}
