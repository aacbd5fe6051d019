//! What to put into an MCP client's configuration. Pure.

use crate::supervise::command::shell_quoted;
use std::path::Path;

/// Stands for the program's absolute path in the templates under `config/clients/`.
const COMMAND: &str = "@COMMAND@";

/// The three that cover most clients.
pub fn render(program: &Path) -> String {
    let path = program.to_string_lossy();
    let shell = format!(
        "Claude Code:\n\n  claude mcp add codex -- {} serve\n",
        shell_quoted(program.as_os_str())
    );
    let codex = indented(include_str!("../../../config/clients/codex.toml"), &path);
    let generic = indented(include_str!("../../../config/clients/claude-desktop.json"), &path);
    format!("{shell}\nCodex (~/.codex/config.toml):\n\n{codex}\nMost others:\n\n{generic}")
}

fn indented(template: &str, path: &str) -> String {
    let filled = fill(template, path);
    let lines = filled.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.map(|line| format!("  {line}\n")).collect()
}

/// JSON strings and TOML's basic strings escape alike; the templates have the placeholder between quotes.
fn fill(template: &str, path: &str) -> String {
    let quoted = serde_json::Value::from(path).to_string();
    template.replace(COMMAND, quoted.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: [&str; 5] = [
        include_str!("../../../config/clients/claude-code.json"),
        include_str!("../../../config/clients/claude-desktop.json"),
        include_str!("../../../config/clients/cursor.json"),
        include_str!("../../../config/clients/vscode.json"),
        include_str!("../../../config/clients/zed.json"),
    ];

    #[test]
    fn every_template_is_valid_and_names_the_command() {
        let path = r#"/opt/odd "name"\x/codex-mcp"#;
        for template in JSON {
            let filled: serde_json::Value = serde_json::from_str(&fill(template, path)).expect(template);
            assert!(
                filled.to_string().contains(&serde_json::Value::from(path).to_string()),
                "{filled}"
            );
            assert!(filled.to_string().contains("\"serve\""), "{filled}");
        }
        let codex: toml::Table = fill(include_str!("../../../config/clients/codex.toml"), path)
            .parse()
            .expect("TOML");
        assert_eq!(codex["mcp_servers"]["codex"]["command"].as_str(), Some(path));
        assert_eq!(
            codex["mcp_servers"]["codex"]["tool_timeout_sec"].as_integer(),
            Some(3600)
        );
    }

    #[test]
    fn the_printed_snippets_carry_the_absolute_path() {
        insta::assert_snapshot!(render(Path::new("/usr/local/bin/codex-mcp")));
    }
}
