//! Secret mounts on the host: the place in memory where they are staged, their files, and their removal.
//!
//! Values pass through here from [`crate::auth::secret`] into files that only the container's user can read. They must never
//! touch a disk, so the kernel is asked what the place is, before anything is decided and again when it is made.
#![expect(
    clippy::disallowed_methods,
    reason = "looks at the place, and makes and removes the files"
)]

use crate::auth::secret::{SecretBytes, SecretError, SecretReader};
use crate::config::secret::SecretName;
use crate::config::{Origin, Sourced};
use crate::plan::launch::ContainerUser;
use crate::plan::secrets::PlannedSecret;
use crate::session::directory::private_dir_all;
use crate::workspace::removal::{RemovalError, remove_tree};
use nix::errno::Errno;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// linux/magic.h; nix has no name for it.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
/// In a session's directory: where its secrets are staged. Without it, a next start with another runtime directory would not
/// find them.
const RECORD: &str = "secrets-staged-at";

/// Why a place can't have secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceFlaw {
    #[error("does not exist")]
    Missing,
    #[error("is no directory")]
    NotADirectory,
    #[error("is on a disk and not in memory (tmpfs)")]
    OnDisk,
    #[error("belongs to user {owner}, not to the one that runs codex-mcp")]
    NotOurs { owner: u32 },
    #[error("can be used by others (mode {mode:04o}; `chmod 700` it)")]
    Open { mode: u32 },
    #[error("can't be looked at: {0}")]
    Unknown(Errno),
}

#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error(
        "secrets can't be staged in {} (`secrets_dir`, {at}): it {flaw}; name a directory of your own on a tmpfs, such as \
         {}",
        path.display(),
        example()
    )]
    Configured { path: PathBuf, at: Origin, flaw: PlaceFlaw },
    #[error(
        "there is no place in memory for the files of [secrets.NAME]:{}\nSet `secrets_dir` (or CODEX_MCP_SECRETS_DIR) to a \
         directory of your own on a tmpfs, such as {}.",
        Tried(.tried),
        example()
    )]
    NoPlace { tried: Vec<(PathBuf, PlaceFlaw)> },
    #[error("can't stage secrets in {}: {error}", directory.display())]
    NotStaged {
        directory: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("can't read the secret `{name}` ({at}): {error}")]
    Unreadable {
        name: SecretName,
        at: Origin,
        #[source]
        error: SecretError,
    },
}

struct Tried<'a>(&'a [(PathBuf, PlaceFlaw)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tried = self.0.iter();
        tried.try_for_each(|(path, flaw)| write!(f, "\n  {} {flaw}", path.display()))
    }
}

/// A tmpfs that Linux machines have; a directory there is safe once it is ours and closed.
fn example() -> String {
    format!("/dev/shm/codex-mcp-{}", nix::unistd::geteuid())
}

/// Where sessions' secrets are staged, one directory each. Only looks.
///
/// `runtime_dir` is XDG_RUNTIME_DIR.
pub fn place(configured: Option<&Sourced<PathBuf>>, runtime_dir: Option<&Path>) -> Result<PathBuf, SecretsError> {
    if let Some(Sourced { value: path, origin }) = configured {
        return check_configured(path)
            .map(|()| path.clone())
            .map_err(|flaw| SecretsError::Configured {
                path: path.clone(),
                at: origin.clone(),
                flaw,
            });
    }
    let uid = nix::unistd::geteuid();
    let mut candidates: Vec<PathBuf> = runtime_dir
        .filter(|path| path.is_absolute())
        .map(Path::to_owned)
        .into_iter()
        .collect();
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    if !candidates.contains(&usual) {
        candidates.push(usual);
    }
    if uid.is_root() {
        candidates.push(PathBuf::from("/run"));
    }
    first_fit(candidates)
}

fn first_fit(candidates: Vec<PathBuf>) -> Result<PathBuf, SecretsError> {
    let mut tried = Vec::new();
    for candidate in candidates {
        // What others may list is no harm: ours is below it, and closed. What they may write is.
        match check(&candidate, 0o022) {
            Ok(()) => {
                // Engines take a link in a mount's source for something else than what it points at.
                let real = candidate.canonicalize().unwrap_or(candidate);
                return Ok(real.join("codex-mcp/secrets"));
            }
            Err(flaw) => tried.push((candidate, flaw)),
        }
    }
    Err(SecretsError::NoPlace { tried })
}

/// It need not be there yet; then what it will be made in decides.
fn check_configured(path: &Path) -> Result<(), PlaceFlaw> {
    match check(path, 0o077) {
        Err(PlaceFlaw::Missing) => {
            let above = path.ancestors().skip(1).find(|above| above.exists());
            in_memory(above.ok_or(PlaceFlaw::Missing)?)
        }
        checked => checked,
    }
}

