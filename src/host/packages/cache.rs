//! What clients said, kept for a day in files that only this user can read or write.
//!
//! Believed only where everything that the answer depended on is the same: this program, the client, its configuration by
//! content, its variables. A file that is missing, damaged, older or not only ours is no error: the client is asked again.

#![expect(
    clippy::disallowed_methods,
    reason = "this module owns the files that answers are kept in"
)]

use super::error::PackagesError;
use super::{PackageSource, cargo, may_set};
use crate::config::network::PackageClient;
use crate::supervise::environment::Environment;
use nix::fcntl::OFlag;
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Mirrors change their download hosts without a word in anybody's configuration.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Of a file here.
const MAX_FILE: u64 = 64 << 10;
/// Of a file of a client's configuration.
const MAX_CONFIGURATION: u64 = 1 << 20;

/// `CACHE/packages`: one file a client, and the directories that clients are asked in.
pub struct Memory {
    directory: PathBuf,
}

/// All that an answer depends on beside the client's files, as one digest: there are tokens among the variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    pub fn new(client: PackageClient, program: &Path, environment: &Environment) -> Self {
        let mut parts: Vec<Vec<u8>> = vec![
            env!("CARGO_PKG_VERSION").into(),
            client.as_str().into(),
            program.as_os_str().as_bytes().to_vec(),
        ];
        // Follows links: an update changes what is behind them.
        if let Ok(file) = std::fs::metadata(program) {
            parts.push(format!("{}.{} {}", file.mtime(), file.mtime_nsec(), file.ino()).into_bytes());
        }
        for (name, value) in environment.iter() {
            parts.extend([name.as_bytes().to_vec(), value.as_bytes().to_vec()]);
        }
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hexadecimal(&hash.finalize()))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    key: Key,
    /// Seconds since 1970.
    asked: u64,
    /// The digest of each file of the client's configuration; `None` where there was none.
    files: Vec<(PathBuf, Option<String>)>,
    rules: Vec<String>,
    environment: BTreeMap<String, String>,
    cargo_config: Option<String>,
}

