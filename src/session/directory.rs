//! A session's files on the host: its directory outlives its containers.
//!
//! Below `state_dir/sessions/ID` (0700, ours): the Codex home that the container writes, the sealed files that it sees
//! read-only, the workspace, and what only this host sees: the record, the lock, the log of what happened, the private git
//! directory. Nothing that the container writes is read back as a path, and only ever through
//! [`crate::workspace::tree`].
#![expect(clippy::disallowed_methods, reason = "makes and removes a session's files")]

use crate::plan::decide::SessionFiles;
use crate::plan::launch::ContainerUser;
use crate::plan::paths::{SEALED_DIRS, SEALED_FILES};
use crate::session::secrets;
use crate::session::store::hold::LOCK_FILE;
use crate::session::store::stored::RECORD_FILE;
use crate::workspace::removal::{RemovalError, empty_but, remove_tree};
use crate::workspace::tree::errno_of;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Ends the name of a directory whose session is removed and whose last files are being.
pub const GONE: &str = "gone";

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
    /// Of one that is there.
    pub fn at(root: &Path) -> Self {
        Self {
            files: SessionFiles::below(root),
            root: root.to_owned(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes what the container sees read-only, anew for each launch, and makes the Codex home where there is none yet.
    ///
    /// # Errors
    ///
    /// Also where the home is not as we made it: it belongs to another user, or what lies below our mounts was replaced.
    pub fn seal(&self, contents: &Sealed<'_>, user: &ContainerUser) -> io::Result<()> {
        let sealed = &self.files.sealed;
        // Ours alone: the container sees single files of it, read-only.
        if sealed.exists() {
            fs::remove_dir_all(sealed)?;
        }
        DirBuilder::new().mode(0o755).create(sealed)?;
        for name in SEALED_FILES {
            write_sealed(
                &sealed.join(name),
                if name == "config.toml" { contents.config } else { "" },
            )?;
        }
        for name in SEALED_DIRS {
            DirBuilder::new().mode(0o755).create(sealed.join(name))?;
        }
        let offered = [
            (&self.files.ca_bundle, contents.ca_bundle),
            (&self.files.cargo_config, contents.cargo_config),
        ];
        for (path, text) in offered {
            text.map_or(Ok(()), |text| write_sealed(path, text))?;
        }
        self.home(user)
    }

    /// The mount points: a bind mount needs something to lie on, and one made here by us is not the container's to replace.
    fn home(&self, user: &ContainerUser) -> io::Result<()> {
        let home = &self.files.codex_home;
        match DirBuilder::new().mode(0o700).create(home) {
            Ok(()) => chown(home, Some(user.host_uid), Some(user.host_gid))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let owner = fs::symlink_metadata(home)?.uid();
                if owner != user.host_uid {
                    return Err(io::Error::other(format!(
                        "the session's files belong to user {owner} and its container would run as {}: use the engine that it \
                         was started with",
                        user.host_uid
                    )));
                }
            }
            Err(error) => return Err(error),
        }
        for name in SEALED_FILES {
            mount_point(&home.join(name), fs::Metadata::is_file, |path| fs::write(path, ""))?;
        }
        for name in SEALED_DIRS {
            mount_point(&home.join(name), fs::Metadata::is_dir, |path| {
                DirBuilder::new().mode(0o755).create(path)
            })?;
        }
        Ok(())
    }

    /// Removes what a container needs while it runs and nobody after it.
    pub fn container_ended(&self) -> Result<(), RemovalError> {
        secrets::remove(&self.root)
    }

    /// Removes everything. Called when the container is gone, by whoever has the session. The secrets first: as long as one is
    /// left, so is the record of where it is. Then all but the record and the lock, so that what is cut short is found by the
    /// one, and nobody takes up half a session for the other. These two go in one step, under a name that is no session's: a
    /// lock that is gone before its directory is made again by whoever opens the session.
    pub fn remove(self) -> Result<(), RemovalError> {
        secrets::remove(&self.root)?;
        empty_but(&self.root, &[RECORD_FILE, LOCK_FILE])?;
        let gone = self.root.with_extension(GONE);
        match fs::rename(&self.root, &gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RemovalError::Parent {
                path: self.root,
                errno: errno_of(&error),
            }),
            _ => remove_tree(&gone),
        }
    }
}