/// A directory in memory, ours, with none of these permissions.
fn check(path: &Path, closed: u32) -> Result<(), PlaceFlaw> {
    let metadata = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PlaceFlaw::Missing,
        _ => PlaceFlaw::Unknown(errno(&error)),
    })?;
    if !metadata.is_dir() {
        return Err(PlaceFlaw::NotADirectory);
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(PlaceFlaw::NotOurs { owner: metadata.uid() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & closed != 0 {
        return Err(PlaceFlaw::Open { mode });
    }
    in_memory(path)
}

fn in_memory(path: &Path) -> Result<(), PlaceFlaw> {
    let kind = statfs(path).map_err(PlaceFlaw::Unknown)?.filesystem_type();
    match [TMPFS_MAGIC, RAMFS_MAGIC].contains(&kind) {
        true => Ok(()),
        false => Err(PlaceFlaw::OnDisk),
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// A file that is to be made, and what will be in it.
pub type Content = (PathBuf, SecretBytes);

/// Reads every value once. Nothing is made yet, so that a missing source leaves nothing behind.
pub async fn read(planned: &[PlannedSecret], reader: &SecretReader) -> Result<Vec<Content>, SecretsError> {
    let mut contents = Vec::with_capacity(planned.len());
    for secret in planned {
        let content = reader.read_content(&secret.from.value).await;
        let content = content.map_err(|error| SecretsError::Unreadable {
            name: secret.name.clone(),
            at: secret.from.origin.clone(),
            error,
        })?;
        contents.push((secret.staged.clone(), content));
    }
    Ok(contents)
}

/// Makes the files of one session. Where they are is recorded below `session_dir` first: whatever ends this process from
/// then on, the next sweep finds them.
pub fn stage(session_dir: &Path, contents: &[Content], user: &ContainerUser) -> Result<(), SecretsError> {
    let Some(directory) = contents.first().and_then(|(path, _)| path.parent()) else {
        return Ok(());
    };
    make(session_dir, directory, contents, user).map_err(|error| SecretsError::NotStaged {
        directory: directory.to_owned(),
        error,
    })
}

fn make(session_dir: &Path, directory: &Path, contents: &[Content], user: &ContainerUser) -> io::Result<()> {
    fs::write(session_dir.join(RECORD), directory.as_os_str().as_bytes())?;
    if let Some(place) = directory.parent() {
        private_dir_all(place)?;
        // Somebody else may have made it meanwhile, where others can write above it.
        check(place, 0o022).map_err(|flaw| io::Error::other(format!("what it lies in {flaw}")))?;
    }
    DirBuilder::new().mode(0o700).create(directory)?;
    // Whatever it was when the plan was made.
    check(directory, 0o077).map_err(|flaw| io::Error::other(format!("it {flaw}")))?;
    for (path, content) in contents {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
        file.write_all(content.expose())?;
        file.set_permissions(Permissions::from_mode(0o400))?;
        fchown(&file, Some(user.host_uid), Some(user.host_gid))?;
    }
    Ok(())
}

/// Removes what was staged for the session that `session_dir` belongs to, if anything was.
pub fn remove(session_dir: &Path) -> Result<(), RemovalError> {
    staged(session_dir)?.map_or(Ok(()), |staged| remove_tree(&staged))
}

/// Whether anything that was staged for a session is left, as far as that can be seen.
pub fn are_left(session_dir: &Path) -> bool {
    !matches!(staged(session_dir), Ok(None))
}

fn staged(session_dir: &Path) -> Result<Option<PathBuf>, RemovalError> {
    let record = session_dir.join(RECORD);
    let staged = match fs::read(&record) {
        Ok(bytes) => PathBuf::from(std::ffi::OsString::from_vec(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(RemovalError::Parent {
                path: record,
                errno: errno(&error),
            });
        }
    };
    // A record that a full disk cut short names nothing of ours. It is written before anything is made.
    let is_ours = staged.is_absolute() && staged.file_name() == session_dir.file_name();
    // A runtime directory goes with the last login of its user, and all that was in it.
    let is_gone = fs::symlink_metadata(&staged).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    Ok((is_ours && !is_gone).then_some(staged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSource;
    use crate::plan::launch::UserMapping;
    use crate::redact::Redactor;

    /// A place in memory that every Linux machine has.
    fn memory() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("codex-mcp-test-")
            .tempdir_in("/dev/shm")
            .unwrap()
    }

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

    fn configured(path: &Path) -> Result<PathBuf, SecretsError> {
        place(
            Some(&Sourced::new(path.to_owned(), Origin::Flag { name: "--test" })),
            None,
        )
    }

    #[track_caller]
    fn flaw(path: &Path) -> PlaceFlaw {
        match configured(path) {
            Err(SecretsError::Configured { flaw, .. }) => flaw,
            other => panic!("{other:?}"),
        }
    }

    fn open_to(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_configured_place_is_in_memory_ours_and_closed() {
        let memory = memory();
        open_to(memory.path(), 0o700);
        assert_eq!(configured(memory.path()).unwrap(), memory.path());
        let not_yet = memory.path().join("a/b");
        assert_eq!(configured(&not_yet).unwrap(), not_yet);
        open_to(memory.path(), 0o750);
        assert_eq!(flaw(memory.path()), PlaceFlaw::Open { mode: 0o750 });
        let file = memory.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(flaw(&file), PlaceFlaw::NotADirectory);
        let link = memory.path().join("link");
        std::os::unix::fs::symlink(memory.path(), &link).unwrap();
        assert_eq!(flaw(&link), PlaceFlaw::NotADirectory);
        assert_eq!(flaw(Path::new("/proc/sys")), PlaceFlaw::Open { mode: 0o555 });
    }

    /// The sources of this very program are on a disk, whatever the temporary directory is.
    #[test]
    fn a_place_on_a_disk_is_refused_with_what_mends_it() {
        let below = Path::new(env!("CARGO_MANIFEST_DIR")).join("no-such-directory/secrets");
        let error = configured(&below).unwrap_err().to_string();
        for words in [
            "`secrets_dir`, flag --test",
            "is on a disk and not in memory",
            "/dev/shm/codex-mcp-",
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn the_first_place_that_fits_is_taken_and_where_none_does_each_is_named() {
        let (open, closed) = (memory(), memory());
        open_to(open.path(), 0o777);
        let candidates = vec![
            "/no/such/place".into(),
            open.path().to_owned(),
            closed.path().to_owned(),
        ];
        let found = first_fit(candidates.clone()).unwrap();
        assert_eq!(found, closed.path().join("codex-mcp/secrets"));
        let error = first_fit(candidates[..2].to_vec()).unwrap_err().to_string();
        for words in [
            "/no/such/place does not exist",
            "can be used by others (mode 0777",
            "Set `secrets_dir` (or CODEX_MCP_SECRETS_DIR)",
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn the_runtime_directory_is_asked_first() {
        let memory = memory();
        let found = place(None, Some(memory.path())).unwrap();
        assert_eq!(found, memory.path().join("codex-mcp/secrets"));
    }

    async fn content(path: PathBuf, value: &'static str) -> Content {
        let reader = SecretReader::new(|_| Some(value.to_owned()), Redactor::default());
        let content = reader.read_content(&SecretSource::Env("X".into())).await.unwrap();
        (path, content)
    }

    #[tokio::test]
    async fn files_are_closed_recorded_and_removed() {
        let (memory, state) = (memory(), tempfile::tempdir().unwrap());
        let session_dir = state.path().join("S");
        fs::create_dir(&session_dir).unwrap();
        remove(&session_dir).unwrap();
        let directory = memory.path().join("codex-mcp/secrets/S");
        let contents = [
            content(directory.join("a"), "one\n").await,
            content(directory.join("b"), "two").await,
        ];
        stage(&session_dir, &contents, &me()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(fs::read(directory.join("a")).unwrap(), b"one\n");
        assert_eq!((mode(&directory), mode(&directory.join("b"))), (0o700, 0o400));
        assert_eq!(mode(&memory.path().join("codex-mcp")), 0o700);
        assert!(
            stage(&session_dir, &contents, &me()).is_err(),
            "a directory is made once"
        );
        remove(&session_dir).unwrap();
        assert!(!directory.exists() && directory.parent().unwrap().exists());
        remove(&session_dir).unwrap();
    }

    #[tokio::test]
    async fn what_turns_out_to_be_a_disk_gets_no_value() {
        let state = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let session_dir = state.path().join("S");
        fs::create_dir(&session_dir).unwrap();
        let directory = state.path().join("place/S");
        let contents = [content(directory.join("a"), "one").await];
        let error = stage(&session_dir, &contents, &me()).unwrap_err().to_string();
        assert!(error.ends_with("is on a disk and not in memory (tmpfs)"), "{error}");
        assert!(!directory.join("a").exists());
        remove(&session_dir).unwrap();
        assert!(!directory.exists());
    }

    #[test]
    fn a_record_of_another_directory_removes_nothing() {
        let (memory, state) = (memory(), tempfile::tempdir().unwrap());
        fs::create_dir(memory.path().join("T")).unwrap();
        for record in [memory.path().join("T"), "S".into(), memory.path().join("S/..")] {
            fs::create_dir_all(state.path().join("S")).unwrap();
            fs::write(state.path().join("S").join(RECORD), record.as_os_str().as_bytes()).unwrap();
            remove(&state.path().join("S")).unwrap();
        }
        assert!(memory.path().join("T").exists());
    }
}
