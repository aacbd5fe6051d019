//! User and password for the operator's own proxy: from their source to a `Proxy-Authorization` header.

use crate::auth::secret::{Flaw, Secret, SecretError, SecretReader};
use crate::config::SecretSource;
use crate::config::network::ProxyCredentials;
use crate::config::proxy::user_information;
use crate::dial::proxy::Credentials;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::future::BoxFuture;
use hyper::header::{HeaderValue, InvalidHeaderValue};
use std::error::Error;
use zeroize::Zeroizing;

/// Credentials that are read when a connection is made, so that changed ones are used at once.
#[derive(Debug)]
pub struct ProxyLogin {
    source: ProxyCredentials,
    secrets: SecretReader,
}

/// Why there is no user and password. Shows nothing of them.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the secret of network.proxy_credentials has no `:`; it is `user:password`")]
    NoPassword,
    #[error("the URL in environment variable {0} no longer has a user and password")]
    NotInVariable(&'static str),
    #[error("the user and password in environment variable {0} {1}")]
    Unusable(&'static str, Flaw),
    #[error("user and password make no header: {0}")]
    Header(#[from] InvalidHeaderValue),
}

impl ProxyLogin {
    pub fn new(source: ProxyCredentials, secrets: SecretReader) -> Self {
        Self { source, secrets }
    }

    async fn header(&self) -> Result<HeaderValue, LoginError> {
        match &self.source {
            ProxyCredentials::Secret(source) => {
                let secret = self.secrets.read(source).await?;
                if !secret.expose().contains(&b':') {
                    return Err(LoginError::NoPassword);
                }
                basic(secret.expose())
            }
            ProxyCredentials::InVariable(name) => {
                let url = self.secrets.read(&SecretSource::Env((*name).to_owned())).await?;
                basic(in_url(&url, name)?.expose())
            }
        }
    }
}

impl Credentials for ProxyLogin {
    fn authorization(&self) -> BoxFuture<'_, Result<HeaderValue, Box<dyn Error + Send + Sync>>> {
        Box::pin(async { Ok(self.header().await?) })
    }
}

/// `user:password` of a URL, decoded. Without a password that is empty, as other programs have it.
fn in_url(url: &Secret, variable: &'static str) -> Result<Secret, LoginError> {
    let text = std::str::from_utf8(url.expose()).ok().and_then(user_information);
    let text = text.ok_or(LoginError::NotInVariable(variable))?;
    // Decoded text is no longer than what it stands for, so that no growth leaves a copy behind.
    let mut login = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.split_at_checked(2).filter(|_| first == b'%');
        let decoded = escaped.and_then(|(digits, after)| Some((hexadecimal(digits)?, after)));
        // A `%` that begins no escape is itself: passwords are often pasted as they are.
        let (byte, after) = decoded.unwrap_or((first, after));
        login.push(byte);
        rest = after;
    }
    if !text.contains(':') {
        login.push(b':');
    }
    Secret::parse(login).map_err(|flaw| LoginError::Unusable(variable, flaw))
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let all = digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| all)?;
    u8::from_str_radix(text, 16).ok()
}

fn basic(login: &[u8]) -> Result<HeaderValue, LoginError> {
    let mut text = Zeroizing::new(String::with_capacity(6 + login.len().div_ceil(3) * 4));
    text.push_str("Basic ");
    BASE64.encode_string(login, &mut text);
    let mut header = HeaderValue::from_str(&text)?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Redactor;

    async fn header(source: ProxyCredentials, value: Option<&'static str>) -> Result<String, String> {
        let secrets = SecretReader::new(move |_| value.map(str::to_owned), Redactor::default());
        let header = ProxyLogin::new(source, secrets).authorization().await;
        let header = header.map_err(|error| error.to_string())?;
        assert_eq!(format!("{header:?}"), "Sensitive");
        let encoded = header.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        Ok(String::from_utf8(BASE64.decode(encoded).unwrap()).unwrap())
    }

    fn secret() -> ProxyCredentials {
        ProxyCredentials::Secret(SecretSource::Env("LOGIN".into()))
    }

    const VARIABLE: ProxyCredentials = ProxyCredentials::InVariable("HTTPS_PROXY");

    #[tokio::test]
    async fn a_secret_is_sent_as_it_is() {
        assert_eq!(header(secret(), Some("me:p%40ss:w")).await.unwrap(), "me:p%40ss:w");
        let flawed = header(secret(), Some("sk-no-colon")).await.unwrap_err();
        insta::assert_snapshot!(flawed, @"the secret of network.proxy_credentials has no `:`; it is `user:password`");
        let missing = header(secret(), None).await.unwrap_err();
        insta::assert_snapshot!(missing, @"environment variable LOGIN is not set; set it where codex-mcp is started");
    }

    #[tokio::test]
    async fn a_variables_url_is_decoded() {
        for (url, login) in [
            ("http://me:p%40ss@proxy.example.com:3128", "me:p@ss"),
            ("http://me@proxy.example.com:3128", "me:"),
            ("me:100%@proxy.example.com", "me:100%"),
            ("me:%zz%2@proxy.example.com/", "me:%zz%2"),
            ("http://me:p%3Aq@[2001:db8::1]:80", "me:p:q"),
        ] {
            assert_eq!(header(VARIABLE, Some(url)).await.unwrap(), login, "{url}");
        }
    }

    #[tokio::test]
    async fn what_could_be_a_second_header_is_refused_and_not_repeated() {
        let flawed = header(VARIABLE, Some("http://me:hush%0d%0ahost:x@proxy"))
            .await
            .unwrap_err();
        assert!(
            flawed.contains("environment variable HTTPS_PROXY") && !flawed.contains("hush"),
            "{flawed}"
        );
        let changed = header(VARIABLE, Some("http://proxy.example.com")).await.unwrap_err();
        insta::assert_snapshot!(changed, @"the URL in environment variable HTTPS_PROXY no longer has a user and password");
    }
}
