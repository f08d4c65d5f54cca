//! Rules for requests to servers that are not trusted. Pure.

use reqwest::{
    Url,
    header::{HeaderMap, HeaderValue},
};

use crate::Secret;

/// Redirects that are followed.
pub const MAX_REDIRECTS: usize = 10;

/// Why a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadRedirect {
    /// `Location` is missing or not a URL.
    Invalid,
    /// The target is not an http or https URL, or it is not encrypted and its origin was.
    Unsafe(Url),
}

/// Resolves the `Location` of a redirect.
pub fn redirect_target(from: &Url, location: Option<&str>) -> Result<Url, BadRedirect> {
    let location = location.ok_or(BadRedirect::Invalid)?;
    let to = from.join(location).map_err(|_| BadRedirect::Invalid)?;
    let is_allowed = match to.scheme() {
        "https" => true,
        "http" => from.scheme() == "http",
        _ => false,
    };
    if is_allowed && to.has_host() {
        Ok(to)
    } else {
        Err(BadRedirect::Unsafe(to))
    }
}

/// Whether both URLs have the same scheme, host and port, so that both may see a token.
pub fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// The value of `Authorization` for a token. `None` if a header cannot carry it.
pub fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose().trim())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether the body of a response is compressed, which no request asks for.
pub fn is_compressed(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all("content-encoding").iter();
    encodings
        .map(HeaderValue::as_bytes)
        .any(|encoding| !encoding.trim_ascii().eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_token_is_for_one_scheme_host_and_port() {
        let origin = url("https://hub.example/a");
        assert!(same_origin(&origin, &url("https://HUB.example:443/b?c")));
        for other in [
            "http://hub.example/a",
            "https://hub.example:444/a",
            "https://cdn.hub.example/a",
            "https://hub.example@evil.example/a",
        ] {
            assert!(!same_origin(&origin, &url(other)), "{other}");
        }
    }

    #[test]
    fn a_token_is_one_line() {
        let value = bearer(&Secret::new(" hf_x\n")).unwrap();
        assert_eq!(value, "Bearer hf_x");
        assert!(value.is_sensitive());
        assert_eq!(bearer(&Secret::new("a\nb: c")), None);
    }

    #[test]
    fn redirects_lead_to_http_only_and_stay_encrypted() {
        let from = url("https://hub.example/a/b");
        let target = |location| redirect_target(&from, Some(location));
        assert_eq!(target("../c"), Ok(url("https://hub.example/c")));
        assert_eq!(target("//other/c"), Ok(url("https://other/c")));
        for other in [
            "file:///etc/passwd",
            "ftp://a/b",
            "data:,x",
            "http://hub.example/c",
        ] {
            let refused = Err(BadRedirect::Unsafe(url(other)));
            assert_eq!(target(other), refused, "{other}");
        }
        assert_eq!(target("http://"), Err(BadRedirect::Invalid));
        assert_eq!(redirect_target(&from, None), Err(BadRedirect::Invalid));
        let plain = url("http://hub.example/a");
        let other = redirect_target(&plain, Some("http://other/b"));
        assert_eq!(other, Ok(url("http://other/b")));
    }
}