impl Memory {
    /// Makes the directory, mode 0700.
    pub fn open(cache_dir: &Path) -> Result<Self, PackagesError> {
        let directory = cache_dir.join("packages");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(PackagesError::file("can't make the directory", &directory))?;
        Ok(Self { directory })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What this client said under this key, where that is less than a day ago.
    pub fn recall(&self, client: PackageClient, program: &Path, key: &Key) -> Option<PackageSource> {
        let text = read_private(&self.path(client)).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        let age = seconds_now().checked_sub(remembered.asked)?;
        let same_files = || remembered.files.iter().all(|(path, known)| digest(path) == *known);
        if remembered.key != *key || age > LIFETIME.as_secs() || !same_files() {
            return None;
        }
        remembered.into_source(client, program)
    }

    pub fn remember(&self, source: &PackageSource, key: Key, files: Vec<PathBuf>) -> io::Result<()> {
        let digested = |path: PathBuf| {
            let digest = digest(&path);
            (path, digest)
        };
        let text = serde_json::to_vec(&Remembered {
            key,
            asked: seconds_now(),
            files: files.into_iter().map(digested).collect(),
            rules: source.rules.iter().map(ToString::to_string).collect(),
            environment: source.environment.clone(),
            cargo_config: source.cargo_config.clone(),
        })?;
        // Mode 0600 from the start, and renamed into place: two processes each leave a whole file.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&text)?;
        file.persist(self.path(source.client))?;
        Ok(())
    }

    fn path(&self, client: PackageClient) -> PathBuf {
        self.directory.join(format!("{}.json", client.as_str()))
    }
}

impl Remembered {
    /// Nothing that asking could not have come to.
    fn into_source(self, client: PackageClient, program: &Path) -> Option<PackageSource> {
        let rules = self.rules.iter().map(|rule| rule.parse().ok()).collect::<Option<_>>()?;
        let known = |name: &String| may_set(client, name);
        let cargo_config = match self.cargo_config {
            Some(text) => Some(
                cargo::Mirrors::of_config(&text)
                    .ok()?
                    .config
                    .filter(|same| *same == text)?,
            ),
            None => None,
        };
        self.environment.keys().all(known).then(|| PackageSource {
            client,
            program: program.to_owned(),
            rules,
            environment: self.environment,
            cargo_config,
        })
    }
}

fn seconds_now() -> u64 {
    // A clock before 1970 makes every answer one of the future, which is not believed.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The content of a file that nobody but this user can have written.
fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    let about = file.metadata()?;
    let is_private = about.is_file() && about.uid() == Uid::effective().as_raw() && about.mode() & 0o077 == 0;
    if !is_private || about.len() > MAX_FILE {
        return Err(io::Error::other("it is not a private file of this user"));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(content)
}

/// Of a regular file of a usual size; anything else counts as none.
fn digest(path: &Path) -> Option<String> {
    let about = std::fs::metadata(path).ok()?;
    if !about.is_file() || about.len() > MAX_CONFIGURATION {
        return None;
    }
    let mut content = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_CONFIGURATION).read_to_end(&mut content).ok()?;
    Some(hexadecimal(&Sha256::digest(&content)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Scene {
        directory: tempfile::TempDir,
        memory: Memory,
        program: PathBuf,
        config: PathBuf,
        source: PackageSource,
    }

    fn scene() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let (program, config) = (directory.path().join("cargo"), directory.path().join("config.toml"));
        std::fs::write(&program, "1").unwrap();
        std::fs::write(&config, "1").unwrap();
        let index = "[source.m]\nregistry = \"https://mirror.example/\"\n";
        Scene {
            memory: Memory::open(&directory.path().join("cache")).unwrap(),
            source: PackageSource {
                client: PackageClient::Cargo,
                program: program.clone(),
                rules: vec!["mirror.example:443".parse().unwrap(), "192.0.2.7:80".parse().unwrap()],
                environment: [(
                    "CARGO_REGISTRIES_M_INDEX".to_owned(),
                    "https://mirror.example/".to_owned(),
                )]
                .into(),
                cargo_config: Some(index.to_owned()),
            },
            program,
            config,
            directory,
        }
    }

    impl Scene {
        fn key(&self, token: &str) -> Key {
            let environment = [("CARGO_REGISTRIES_M_TOKEN".into(), token.into())]
                .into_iter()
                .collect();
            Key::new(PackageClient::Cargo, &self.program, &environment)
        }

        fn remember(&self) {
            let absent = self.directory.path().join("absent");
            self.memory
                .remember(&self.source, self.key("t"), vec![self.config.clone(), absent])
                .unwrap();
        }

        fn recall(&self) -> Option<PackageSource> {
            self.memory.recall(PackageClient::Cargo, &self.program, &self.key("t"))
        }

        fn file(&self) -> PathBuf {
            self.memory.path(PackageClient::Cargo)
        }

        /// Rewrites the file with another value at `pointer`.
        fn tamper(&self, pointer: &str, value: serde_json::Value) {
            let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(self.file()).unwrap()).unwrap();
            *json.pointer_mut(pointer).unwrap() = value;
            std::fs::write(self.file(), json.to_string()).unwrap();
        }
    }

    #[test]
    fn an_answer_is_recalled_as_it_was() {
        let scene = scene();
        assert_eq!(scene.recall(), None);
        scene.remember();
        assert_eq!(scene.recall(), Some(scene.source.clone()));
        assert_eq!(
            std::fs::metadata(scene.file()).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let directory = std::fs::metadata(scene.memory.directory()).unwrap();
        assert_eq!(directory.permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn another_client_configuration_or_variable_is_another_answer() {
        let scene = scene();
        scene.remember();
        assert_eq!(
            scene
                .memory
                .recall(PackageClient::Cargo, &scene.program, &scene.key("u")),
            None
        );
        std::fs::write(&scene.config, "2").unwrap();
        assert_eq!(scene.recall(), None);
        scene.remember();
        assert!(scene.recall().is_some());
        std::fs::write(scene.directory.path().join("absent"), "").unwrap();
        assert_eq!(scene.recall(), None);
        scene.remember();
        std::fs::remove_file(&scene.program).unwrap();
        std::fs::write(&scene.program, "2").unwrap();
        assert_eq!(scene.recall(), None);
    }

    #[test]
    fn an_answer_lasts_a_day_and_never_comes_from_the_future() {
        let scene = scene();
        let now = seconds_now();
        for (asked, known) in [(now - 86_000, true), (now - 87_000, false), (now + 1000, false)] {
            scene.remember();
            scene.tamper("/asked", asked.into());
            assert_eq!(scene.recall().is_some(), known, "{asked}");
        }
    }

    #[test]
    fn what_asking_could_not_have_come_to_is_not_believed() {
        let scene = scene();
        for (pointer, value) in [
            ("/rules/0", "mirror.example:0".into()),
            ("/environment", serde_json::json!({"LD_PRELOAD": "/tmp/x"})),
            ("/cargo_config", "[build]\nrustc-wrapper = \"/tmp/x\"".into()),
            (
                "/cargo_config",
                "[source.m]\nregistry = \"https://u:p@mirror.example/\"\n".into(),
            ),
        ] {
            scene.remember();
            scene.tamper(pointer, value);
            assert_eq!(scene.recall(), None, "{pointer}");
        }
        std::fs::write(scene.file(), "{").unwrap();
        assert_eq!(scene.recall(), None);
    }

    #[test]
    fn a_file_that_others_can_write_or_that_lies_elsewhere_is_not_read() {
        let scene = scene();
        scene.remember();
        std::fs::set_permissions(scene.file(), PermissionsExt::from_mode(0o620)).unwrap();
        assert_eq!(scene.recall(), None);
        scene.remember();
        let elsewhere = scene.directory.path().join("elsewhere");
        std::fs::rename(scene.file(), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, scene.file()).unwrap();
        assert_eq!(scene.recall(), None);
    }
}
