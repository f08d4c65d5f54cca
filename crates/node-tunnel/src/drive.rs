use std::{
    future::poll_fn,
    io::ErrorKind,
    task::{Context, Poll},
};

use futures_util::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use yamux::{Connection, ConnectionError, FrameDecodeError, Stream};

use crate::closed::Closed;

/// Where an opened stream goes.
pub(crate) type Opened = oneshot::Sender<Stream>;

/// Moves the frames of a connection until it ends. `opens` are the streams to open, and `accept`
/// receives those that the other side opens.
pub(crate) async fn drive<T: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<T>,
    mut opens: mpsc::Receiver<Opened>,
    mut accept: impl FnMut(Stream),
) -> Closed {
    let mut next = None;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(incoming) = connection.poll_next_inbound(cx) {
                match incoming {
                    Some(Ok(stream)) => accept(stream),
                    Some(Err(error)) => return Poll::Ready(closed_by(&error)),
                    None => {
                        return Poll::Ready(Closed("the other side closed the connection".into()));
                    }
                }
                continue;
            }
            match open_next(connection, &mut opens, &mut next, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(closed_by(&error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// Opens the next stream that was requested.
fn open_next<T: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<T>,
    opens: &mut mpsc::Receiver<Opened>,
    next: &mut Option<Opened>,
    cx: &mut Context<'_>,
) -> Poll<yamux::Result<()>> {
    if next.is_none()
        && let Poll::Ready(Some(requested)) = opens.poll_recv(cx)
    {
        *next = Some(requested);
    }
    if next.is_none() {
        return Poll::Pending;
    }
    match connection.poll_new_outbound(cx) {
        Poll::Ready(Ok(stream)) => {
            if let Some(requested) = next.take() {
                let _ = requested.send(stream);
            }
            Poll::Ready(Ok(()))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}

/// Says why a connection ended, without the layers that the error passed.
fn closed_by(error: &ConnectionError) -> Closed {
    let io = match error {
        ConnectionError::Io(io) | ConnectionError::Decode(FrameDecodeError::Io(io)) => Some(io),
        _ => None,
    };
    Closed(match io {
        Some(io)
            if matches!(
                io.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) =>
        {
            "the connection was interrupted".to_owned()
        }
        Some(io) => io.to_string(),
        None => error.to_string(),
    })
}
