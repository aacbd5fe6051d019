//! Secret mounts of one session: where each is staged on the host and seen inside. Pure; it knows sources and no values.

use crate::config::secret::{SecretMount, SecretName};
use crate::config::{SecretSource, Sourced};
use crate::plan::launch::{Mount, MountAccess, MountSharing};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedSecret {
    pub name: SecretName,
    pub from: Sourced<SecretSource>,
    /// On the host: a file in memory, made for this session and removed with it.
    pub staged: PathBuf,
    /// Inside.
    pub target: String,
}

/// `directory` is this session's own.
pub fn planned(secrets: &BTreeMap<SecretName, SecretMount>, directory: &Path) -> Vec<PlannedSecret> {
    let planned = secrets.iter().map(|(name, secret)| PlannedSecret {
        name: name.clone(),
        from: secret.from.clone(),
        staged: directory.join(name.as_str()),
        target: secret.path.value.to_string(),
    });
    planned.collect()
}

impl PlannedSecret {
    /// The file alone, never its directory: that one is ours.
    pub fn mount(&self) -> Mount {
        Mount {
            source: self.staged.clone(),
            target: self.target.clone(),
            access: MountAccess::ReadOnly,
            sharing: MountSharing::Private,
        }
    }
}
