//! The configuration that the demo's server is given. Pure.

use crate::config::{Config, RuntimeChoice};
use std::path::Path;
use toml::{Table, Value};

/// The name of the demo's provider.
pub const PROVIDER: &str = "scripted";

/// The user's engine, image and directories; the scripted model in place of theirs. Best-effort, because the demo
/// shows what a machine can do before its owner has set it up, and says what is missing.
pub fn render(config: &Config, base_url: &str, model: &str, workspace: &Path) -> String {
    let runtime = match config.runtime.value {
        RuntimeChoice::Auto => "auto",
        RuntimeChoice::Podman => "podman",
        RuntimeChoice::Docker => "docker",
    };
    let provider = table([("base_url", text(base_url))]);
    let settings = table([
        ("runtime", text(runtime)),
        ("image", text(&config.image.value.to_string())),
        ("state_dir", path(&config.state_dir.value)),
        ("cache_dir", path(&config.cache_dir.value)),
        ("limits", Value::Table(table([("enforcement", text("best-effort"))]))),
        (
            "codex",
            Value::Table(table([("provider", text(PROVIDER)), ("model", text(model))])),
        ),
        ("providers", Value::Table(table([(PROVIDER, Value::Table(provider))]))),
        (
            "workspace",
            Value::Table(table([("roots", Value::Array(vec![path(workspace)]))])),
        ),
    ]);
    settings.to_string()
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn path(path: &Path) -> Value {
    text(&path.to_string_lossy())
}

/// `${` begins a variable in a configuration file.
fn text(text: &str) -> Value {
    Value::String(text.replace("${", "$${"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_brace_in_a_path_is_no_variable() {
        assert_eq!(path(Path::new("/a/${b}")), Value::String("/a/$${b}".into()));
    }
}
