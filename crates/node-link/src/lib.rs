//! How the queen reaches a node and how the node reaches the queen.
//!
//! Hives and workers listen on the loopback interface of their node by default. A [`Link`] makes
//! their ports reachable from the queen, and makes the queen reachable from the node. To add
//! a kind of node (a remote one, for example), implement [`Link`] here or in a crate of its
//! own and register the node with it in the crate `queen-nodes`; nothing else in the queen
//! knows where a node is.

#![warn(missing_docs)]

mod attention;
mod exposed;

use std::{fmt::Debug, net::Ipv4Addr};

use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use rest_client::HttpClient;

pub use attention::{Attention, is_rare, pause};
pub use exposed::{Exposed, OnQueen, serve_on_loopback};

/// An HTTP server that can be called.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Base URL, without a trailing slash.
    pub base: String,
    /// The connection pool that reaches it.
    pub http: HttpClient,
}

/// A way to reach one node.
pub trait Link: Debug + Send + Sync + 'static {
    /// Returns the endpoint that reaches this port of the node.
    fn endpoint(&self, port: u16) -> BoxFuture<'_, Result<Endpoint, Diagnostic>>;

    /// Gives up what the link keeps to reach this port of the node. Requests that are under way
    /// go on, and the next [`endpoint`](Self::endpoint) reaches the port again.
    fn release(&self, _port: u16) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Returns the base URL under which processes on the node reach the queen.
    fn queen_url(&self) -> BoxFuture<'_, Result<String, Diagnostic>>;

    /// How eagerly to connect from now on. With [`Attention::Rare`], the connection is closed.
    fn set_attention(&self, _attention: Attention) {}

    /// Makes a server of any protocol, which listens on this port of the node, reachable on the
    /// queen's machine. `None` if this kind of link cannot do that.
    fn reach(&self, _port: u16) -> BoxFuture<'_, Result<Option<OnQueen>, Diagnostic>> {
        Box::pin(async { Ok(None) })
    }

    /// Makes what is reachable on the queen's machine reachable on the node, through a port of its
    /// loopback interface. `None` if this kind of link cannot do that.
    fn expose(&self, _server: OnQueen) -> BoxFuture<'_, Result<Option<Exposed>, Diagnostic>> {
        Box::pin(async { Ok(None) })
    }
}

/// The link to the queen's own machine.
#[derive(Debug, Clone)]
pub struct LocalLink {
    http: HttpClient,
    queen_url: String,
}

impl LocalLink {
    /// Creates the link; `queen_url` is the base URL of the queen on this machine.
    pub fn new(http: HttpClient, queen_url: String) -> Self {
        Self { http, queen_url }
    }
}

impl Link for LocalLink {
    fn endpoint(&self, port: u16) -> BoxFuture<'_, Result<Endpoint, Diagnostic>> {
        let endpoint = Endpoint {
            base: format!("http://{}:{port}", Ipv4Addr::LOCALHOST),
            http: self.http.clone(),
        };
        Box::pin(async move { Ok(endpoint) })
    }

    fn queen_url(&self) -> BoxFuture<'_, Result<String, Diagnostic>> {
        Box::pin(async move { Ok(self.queen_url.clone()) })
    }

    fn reach(&self, port: u16) -> BoxFuture<'_, Result<Option<OnQueen>, Diagnostic>> {
        Box::pin(async move { Ok(Some(OnQueen::Port(port))) })
    }

    fn expose(&self, server: OnQueen) -> BoxFuture<'_, Result<Option<Exposed>, Diagnostic>> {
        Box::pin(async move { serve_on_loopback(server).await.map(Some) })
    }
}

/// The link to a node whose ports the queen reaches by the address of its host.
#[derive(Debug, Clone)]
pub struct DirectLink {
    http: HttpClient,
    host: String,
    queen_url: String,
}

impl DirectLink {
    /// Creates the link to `host`, which is in brackets if it is an IPv6 address; `queen_url`
    /// is the base URL of the queen for processes on the node.
    pub fn new(http: HttpClient, host: &str, queen_url: &str) -> Self {
        Self {
            http,
            host: host.to_owned(),
            queen_url: queen_url.to_owned(),
        }
    }
}

impl Link for DirectLink {
    fn endpoint(&self, port: u16) -> BoxFuture<'_, Result<Endpoint, Diagnostic>> {
        let endpoint = Endpoint {
            base: format!("http://{}:{port}", self.host),
            http: self.http.clone(),
        };
        Box::pin(async move { Ok(endpoint) })
    }

    fn queen_url(&self) -> BoxFuture<'_, Result<String, Diagnostic>> {
        Box::pin(async move { Ok(self.queen_url.clone()) })
    }

    /// The port is one of the queen's machine if the host is its loopback interface.
    fn reach(&self, port: u16) -> BoxFuture<'_, Result<Option<OnQueen>, Diagnostic>> {
        let is_loopback = ["127.0.0.1", "localhost"].contains(&self.host.as_str());
        Box::pin(async move { Ok(is_loopback.then_some(OnQueen::Port(port))) })
    }
}
