//! Manifest against tree → changes.
//!
//! Sizes and times are the container's to forge, so content is compared by its digest. Old text comes from the user's
//! folder, and only while that still is what was copied.

use crate::wire::untrusted::Untrusted;
use crate::workspace::manifest::{Digest, Entry, Hasher, Manifest};
use crate::workspace::patch::{FileState, Patch, Side};
use crate::workspace::tree::{HardLinks, Next, Node, Tree, TreeError, Visit, Visitor, errno_of};
use nix::errno::Errno;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest file whose text is shown, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// What a session changed in its copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    pub files: Vec<FileChange>,
    /// Lines added in the patch.
    pub insertions: u64,
    /// Lines removed in the patch.
    pub deletions: u64,
    /// A unified diff of the text files, in git's form, cut at a bound (then says so in its last line).
    pub patch: Untrusted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Relative to the workspace.
    pub path: Untrusted,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// Compares a copy with what it held when it was made. `source` is the user's folder, asked for old text only. Everything
/// below any `.git` is left out, and empty directories, as in git. Blocks: not for a runtime thread.
pub fn changes(manifest: &Manifest, source: &Path, tree: &Tree, max_entries: u64) -> Result<Changes, TreeError> {
    let mut present = Present::default();
    tree.walk(max_entries, &mut present)?;
    let comparison = Comparison {
        source: Tree::open(source).ok(),
        tree,
        blocked: present.blocked,
    };
    let mut patch = Patch::default();
    let mut files = Vec::new();
    let mut paths: BTreeSet<&Path> = present.entries.keys().map(PathBuf::as_path).collect();
    let was_file = |(path, entry): (&'_ PathBuf, &Entry)| !matches!(entry, Entry::Directory { .. }) && !is_git(path);
    paths.extend(
        manifest
            .entries
            .iter()
            .filter(|(path, entry)| was_file((path, entry)))
            .map(|(path, _)| path.as_path()),
    );
    for path in paths {
        let was = manifest
            .entries
            .get(path)
            .filter(|entry| !matches!(entry, Entry::Directory { .. }));
        let is = present.entries.get(path);
        if let Some(kind) = comparison.compare(path, was, is, &mut patch) {
            files.push(FileChange {
                path: Untrusted::new(path.to_string_lossy()),
                kind,
            });
        }
    }
    let (patch, insertions, deletions) = patch.finish();
    Ok(Changes {
        files,
        insertions,
        deletions,
        patch: Untrusted::new(patch),
    })
}

fn is_git(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == OsStr::new(".git"))
}

/// What the tree holds now, directories apart.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Now {
    File { mode: u32, size: u64 },
    Symlink { target: PathBuf },
    Special,
}

#[derive(Default)]
struct Present {
    entries: BTreeMap<PathBuf, Now>,
    /// Directories that could not be entered: what lies below is unknown, which is not the same as deleted.
    blocked: Vec<PathBuf>,
}

impl Visitor for Present {
    type Error = TreeError;

    fn visit(&mut self, visit: Visit<'_>) -> Result<Next, TreeError> {
        if visit.name == OsStr::new(".git") {
            return Ok(Next::Skip);
        }
        let now = match visit.node {
            Node::Directory { .. } => return Ok(Next::Enter),
            Node::File { mode, size, .. } => Now::File { mode, size },
            Node::Symlink => match visit.directory.link_target(visit.name) {
                Ok(target) => Now::Symlink { target },
                // Gone or replaced since it was seen.
                Err(_) => return Ok(Next::Skip),
            },
            Node::Special => Now::Special,
        };
        self.entries.insert(visit.path, now);
        Ok(Next::Skip)
    }

    fn blocked(&mut self, directory: &Path, errno: Errno) -> Result<(), TreeError> {
        if directory.as_os_str().is_empty() {
            let path = directory.to_owned();
            return Err(TreeError::Unreadable { path, errno });
        }
        self.blocked.push(directory.to_owned());
        Ok(())
    }
}

struct Comparison<'t> {
    source: Option<Tree>,
    tree: &'t Tree,
    blocked: Vec<PathBuf>,
}

