//! A secret, and reading one from its source: one that a header carries, or the content of a file for a container.
//!
//! No error of this module contains a secret, nor what a program printed instead of one. What was read is zeroized when
//! dropped; copies that the HTTP client makes for the wire are its own and are not.

#![expect(
    clippy::disallowed_methods,
    reason = "reads key files and runs the operator's key commands"
)]

use crate::config::SecretSource;
use crate::redact::Redactor;
use std::collections::HashMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// How much of a mounted secret the redactor is taught, in bytes: it looks for each spelling of it in every line that is
/// written. Keys and tokens are far below.
const TAUGHT: usize = 3 * 2730;
/// The longest that a command may take: long enough for a person to touch a security key.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// The most that a source may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// What a header carries.
    Header,
    /// What is mounted as a file.
    Mount,
}

impl Bound {
    const fn bytes(self) -> usize {
        match self {
            Self::Header => 64 << 10,
            Self::Mount => 1 << 20,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "64 KiB",
            Self::Mount => "1 MiB",
        })
    }
}

/// At least one byte, none of them a control character, so that it can stand in a header without starting another.
///
/// Not printable, not comparable and not serialisable by design.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes what a source gave, without one trailing line end.
    pub(super) fn parse(mut bytes: Zeroizing<Vec<u8>>) -> Result<Self, Flaw> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err(Flaw::Empty);
        }
        if bytes.iter().any(u8::is_ascii_control) {
            return Err(Flaw::ControlCharacter);
        }
        Ok(Self(bytes))
    }

    /// The value itself. Whoever calls this must not let it reach a log, an error or a file.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The content of a secret that is mounted: bytes of any kind, at least one, exactly as the source has them.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// A variable or a template that came to nothing is a secret that is missing, and not an empty one.
    fn parse(bytes: Zeroizing<Vec<u8>>) -> Result<Self, Flaw> {
        match bytes.is_empty() {
            true => Err(Flaw::Empty),
            false => Ok(Self(bytes)),
        }
    }

    /// The content itself. Whoever calls this must not let it reach anything but the file that is mounted.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

/// What is wrong with a value that a source gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("is empty")]
    Empty,
    #[error("has a control character inside (more than one line?); only a single line can be sent in a header")]
    ControlCharacter,
    #[error("is larger than {0}, the most that a secret of its kind may have")]
    TooLarge(Bound),
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("environment variable {name} is not set; set it where codex-mcp is started")]
    EnvironmentMissing { name: String },
    #[error("environment variable {name} {flaw}")]
    Environment { name: String, flaw: Flaw },
    #[error("can't read {}: {error}", path.display())]
    FileUnreadable {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("{} is not a regular file", path.display())]
    FileNotRegular { path: PathBuf },
    #[error("{} can be read by other users (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    FileExposed { path: PathBuf, mode: u32 },
    #[error("{} {flaw}", path.display())]
    File { path: PathBuf, flaw: Flaw },
    #[error("the command for the secret is empty; write it as [\"program\", \"argument\", …]")]
    CommandEmpty,
    #[error("can't run {program}: {error}")]
    CommandNotStarted {
        program: String,
        #[source]
        error: std::io::Error,
    },
    #[error("{program} was not done after {} s; run it by hand to see what it waits for", COMMAND_TIMEOUT.as_secs())]
    CommandTimeout { program: String },
    #[error("{program} failed ({status}); run it by hand to see why")]
    CommandFailed {
        program: String,
        status: std::process::ExitStatus,
    },
    #[error("what {program} printed {flaw}")]
    Command { program: String, flaw: Flaw },
}

/// Looks an environment variable up; `None` where it is not set or not Unicode.
pub type EnvironmentLookup = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Reads secrets, and keeps what commands gave for the life of the process: a command may ask a person.
pub struct SecretReader {
    environment: EnvironmentLookup,
    /// Is taught each value that is read.
    redactor: Redactor,
    /// Held while a command runs, so that sessions that start together ask once.
    commands: Mutex<HashMap<Vec<String>, Arc<Secret>>>,
}

