//! `[secrets.NAME]` tables of all layers, merged key by key.

use super::{Stack, bad_value};
use crate::config::SecretSource;
use crate::config::error::{BadValue, ConfigError};
use crate::config::origin::{Origin, Sourced};
use crate::config::secret::{SecretMount, SecretName, SecretPath};
use std::collections::BTreeMap;

/// A table as far as the layers so far fill it.
struct Merged {
    /// Where it was begun.
    at: Origin,
    from: Option<Sourced<SecretSource>>,
    path: Option<Sourced<SecretPath>>,
}

impl Stack<'_> {
    pub(super) fn secrets(&self) -> Result<BTreeMap<SecretName, SecretMount>, ConfigError> {
        let mut merged: BTreeMap<SecretName, Merged> = BTreeMap::new();
        for file in self.files {
            for (written_name, table) in &file.values.secrets {
                let at = file.origin(written_name.span());
                let section = format!("secrets.{}", written_name.get_ref());
                let name: SecretName =
                    (written_name.get_ref().parse()).map_err(|error: <SecretName as std::str::FromStr>::Err| {
                        bad_value(file, &section, written_name.span(), error)
                    })?;
                let entry = merged.entry(name).or_insert(Merged {
                    at,
                    from: None,
                    path: None,
                });
                if let Some(from) = &table.from {
                    let origin = file.origin(from.span());
                    let source = self
                        .secret_source(from.get_ref())
                        .map_err(|reason| ConfigError::BadValue {
                            at: origin.clone(),
                            key: format!("{section}.from"),
                            // Somebody may have put the secret itself there.
                            written: None,
                            reason,
                        })?;
                    entry.from = Some(Sourced::new(source, origin));
                }
                if let Some(path) = &table.path {
                    let value = path.get_ref().parse();
                    let value = value.map_err(|error: <SecretPath as std::str::FromStr>::Err| {
                        bad_value(file, &format!("{section}.path"), path.span(), error)
                    })?;
                    entry.path = Some(Sourced::new(value, file.origin(path.span())));
                }
            }
        }
        let mut secrets: BTreeMap<SecretName, SecretMount> = BTreeMap::new();
        for (name, Merged { at, from, path }) in merged {
            let from = from.ok_or_else(|| ConfigError::SecretWithoutSource { at, name: name.clone() })?;
            let path = path.unwrap_or_else(|| Sourced::new(SecretPath::of(&name), Origin::Default));
            let clash = secrets
                .iter()
                .find(|(_, other)| path.value.clashes_with(&other.path.value));
            if let Some((other, _)) = clash {
                return Err(ConfigError::BadValue {
                    // A default one stands nowhere.
                    at: match path.origin {
                        Origin::Default => from.origin,
                        written => written,
                    },
                    key: format!("secrets.{name}.path"),
                    written: Some(format!("\"{}\"", path.value)),
                    reason: BadValue::SecretPathTaken(other.clone()),
                });
            }
            secrets.insert(name, SecretMount { from, path });
        }
        Ok(secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{file, home, refusal, resolve_user};
    use super::super::{ConfigFlags, Layers, resolve};
    use super::*;

    #[test]
    fn a_table_is_merged_key_by_key_and_each_value_knows_its_layer() {
        let layers = Layers {
            system: Some(file(
                "/etc/c.toml",
                "[secrets.a]\nfrom = { env = \"A\" }\npath = \"~/.a\"\n",
            )),
            user: Some(file("/u.toml", "\n[secrets.a]\nfrom = { file = \"~/a\" }\n")),
            ..Layers::default()
        };
        let config = resolve(layers, &home(), &ConfigFlags::default()).unwrap();
        let secret = &config.secrets[&"a".parse().unwrap()];
        assert_eq!(secret.from.value, SecretSource::File("/home/u/a".into()));
        assert_eq!(secret.from.origin.to_string(), "/u.toml:3");
        assert_eq!(secret.path.value.as_str(), "/home/codex/.a");
        assert_eq!(secret.path.origin.to_string(), "/etc/c.toml:3");
    }

    #[test]
    fn a_secret_is_at_run_secrets_by_default() {
        let config = resolve_user("[secrets.npm-token]\nfrom = { env = \"NPM_TOKEN\" }\n").unwrap();
        let secret = &config.secrets[&"npm-token".parse().unwrap()];
        assert_eq!(secret.path.value.as_str(), "/run/secrets/npm-token");
        assert_eq!(secret.path.origin, Origin::Default);
    }

    #[test]
    fn refusals_teach() {
        insta::assert_snapshot!(refusal("[secrets.a]\npath = \"~/a\"\n"), @r#"/u.toml:1: `secrets.a` has no source; add `from = { env = "NAME" }`, `{ file = "/path" }` or `{ command = ["program", …] }`"#);
        insta::assert_snapshot!(refusal("[secrets.\"../a\"]\nfrom = { env = \"A\" }\n"), @r#"/u.toml:1: `secrets.../a` = "../a": a secret's name is a plain file name: 1 to 64 of `A-Z a-z 0-9 . _ -`, first a letter or digit"#);
        insta::assert_snapshot!(refusal("[secrets.a]\nfrom = { env = \"ghp_secret-value\" }\n"), @"/u.toml:2: `secrets.a.from`: names no environment variable: `A-Z a-z 0-9 _`, first no digit. The credential itself never belongs here");
        insta::assert_snapshot!(refusal("[secrets.a]\nfrom = { env = \"A\", file = \"/a\" }\n"), @r#"/u.toml:2: `secrets.a.from`: expected exactly one of `env = "NAME"`, `file = "/path"` or `command = ["program", "argument"]`"#);
        insta::assert_snapshot!(refusal("[secrets.a]\nfrom = { env = \"A\" }\npath = \"/etc/passwd\"\n"), @r#"/u.toml:3: `secrets.a.path` = "/etc/passwd": a secret is mounted below /run/secrets/ or below the container's home, /home/codex/ (also written `~/`); every other place is the image's or codex-mcp's own"#);
        insta::assert_snapshot!(refusal("[secrets.a]\nfrom = { env = \"A\" }\npath = \"/run/secrets/../x\"\n"), @r#"/u.toml:3: `secrets.a.path` = "/run/secrets/../x": a path inside has no empty part, no `.` or `..`, no colon, comma or control character, and at most 255 bytes"#);
        insta::assert_snapshot!(refusal("[secrets.a]\nfrom = { env = \"A\" }\n[secrets.b]\nfrom = { env = \"A\" }\npath = \"/run/secrets/a/b\"\n"), @r#"/u.toml:5: `secrets.b.path` = "/run/secrets/a/b": `secrets.a` has that path, or one above or below it: give one of the two another `path`"#);
    }
}
