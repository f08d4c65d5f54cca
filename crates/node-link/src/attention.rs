use std::{future::Future, time::Duration};

use tokio::{sync::watch, time::sleep};

/// How eagerly a node that is not connected is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Attention {
    /// As usual: soon at first, then with growing pauses.
    #[default]
    Usual,
    /// Rarely and silently: the node is asleep, and nobody waits for it.
    Rare,
    /// All the time: the node is being woken.
    Constant,
}

/// Pause between two attempts to connect with [`Attention::Rare`].
const RARE_PAUSE: Duration = Duration::from_secs(30);
/// Pause between two attempts to connect with [`Attention::Constant`].
const CONSTANT_PAUSE: Duration = Duration::from_secs(1);

/// Waits before the next attempt to connect, for as long as the attention says; `usual` is the pause
/// without a wish. Returns early when the attention changes.
pub async fn pause(attention: &mut watch::Receiver<Attention>, usual: impl Future<Output = ()>) {
    let current = *attention.borrow_and_update();
    let pause = async {
        match current {
            Attention::Usual => usual.await,
            Attention::Rare => sleep(RARE_PAUSE).await,
            Attention::Constant => sleep(CONSTANT_PAUSE).await,
        }
    };
    tokio::select! {
        () = pause => {}
        () = changes(attention) => {}
    }
}

/// Resolves when the attention changes.
async fn changes(attention: &mut watch::Receiver<Attention>) {
    if attention.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Resolves while the node is to be looked for rarely: a connection with it is of no use.
pub async fn is_rare(attention: &watch::Receiver<Attention>) {
    let mut attention = attention.clone();
    let rare = attention.wait_for(|attention| *attention == Attention::Rare);
    if rare.await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pause_is_that_of_the_attention_and_ends_when_it_changes() {
        let (sender, mut attention) = watch::channel(Attention::Usual);
        let start = Instant::now();
        let usual = || sleep(Duration::from_secs(7));
        pause(&mut attention, usual()).await;
        assert_eq!(start.elapsed().as_secs(), 7);
        sender.send_replace(Attention::Rare);
        pause(&mut attention, usual()).await;
        assert_eq!(start.elapsed().as_secs(), 37);
        let waiting = pause(&mut attention, usual());
        let woken = async {
            sleep(Duration::from_secs(2)).await;
            sender.send_replace(Attention::Constant);
        };
        tokio::join!(waiting, woken);
        assert_eq!(start.elapsed().as_secs(), 39);
        pause(&mut attention, usual()).await;
        assert_eq!(start.elapsed().as_secs(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_of_no_use_once_the_node_sleeps() {
        let (sender, attention) = watch::channel(Attention::Usual);
        let waited = tokio::time::timeout(Duration::from_secs(9), is_rare(&attention)).await;
        assert!(waited.is_err());
        sender.send_replace(Attention::Rare);
        is_rare(&attention).await;
    }
}