impl Comparison<'_> {
    /// Adds what changed to the patch; `None` where nothing did.
    fn compare(&self, path: &Path, was: Option<&Entry>, is: Option<&Now>, patch: &mut Patch) -> Option<ChangeKind> {
        if is.is_none() && self.blocked.iter().any(|blocked| path.starts_with(blocked)) {
            patch.note(
                path,
                "can't be read: the session took away the right to enter its directory",
            );
            return Some(ChangeKind::Modified);
        }
        match (was, is) {
            (None, None) | (Some(Entry::Directory { .. }), _) => None,
            (Some(Entry::Symlink { target }), Some(Now::Symlink { target: now })) if target == now => None,
            (
                Some(Entry::File { mode, size, sha256 }),
                Some(Now::File {
                    mode: mode_now,
                    size: size_now,
                }),
            ) => {
                let same_content = size == size_now && self.digest(path, *size) == Some(*sha256);
                if same_content && is_executable(*mode) == is_executable(*mode_now) {
                    return None;
                }
                if patch.is_full() {
                    patch.omit();
                } else if same_content {
                    patch.mode_change(path, is_executable(*mode), is_executable(*mode_now));
                } else {
                    patch.file(
                        path,
                        &self.text_before(path, *mode, *size, *sha256),
                        &self.text_now(path, *mode_now, *size_now),
                    );
                }
                Some(ChangeKind::Modified)
            }
            (was, is) => {
                let kind = match (was, is) {
                    (None, _) => ChangeKind::Added,
                    (_, None) => ChangeKind::Deleted,
                    _ => ChangeKind::Modified,
                };
                if patch.is_full() {
                    patch.omit();
                    return Some(kind);
                }
                let old = was.map(|was| self.side_before(path, was));
                let new = is.map(|is| self.side_now(path, is));
                match (old, new) {
                    (Some(old @ Side::Symlink(_)), Some(new @ Side::Symlink(_))) => patch.file(path, &old, &new),
                    // Git shows a file that became a link, or the reverse, as one deleted and one added.
                    (old, new) => {
                        old.iter().for_each(|old| patch.file(path, old, &Side::Absent));
                        new.iter().for_each(|new| patch.file(path, &Side::Absent, new));
                    }
                }
                Some(kind)
            }
        }
    }

    fn side_before(&self, path: &Path, was: &Entry) -> Side {
        match was {
            Entry::File { mode, size, sha256 } => self.text_before(path, *mode, *size, *sha256),
            Entry::Symlink { target } => Side::Symlink(target.clone()),
            Entry::Directory { .. } => Side::Absent,
        }
    }

    fn side_now(&self, path: &Path, is: &Now) -> Side {
        match is {
            Now::File { mode, size } => self.text_now(path, *mode, *size),
            Now::Symlink { target } => Side::Symlink(target.clone()),
            Now::Special => Side::File {
                executable: false,
                state: FileState::Withheld("is a socket, FIFO or device"),
            },
        }
    }

    fn text_before(&self, path: &Path, mode: u32, size: u64, sha256: Digest) -> Side {
        let state = if size > MAX_TEXT {
            FileState::TooLarge
        } else {
            let content = self
                .source
                .as_ref()
                .and_then(|source| source.read(path, HardLinks::Allowed, MAX_TEXT).ok());
            match content {
                Some(content) if Digest::of(&content) == sha256 => FileState::of(content),
                _ => {
                    FileState::Withheld("has changed on the host since the session began, so its old text is not shown")
                }
            }
        };
        Side::File {
            executable: is_executable(mode),
            state,
        }
    }

    fn text_now(&self, path: &Path, mode: u32, size: u64) -> Side {
        let state = if size > MAX_TEXT {
            FileState::TooLarge
        } else {
            match self.tree.read(path, HardLinks::Refused, MAX_TEXT) {
                Ok(content) => FileState::of(content),
                Err(TreeError::TooLarge { .. }) => FileState::TooLarge,
                Err(TreeError::HardLinked { .. }) => FileState::Withheld("has several hard links and is not read"),
                Err(_) => FileState::Withheld("can't be read"),
            }
        };
        Side::File {
            executable: is_executable(mode),
            state,
        }
    }

    /// The digest of a file of this size now; `None` where it can't be read or has grown, which counts as changed. What
    /// runs in the container may still write: a file truncated to terabytes after the walk must not be read to its end.
    fn digest(&self, path: &Path, size: u64) -> Option<Digest> {
        let mut file = self.tree.file(path, HardLinks::Refused).ok()?;
        let mut hasher = Hasher::default();
        let mut piece = vec![0; 128 << 10];
        let mut left = size;
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Some(hasher.finish()),
                Ok(read) => {
                    left = left.checked_sub(read as u64)?;
                    hasher.update(piece.get(..read)?);
                }
                Err(error) if errno_of(&error) == Errno::EINTR => {}
                Err(_) => return None,
            }
        }
    }
}

