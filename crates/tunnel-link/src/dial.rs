use std::{sync::Arc, time::Duration};

use diagnostics::Diagnostic;
use node_link::{Attention, pause};
use node_tunnel::{Backoff, Side, Timing};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{LinkState, TunnelLink};

/// First and longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Connects to a node whenever it is not connected, until the link is dropped. `dial` returns the
/// connection and the port of the node's loopback interface that leads to the queen.
pub fn keep_dialled<I, F>(link: &Arc<TunnelLink>, dial: impl Fn() -> F + Send + Sync + 'static)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Result<(I, u16), Diagnostic>> + Send,
{
    link.connecting();
    let mut attention = link.attention();
    let link = Arc::downgrade(link);
    tokio::spawn(async move {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        while link.strong_count() > 0 {
            let dialled = dial().await;
            let Some(link) = link.upgrade() else { return };
            match dialled {
                Ok((io, queen_port)) => {
                    link.attach(io, Side::Client, queen_port, Timing::default());
                    let mut state = link.state();
                    // The link may be dropped meanwhile, which ends its connection.
                    drop(link);
                    let down = |state: &LinkState| matches!(state, LinkState::Down(_));
                    if state.wait_for(down).await.is_err() {
                        return;
                    }
                    backoff.reset();
                }
                Err(error) => {
                    let (node, code) = (link.node(), error.code);
                    if *attention.borrow() == Attention::Usual {
                        tracing::warn!(%node, %code, %error, "cannot connect to the node");
                    } else {
                        tracing::debug!(%node, %code, %error, "the node does not respond yet");
                    }
                    link.failed(error);
                }
            }
            pause(&mut attention, backoff.wait()).await;
        }
    });
}
