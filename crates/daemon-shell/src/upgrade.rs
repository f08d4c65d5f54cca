use std::convert::Infallible;

use axum::{
    body::Body,
    extract::FromRequestParts,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::{ErrorResponse, errors};

/// A request that may ask for another protocol on its connection (RFC 9110, section 7.8).
#[derive(Debug)]
pub struct Upgrade {
    /// The protocols that the client asks for.
    protocols: String,
    upgrade: Option<OnUpgrade>,
}

/// A connection that has another protocol than HTTP.
pub type UpgradedConnection = TokioIo<Upgraded>;

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let protocols = parts.headers.get(header::UPGRADE);
        Ok(Self {
            protocols: protocols
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            upgrade: parts.extensions.remove::<OnUpgrade>(),
        })
    }
}

impl Upgrade {
    /// Responds that the connection has the protocol `protocol` from now on, and passes it to
    /// `accept`. Responds with 426 if the request does not ask for this protocol.
    pub fn switch(
        self,
        protocol: &'static str,
        accept: impl FnOnce(UpgradedConnection) + Send + 'static,
    ) -> Response {
        let mut asked = self.protocols.split(',').map(str::trim);
        let is_asked = asked.any(|asked| asked.eq_ignore_ascii_case(protocol));
        let switched = (header::UPGRADE, HeaderValue::from_static(protocol));
        let connection = (header::CONNECTION, HeaderValue::from_static("upgrade"));
        let Some(upgrade) = self.upgrade.filter(|_| is_asked) else {
            let mut response = ErrorResponse(errors::upgrade_required(protocol)).into_response();
            // The status has no code of its own: no client of an interface sees it.
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
            response
                .headers_mut()
                .extend([switched, connection].map(|(name, value)| (Some(name), value)));
            return response;
        };
        tokio::spawn(async move {
            // An error here is the client's.
            if let Ok(upgraded) = upgrade.await {
                accept(TokioIo::new(upgraded));
            }
        });
        (
            StatusCode::SWITCHING_PROTOCOLS,
            [switched, connection],
            Body::empty(),
        )
            .into_response()
    }
}
