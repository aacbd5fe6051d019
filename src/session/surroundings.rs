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
    /// The git of this host, for snapshots and changes. Looks along PATH.
    pub fn git(&self) -> Result<Git, GitError> {
        let search_path = self.variable("PATH").cloned().unwrap_or_default();
        let program = which::which_in("git", Some(&search_path), &self.started_in).map_err(|_| GitError::Missing)?;
        Ok(Git {
            program,
            search_path,
            home: self.home.clone().map(Into::into),
            config_home: self.variable("XDG_CONFIG_HOME").cloned(),
        })
    }

    pub fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment.get(OsStr::new(name))
    }
}