impl fmt::Debug for SecretReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretReader")
    }
}

impl SecretReader {
    pub fn new(environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static, redactor: Redactor) -> Self {
        Self {
            environment: Box::new(environment),
            redactor,
            commands: Mutex::default(),
        }
    }

    /// Variables and files are read anew each time, so that a rotated key is used at once.
    pub async fn read(&self, source: &SecretSource) -> Result<Arc<Secret>, SecretError> {
        let secret = self.fetch(source).await?;
        self.redactor.learn(secret.expose());
        Ok(secret)
    }

    /// As [`Self::read`], where `refused` is what it gave before: a command is run again, unless that was done already.
    pub async fn read_again(&self, source: &SecretSource, refused: &Arc<Secret>) -> Result<Arc<Secret>, SecretError> {
        if let SecretSource::Command(argv) = source {
            let mut commands = self.commands.lock().await;
            if commands.get(argv).is_some_and(|known| Arc::ptr_eq(known, refused)) {
                commands.remove(argv);
            }
        }
        self.read(source).await
    }

    async fn fetch(&self, source: &SecretSource) -> Result<Arc<Secret>, SecretError> {
        match source {
            SecretSource::Env(name) => self.environment_value(name).map(Arc::new),
            SecretSource::File(path) => {
                let bytes = file_content(path, Bound::Header).await?;
                Secret::parse(bytes).map(Arc::new).map_err(|flaw| SecretError::File {
                    path: path.clone(),
                    flaw,
                })
            }
            SecretSource::Command(argv) => {
                let mut commands = self.commands.lock().await;
                if let Some(known) = commands.get(argv) {
                    return Ok(Arc::clone(known));
                }
                let bytes = from_command(argv, Bound::Header, COMMAND_TIMEOUT).await?;
                let secret = Secret::parse(bytes).map_err(|flaw| of_command(argv, flaw))?;
                let secret = Arc::new(secret);
                commands.insert(argv.clone(), Arc::clone(&secret));
                Ok(secret)
            }
        }
    }

    /// The content of a secret that is mounted. Read anew each time, commands too: nothing of it is kept.
    pub async fn read_content(&self, source: &SecretSource) -> Result<SecretBytes, SecretError> {
        let content = match source {
            SecretSource::Env(name) => self.environment_bytes(name).and_then(|bytes| {
                let fits = match bytes.len() > Bound::Mount.bytes() {
                    true => Err(Flaw::TooLarge(Bound::Mount)),
                    false => SecretBytes::parse(bytes),
                };
                fits.map_err(|flaw| of_environment(name, flaw))
            }),
            SecretSource::File(path) => {
                SecretBytes::parse(file_content(path, Bound::Mount).await?).map_err(|flaw| SecretError::File {
                    path: path.clone(),
                    flaw,
                })
            }
            SecretSource::Command(argv) => {
                let mut bytes = from_command(argv, Bound::Mount, COMMAND_TIMEOUT).await?;
                bytes.pop_if(|last| *last == b'\n');
                SecretBytes::parse(bytes).map_err(|flaw| of_command(argv, flaw))
            }
        }?;
        let bytes = content.expose();
        self.redactor.learn(bytes.get(..TAUGHT).unwrap_or(bytes));
        Ok(content)
    }

    fn environment_value(&self, name: &str) -> Result<Secret, SecretError> {
        Secret::parse(self.environment_bytes(name)?).map_err(|flaw| of_environment(name, flaw))
    }

    fn environment_bytes(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let value =
            (self.environment)(name).ok_or_else(|| SecretError::EnvironmentMissing { name: name.to_owned() })?;
        Ok(Zeroizing::new(value.into_bytes()))
    }
}

