//! Base URLs of rbee's processes on nodes.

use crate::name::name;

fn is_host(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| {
            (1..=45).contains(&address.len())
                && address
                    .bytes()
                    .all(|b| b.is_ascii_hexdigit() || b".:".contains(&b))
        }),
        None => (1..=253).contains(&text.len()) && text.bytes().all(allowed),
    }
}

fn is_url(text: &str) -> bool {
    let scheme = ["http://", "https://"];
    let Some(rest) = scheme.iter().find_map(|scheme| text.strip_prefix(scheme)) else {
        return false;
    };
    let Some((host, port)) = rest.rsplit_once(':') else {
        return false;
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    is_host(host) && digits && port.parse::<u16>().is_ok()
}

name!(
    /// Base URL of a process: `http` or `https`, a host and a port, without user, path and query.
    NodeUrl, "address", "`http://HOST:PORT` or `https://HOST:PORT`, for example `http://192.0.2.7:9200`",
    "^https?://([A-Za-z0-9._-]{1,253}|\\[[0-9A-Fa-f.:]{1,45}\\]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$", is_url
);

impl NodeUrl {
    /// Returns the host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        let (_, rest) = self.as_str().split_once("://").unwrap_or_default();
        rest.rsplit_once(':').map_or(rest, |(host, _)| host)
    }

    /// Returns whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.as_str().starts_with("https://")
    }

    /// Returns whether the host is an address of the same machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scheme_a_host_and_a_port_are_accepted() {
        for bad in [
            "",
            "http://",
            "http://a",
            "https://a",
            "ftp://a:1",
            "http://a:0",
            "http://a:65536",
            "http://a:1/",
            "http://u@a:1",
            "http://a b:1",
            "http://[::1:1",
            "http://[]:1",
            "http://a:1?x",
            "http://:1",
        ] {
            assert!(bad.parse::<NodeUrl>().is_err(), "{bad}");
        }
        for (good, host, loopback) in [
            ("http://127.0.0.1:9200", "127.0.0.1", true),
            ("http://[::1]:9200", "[::1]", true),
            ("http://localhost:1", "localhost", true),
            ("http://192.0.2.7:65535", "192.0.2.7", false),
            ("http://gpu-box.lan:9200", "gpu-box.lan", false),
            ("https://localhost:1", "localhost", true),
        ] {
            let url: NodeUrl = good.parse().unwrap();
            assert_eq!((url.host(), url.is_loopback()), (host, loopback), "{good}");
        }
    }
}
