//! A provider of models: where it is, and what goes with each request. Never a credential's value, only where it is found.

use crate::config::origin::Sourced;
use crate::config::secret_source::SecretSource;
use crate::config::url::BaseUrl;
use hyper::header::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provider {
    pub base_url: Sourced<BaseUrl>,
    /// `None` for a server that wants none.
    pub key: Option<Sourced<SecretSource>>,
    pub key_header: Sourced<KeyHeader>,
    /// Sent with each request, in this order.
    pub headers: Vec<Sourced<ExtraHeader>>,
}

/// In which header the key goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// The key alone, in a header of the provider's, such as Azure's `api-key`.
    Named(HeaderName),
}

/// What is wrong with a header that a configuration names. Never repeats a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("a header's name is one word of letters, digits and `-`")]
    NotAName,
    #[error("this header belongs to the connection or to codex-mcp and can't be set")]
    Reserved,
    #[error("a header's value is one line of visible ASCII characters")]
    NotAValue,
}

/// Set by whoever sends the request, or they would say something else than what is sent.
const RESERVED: [&str; 16] = [
    "accept-encoding",
    "authorization",
    "chatgpt-account-id",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

fn header_name(text: &str) -> Result<HeaderName, HeaderError> {
    let name: HeaderName = text.parse().map_err(|_| HeaderError::NotAName)?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
        return Err(HeaderError::Reserved);
    }
    Ok(name)
}

impl FromStr for KeyHeader {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        if text.eq_ignore_ascii_case("authorization") {
            return Ok(Self::Bearer);
        }
        header_name(text).map(Self::Named)
    }
}

impl From<KeyHeader> for String {
    fn from(header: KeyHeader) -> Self {
        match header {
            KeyHeader::Bearer => "authorization".to_owned(),
            KeyHeader::Named(name) => name.as_str().to_owned(),
        }
    }
}

/// A header that goes with each request of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtraHeader {
    #[serde(serialize_with = "as_text")]
    pub name: HeaderName,
    /// Not shown: a placeholder may have put anything into it.
    #[serde(skip)]
    pub value: HeaderValue,
}

fn as_text<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

impl ExtraHeader {
    pub fn parse(name: &str, value: &str) -> Result<Self, HeaderError> {
        let name = header_name(name)?;
        let visible = !value.is_empty() && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let parsed = visible.then(|| HeaderValue::from_str(value).ok()).flatten();
        let mut value = parsed.ok_or(HeaderError::NotAValue)?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_connection_or_to_us_can_not_be_set() {
        for name in RESERVED.iter().copied().chain(["Proxy-Authorization", "HOST"]) {
            assert_eq!(ExtraHeader::parse(name, "x"), Err(HeaderError::Reserved), "{name}");
        }
        for name in ["", "a b", "a:b", "é", "a\r\nb"] {
            assert_eq!(ExtraHeader::parse(name, "x"), Err(HeaderError::NotAName), "{name:?}");
        }
    }

    #[test]
    fn a_value_is_one_line_and_never_shown() {
        for value in ["", "a\r\nb: c", "a\tb", "é", "a\0"] {
            assert_eq!(
                ExtraHeader::parse("x-title", value),
                Err(HeaderError::NotAValue),
                "{value:?}"
            );
        }
        let header = ExtraHeader::parse("X-Title", "s3cret").unwrap();
        assert_eq!(serde_json::to_string(&header).unwrap(), r#"{"name":"x-title"}"#);
        assert!(!format!("{header:?}").contains("s3cret"));
    }

    #[test]
    fn a_key_goes_as_bearer_or_alone() {
        assert_eq!("Authorization".parse(), Ok(KeyHeader::Bearer));
        assert_eq!(
            "api-key".parse(),
            Ok(KeyHeader::Named(HeaderName::from_static("api-key")))
        );
        assert_eq!("cookie".parse::<KeyHeader>(), Err(HeaderError::Reserved));
    }
}
