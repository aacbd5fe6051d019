//! Reads the configuration files and the environment: the one place of this room that touches the world.
#![expect(
    clippy::disallowed_methods,
    reason = "the environment and the configuration files are read here and nowhere else"
)]

use crate::config::Config;
use crate::config::environment::{self, Environment};
use crate::config::error::ConfigError;
use crate::config::layer::{FileLayer, LayerSource};
use crate::config::origin::Origin;
use crate::config::resolve::{CodexOwnModel, ConfigFlags, Layers, resolve};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Configuration of a whole machine.
pub const SYSTEM_FILE: &str = "/etc/codex-mcp/config.toml";

/// No configuration is longer; a path that names a device or a log must not be read to its end.
const MAX_FILE: u64 = 1 << 20;

/// Reads the files and the environment of this process, and resolves them with the flags.
///
/// # Errors
///
/// Whatever is wrong with the configuration: see [`ConfigError`].
pub fn load(flags: &ConfigFlags) -> Result<Config, ConfigError> {
    let environment = Environment::from_pairs(std::env::vars_os());
    load_with(Path::new(SYSTEM_FILE), &environment, flags)
}

fn load_with(system: &Path, environment: &Environment, flags: &ConfigFlags) -> Result<Config, ConfigError> {
    let layers = Layers {
        system: read_layer(system, environment)?,
        user: user_layer(environment, flags)?,
        codex: codex_own_model(environment),
    };
    let mut config = resolve(layers, environment, flags)?;
    // Engines take a link in a mount's source for something else than what it points at.
    let secrets_dir = config.secrets_dir.as_mut().map(|directory| &mut directory.value);
    let ours = [&mut config.state_dir.value, &mut config.cache_dir.value];
    for directory in ours.into_iter().chain(secrets_dir) {
        *directory = without_links(directory);
    }
    Ok(config)
}

/// The path with the links in the part of it that exists resolved, and `..` with them.
fn without_links(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(real) = existing.canonicalize() {
            return missing.iter().rev().fold(real, |path, name| path.join(name));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name);
                existing = parent;
            }
            // A `..` below what does not exist: whoever makes the directory says what is wrong.
            _ => return path.to_owned(),
        }
    }
}

/// The file that a flag or variable names, which must exist; else the user's own, which may not.
fn user_layer(environment: &Environment, flags: &ConfigFlags) -> Result<Option<FileLayer>, ConfigError> {
    let by_flag = flags
        .config
        .clone()
        .map(|path| (path, Origin::Flag { name: "--config" }));
    let by_variable = || {
        let name = environment::CONFIG;
        environment.file(name).map(|path| (path, Origin::Environment { name }))
    };
    if let Some((path, named_by)) = by_flag.or_else(by_variable) {
        return match read_layer(&path, environment)? {
            Some(layer) => Ok(Some(layer)),
            None => Err(ConfigError::MissingFile { path, named_by }),
        };
    }
    let xdg = environment.directory("XDG_CONFIG_HOME").map(Path::to_path_buf);
    match xdg.or_else(|| environment.home().map(|home| home.join(".config"))) {
        Some(base) => read_layer(&base.join("codex-mcp/config.toml"), environment),
        None => Ok(None),
    }
}

fn read_layer(path: &Path, environment: &Environment) -> Result<Option<FileLayer>, ConfigError> {
    let path = path.to_path_buf();
    let bytes = match read_bounded(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ConfigError::Unreadable { path, error }),
    };
    if bytes.len() as u64 > MAX_FILE {
        return Err(ConfigError::TooLarge { path, limit: MAX_FILE });
    }
    match String::from_utf8(bytes) {
        Ok(text) => FileLayer::parse(LayerSource::File(path), &text, environment).map(Some),
        Err(_) => Err(ConfigError::NotUtf8 { path }),
    }
}

/// At most one byte more than the limit, which tells "too long" from "just fits".
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `model` of the user's own Codex configuration. It is another program's file: whatever is wrong with it means only
/// that it names no model.
fn codex_own_model(environment: &Environment) -> Option<CodexOwnModel> {
    let codex_home = environment.directory("CODEX_HOME").map(Path::to_path_buf);
    let path: PathBuf = codex_home
        .or_else(|| environment.home().map(|home| home.join(".codex")))?
        .join("config.toml");
    let text = String::from_utf8(read_bounded(&path).ok()?).ok()?;
    let table: toml::Table = text.parse().ok()?;
    let string = |key: &str| table.get(key).and_then(toml::Value::as_str);
    Some(CodexOwnModel {
        model: string("model")?.parse().ok()?,
        provider: string("model_provider").unwrap_or("openai").to_owned(),
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A home directory with the given files, and an environment that points at it.
    fn home_with(files: &[(&str, &str)]) -> (TempDir, Environment) {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let environment = Environment::from_pairs([("HOME", home.path())]);
        (home, environment)
    }

    #[test]
    fn the_files_are_found_where_they_belong() {
        let (home, environment) = home_with(&[
            (".config/codex-mcp/config.toml", "[limits]\npids = 100\n"),
            (".codex/config.toml", "model = \"gpt-own\"\nunknown = [1]\n"),
            ("etc/config.toml", "[limits]\npids = 99\ncpus = 1\n"),
        ]);
        let system = home.path().join("etc/config.toml");
        let config = load_with(&system, &environment, &ConfigFlags::default()).unwrap();
        assert_eq!(config.limits.pids.value.get(), 100);
        assert_eq!(config.limits.cpus.origin, Origin::File { path: system, line: 3 });
        assert_eq!(config.codex.model.unwrap().value.as_str(), "gpt-own");
    }

    #[test]
    fn a_named_file_replaces_the_users_and_must_exist() {
        let (home, environment) = home_with(&[
            (".config/codex-mcp/config.toml", "[limits]\npids = 100\ncpus = 1\n"),
            ("other.toml", "[limits]\npids = 200\n"),
        ]);
        let nowhere = home.path().join("nowhere");
        let mut flags = ConfigFlags {
            config: Some(home.path().join("other.toml")),
            ..ConfigFlags::default()
        };
        let config = load_with(&nowhere, &environment, &flags).unwrap();
        assert_eq!(
            (config.limits.pids.value.get(), config.limits.cpus.origin),
            (200, Origin::Default)
        );
        flags.config = Some(nowhere.clone());
        let error = load_with(&nowhere, &environment, &flags).unwrap_err().to_string();
        let expected = format!(
            "flag --config names the configuration file {}, which does not exist",
            nowhere.display()
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn what_can_not_be_a_configuration_is_refused() {
        let (home, environment) = home_with(&[("huge.toml", &"#\n".repeat(600_000))]);
        std::fs::write(home.path().join("latin.toml"), b"image = \"\xe9\"").unwrap();
        for (name, expected) in [
            ("huge.toml", "is larger than"),
            ("latin.toml", "is not UTF-8"),
            ("", "can't read"),
        ] {
            let flags = ConfigFlags {
                config: Some(home.path().join(name)),
                ..ConfigFlags::default()
            };
            let error = load_with(Path::new("/nonexistent"), &environment, &flags)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_broken_codex_configuration_is_as_good_as_none() {
        for text in ["model = ", "model = 5", "model = \"a b\"", "other = 1"] {
            let (_home, environment) = home_with(&[(".codex/config.toml", text)]);
            assert_eq!(codex_own_model(&environment), None, "{text}");
        }
    }

    #[test]
    fn links_in_the_way_to_a_directory_are_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(without_links(&link.join("not/yet")), real.join("not/yet"));
        assert_eq!(without_links(&real), real);
    }
}
