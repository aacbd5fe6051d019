//! `[http]`: layers → settings.

use super::network::{list_of, parsed};
use super::{ConfigFlags, Stack, needed};
use crate::config::error::{BadValue, ConfigError};
use crate::config::http::{Front, HttpSettings};
use crate::config::key::{self, Key};
use crate::config::layer::{HttpValues, ListValues};
use crate::config::origin::{Origin, Sourced};
use crate::config::quantity::ByteSize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Each has a descriptor, of which a process has some thousand.
const MOST_CONNECTIONS: u32 = 10_000;
/// A rate that bounds nothing is a slip.
const MOST_REQUESTS_PER_SECOND: u32 = 10_000;

/// What an ordinary call with its prompt takes, in bytes.
const LEAST_BODY: u64 = 64 << 10;

impl Stack<'_> {
    pub(super) fn http(&self, flags: &ConfigFlags) -> Result<HttpSettings, ConfigError> {
        let max_body = self.value_of(key::HTTP_MAX_BODY, |v| v.http.max_body.as_ref(), None, body_size)?;
        Ok(HttpSettings {
            listen: needed(
                key::HTTP_LISTEN,
                self.value(key::HTTP_LISTEN, |v| v.http.listen.as_ref(), flags.listen)?,
            )?,
            front: self.front()?,
            allowed_hosts: self.strongest(key::HTTP_ALLOWED_HOSTS, |v| v.allowed_hosts.as_ref())?,
            allowed_origins: self.strongest(key::HTTP_ALLOWED_ORIGINS, |v| v.allowed_origins.as_ref())?,
            max_body: needed(key::HTTP_MAX_BODY, max_body)?,
            connections: self.number(
                key::HTTP_CONNECTIONS,
                |v| v.http.connections.as_ref(),
                1..=MOST_CONNECTIONS,
            )?,
            requests_per_second: self.number(
                key::HTTP_REQUESTS_PER_SECOND,
                |v| v.http.requests_per_second.as_ref(),
                1..=MOST_REQUESTS_PER_SECOND,
            )?,
            tokens: self.tokens()?,
        })
    }

    fn front(&self) -> Result<Sourced<Front>, ConfigError> {
        let key = key::HTTP_BEHIND_PROXY;
        let behind: Sourced<bool> = needed(key, self.value(key, |v| v.http.behind_proxy.as_ref(), None)?)?;
        let front = match behind.value {
            true => Front::Proxy,
            false => Front::Nothing,
        };
        Ok(Sourced::new(front, behind.origin))
    }

    /// Beside the user's configuration file, where none is named.
    fn tokens(&self) -> Result<Option<Sourced<PathBuf>>, ConfigError> {
        let key = key::HTTP_TOKENS;
        let configured = self.value_of(key, |v| v.http.tokens.as_ref(), None, |text| self.path(text))?;
        if let Some(file) = configured {
            return Ok(Some(file));
        }
        let xdg = self.environment.directory("XDG_CONFIG_HOME").map(Path::to_path_buf);
        let base = xdg.or_else(|| self.environment.home().map(|home| home.join(".config")));
        Ok(base.map(|base| Sourced::new(base.join("codex-mcp/tokens.json"), Origin::Default)))
    }

    /// The list of the strongest file that has it.
    fn strongest<T>(
        &self,
        key: Key,
        in_file: fn(&HttpValues) -> Option<&ListValues>,
    ) -> Result<Vec<Sourced<T>>, ConfigError>
    where
        T: FromStr,
        BadValue: From<T::Err>,
    {
        let mut strongest = Vec::new();
        for file in self.files {
            if let Some(items) = in_file(&file.values.http) {
                strongest = list_of(file, key, items, &parsed)?;
            }
        }
        Ok(strongest)
    }
}

fn body_size(text: &str) -> Result<ByteSize, BadValue> {
    let size: ByteSize = text.parse()?;
    match size.bytes() >= LEAST_BODY {
        true => Ok(size),
        false => Err(BadValue::BodyTooSmall),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{refusal, resolve_user};
    use super::*;

    #[test]
    fn the_section_is_read_and_a_bad_value_teaches() {
        let config = resolve_user(
            "[http]\nlisten = \"0.0.0.0:80\"\nbehind_proxy = true\nallowed_hosts = [\"mcp.example.com\"]\n\
             allowed_origins = [\"https://app.example.com\"]\nmax_body = \"1m\"\ntokens = \"~/t\"\n",
        )
        .unwrap();
        let http = config.http;
        assert_eq!(http.listen.value.to_string(), "0.0.0.0:80");
        assert_eq!(http.front.value, Front::Proxy);
        assert_eq!(http.allowed_hosts[0].value.to_string(), "mcp.example.com");
        assert_eq!(http.allowed_origins[0].value.to_string(), "https://app.example.com:443");
        assert_eq!(http.tokens.unwrap().value, Path::new("/home/u/t"));
        assert!(
            refusal("[http]\nlisten = \"localhost:1\"").starts_with("/u.toml:2: `http.listen` = \"localhost:1\": ")
        );
        assert!(refusal("[http]\nallowed_origins = [\"*\"]").contains("`http.allowed_origins` = \"*\""));
        assert!(refusal("[http]\nmax_body = 16").contains("is less than 64KiB"));
        assert!(refusal("[http]\nconnections = 0").contains("from 1 to 10000"));
    }
}
