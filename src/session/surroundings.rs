//! What the process was started with, read once at its edge and passed in: nothing below reads the environment.

use crate::workspace::git::command::Git;
use crate::workspace::git::run::GitError;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

#[derive(Clone)]
pub struct Surroundings {
    /// The folder that the process was started in.
    pub started_in: PathBuf,
    pub home: Option<PathBuf>,
    /// The whole environment. The engine's client gets an allowlist of it; a key source may name a variable of it.
    pub environment: BTreeMap<OsString, OsString>,
    /// This program's own file, to be staged as the guest.
    pub executable: PathBuf,
}

/// Without the environment: keys are in it.
impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("started_in", &self.started_in)
            .field("home", &self.home)
            .field("executable", &self.executable)
            .finish_non_exhaustive()
    }
}

impl Surroundings {
    /// The git of this host, for snapshots and changes.
    pub fn git(&self) -> Result<Git, GitError> {
        let search_path = self.variable("PATH").map(OsString::as_os_str).unwrap_or_default();
        let home = self.home.as_ref().map(|home| home.as_os_str());
        Git::find(
            search_path,
            home,
            self.variable("XDG_CONFIG_HOME").map(OsString::as_os_str),
        )
    }

    pub fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment.get(OsStr::new(name))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test plants a program")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Git is run in the user's folder: what lies in there must never be taken for it.
    #[test]
    fn a_projects_own_git_is_not_the_hosts() {
        let project = tempfile::tempdir().unwrap();
        let planted = project.path().join("git");
        std::fs::write(&planted, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o755)).unwrap();
        let surroundings = |path: &str| Surroundings {
            started_in: project.path().to_owned(),
            home: None,
            environment: [("PATH".into(), path.into())].into(),
            executable: PathBuf::new(),
        };
        assert!(matches!(surroundings(".:bin").git(), Err(GitError::Missing)));
        // The same program is found where the operator names the folder.
        let named = project.path().to_str().unwrap();
        assert_eq!(surroundings(&format!(".:{named}")).git().unwrap().program, planted);
    }
}
