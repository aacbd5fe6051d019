//! `[workspace]`: layers → settings.

use super::{ConfigFlags, Stack, bad_value, needed};
use crate::config::error::ConfigError;
use crate::config::key;
use crate::config::origin::{Origin, Sourced};
use crate::config::workspace::WorkspaceSettings;
use std::num::NonZeroU64;
use std::path::PathBuf;

impl Stack<'_> {
    pub(super) fn workspace(&self, flags: &ConfigFlags) -> Result<WorkspaceSettings, ConfigError> {
        let max_files: Sourced<NonZeroU64> = needed(
            key::MAX_FILES,
            self.value(key::MAX_FILES, |v| v.workspace.max_files.as_ref(), None)?,
        )?;
        Ok(WorkspaceSettings {
            roots: self.roots(flags)?,
            max_files: Sourced::new(max_files.value.get(), max_files.origin),
            mode: needed(
                key::WORKSPACE_MODE,
                self.value(key::WORKSPACE_MODE, |v| v.workspace.mode.as_ref(), None)?,
            )?,
            history: needed(
                key::HISTORY,
                self.value(key::HISTORY, |v| v.workspace.history.as_ref(), None)?,
            )?,
            apply: needed(
                key::APPLY,
                self.value(key::APPLY, |v| v.workspace.apply.as_ref(), flags.apply)?,
            )?,
            free: needed(key::FREE, self.value(key::FREE, |v| v.workspace.free.as_ref(), None)?)?,
        })
    }

    fn roots(&self, flags: &ConfigFlags) -> Result<Sourced<Vec<PathBuf>>, ConfigError> {
        let mut roots = None;
        for file in self.files {
            if let Some(written) = &file.values.workspace.roots {
                let mut paths = Vec::new();
                for root in written.get_ref() {
                    let path = self.path(root.get_ref());
                    paths.push(path.map_err(|reason| bad_value(file, key::ROOTS.name, root.span(), reason))?);
                }
                roots = Some(Sourced::new(paths, file.origin(written.span())));
            }
        }
        if let (Some(workspace), Some(name)) = (&flags.workspace, key::ROOTS.flag) {
            roots = Some(Sourced::new(vec![workspace.clone()], Origin::Flag { name }));
        }
        needed(key::ROOTS, roots)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{refusal, resolve_user, user};
    use super::*;
    use crate::config::environment::Environment;
    use crate::config::resolve::resolve;
    use crate::config::workspace::{ApplyWhen, History, WorkspaceMode};

    #[test]
    fn how_a_session_works_on_its_folder_is_the_operators() {
        let written =
            resolve_user("[workspace]\nmode = \"bind\"\nhistory = 50\napply = \"turn\"\nfree = \"2g\"").unwrap();
        let workspace = written.workspace;
        assert_eq!(workspace.mode.value, WorkspaceMode::Bind);
        assert_eq!(workspace.history.value.to_string(), "50");
        assert_eq!(workspace.apply.value, ApplyWhen::Turn);
        assert_eq!(workspace.free.value.bytes(), 2 << 30);
        let none = resolve_user("[workspace]\nhistory = \"none\"").unwrap();
        assert_eq!(none.workspace.history.value, History::None);

        let environment = Environment::from_pairs([("HOME", "/home/u"), ("CODEX_MCP_WORKSPACE_MODE", "scratch")]);
        let flags = ConfigFlags {
            apply: Some(ApplyWhen::Turn),
            ..ConfigFlags::default()
        };
        let workspace = resolve(user("[workspace]\nmode = \"bind\""), &environment, &flags)
            .unwrap()
            .workspace;
        assert_eq!(workspace.mode.value, WorkspaceMode::Scratch);
        assert_eq!(
            workspace.apply,
            Sourced::new(ApplyWhen::Turn, Origin::Flag { name: "--apply" })
        );
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        assert_eq!(
            refusal("[workspace]\nhistory = 0"),
            "/u.toml:2: `workspace.history` = 0: expected `head` (all that HEAD reaches), `none`, or a number of commits, \
             at least 1"
        );
        assert_eq!(
            refusal("[workspace]\nmode = \"copy\""),
            "/u.toml:2: `workspace.mode` = \"copy\": expected one of `snapshot`, `bind`, `scratch`"
        );
        assert!(refusal("[workspace]\napply = \"always\"").contains("`never`, `turn`"));
    }
}
