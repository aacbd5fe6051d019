//! A provider's base URL, parsed into the parts that are dialled and sent.
//!
//! Only configuration makes one. A tool call never can: the credential goes wherever this points.

use crate::config::authority::{Authority, AuthorityError, Port};
use crate::config::host::Host;
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
    pub host: Host,
    pub port: Port,
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
    const fn usual_port(self) -> Port {
        match self {
            Self::Https => Port::HTTPS,
            Self::Http => Port::HTTP,
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
    #[error(transparent)]
    Authority(#[from] AuthorityError),
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
        let authority = uri.authority().ok_or(UrlError::NotAUrl)?.as_str();
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        // `Uri` takes `host:99999` and `host:` as a host without a port, so its own parts are not asked.
        let Authority { host, port } = authority.parse()?;
        let path = uri.path().trim_end_matches('/');
        if !path.is_empty() && !path.split('/').skip(1).all(is_plain_segment) {
            return Err(UrlError::Path);
        }
        Ok(Self {
            scheme,
            host,
            port: port.unwrap_or(scheme.usual_port()),
            path: path.to_owned(),
        })
    }
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
        write!(f, "{scheme}://{}", self.host.in_authority())?;
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
    use crate::config::authority::PortError;
    use crate::config::host::HostError;
    use proptest::prelude::*;

    #[test]
    fn parts_are_what_is_dialled() {
        let url: BaseUrl = "https://API.example.com/v1/".parse().unwrap();
        assert_eq!(
            url,
            BaseUrl {
                scheme: Scheme::Https,
                host: "api.example.com".parse().unwrap(),
                port: Port::HTTPS,
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
        const PORT: UrlError = UrlError::Authority(AuthorityError::Port(PortError));
        let host = |error| UrlError::Authority(AuthorityError::Host(error));
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
            ("https://h:0/", PORT),
            ("https://h:99999/", PORT),
            ("https://h:/", PORT),
            ("https://a..b/", host(HostError::EmptyLabel)),
            ("https://-a/", host(HostError::Hyphen)),
            ("https://127.1/", host(HostError::AddressLike)),
            ("https://[::ffff:127.0.0.1]/", host(HostError::Ipv4InIpv6)),
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
            port in (1_u16..).prop_filter_map("a port", Port::new),
            path in "(/[a-zA-Z0-9_~-]{1,6}){0,3}",
        ) {
            let scheme = if secure { Scheme::Https } else { Scheme::Http };
            let url = BaseUrl { scheme, host: host.parse().unwrap(), port, path };
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
