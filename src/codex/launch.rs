//! How Codex is started inside the container: its command line and its whole environment. Pure.

use std::collections::BTreeMap;

/// Where the image has Codex's own tree: `bin/`, `codex-path/` (ripgrep), `codex-resources/`.
pub const INSTALL_DIR: &str = "/opt/codex";

/// Codex says so at every start, as a warning and as an ERROR line of its log. It starts no sandbox of its own in our
/// threads (the container is the sandbox), so it has no use for bubblewrap.
///
/// `codex-resources/`, which has one, is kept off PATH all the same: Codex would prefer that one to its own, and run it
/// at each start to see whether it can make user namespaces; under docker it can't, which is another warning.
pub(super) const BUBBLEWRAP_MISSING: &str = "Codex could not find bubblewrap";

/// The last line of what was written to Codex's log that can have to do with an end.
pub fn last_words(log: &str) -> Option<&str> {
    log.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.contains(BUBBLEWRAP_MISSING))
}

/// Where Codex keeps its things; all paths as seen inside the container.
#[derive(Debug, Clone, Copy)]
pub struct CodexPaths<'a> {
    /// `config.toml`, sessions and databases; writable. Must not lie below `temporary`: Codex then refuses its helpers.
    pub codex_home: &'a str,
    /// The home directory of commands.
    pub home: &'a str,
    pub temporary: &'a str,
}

/// The app-server as a process to start; nothing is inherited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppServerCommand {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
}

pub fn app_server_command(paths: &CodexPaths<'_>) -> AppServerCommand {
    let path = format!("{INSTALL_DIR}/codex-path:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let env = [
        ("CODEX_HOME", paths.codex_home),
        ("HOME", paths.home),
        ("LANG", "C.UTF-8"),
        ("PATH", path.as_str()),
        // Its log goes to stderr, which is the guest's log on the host.
        ("RUST_LOG", "error"),
        ("TMPDIR", paths.temporary),
    ];
    AppServerCommand {
        argv: vec![
            format!("{INSTALL_DIR}/bin/codex"),
            "app-server".to_owned(),
            // Without it Codex answers a configuration that it can't read with its own defaults: telemetry on.
            "--strict-config".to_owned(),
        ],
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_codex_says_at_every_start_is_nobodys_last_word() {
        let every_start = "2026 ERROR codex_app_server: Codex could not find bubblewrap on PATH. Install…";
        assert_eq!(last_words(&format!("panicked\n{every_start}\n\n")), Some("panicked"));
        assert_eq!(last_words(every_start), None);
    }

    #[test]
    fn the_whole_command() {
        let command = app_server_command(&CodexPaths {
            codex_home: "/home/codex/.codex",
            home: "/home/codex",
            temporary: "/tmp",
        });
        insta::assert_debug_snapshot!(command, @r#"
        AppServerCommand {
            argv: [
                "/opt/codex/bin/codex",
                "app-server",
                "--strict-config",
            ],
            env: {
                "CODEX_HOME": "/home/codex/.codex",
                "HOME": "/home/codex",
                "LANG": "C.UTF-8",
                "PATH": "/opt/codex/codex-path:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "RUST_LOG": "error",
                "TMPDIR": "/tmp",
            },
        }
        "#);
    }
}
