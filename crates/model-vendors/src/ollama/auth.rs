//! Tokens of a container registry: a refusal states where to get one
//! (<https://distribution.github.io/distribution/spec/auth/token/>).

use diagnostics::Diagnostic;
use file_transfer::Secret;
use reqwest::{StatusCode, Url, header};
use serde::Deserialize;

use super::Image;
use crate::{errors, http::Get};

#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
}

impl Image<'_> {
    /// Returns a token for the model, if the registry requires one.
    pub(super) async fn token(&self) -> Result<Option<Secret>, Diagnostic> {
        // One byte suffices to see whether the request is refused.
        let request = Get {
            range: Some(0..1),
            limit: 1,
            ..Get::new(self.manifest_url(&self.tag))
        };
        let reply = self.http.get(&request).await?;
        if reply.status != StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        let invalid = || errors::invalid_response(self.registry.as_str(), "no source of tokens");
        let challenge = reply
            .header(header::WWW_AUTHENTICATE.as_str())
            .ok_or_else(invalid)?;
        let source = token_source(challenge).ok_or_else(invalid)?;
        if self.registry.scheme() == "https" && source.scheme() != "https" {
            return Err(errors::unsafe_redirect(self.registry, &source));
        }
        let reply = self.http.get(&Get::new(source)).await?;
        self.check(&reply)?;
        let parsed: TokenReply = serde_json::from_slice(&reply.body).map_err(|_| invalid())?;
        let token = parsed.token.or(parsed.access_token).ok_or_else(invalid)?;
        Ok(Some(Secret::new(token)))
    }
}

/// Returns the URL of a token from `Bearer realm="…",service="…",scope="…"`.
fn token_source(challenge: &str) -> Option<Url> {
    let (scheme, rest) = challenge.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let value = |name: &str| {
        let start = rest.find(&format!("{name}=\""))? + name.len() + 2;
        let value = &rest[start..];
        value.split_once('"').map(|(value, _)| value)
    };
    let mut url = Url::parse(value("realm")?).ok()?;
    if !["http", "https"].contains(&url.scheme()) {
        return None;
    }
    for name in ["service", "scope"] {
        if let Some(value) = value(name) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_token_is_in_the_challenge() {
        let challenge =
            "Bearer realm=\"https://a/token\",service=\"s\",scope=\"repository:x/y:pull\"";
        assert_eq!(
            token_source(challenge).unwrap().as_str(),
            "https://a/token?service=s&scope=repository%3Ax%2Fy%3Apull"
        );
        for other in [
            "Basic realm=\"https://a\"",
            "Bearer",
            "Bearer service=\"s\"",
            "Bearer realm=\"file:///etc/passwd\"",
            "Bearer realm=\"https://a",
        ] {
            assert_eq!(token_source(other), None, "{other}");
        }
    }
}
