use std::{collections::HashMap, future::pending, process::Stdio, sync::Arc};

use russh::{
    Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf,
    server::{Auth, ChannelOpenHandle, Handler, Msg, VerifiedPublicKey},
};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin, Command},
};
use tokio_util::sync::CancellationToken;

use crate::{Fault, Shared};

/// Part of the command that keeps a connection open.
const KEEP: &[u8] = b"rbee:ready";

/// One connection.
pub(crate) struct Session {
    shared: Arc<Shared>,
    /// Channels that were opened and have no command yet.
    channels: HashMap<ChannelId, Channel<Msg>>,
    dropped: CancellationToken,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            channels: HashMap::new(),
            dropped: CancellationToken::new(),
        }
    }

    /// Is cancelled when the connection must end.
    pub(crate) fn dropped(&self) -> CancellationToken {
        self.dropped.clone()
    }
}

impl Handler for Session {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        if self.shared.fault() == Fault::StalledAuthentication {
            pending::<()>().await;
        }
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        line: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        let keeps = line.windows(KEEP.len()).any(|part| part == KEEP);
        let fault = match self.shared.fault() {
            Fault::NoCommands => Fault::NoCommands,
            _ if keeps => Fault::None,
            fault => fault,
        };
        let Some(channel) = self.channels.remove(&id) else {
            return session.channel_failure(id);
        };
        if matches!(fault, Fault::NoCommands | Fault::RefusedCommands) {
            return session.channel_failure(id);
        }
        session.channel_success(id)?;
        let (reader, writer) = channel.split();
        match fault {
            Fault::Output(bytes) => {
                tokio::spawn(print(reader, writer, bytes));
            }
            Fault::EndlessOutput => {
                tokio::spawn(print_endlessly(writer));
            }
            Fault::StalledCommands => {
                tokio::spawn(stall(reader, writer));
            }
            fault => {
                let line = String::from_utf8_lossy(line).into_owned();
                let child = Command::new(&self.shared.session)
                    .env("SSH_ORIGINAL_COMMAND", line)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .kill_on_drop(true)
                    .spawn()?;
                let limit = match fault {
                    Fault::DroppedAfter(bytes) => Some((bytes, self.dropped.clone())),
                    _ => None,
                };
                let has_status = fault != Fault::NoExitStatus;
                tokio::spawn(run(child, reader, writer, limit, has_status));
            }
        }
        Ok(())
    }
}

type Reader = ChannelReadHalf;
type Writer = ChannelWriteHalf<Msg>;

/// Runs a command: its input comes from the channel, its output goes there.
async fn run(
    mut child: Child,
    reader: Reader,
    writer: Writer,
    limit: Option<(usize, CancellationToken)>,
    has_status: bool,
) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let input = tokio::spawn(feed(reader, stdin, limit));
    let output = async {
        if let Some(stdout) = stdout {
            let _ = writer.data(stdout).await;
        }
    };
    let errors = async {
        if let Some(stderr) = stderr {
            let _ = writer.extended_data(1, stderr).await;
        }
    };
    tokio::join!(output, errors);
    let status = child.wait().await.ok().and_then(|status| status.code());
    input.abort();
    if has_status {
        let status = status.and_then(|code| u32::try_from(code).ok());
        let _ = writer.exit_status(status.unwrap_or(255)).await;
    }
    let _ = writer.eof().await;
    let _ = writer.close().await;
}

/// Passes the input of a command on, until it ends or the connection must.
async fn feed(
    mut reader: Reader,
    stdin: Option<ChildStdin>,
    limit: Option<(usize, CancellationToken)>,
) {
    let (Some(mut stdin), mut received) = (stdin, 0) else {
        return;
    };
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                received += data.len();
                if let Some((bytes, dropped)) = &limit
                    && received >= *bytes
                {
                    dropped.cancel();
                    return;
                }
                if stdin.write_all(&data).await.is_err() {
                    return;
                }
            }
            ChannelMsg::Eof | ChannelMsg::Close => return,
            _ => {}
        }
    }
}

async fn print(_reader: Reader, writer: Writer, bytes: Vec<u8>) {
    let _ = writer.data_bytes(bytes).await;
    let _ = writer.exit_status(0).await;
    let _ = writer.eof().await;
    let _ = writer.close().await;
}

async fn print_endlessly(writer: Writer) {
    let line = b"rbee:begin\nanother line\n".repeat(400);
    while writer.data_bytes(line.clone()).await.is_ok() {}
}

/// Keeps the channel open until the client closes it.
async fn stall(mut reader: Reader, writer: Writer) {
    while reader.wait().await.is_some() {}
    drop(writer);
}