fn of_environment(name: &str, flaw: Flaw) -> SecretError {
    SecretError::Environment {
        name: name.to_owned(),
        flaw,
    }
}

fn of_command(argv: &[String], flaw: Flaw) -> SecretError {
    SecretError::Command {
        program: argv.first().cloned().unwrap_or_default(),
        flaw,
    }
}

/// A file may lie on a slow or dead network file system: not on a runtime thread.
async fn file_content(path: &Path, bound: Bound) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let reading = tokio::task::spawn_blocking({
        let path = path.to_owned();
        move || from_file(&path, bound)
    });
    match reading.await {
        Ok(content) => content,
        // The runtime is shutting down.
        Err(stopped) => Err(SecretError::FileUnreadable {
            path: path.to_owned(),
            error: std::io::Error::other(stopped),
        }),
    }
}

fn from_file(path: &Path, bound: Bound) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let unreadable = |error| SecretError::FileUnreadable {
        path: path.to_owned(),
        error,
    };
    // Without O_NONBLOCK a FIFO in the file's place would block for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(SecretError::FileNotRegular { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::FileExposed {
            path: path.to_owned(),
            mode,
        });
    }
    // With the whole capacity from the start no growth leaves a copy behind.
    let most = bound.bytes();
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > most {
        return Err(SecretError::File {
            path: path.to_owned(),
            flaw: Flaw::TooLarge(bound),
        });
    }
    Ok(bytes)
}

async fn from_command(argv: &[String], bound: Bound, limit: Duration) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let (program, arguments) = argv.split_first().ok_or(SecretError::CommandEmpty)?;
    let program = program.clone();
    match tokio::time::timeout(limit, run(&program, arguments, bound)).await {
        Ok(printed) => printed,
        Err(_elapsed) => Err(SecretError::CommandTimeout { program }),
    }
}

