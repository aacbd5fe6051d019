//! What a request asks a proxy for. Pure.

use crate::config::authority::Port;
use crate::config::target::Target;
use crate::egress::decision::Malformed;
use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::Scheme;
use hyper::{Method, Uri};

/// A request's wish, canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// `CONNECT host:port`.
    Tunnel(Target),
    /// One request to that host, and the URI that its server is to see.
    Request { target: Target, uri: Uri },
}

/// The `Host` of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostField {
    /// HTTP/1.0 has none.
    Absent,
    Names(Target),
    /// It is none that a rule could be about.
    NoHost,
}

/// Reads a request to the proxy itself: CONNECT, or an absolute `http://` URI.
pub fn of_proxy(head: &Parts) -> Result<Asked, Malformed> {
    let uri = &head.uri;
    if head.method == Method::CONNECT {
        return match (uri.scheme(), uri.authority(), uri.path_and_query()) {
            (None, Some(authority), None) => Ok(Asked::Tunnel(Target::from_authority(authority.as_str(), None)?)),
            _ => Err(Malformed::NotAProxyRequest),
        };
    }
    match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) if *scheme == Scheme::HTTP => Ok(Asked::Request {
            target: Target::from_authority(authority.as_str(), Some(Port::HTTP))?,
            uri: origin_form(uri)?,
        }),
        (Some(_), _) => Err(Malformed::Scheme),
        (None, _) => Err(Malformed::NotAProxyRequest),
    }
}

/// Reads a request inside a tunnel to `target`, which only its `Host` could contradict.
pub fn of_server(head: &Parts, target: &Target) -> Result<Asked, Malformed> {
    let uri = &head.uri;
    let is_origin_form = uri.scheme().is_none() && uri.authority().is_none() && uri.path().starts_with('/');
    match is_origin_form && head.method != Method::CONNECT {
        true => Ok(Asked::Request {
            target: target.clone(),
            uri: origin_form(uri)?,
        }),
        false => Err(Malformed::NotOriginForm),
    }
}

fn origin_form(uri: &Uri) -> Result<Uri, Malformed> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // `http://host?query` has a query and no path.
    let rooted = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    rooted.try_into().map_err(|_| Malformed::NotAProxyRequest)
}

/// Reads `Host`, whose port is `target`'s kind of request's usual one where it names none.
pub fn host_field(head: &Parts, usual: Port) -> HostField {
    let mut fields = head.headers.get_all(HOST).iter();
    match (fields.next(), fields.next()) {
        (None, _) => HostField::Absent,
        (Some(host), None) => {
            let host = host.to_str().ok();
            match host.and_then(|host| Target::from_authority(host, Some(usual)).ok()) {
                Some(target) => HostField::Names(target),
                None => HostField::NoHost,
            }
        }
        (Some(_), Some(_)) => HostField::NoHost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn head(method: &str, uri: &str) -> Parts {
        Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    fn proxy(method: &str, uri: &str) -> Result<String, Malformed> {
        of_proxy(&head(method, uri)).map(|asked| match asked {
            Asked::Tunnel(target) => format!("tunnel {target}"),
            Asked::Request { target, uri } => format!("request {target} {uri}"),
        })
    }

    #[test]
    fn a_proxy_is_asked_in_two_ways() {
        for (method, uri, asked) in [
            ("CONNECT", "Example.com.:443", "tunnel example.com:443"),
            ("CONNECT", "[2001:db8::1]:8443", "tunnel [2001:db8::1]:8443"),
            ("GET", "http://Example.com/a?b", "request example.com:80 /a?b"),
            ("POST", "HTTP://example.com:8080", "request example.com:8080 /"),
            ("GET", "http://example.com?q", "request example.com:80 /?q"),
            ("OPTIONS", "http://example.com/", "request example.com:80 /"),
        ] {
            assert_eq!(proxy(method, uri).as_deref(), Ok(asked), "{method} {uri}");
        }
    }

    #[test]
    fn any_other_way_is_refused_with_what_is_wrong() {
        use crate::config::target::TargetError;
        for (method, uri, problem) in [
            ("GET", "/", Malformed::NotAProxyRequest),
            ("OPTIONS", "*", Malformed::NotAProxyRequest),
            ("GET", "example.com:80", Malformed::NotAProxyRequest),
            ("CONNECT", "/", Malformed::NotAProxyRequest),
            ("CONNECT", "http://example.com/", Malformed::NotAProxyRequest),
            ("CONNECT", "example.com", Malformed::Target(TargetError::NoPort)),
            ("GET", "https://example.com/", Malformed::Scheme),
            ("GET", "ftp://example.com/", Malformed::Scheme),
            (
                "GET",
                "http://u:p@example.com/",
                Malformed::Target(TargetError::UserInfo),
            ),
            ("CONNECT", "u@example.com:443", Malformed::Target(TargetError::UserInfo)),
        ] {
            assert_eq!(proxy(method, uri), Err(problem), "{method} {uri}");
        }
    }

    #[test]
    fn inside_a_tunnel_a_request_names_a_path_only() {
        let target = Target::from_authority("example.com:8080", None).unwrap();
        let asked = of_server(&head("GET", "/a?b"), &target).unwrap();
        let uri = "/a?b".parse().unwrap();
        assert_eq!(
            asked,
            Asked::Request {
                target: target.clone(),
                uri
            }
        );
        for (method, uri) in [
            ("GET", "http://example.com:8080/"),
            ("CONNECT", "example.com:8080"),
            ("OPTIONS", "*"),
        ] {
            assert_eq!(
                of_server(&head(method, uri), &target),
                Err(Malformed::NotOriginForm),
                "{uri}"
            );
        }
    }
}
