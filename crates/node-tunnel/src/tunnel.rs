use std::{future::Future, io, time::Duration};

use futures_util::future::poll_fn;
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, copy_bidirectional,
        sink, split,
    },
    sync::{mpsc, oneshot, watch},
    time::{interval, timeout},
};
use tokio_util::{
    compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _},
    sync::{CancellationToken, DropGuard},
};
use yamux::{Config, Connection, Mode};

use crate::{
    activity::{Activity, Watched},
    closed::Closed,
    drive::{Opened, drive},
};

/// Streams of one connection at a time.
const MAX_STREAMS: usize = 256;
/// What the streams of one connection buffer at most: the smallest window of yamux for each.
const MAX_BUFFERED_BYTES: usize = MAX_STREAMS * 256 * 1024;
/// Longest wait for the head of a stream.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Time for the last frames to be sent.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// First byte of a stream that keeps the connection alive.
const KEEP_ALIVE: u8 = 0;
/// First byte of a stream to a port, which follows in network byte order.
const TO_PORT: u8 = 1;

/// A byte stream of a tunnel.
pub type TunnelStream = Compat<yamux::Stream>;

/// The side of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that established the connection.
    Client,
    /// The other one.
    Server,
}

/// When a side sends, and when a connection is lost.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Pause between two bytes that keep the connection alive.
    pub keep_alive: Duration,
    /// Time without a byte from the other side after which the connection is lost.
    pub silence: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(5),
            silence: Duration::from_secs(15),
        }
    }
}

/// Streams over one connection. Dropping all clones closes the connection and all its streams.
#[derive(Debug, Clone)]
pub struct Tunnel {
    opens: mpsc::Sender<Opened>,
    closed: watch::Receiver<Option<Closed>>,
    stop: CancellationToken,
    _guard: std::sync::Arc<DropGuard>,
}

impl Tunnel {
    /// Starts a tunnel over a connection. `serve` handles the streams that the other side opens:
    /// it receives the port and the stream.
    pub fn start<F>(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        side: Side,
        timing: Timing,
        serve: impl Fn(u16, TunnelStream) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (opens, requested) = mpsc::channel(MAX_STREAMS);
        let (sender, closed) = watch::channel(None);
        let stop = CancellationToken::new();
        let tunnel = Self {
            opens,
            closed,
            stop: stop.clone(),
            _guard: std::sync::Arc::new(stop.clone().drop_guard()),
        };
        if side == Side::Client {
            let (opens, ended) = (tunnel.opens.clone(), stop.clone());
            tokio::spawn(ended.run_until_cancelled_owned(async move {
                if let Ok(mut stream) = open(&opens).await
                    && stream.write_all(&[KEEP_ALIVE]).await.is_ok()
                {
                    keep_alive(stream, timing).await;
                }
            }));
        }
        let accept = {
            let ended = stop.clone();
            move |stream: yamux::Stream| {
                let serve = serve.clone();
                let served = serve_stream(stream.compat(), timing, serve);
                tokio::spawn(ended.clone().run_until_cancelled_owned(served));
            }
        };
        tokio::spawn(async move {
            let activity = Activity::new();
            let watched = Watched {
                inner: io.compat(),
                activity: activity.clone(),
            };
            let mode = match side {
                Side::Client => Mode::Client,
                Side::Server => Mode::Server,
            };
            let mut connection = Connection::new(watched, config(), mode);
            let reason = tokio::select! {
                reason = drive(&mut connection, requested, accept) => reason,
                () = activity.silent_for(timing.silence) => {
                    let seconds = timing.silence.as_secs_f32();
                    Closed(format!("nothing was received for {seconds} s"))
                }
                () = stop.cancelled() => {
                    // The other side learns at once that the connection ends.
                    let close = poll_fn(|cx| connection.poll_close(cx));
                    let _ = timeout(CLOSE_LIMIT, close).await;
                    Closed("this side closed the connection".to_owned())
                }
            };
            drop(connection);
            stop.cancel();
            sender.send_replace(Some(reason));
        });
        tunnel
    }

    /// Opens a stream to a port of the other side.
    pub async fn open(&self, port: u16) -> Result<TunnelStream, Closed> {
        let Ok(mut stream) = open(&self.opens).await else {
            return Err(self.closed().await);
        };
        let [high, low] = port.to_be_bytes();
        match stream.write_all(&[TO_PORT, high, low]).await {
            Ok(()) => Ok(stream),
            Err(_) => Err(self.closed().await),
        }
    }

    /// Returns whether both are clones of one tunnel.
    pub fn is_same(&self, other: &Self) -> bool {
        self.opens.same_channel(&other.opens)
    }

    /// Closes the connection.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// Waits until the connection has ended, and returns why.
    pub async fn closed(&self) -> Closed {
        let mut closed = self.closed.clone();
        let reason = closed.wait_for(Option::is_some).await;
        let reason = reason.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| Closed("the connection ended".to_owned()))
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    config.set_max_connection_receive_window(Some(MAX_BUFFERED_BYTES));
    config
}