async fn run(program: &str, arguments: &[String], bound: Bound) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let not_started = |error| SecretError::CommandNotStarted {
        program: program.to_owned(),
        error,
    };
    let most = bound.bytes();
    // Its stderr goes nowhere: a failing program may print the secret there.
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(not_started)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    if let Some(stdout) = child.stdout.take() {
        let mut limited = stdout.take(most as u64 + 1);
        limited.read_to_end(&mut bytes).await.map_err(not_started)?;
    }
    if bytes.len() > most {
        return Err(SecretError::Command {
            program: program.to_owned(),
            flaw: Flaw::TooLarge(bound),
        });
    }
    let status = child.wait().await.map_err(not_started)?;
    if !status.success() {
        return Err(SecretError::CommandFailed {
            program: program.to_owned(),
            status,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn reader(value: Option<&'static str>) -> SecretReader {
        let lookup = move |name: &str| (name == "KEY").then_some(value).flatten().map(str::to_owned);
        SecretReader::new(lookup, Redactor::default())
    }

    async fn read_env(value: Option<&'static str>) -> Result<Arc<Secret>, SecretError> {
        reader(value).read(&SecretSource::Env("KEY".into())).await
    }

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, SecretSource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, SecretSource::File(path))
    }

    fn command(words: &[&str]) -> SecretSource {
        SecretSource::Command(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[tokio::test]
    async fn the_environment_is_asked_by_name() {
        assert_eq!(read_env(Some("sk-1")).await.unwrap().expose(), b"sk-1");
        let missing = read_env(None).await.unwrap_err().to_string();
        insta::assert_snapshot!(missing, @"environment variable KEY is not set; set it where codex-mcp is started");
        let empty = read_env(Some("")).await.unwrap_err().to_string();
        insta::assert_snapshot!(empty, @"environment variable KEY is empty");
    }

    #[tokio::test]
    async fn a_second_line_would_be_a_second_header() {
        let error = read_env(Some("sk-1\r\nx-evil: 1")).await.unwrap_err();
        assert!(matches!(
            error,
            SecretError::Environment {
                flaw: Flaw::ControlCharacter,
                ..
            }
        ));
        assert!(!format!("{error} {error:?}").contains("sk-1"));
    }

    #[tokio::test]
    async fn a_file_loses_one_line_end_and_must_be_private() {
        let read = |source: SecretSource| async move { reader(None).read(&source).await };
        let (_dir, source) = file(b"sk-2\r\n", 0o600);
        assert_eq!(read(source).await.unwrap().expose(), b"sk-2");
        let (_dir, source) = file(b"sk-2\n\n", 0o400);
        assert!(matches!(
            read(source).await.unwrap_err(),
            SecretError::File {
                flaw: Flaw::ControlCharacter,
                ..
            }
        ));
        let (_dir, source) = file(&vec![b'a'; Bound::Header.bytes() + 1], 0o600);
        assert!(matches!(
            read(source).await.unwrap_err(),
            SecretError::File {
                flaw: Flaw::TooLarge(Bound::Header),
                ..
            }
        ));
        for mode in [0o640, 0o604, 0o620] {
            let (_dir, source) = file(b"sk-2", mode);
            let error = read(source).await.unwrap_err().to_string();
            assert!(
                error.contains(&format!("mode {mode:04o}")) && error.contains("chmod 600 /"),
                "{error}"
            );
            assert!(!error.contains("sk-2"));
        }
    }

    #[tokio::test]
    async fn a_file_must_be_a_regular_one() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [dir.path().to_owned(), fifo] {
            let error = reader(None).read(&SecretSource::File(path)).await.unwrap_err();
            assert!(matches!(error, SecretError::FileNotRegular { .. }), "{error}");
        }
        let gone = reader(None).read(&SecretSource::File(dir.path().join("gone"))).await;
        assert!(matches!(gone.unwrap_err(), SecretError::FileUnreadable { .. }));
    }

    #[tokio::test]
    async fn a_command_runs_without_a_shell_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let ran = dir.path().join("ran");
        let script = format!("echo >> {}; echo 'sk-3 $HOME'", ran.display());
        let source = command(&["sh", "-c", &script]);
        let reader = reader(None);
        for _ in 0..2 {
            assert_eq!(reader.read(&source).await.unwrap().expose(), b"sk-3 $HOME");
        }
        assert_eq!(std::fs::read(ran).unwrap(), b"\n");
        let unexpanded = reader.read(&command(&["echo", "$HOME"])).await.unwrap();
        assert_eq!(unexpanded.expose(), b"$HOME");
    }

    #[tokio::test]
    async fn a_command_that_fails_says_nothing_of_its_output() {
        let error = reader(None)
            .read(&command(&["sh", "-c", "echo sk-4; echo sk-4 >&2; exit 3"]))
            .await
            .unwrap_err();
        assert!(matches!(error, SecretError::CommandFailed { .. }));
        assert!(!format!("{error} {error:?}").contains("sk-4"));
        let absent = reader(None).read(&command(&["/nonexistent/pass"])).await.unwrap_err();
        assert!(matches!(absent, SecretError::CommandNotStarted { .. }));
        assert!(matches!(
            reader(None).read(&command(&[])).await.unwrap_err(),
            SecretError::CommandEmpty
        ));
        let flood = reader(None).read(&command(&["cat", "/dev/zero"])).await.unwrap_err();
        assert!(matches!(
            flood,
            SecretError::Command {
                flaw: Flaw::TooLarge(Bound::Header),
                ..
            }
        ));
    }

    async fn content(source: SecretSource) -> Result<Vec<u8>, SecretError> {
        let content = reader(Some("two\nlines\n")).read_content(&source).await?;
        Ok(content.expose().to_vec())
    }

    #[tokio::test]
    async fn a_mounted_secret_is_what_its_source_has_byte_for_byte() {
        assert_eq!(content(SecretSource::Env("KEY".into())).await.unwrap(), b"two\nlines\n");
        let (_dir, source) = file(b"\0\xff\r\n\n", 0o400);
        assert_eq!(content(source).await.unwrap(), b"\0\xff\r\n\n");
        let printed = content(command(&["printf", "a\\r\\n\\n"])).await.unwrap();
        assert_eq!(printed, b"a\r\n", "one line end goes");
        let (_dir, source) = file(&vec![7; Bound::Mount.bytes()], 0o600);
        assert_eq!(content(source).await.unwrap().len(), 1 << 20);
    }

    #[tokio::test]
    async fn what_can_not_be_mounted_is_refused_and_never_quoted() {
        let refusal = |source| async { content(source).await.unwrap_err().to_string() };
        let (_dir, large) = file(&vec![b's'; Bound::Mount.bytes() + 1], 0o600);
        let error = refusal(large).await;
        assert!(
            error.ends_with("/key is larger than 1 MiB, the most that a secret of its kind may have"),
            "{error}"
        );
        let (_dir, exposed) = file(b"sk-6", 0o644);
        let error = refusal(exposed).await;
        assert!(error.contains("chmod 600 /") && !error.contains("sk-6"), "{error}");
        insta::assert_snapshot!(refusal(SecretSource::Env("NONE".into())).await, @"environment variable NONE is not set; set it where codex-mcp is started");
        insta::assert_snapshot!(refusal(command(&["true"])).await, @"what true printed is empty");
        insta::assert_snapshot!(refusal(command(&["sh", "-c", "echo sk-7; exit 3"])).await, @"sh failed (exit status: 3); run it by hand to see why");
        insta::assert_snapshot!(refusal(command(&["head", "-c", "1048578", "/dev/zero"])).await, @"what head printed is larger than 1 MiB, the most that a secret of its kind may have");
    }

    #[tokio::test]
    async fn a_mounted_secret_is_taught_to_the_redactor_and_does_not_print() {
        let redactor = Redactor::default();
        let reader = SecretReader::new(|_| Some("a mounted value".to_owned()), redactor.clone());
        let content = reader.read_content(&SecretSource::Env("KEY".into())).await.unwrap();
        assert_eq!(redactor.text("it is a mounted value."), "it is [redacted].");
        assert_eq!(format!("{content:?}"), "SecretBytes(…)");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_given_up() {
        let argv = ["sleep".to_owned(), "600".to_owned()];
        let error = from_command(&argv, Bound::Header, Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, SecretError::CommandTimeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_is_read_is_never_printed_again() {
        let redactor = Redactor::default();
        let reader = SecretReader::new(|_| Some("sk-of-the-operator".to_owned()), redactor.clone());
        reader.read(&SecretSource::Env("KEY".into())).await.unwrap();
        assert_eq!(redactor.text("key sk-of-the-operator."), "key [redacted].");
    }

    #[tokio::test]
    async fn a_refused_key_of_a_command_is_asked_for_again_and_once_by_all() {
        let dir = tempfile::tempdir().unwrap();
        let ran = dir.path().join("ran");
        let script = format!("echo >> {0}; wc -l < {0}", ran.display());
        let source = command(&["sh", "-c", &script]);
        let reader = reader(None);
        let first = reader.read(&source).await.unwrap();
        for _ in 0..3 {
            assert_eq!(reader.read_again(&source, &first).await.unwrap().expose(), b"2");
        }
        assert_eq!(reader.read(&source).await.unwrap().expose(), b"2");
    }

    #[tokio::test]
    async fn a_secret_does_not_print() {
        let secret = read_env(Some("sk-5")).await.unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    proptest! {
        #[test]
        fn what_parses_fits_a_header(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(secret) = Secret::parse(Zeroizing::new(bytes)) {
                prop_assert!(!secret.expose().is_empty());
                prop_assert!(hyper::header::HeaderValue::from_bytes(secret.expose()).is_ok());
            }
        }
    }
}