/// A link in its place would have the engine mount our file wherever it points.
fn mount_point(
    path: &Path,
    fits: fn(&fs::Metadata) -> bool,
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if fits(&found) => Ok(()),
        Ok(_) => Err(io::Error::other(format!(
            "{} was replaced: the session was tampered with and is not started again",
            path.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(error) => Err(error),
    }
}

/// A directory that nobody else can look into, with its parents.
pub fn private_dir_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)
}

/// Readable to the container's user, whoever that is on the host; writable to nobody.
fn write_sealed(path: &Path, text: &str) -> io::Result<()> {
    // Where it is there, it is 0444, which the write would fail on for everybody but root.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write(path, text)?;
    fs::set_permissions(path, Permissions::from_mode(0o444))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::launch::UserMapping;

    const CONTENTS: Sealed<'_> = Sealed {
        config: "model = 'x'",
        ca_bundle: Some("PEM"),
        cargo_config: None,
    };

    fn me() -> ContainerUser {
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        ContainerUser {
            uid,
            gid,
            mapping: UserMapping::None,
            host_uid: uid,
            host_gid: gid,
        }
    }

    fn sealed() -> (tempfile::TempDir, SessionDirectory) {
        let state = tempfile::tempdir().unwrap();
        let directory = SessionDirectory::at(state.path());
        directory.seal(&CONTENTS, &me()).unwrap();
        (state, directory)
    }

    #[test]
    fn what_the_container_sees_is_sealed() {
        let (_state, directory) = sealed();
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(read(directory.files.sealed.join("config.toml")), "model = 'x'");
        assert_eq!(read(directory.files.sealed.join("AGENTS.md")), "");
        let bundle = &directory.files.ca_bundle;
        assert_eq!(read(bundle.clone()), "PEM");
        assert_eq!(fs::metadata(bundle).unwrap().permissions().mode() & 0o777, 0o444);
        assert!(
            !directory.files.cargo_config.exists(),
            "what is not mounted is not written"
        );
    }

    #[test]
    fn a_further_launch_is_sealed_anew_on_the_same_home() {
        let (_state, directory) = sealed();
        let kept = directory.files.codex_home.join("sessions");
        fs::write(&kept, "thread").unwrap();
        fs::write(directory.files.sealed.join("rules/planted"), "x").unwrap();
        let contents = Sealed {
            config: "model = 'y'",
            ..CONTENTS
        };
        directory.seal(&contents, &me()).unwrap();
        let config = fs::read_to_string(directory.files.sealed.join("config.toml")).unwrap();
        assert_eq!(config, "model = 'y'");
        assert!(!directory.files.sealed.join("rules/planted").exists());
        assert_eq!(fs::read_to_string(kept).unwrap(), "thread");
    }

    #[test]
    fn a_home_that_is_not_as_we_made_it_is_not_mounted_over() {
        for name in ["config.toml", "rules"] {
            let (state, directory) = sealed();
            let place = directory.files.codex_home.join(name);
            remove_tree(&place).or_else(|_| fs::remove_file(&place)).unwrap();
            std::os::unix::fs::symlink(state.path(), &place).unwrap();
            let error = directory.seal(&CONTENTS, &me()).unwrap_err().to_string();
            assert!(error.contains("tampered"), "{error}");
        }
        let (_state, directory) = sealed();
        let other = ContainerUser {
            host_uid: me().host_uid + 1,
            ..me()
        };
        let error = directory.seal(&CONTENTS, &other).unwrap_err().to_string();
        assert!(error.contains("use the engine"), "{error}");
    }
}
