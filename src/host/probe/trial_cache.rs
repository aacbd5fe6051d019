//! What the trial of OCI runtimes came to, remembered in the state directory.
//!
//! Believed only where everything that the outcome depended on is the same: the clients and runtimes by path and
//! time of modification, podman's version, the boot and the user. A file that is missing, damaged or of another
//! key is no error: the trial is made again.

#![expect(clippy::disallowed_methods, reason = "the probe's own file in the state directory")]

use crate::supervise::owner::Owner;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const FILE: &str = "probe.json";

/// All that the outcome depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub programs: Vec<Program>,
    pub version: String,
    pub boot_id: String,
    pub uid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    pub path: PathBuf,
    /// Seconds and nanoseconds; `None` where there is no such file.
    pub modified: Option<(i64, i64)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    key: Key,
    oci_runtime: Option<String>,
}

impl Key {
    pub(super) fn new<'p>(
        programs: impl IntoIterator<Item = &'p Path>,
        version: &str,
        owner: &Owner,
        uid: u32,
    ) -> Self {
        let program = |path: &Path| Program {
            path: path.to_owned(),
            modified: fs::metadata(path).ok().map(|file| (file.mtime(), file.mtime_nsec())),
        };
        Self {
            programs: programs.into_iter().map(program).collect(),
            version: version.to_owned(),
            boot_id: owner.boot_id.clone(),
            uid,
        }
    }
}

/// The runtime to name, where it is known under this key: `Some(None)` means that the engine's default works.
pub(super) fn recall(state_dir: &Path, key: &Key) -> Option<Option<String>> {
    let text = fs::read(state_dir.join(FILE)).ok()?;
    let remembered: Remembered = serde_json::from_slice(&text).ok()?;
    (remembered.key == *key).then_some(remembered.oci_runtime)
}

/// A failure costs a trial next time, no more.
pub(super) fn remember(state_dir: &Path, key: Key, oci_runtime: Option<String>) -> std::io::Result<()> {
    let text = serde_json::to_vec(&Remembered { key, oci_runtime })?;
    let mut file = tempfile::NamedTempFile::new_in(state_dir)?;
    file.write_all(&text)?;
    // Renamed into place: two servers that start at once each leave a whole file.
    file.persist(state_dir.join(FILE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(programs: &[&Path], version: &str) -> Key {
        let owner = Owner {
            pid: 1,
            start_ticks: 1,
            boot_id: "boot".to_owned(),
        };
        Key::new(programs.iter().copied(), version, &owner, 1000)
    }

    #[test]
    fn an_outcome_is_recalled_under_its_own_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let podman = dir.path().join("podman");
        fs::write(&podman, "1").unwrap();
        let known = key(&[&podman], "4.3.1");
        assert_eq!(recall(dir.path(), &known), None);
        for outcome in [None, Some("runc".to_owned())] {
            remember(dir.path(), known.clone(), outcome.clone()).unwrap();
            assert_eq!(recall(dir.path(), &known), Some(outcome));
        }
        assert_eq!(recall(dir.path(), &key(&[&podman], "5.0.0")), None);
        assert_eq!(
            recall(
                dir.path(),
                &Key {
                    uid: 0,
                    ..known.clone()
                }
            ),
            None
        );
        assert_eq!(
            recall(
                dir.path(),
                &Key {
                    boot_id: "next".to_owned(),
                    ..known.clone()
                }
            ),
            None
        );

        let later = fs::File::options().write(true).open(&podman).unwrap();
        later.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(
            recall(dir.path(), &key(&[&podman], "4.3.1")),
            None,
            "the client was replaced"
        );
        fs::remove_file(&podman).unwrap();
        assert_eq!(recall(dir.path(), &key(&[&podman], "4.3.1")), None);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let known = key(&[], "4.3.1");
        remember(dir.path(), known.clone(), None).unwrap();
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", b"null", b"\xff"] {
            fs::write(dir.path().join(FILE), damaged).unwrap();
            assert_eq!(recall(dir.path(), &known), None);
        }
    }
}
