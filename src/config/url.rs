//! A provider's base URL, parsed into the parts that are dialled and sent.
//!
//! Only configuration makes one. A tool call never can: the credential goes wherever this points.

use hyper::http::uri::{self, Uri};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// A provider's base URL: `https://host[:port][/path]`, or `http://` for an address that the operator named. No user
/// information, query or fragment; no trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct BaseUrl {
    pub scheme: Scheme,
    /// As in the URL: a name, an IPv4 address, or an IPv6 address in brackets. Lower case.
    pub host: String,
    pub port: u16,
    /// Empty, or begins with `/` and does not end with one.
    pub path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    Https,
    Http,
}

impl Scheme {
    const fn usual_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// Why a text is no base URL. Never repeats it: people paste URLs with passwords in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("a base URL looks like `https://api.example.com/v1`")]
    NotAUrl,
    #[error("a base URL begins with `https://` (or `http://` for a server that you run yourself)")]
    Scheme,
    #[error("user and password do not belong in a URL: use `key = {{ env = \"NAME\" }}` beside it")]
    UserInfo,
    #[error("a base URL has no `?query` and no `#fragment`")]
    QueryOrFragment,
    #[error("the host is a name, an IPv4 address or an IPv6 address in brackets, the port a number from 1 to 65535")]
    HostOrPort,
    #[error("the path has plain segments: no `.`, `..`, empty segment or unusual character")]
    Path,
}

impl FromStr for BaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        // `Uri` drops a fragment without a word and takes some bytes above ASCII: look at the text first.
        if text.contains(['?', '#']) {
            return Err(UrlError::QueryOrFragment);
        }
        if !text.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(UrlError::NotAUrl);
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::NotAUrl)?;
        let scheme = match uri.scheme() {
            Some(scheme) if *scheme == uri::Scheme::HTTPS => Scheme::Https,
            Some(scheme) if *scheme == uri::Scheme::HTTP => Scheme::Http,
            _ => return Err(UrlError::Scheme),
        };
        let authority = uri.authority().ok_or(UrlError::HostOrPort)?.as_str();
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = split_authority(authority, scheme.usual_port()).ok_or(UrlError::HostOrPort)?;
        let path = uri.path().trim_end_matches('/');
        if !path.is_empty() && !path.split('/').skip(1).all(is_plain_segment) {
            return Err(UrlError::Path);
        }
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
            path: path.to_owned(),
        })
    }
}

/// `Uri` takes `host:99999` and `host:` as a host without a port, so this splits strictly.
fn split_authority(authority: &str, usual_port: u16) -> Option<(&str, u16)> {
    let host_end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_end);
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|c| c.is_ascii_digit()) => digits.parse().ok().filter(|port| *port != 0)?,
        None if port.is_empty() => usual_port,
        _ => return None,
    };
    is_host(host).then_some((host, port))
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    host.len() <= 253 && host.split('.').all(label)
}

fn is_plain_segment(segment: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&c);
    !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != self.scheme.usual_port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_what_is_dialled() {
        let url: BaseUrl = "https://API.example.com/v1/".parse().unwrap();
        assert_eq!(
            url,
            BaseUrl {
                scheme: Scheme::Https,
                host: "api.example.com".into(),
                port: 443,
                path: "/v1".into()
            }
        );
        for (text, printed) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:80/", "http://[::1]"),
            ("https://h:8443/a/b", "https://h:8443/a/b"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_could_mislead_the_broker_is_refused() {
        for (text, reason) in [
            ("", UrlError::NotAUrl),
            ("api.example.com/v1", UrlError::NotAUrl),
            ("/v1", UrlError::Scheme),
            ("api.example.com", UrlError::Scheme),
            ("ftp://h/", UrlError::Scheme),
            ("https://user@h/", UrlError::UserInfo),
            ("https://user:pass@h/", UrlError::UserInfo),
            ("https://h/v1?key=1", UrlError::QueryOrFragment),
            ("https://h/v1#x", UrlError::QueryOrFragment),
            ("https://h/\u{7}", UrlError::NotAUrl),
            ("https://h/\r\nX: y", UrlError::NotAUrl),
            ("https://h/ü", UrlError::NotAUrl),
            ("https://h:0/", UrlError::HostOrPort),
            ("https://h:99999/", UrlError::HostOrPort),
            ("https://h:/", UrlError::HostOrPort),
            ("https://a..b/", UrlError::HostOrPort),
            ("https://-a/", UrlError::HostOrPort),
            ("https://h/a/../b", UrlError::Path),
            ("https://h//a", UrlError::Path),
            ("https://h/%2e%2e/a", UrlError::Path),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(reason), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_url_is_the_same_url(
            secure: bool,
            host in "[a-z][a-z0-9]{0,8}(\\.[a-z]{1,5}){0,2}",
            port in 1_u16..,
            path in "(/[a-zA-Z0-9_~-]{1,6}){0,3}",
        ) {
            let scheme = if secure { Scheme::Https } else { Scheme::Http };
            let url = BaseUrl { scheme, host, port, path };
            prop_assert_eq!(url.to_string().parse(), Ok(url));
        }

        #[test]
        fn what_parses_has_no_user_information(text in "https?://[a-z@:.\\[\\]/0-9]{0,20}") {
            if let Ok(url) = text.parse::<BaseUrl>() {
                prop_assert!(!url.to_string().contains('@') || url.path.contains('@'));
                prop_assert_eq!(url.to_string().parse(), Ok(url));
            }
        }
    }
}
