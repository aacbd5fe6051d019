//! `[auth]`: layers → settings.

use super::{Stack, needed};
use crate::config::auth::{AuthMode, AuthSettings, CHATGPT_PROVIDER};
use crate::config::error::{BadValue, ConfigError};
use crate::config::host::Host;
use crate::config::key::{self, Key};
use crate::config::layer::{FileLayer, Values};
use crate::config::origin::{Origin, Sourced};
use crate::config::quantity::{BaseUrl, ProviderName, Scheme};
use std::path::{Path, PathBuf};
use toml::Spanned;

impl Stack<'_> {
    /// `provider` is the one that sessions use.
    pub(super) fn auth(&self, provider: &Sourced<ProviderName>) -> Result<AuthSettings, ConfigError> {
        let mode: Sourced<AuthMode> = needed(
            key::AUTH_MODE,
            self.value(key::AUTH_MODE, |v| v.auth.mode.as_ref(), None)?,
        )?;
        let file = self.auth_file()?;
        if mode.value == AuthMode::ChatGpt {
            if provider.value.as_str() != CHATGPT_PROVIDER {
                return Err(ConfigError::LoginForOther {
                    at: mode.origin,
                    provider: provider.clone(),
                });
            }
            if file.is_none() {
                return Err(ConfigError::NoHome {
                    key: key::AUTH_FILE.name,
                    variable: "CODEX_HOME",
                });
            }
        }
        Ok(AuthSettings {
            mode,
            file,
            chatgpt_base_url: self.credential_url(key::AUTH_CHATGPT_BASE_URL, |v| v.auth.chatgpt_base_url.as_ref())?,
            token_url: self.credential_url(key::AUTH_TOKEN_URL, |v| v.auth.token_url.as_ref())?,
        })
    }

    /// As configured, else where Codex itself keeps it.
    fn auth_file(&self) -> Result<Option<Sourced<PathBuf>>, ConfigError> {
        let key = key::AUTH_FILE;
        if let Some(file) = self.value_of(key, |v| v.auth.file.as_ref(), None, |text| self.path(text))? {
            return Ok(Some(file));
        }
        let codex_home = self.environment.directory("CODEX_HOME").map(Path::to_path_buf);
        let codex_home = codex_home.or_else(|| self.environment.home().map(|home| home.join(".codex")));
        Ok(codex_home.map(|home| Sourced::new(home.join("auth.json"), Origin::Default)))
    }

    /// Where tokens of the login are sent: over TLS, or to this machine itself.
    fn credential_url(
        &self,
        key: Key,
        in_file: fn(&Values) -> Option<&Spanned<String>>,
    ) -> Result<Sourced<BaseUrl>, ConfigError> {
        let mut strongest = None;
        for file in self.files {
            if let Some(written) = in_file(&file.values) {
                let url = credential_url(written.get_ref());
                // Not as written: people paste URLs with passwords in them.
                let url = url.map_err(|reason| hidden(file, key, written, reason))?;
                strongest = Some(Sourced::new(url, file.origin(written.span())));
            }
        }
        needed(key, strongest)
    }
}

fn credential_url(text: &str) -> Result<BaseUrl, BadValue> {
    let url: BaseUrl = text.parse()?;
    // A name, `localhost` included, is what a resolver makes of it.
    let stays_here = matches!(url.host, Host::Address(address) if address.is_loopback());
    match url.scheme {
        Scheme::Http if !stays_here => Err(BadValue::PlainCredential),
        _ => Ok(url),
    }
}

fn hidden(file: &FileLayer, key: Key, written: &Spanned<String>, reason: BadValue) -> ConfigError {
    ConfigError::BadValue {
        at: file.origin(written.span()),
        key: key.name.to_owned(),
        written: None,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{refusal, resolve_user, user};
    use super::*;
    use crate::config::environment::Environment;
    use crate::config::resolve::{ConfigFlags, resolve};

    fn file(text: &str, environment: &[(&str, &str)]) -> Option<PathBuf> {
        let environment = Environment::from_pairs(environment.iter().copied());
        let config = resolve(user(text), &environment, &ConfigFlags::default()).unwrap();
        config.auth.file.map(|file| file.value)
    }

    #[test]
    fn the_login_is_where_codex_keeps_it() {
        let home = ("HOME", "/home/u");
        assert_eq!(file("", &[home]), Some("/home/u/.codex/auth.json".into()));
        assert_eq!(file("", &[home, ("CODEX_HOME", "/c")]), Some("/c/auth.json".into()));
        let set = "[auth]\nfile = \"~/other.json\"";
        assert_eq!(
            file(set, &[home, ("CODEX_HOME", "/c")]),
            Some("/home/u/other.json".into())
        );
    }

    #[test]
    fn without_a_home_only_a_login_needs_one() {
        let dirs = [("XDG_STATE_HOME", "/s"), ("XDG_CACHE_HOME", "/c")];
        assert_eq!(file("", &dirs), None);
        let environment = Environment::from_pairs(dirs);
        let login = resolve(
            user("[auth]\nmode = \"chatgpt\""),
            &environment,
            &ConfigFlags::default(),
        );
        assert_eq!(
            login.unwrap_err().to_string(),
            "`auth.file` has no default because HOME is not set; set HOME, CODEX_HOME, or `auth.file` in a configuration file"
        );
    }

    #[test]
    fn a_login_is_for_one_provider() {
        let config = resolve_user("[auth]\nmode = \"chatgpt\"").unwrap();
        assert_eq!(config.auth.mode.value, AuthMode::ChatGpt);
        assert_eq!(
            refusal("[auth]\nmode = \"chatgpt\"\n[codex]\nprovider = \"openrouter\""),
            "/u.toml:2: `auth.mode` = \"chatgpt\" is for the provider `openai`, but codex.provider is `openrouter` (from \
             /u.toml:4); use `auth.mode = \"key\"` with that provider, or `codex.provider = \"openai\"` with the login"
        );
        assert!(refusal("[auth]\nmode = \"api\"").contains("`key`, `chatgpt`"));
    }

    #[test]
    fn tokens_go_over_tls_or_stay_on_this_machine() {
        for key in ["chatgpt_base_url", "token_url"] {
            for good in ["http://127.0.0.1:1/x", "http://[::1]:1", "https://a.example/x"] {
                resolve_user(&format!("[auth]\n{key} = \"{good}\"")).unwrap();
            }
            for bad in ["a.example", "localhost:1", "10.0.0.1"] {
                let refused = refusal(&format!("[auth]\n{key} = \"http://{bad}/x\""));
                assert_eq!(
                    refused,
                    format!(
                        "/u.toml:2: `auth.{key}`: tokens of a login are sent there: `https://`, or `http://` with a loopback address"
                    )
                );
            }
            let refused = refusal(&format!("[auth]\n{key} = \"https://me:pass@h\""));
            assert!(!refused.contains("me:"), "{refused}");
        }
    }
}
