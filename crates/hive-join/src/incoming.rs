use diagnostics::Diagnostic;
use input_validation::NodeName;
use node_tunnel::{Side, Timing, Tunnel};
use state_files::Home;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::OnceCell,
};

use crate::queen_port::{LocalServer, QueenPort, serve};

/// Connections that a queen establishes to a hive which listens on an address.
#[derive(Debug)]
pub struct Incoming {
    home: Home,
    node: NodeName,
    queen_port: OnceCell<QueenPort>,
}

impl Incoming {
    /// Nothing listens before the first connection.
    pub fn new(home: Home, node: NodeName) -> Self {
        Self {
            home,
            node,
            queen_port: OnceCell::new(),
        }
    }

    /// Uses a connection of the queen, which replaces an earlier one. `local_server` returns
    /// the server that a port of the node stands for.
    pub async fn attach<F>(
        &self,
        mut io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        local_server: impl Fn(u16) -> F + Clone + Send + Sync + 'static,
    ) -> Result<(), Diagnostic>
    where
        F: Future<Output = LocalServer> + Send + 'static,
    {
        let open = || QueenPort::open(&self.home, &self.node);
        let queen_port = self.queen_port.get_or_try_init(open).await?;
        // The queen cannot know it otherwise, and the hive names it to its workers.
        if io.write_u16(queen_port.port().get()).await.is_err() || io.flush().await.is_err() {
            return Ok(());
        }
        let serve = move |port, stream| serve(local_server(port), stream);
        let tunnel = Tunnel::start(io, Side::Server, Timing::default(), serve);
        queen_port.lead_through(tunnel);
        Ok(())
    }
}
