//! Files that run on the host without anybody asking for them.
//!
//! Applied code is dangerous when somebody runs it, and then somebody decided so. These are worse: a shell that enters the
//! folder, an editor that opens it, a commit, a push or the next build that somebody wanted anyway picks them up. In the
//! table is what itself is run, or names commands that are, or is followed as instructions by an agent on the host. It can
//! not be complete (a build's own sources run as well), so docs say that the list is a warning and not a boundary.

use crate::workspace::apply::path::RelativePath;

/// Where a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    /// A file of this name in any directory.
    Name(&'static str),
    /// Any file whose name ends so.
    Ending(&'static str),
    /// A directory of this name anywhere, with all in it; a link in its place as well.
    Directory(&'static str),
    /// The same for a directory in a directory: a project may lie in a subdirectory.
    Nested(&'static str, &'static str),
}

use Pattern::{Directory, Ending, Name, Nested};

const SHELL: &str = "a shell that enters the folder may run it";
const EDITOR: &str = "an editor that opens the folder may run what it names";
const AGENT: &str = "an agent on this host follows it, or runs what it names";
const GIT_HOOK: &str = "git runs it, or what it names, on a commit or push";
const CI: &str = "the forge runs it when it is pushed, with the project's secrets";
const BUILD: &str = "the next build runs it, and an editor builds by itself";
const INSTALL: &str = "a package client runs it, or what it names, on the next install";
const DEBUGGER: &str = "a debugger started in the folder may run it";
const INTERPRETER: &str = "an interpreter started in the folder may run it first";

/// Lower case: a folding file system gives a name to whoever asks in another case.
const TABLE: &[(Pattern, &str)] = &[
    (Name(".envrc"), SHELL),
    (Name(".env.mise"), SHELL),
    (Name("mise.toml"), SHELL),
    (Name(".mise.toml"), SHELL),
    (Name(".autoenv"), SHELL),
    (Name(".autoenv.zsh"), SHELL),
    (Directory(".vscode"), EDITOR),
    (Ending(".code-workspace"), EDITOR),
    (Directory(".idea"), EDITOR),
    (Directory(".fleet"), EDITOR),
    (Directory(".zed"), EDITOR),
    (Directory(".devcontainer"), EDITOR),
    (Name(".devcontainer.json"), EDITOR),
    (Ending(".sublime-project"), EDITOR),
    (Name(".dir-locals.el"), EDITOR),
    (Name(".exrc"), EDITOR),
    (Name(".vimrc"), EDITOR),
    (Name(".nvimrc"), EDITOR),
    (Name(".nvim.lua"), EDITOR),
    (Name(".lvimrc"), EDITOR),
    (Name(".eslintrc.js"), EDITOR),
    (Name(".eslintrc.cjs"), EDITOR),
    (Name("eslint.config.js"), EDITOR),
    (Name("eslint.config.cjs"), EDITOR),
    (Name("eslint.config.mjs"), EDITOR),
    (Name("eslint.config.ts"), EDITOR),
    (Name(".mcp.json"), AGENT),
    (Name("agents.md"), AGENT),
    (Name("agents.override.md"), AGENT),
    (Name("claude.md"), AGENT),
    (Name("gemini.md"), AGENT),
    (Name(".cursorrules"), AGENT),
    (Directory(".claude"), AGENT),
    (Directory(".codex"), AGENT),
    (Directory(".cursor"), AGENT),
    (Directory(".gemini"), AGENT),
    (Nested(".github", "copilot-instructions.md"), AGENT),
    (Directory(".husky"), GIT_HOOK),
    (Directory(".githooks"), GIT_HOOK),
    (Name(".gitconfig"), GIT_HOOK),
    (Name(".pre-commit-config.yaml"), GIT_HOOK),
    (Name(".pre-commit-config.yml"), GIT_HOOK),
    (Name("lefthook.yml"), GIT_HOOK),
    (Name("lefthook.yaml"), GIT_HOOK),
    (Name(".lefthook.yml"), GIT_HOOK),
    (Name(".lefthook.yaml"), GIT_HOOK),
    (Name("lefthook-local.yml"), GIT_HOOK),
    (Nested(".github", "workflows"), CI),
    (Nested(".github", "actions"), CI),
    (Nested(".gitea", "workflows"), CI),
    (Nested(".forgejo", "workflows"), CI),
    (Name(".gitlab-ci.yml"), CI),
    (Directory(".circleci"), CI),
    (Directory(".buildkite"), CI),
    (Directory(".woodpecker"), CI),
    (Name(".woodpecker.yml"), CI),
    (Name(".drone.yml"), CI),
    (Name(".travis.yml"), CI),
    (Name(".cirrus.yml"), CI),
    (Name("appveyor.yml"), CI),
    (Name(".appveyor.yml"), CI),
    (Name("azure-pipelines.yml"), CI),
    (Name("bitbucket-pipelines.yml"), CI),
    (Name("jenkinsfile"), CI),
    (Name("makefile"), BUILD),
    (Name("gnumakefile"), BUILD),
    (Name("bsdmakefile"), BUILD),
    (Ending(".mk"), BUILD),
    (Name("justfile"), BUILD),
    (Name(".justfile"), BUILD),
    (Name("cmakelists.txt"), BUILD),
    (Name("build.rs"), BUILD),
    (Directory(".cargo"), BUILD),
    (Name("rust-toolchain"), BUILD),
    (Name("rust-toolchain.toml"), BUILD),
    (Name("build.gradle"), BUILD),
    (Name("build.gradle.kts"), BUILD),
    (Name("settings.gradle"), BUILD),
    (Name("settings.gradle.kts"), BUILD),
    (Nested("gradle", "wrapper"), BUILD),
    (Name("gradlew"), BUILD),
    (Directory(".mvn"), BUILD),
    (Name("mvnw"), BUILD),
    (Name(".bazelrc"), BUILD),
    (Name("package.json"), INSTALL),
    (Name(".npmrc"), INSTALL),
    (Name(".yarnrc"), INSTALL),
    (Name(".yarnrc.yml"), INSTALL),
    (Directory(".yarn"), INSTALL),
    (Name(".pnpmfile.cjs"), INSTALL),
    (Name("setup.py"), INSTALL),
    (Name(".gdbinit"), DEBUGGER),
    (Name(".lldbinit"), DEBUGGER),
    (Name("sitecustomize.py"), INTERPRETER),
    (Name("usercustomize.py"), INTERPRETER),
    (Name(".irbrc"), INTERPRETER),
    (Name(".pryrc"), INTERPRETER),
    (Name(".rprofile"), INTERPRETER),
];

/// Why this file runs by itself; `None` where it is not known to.
pub fn reason(path: &RelativePath) -> Option<&'static str> {
    let names: Vec<String> = path
        .components()
        .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
        .collect();
    let file = names.last()?;
    let matches = |pattern: Pattern| match pattern {
        Name(name) => file == name,
        Ending(ending) => file.ends_with(ending),
        Directory(directory) => names.iter().any(|name| name == directory),
        // A link in the place of the outer directory brings the inner one with it.
        Nested(outer, inner) => {
            file == outer
                || names
                    .windows(2)
                    .any(|pair| matches!(pair, [first, second] if first == outer && second == inner))
        }
    };
    TABLE
        .iter()
        .find(|(pattern, _)| matches(*pattern))
        .map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Option<&'static str> {
        reason(&RelativePath::parse(path.as_bytes()).unwrap())
    }

    #[test]
    fn what_runs_by_itself_is_known_with_its_reason() {
        let known = [
            (".envrc", SHELL),
            (".vscode/tasks.json", EDITOR),
            ("packages/app/.vscode/settings.json", EDITOR),
            (".vscode", EDITOR),
            ("x.code-workspace", EDITOR),
            ("AGENTS.md", AGENT),
            (".mcp.json", AGENT),
            (".claude/settings.json", AGENT),
            (".husky/pre-commit", GIT_HOOK),
            (".pre-commit-config.yaml", GIT_HOOK),
            (".github/workflows/ci.yml", CI),
            (".github", CI),
            (".gitlab-ci.yml", CI),
            ("Makefile", BUILD),
            ("sub/GNUmakefile", BUILD),
            ("rules.mk", BUILD),
            ("build.rs", BUILD),
            (".cargo/config.toml", BUILD),
            ("package.json", INSTALL),
            (".npmrc", INSTALL),
            (".gdbinit", DEBUGGER),
            ("sitecustomize.py", INTERPRETER),
        ];
        for (path, reason) in known {
            let found = of(path);
            // A link in the place of .github is listed for whatever comes first in the table.
            assert!(
                found == Some(reason) || path == ".github" && found.is_some(),
                "{path}: {found:?}"
            );
        }
    }

    #[test]
    fn what_somebody_has_to_start_is_not_listed() {
        for path in [
            "src/main.rs",
            "script.sh",
            "github/workflows/x",
            ".github/CODEOWNERS",
            "Makefile.md",
            "env",
            "README.md",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn the_table_is_in_lower_case() {
        for (pattern, _) in TABLE {
            let names = match *pattern {
                Name(name) | Ending(name) | Directory(name) => vec![name],
                Nested(outer, inner) => vec![outer, inner],
            };
            for name in names {
                assert_eq!(name, name.to_ascii_lowercase());
            }
        }
    }
}