/// The one bit of a mode that git keeps.
fn is_executable(mode: u32) -> bool {
    mode & 0o100 != 0
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files")]
mod tests {
    use super::*;
    use crate::config::quantity::ByteSize;
    use crate::config::{Origin, Sourced};
    use crate::workspace::copy::{CopyLimits, CopyOwner, copy};
    use proptest::prelude::*;
    use std::fs;
    use std::ops::ControlFlow;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Bench {
        _dir: tempfile::TempDir,
        source: PathBuf,
        copy: PathBuf,
        manifest: Manifest,
    }

    fn bench(make: impl FnOnce(&Path)) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let (source, to) = (dir.path().join("source"), dir.path().join("copy"));
        fs::create_dir(&source).unwrap();
        make(&source);
        let limits = CopyLimits {
            bytes: Sourced::new(ByteSize::from_mib(64), Origin::Default),
            files: Sourced::new(1000, Origin::Default),
        };
        let copied = copy(&source, &to, &limits, CopyOwner::Caller, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
        Bench {
            _dir: dir,
            source,
            copy: to,
            manifest: copied.manifest,
        }
    }

    impl Bench {
        fn changes(&self) -> Changes {
            changes(&self.manifest, &self.source, &Tree::open(&self.copy).unwrap(), 1000).unwrap()
        }

        fn kinds(&self) -> Vec<(String, ChangeKind)> {
            let files = self.changes().files;
            files
                .into_iter()
                .map(|file| (file.path.as_str().to_owned(), file.kind))
                .collect()
        }
    }

    #[test]
    fn a_fresh_copy_has_no_changes() {
        let bench = bench(|source| {
            fs::create_dir_all(source.join("dir/empty")).unwrap();
            fs::write(source.join("dir/file"), "text").unwrap();
            symlink("nowhere", source.join("link")).unwrap();
            fs::create_dir(source.join(".git")).unwrap();
            fs::write(source.join(".git/HEAD"), "ref").unwrap();
        });
        assert_eq!(bench.changes(), Changes::default());
    }

    #[test]
    fn every_kind_of_change_is_found() {
        let bench = bench(|source| {
            for name in ["changed", "gone", "mode", "to-link", "same"] {
                fs::write(source.join(name), "one\ntwo\n").unwrap();
            }
            symlink("a", source.join("link")).unwrap();
        });
        let at = |name: &str| bench.copy.join(name);
        // Same size, and the old time put back: only the content tells.
        let before = fs::metadata(at("changed")).unwrap().modified().unwrap();
        fs::write(at("changed"), "one\nTWO\n").unwrap();
        fs::File::options()
            .write(true)
            .open(at("changed"))
            .unwrap()
            .set_modified(before)
            .unwrap();
        fs::remove_file(at("gone")).unwrap();
        fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(at("to-link")).unwrap();
        symlink("same", at("to-link")).unwrap();
        fs::remove_file(at("link")).unwrap();
        symlink("b", at("link")).unwrap();
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/new"), "new\n").unwrap();
        fs::create_dir_all(at("sub/.git")).unwrap();
        fs::write(at("sub/.git/config"), "evil").unwrap();
        let changes = bench.changes();
        insta::assert_snapshot!(changes.patch.as_str(), @r"
        diff --git a/changed b/changed
        --- a/changed
        +++ b/changed
        @@ -1,2 +1,2 @@
         one
        -two
        +TWO
        diff --git a/gone b/gone
        deleted file mode 100644
        --- a/gone
        +++ /dev/null
        @@ -1,2 +0,0 @@
        -one
        -two
        diff --git a/link b/link
        --- a/link
        +++ b/link
        @@ -1 +1 @@
        -a
        \ No newline at end of file
        +b
        \ No newline at end of file
        diff --git a/mode b/mode
        old mode 100644
        new mode 100755
        diff --git a/sub/new b/sub/new
        new file mode 100644
        --- /dev/null
        +++ b/sub/new
        @@ -0,0 +1 @@
        +new
        diff --git a/to-link b/to-link
        deleted file mode 100644
        --- a/to-link
        +++ /dev/null
        @@ -1,2 +0,0 @@
        -one
        -two
        diff --git a/to-link b/to-link
        new file mode 120000
        --- /dev/null
        +++ b/to-link
        @@ -0,0 +1 @@
        +same
        \ No newline at end of file
        ");
        assert_eq!((changes.insertions, changes.deletions), (4, 6));
        let modified = |name: &str| (name.to_owned(), ChangeKind::Modified);
        assert_eq!(
            bench.kinds(),
            [
                modified("changed"),
                ("gone".to_owned(), ChangeKind::Deleted),
                modified("link"),
                modified("mode"),
                ("sub/new".to_owned(), ChangeKind::Added),
                modified("to-link"),
            ]
        );
    }

    #[test]
    fn old_text_is_shown_only_while_the_host_still_has_it() {
        let bench = bench(|source| fs::write(source.join("f"), "old\n").unwrap());
        fs::write(bench.copy.join("f"), "new\n").unwrap();
        fs::write(bench.source.join("f"), "the user went on\n").unwrap();
        let patch = bench.changes().patch;
        assert!(
            patch
                .as_str()
                .contains("f has changed on the host since the session began"),
            "{patch:?}"
        );
        assert!(!patch.as_str().contains("went on"));
        fs::remove_dir_all(&bench.source).unwrap();
        assert!(bench.changes().patch.as_str().contains("has changed on the host"));
    }

    #[test]
    fn what_the_container_plants_is_not_followed_or_read() {
        let bench = bench(|source| fs::write(source.join("f"), "old\n").unwrap());
        let secret = bench._dir.path().join("secret");
        fs::write(&secret, "top secret").unwrap();
        fs::remove_file(bench.copy.join("f")).unwrap();
        fs::hard_link(&secret, bench.copy.join("f")).unwrap();
        symlink(&secret, bench.copy.join("l")).unwrap();
        symlink(bench._dir.path(), bench.copy.join("d")).unwrap();
        nix::unistd::mkfifo(&bench.copy.join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let patch = bench.changes().patch;
        assert!(!patch.as_str().contains("top secret"), "{patch:?}");
        assert!(patch.as_str().contains("f has several hard links"), "{patch:?}");
        assert!(patch.as_str().contains("p is a socket, FIFO or device"), "{patch:?}");
        assert_eq!(bench.kinds().len(), 4);
    }

    #[test]
    fn too_many_entries_are_an_error_and_not_a_wait() {
        let bench = bench(|_| ());
        for number in 0..1001 {
            fs::write(bench.copy.join(number.to_string()), "").unwrap();
        }
        let tree = Tree::open(&bench.copy).unwrap();
        let error = changes(&bench.manifest, &bench.source, &tree, 1000).unwrap_err();
        assert!(matches!(error, TreeError::TooManyEntries { .. }));
    }

    #[test]
    fn an_unsearchable_directory_is_not_taken_for_a_deleted_one() {
        let bench = bench(|source| {
            fs::create_dir(source.join("d")).unwrap();
            fs::write(source.join("d/f"), "x").unwrap();
        });
        let mut present = Present::default();
        present.blocked(Path::new("d"), Errno::EACCES).unwrap();
        let comparison = Comparison {
            source: None,
            tree: &Tree::open(&bench.copy).unwrap(),
            blocked: present.blocked,
        };
        let mut patch = Patch::default();
        let path = Path::new("d/f");
        let kind = comparison.compare(path, bench.manifest.entries.get(path), None, &mut patch);
        assert_eq!(kind, Some(ChangeKind::Modified));
        assert!(patch.finish().0.contains("d/f can't be read"));
        assert!(Present::default().blocked(Path::new(""), Errno::EACCES).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn exactly_the_edited_files_are_listed(
            files in proptest::collection::btree_map("[a-c]{1,2}", "[xy\n]{0,4}", 1..8),
            edits in proptest::collection::btree_map("[a-c]{1,2}", proptest::option::of("[xy\n]{0,4}"), 0..8),
        ) {
            let bench = bench(|source| {
                for (name, text) in &files {
                    fs::write(source.join(name), text).unwrap();
                }
            });
            let mut expected = Vec::new();
            for (name, edit) in &edits {
                let path = bench.copy.join(name);
                match edit {
                    Some(text) => fs::write(&path, text).unwrap(),
                    None => _ = fs::remove_file(&path),
                }
                let kind = match (files.get(name), edit) {
                    (None, Some(_)) => ChangeKind::Added,
                    (Some(_), None) => ChangeKind::Deleted,
                    (Some(old), Some(new)) if old != new => ChangeKind::Modified,
                    _ => continue,
                };
                expected.push((name.clone(), kind));
            }
            prop_assert_eq!(bench.kinds(), expected);
        }
    }
}
