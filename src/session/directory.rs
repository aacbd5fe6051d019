//! A session's files on the host: made before its container, removed after it.
//!
//! Below `state_dir/sessions/ID` (0700, ours): the Codex home that the container writes, the sealed files that it sees
//! read-only, the copy of the workspace, and who owns the session. Nothing in here is read back as a path, and the two
//! directories that the container writes are only ever read through [`crate::workspace::tree`].
#![expect(clippy::disallowed_methods, reason = "makes and removes a session's directory")]

use crate::plan::decide::SessionFiles;
use crate::plan::identity::SessionId;
use crate::plan::launch::ContainerUser;
use crate::plan::paths::{SEALED_DIRS, SEALED_FILES};
use crate::session::removal::{RemovalError, remove_tree};
use crate::session::secrets;
use crate::supervise::owner::Owner;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

const OWNER_FILE: &str = "owner.json";
/// Names the Codex thread; written when there is one.
pub const THREAD_FILE: &str = "thread";

/// What is in the files that the container sees and can't change.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// Codex's `config.toml`.
    pub config: &'a str,
    /// PEM. `None`: the image's own authorities do, and nothing is mounted.
    pub ca_bundle: Option<&'a str>,
    /// `None`: cargo has no mirrors, and nothing is mounted.
    pub cargo_config: Option<&'a str>,
}

#[derive(Debug)]
pub struct SessionDirectory {
    root: PathBuf,
    pub files: SessionFiles,
}

impl SessionDirectory {
    /// Makes the directory and its record of the owner; everything else is filled in by [`Self::seal`] and by the copy.
    pub fn create(state_dir: &Path, session: &SessionId, owner: &Owner) -> io::Result<Self> {
        let sessions = state_dir.join("sessions");
        private_dir_all(&sessions)?;
        let root = sessions.join(session.as_str());
        DirBuilder::new().mode(0o700).create(&root)?;
        let directory = Self {
            files: SessionFiles::below(&root),
            root,
        };
        fs::write(directory.root.join(OWNER_FILE), serde_json::to_vec(owner)?)?;
        Ok(directory)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes what the container sees read-only, and the empty Codex home.
    pub fn seal(&self, contents: &Sealed<'_>, user: &ContainerUser) -> io::Result<()> {
        let home = &self.files.codex_home;
        let sealed = &self.files.sealed;
        DirBuilder::new().mode(0o700).create(home)?;
        DirBuilder::new().mode(0o755).create(sealed)?;
        for name in SEALED_FILES {
            let path = sealed.join(name);
            write_sealed(&path, if name == "config.toml" { contents.config } else { "" })?;
            // The mount point: a bind mount needs something to lie on, and one made here by us is not the
            // container's to replace.
            fs::write(home.join(name), "")?;
        }
        for name in SEALED_DIRS {
            DirBuilder::new().mode(0o755).create(sealed.join(name))?;
            DirBuilder::new().mode(0o755).create(home.join(name))?;
        }
        let offered = [
            (&self.files.ca_bundle, contents.ca_bundle),
            (&self.files.cargo_config, contents.cargo_config),
        ];
        for (path, text) in offered {
            text.map_or(Ok(()), |text| write_sealed(path, text))?;
        }
        give(home, user)
    }

    /// Records that the session has a thread: from now on its workspace may hold a user's work.
    pub fn record_thread(&self, thread: &str) -> io::Result<()> {
        fs::write(self.root.join(THREAD_FILE), thread)
    }

    /// [`Self::remove`]; a failure is logged, and the next start's sweep tries again.
    pub fn remove_or_warn(self) {
        // Without a thread on record the sweep may take what is left.
        let _ = fs::remove_file(self.root.join(THREAD_FILE));
        let root = self.root.clone();
        if let Err(error) = self.remove() {
            tracing::warn!(path = %root.display(), %error, "could not remove a session's directory");
        }
    }

    /// Removes everything. Called when the container is gone. The secrets first: as long as one is left, so is the record of
    /// where it is.
    pub fn remove(self) -> Result<(), RemovalError> {
        secrets::remove(&self.root)?;
        remove_tree(&self.root)
    }
}

/// A directory that nobody else can look into, with its parents.
pub fn private_dir_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)
}

/// Readable to the container's user, whoever that is on the host; writable to nobody.
fn write_sealed(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, Permissions::from_mode(0o444))
}

/// Gives a directory to the user that the container runs as; a no-op where that is us.
fn give(path: &Path, user: &ContainerUser) -> io::Result<()> {
    chown(path, Some(user.host_uid), Some(user.host_gid))
}

/// The owner that a session directory names, where it can be read.
pub fn owner_of(session_dir: &Path) -> Option<Owner> {
    serde_json::from_slice(&fs::read(session_dir.join(OWNER_FILE)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::launch::UserMapping;

    #[test]
    fn a_session_directory_is_private_and_sealed() {
        let state = tempfile::tempdir().unwrap();
        let owner = Owner {
            pid: 1,
            start_ticks: 2,
            boot_id: "b".into(),
        };
        let session = SessionId::from_random([7; 10]);
        let directory = SessionDirectory::create(state.path(), &session, &owner).unwrap();
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let user = ContainerUser {
            uid,
            gid,
            mapping: UserMapping::None,
            host_uid: uid,
            host_gid: gid,
        };
        let contents = Sealed {
            config: "model = 'x'",
            ca_bundle: Some("PEM"),
            cargo_config: None,
        };
        directory.seal(&contents, &user).unwrap();

        assert_eq!(
            fs::metadata(directory.root()).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(
            fs::read_to_string(directory.files.sealed.join("config.toml")).unwrap(),
            "model = 'x'"
        );
        assert_eq!(
            fs::read_to_string(directory.files.sealed.join("AGENTS.md")).unwrap(),
            ""
        );
        let bundle = &directory.files.ca_bundle;
        assert_eq!(fs::read_to_string(bundle).unwrap(), "PEM");
        assert_eq!(fs::metadata(bundle).unwrap().permissions().mode() & 0o777, 0o444);
        assert!(
            !directory.files.cargo_config.exists(),
            "what is not mounted is not written"
        );
        assert_eq!(owner_of(directory.root()), Some(owner.clone()));
        assert!(
            SessionDirectory::create(state.path(), &session, &owner).is_err(),
            "a session id is used once"
        );

        let root = directory.root().to_owned();
        directory.remove().unwrap();
        assert!(!root.exists());
    }
}