async fn open(opens: &mpsc::Sender<Opened>) -> Result<TunnelStream, ()> {
    let (sender, opened) = oneshot::channel();
    opens.send(sender).await.map_err(drop)?;
    Ok(opened.await.map_err(drop)?.compat())
}

/// Reads the head of a stream that the other side opened, and serves it.
async fn serve_stream<F: Future<Output = ()>>(
    mut stream: TunnelStream,
    timing: Timing,
    serve: impl Fn(u16, TunnelStream) -> F,
) {
    let head = async {
        match stream.read_u8().await? {
            KEEP_ALIVE => Ok(None),
            TO_PORT => stream.read_u16().await.map(Some),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    };
    match timeout(HEAD_LIMIT, head).await {
        Ok(Ok(Some(port))) => serve(port, stream).await,
        Ok(Ok(None)) => keep_alive(stream, timing).await,
        // Dropping the stream resets it.
        Ok(Err(_)) | Err(_) => {}
    }
}

/// Sends a byte regularly, and ignores those of the other side.
async fn keep_alive(stream: TunnelStream, timing: Timing) {
    let (mut from, mut to) = split(stream);
    let write = async {
        let mut tick = interval(timing.keep_alive);
        loop {
            tick.tick().await;
            if to.write_all(&[0]).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
    };
    let mut ignored = sink();
    tokio::select! {
        () = write => {}
        _ = copy(&mut from, &mut ignored) => {}
    }
}

/// Moves bytes between two streams in both directions until both have ended.
pub async fn join_streams(
    mut one: impl AsyncRead + AsyncWrite + Unpin,
    mut other: impl AsyncRead + AsyncWrite + Unpin,
) {
    // An error ends both streams, which is all that their ends can learn of it.
    let _ = copy_bidirectional(&mut one, &mut other).await;
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// Sends back what it receives; port 7 receives nothing.
    async fn echo(port: u16, stream: TunnelStream) {
        if port == 7 {
            std::future::pending::<()>().await;
        }
        let (mut from, mut to) = split(stream);
        let _ = copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    }

    fn pair(client: DuplexStream, server: DuplexStream) -> (Tunnel, Tunnel) {
        (
            Tunnel::start(client, Side::Client, Timing::default(), echo),
            Tunnel::start(server, Side::Server, Timing::default(), echo),
        )
    }

    async fn exchange(tunnel: &Tunnel, bytes: &[u8]) -> Vec<u8> {
        let (mut from, mut to) = split(tunnel.open(OWN).await.unwrap());
        // An echo is read while it is sent: neither side buffers all of it.
        let send = async {
            to.write_all(bytes).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (read, ()) = tokio::join!(from.read_to_end(&mut received), send);
        read.unwrap();
        received
    }

    const OWN: u16 = crate::OWN_PORT;

    #[tokio::test]
    async fn both_sides_open_streams() {
        let (one, other) = duplex(4096);
        let (client, server) = pair(one, other);
        assert_eq!(exchange(&client, b"to the server").await, b"to the server");
        assert_eq!(exchange(&server, b"to the client").await, b"to the client");
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_delays_no_other_one() {
        let (one, other) = duplex(4096);
        let (client, _server) = pair(one, other);
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut blocked = client.open(7).await.unwrap();
        let filling = tokio::spawn({
            let accepted = Arc::clone(&accepted);
            async move {
                while let Ok(n) = blocked.write(&[0; 16 * 1024]).await {
                    accepted.fetch_add(n, Ordering::Relaxed);
                }
            }
        });
        let body = vec![7; 3 << 20];
        assert_eq!(exchange(&client, &body).await, body);
        assert!(accepted.load(Ordering::Relaxed) < 1 << 20);
        filling.abort();
    }

    #[tokio::test]
    async fn closing_one_side_ends_the_streams_of_both() {
        let (one, other) = duplex(4096);
        let (client, server) = pair(one, other);
        let mut stream = client.open(7).await.unwrap();
        server.close();
        let ours = server.closed().await;
        assert_eq!(ours, Closed("this side closed the connection".to_owned()));
        let theirs = client.closed().await;
        let reason = "the other side closed the connection";
        assert_eq!(theirs, Closed(reason.to_owned()));
        let read = stream.read(&mut [0]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        assert_eq!(client.open(OWN).await.err(), Some(theirs));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_arrives_is_lost() {
        let (one, silent) = duplex(1 << 20);
        let client = Tunnel::start(one, Side::Client, Timing::default(), echo);
        let reason = client.closed().await;
        assert_eq!(reason, Closed("nothing was received for 15 s".to_owned()));
        drop(silent);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept() {
        let (one, other) = duplex(4096);
        let (client, server) = pair(one, other);
        for tunnel in [&client, &server] {
            let closed = timeout(Duration::from_secs(3600), tunnel.closed()).await;
            assert!(closed.is_err(), "{closed:?}");
        }
    }
}
