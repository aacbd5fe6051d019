//! The committed version of Codex: `config/codex.lock.toml`, embedded and parsed strictly.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::fmt;

const LOCK: &str = include_str!("../../config/codex.lock.toml");

/// The platforms that Codex is published for and this binary runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    LinuxX64,
    LinuxArm64,
}

impl Platform {
    /// The platform of this binary; containers of a local engine have the same.
    pub fn current() -> Result<Self, LockError> {
        Self::of_architecture(std::env::consts::ARCH)
    }

    fn of_architecture(architecture: &str) -> Result<Self, LockError> {
        match architecture {
            "x86_64" => Ok(Self::LinuxX64),
            "aarch64" => Ok(Self::LinuxArm64),
            other => Err(LockError::Platform(other.to_owned())),
        }
    }
}

/// What an image is built with on one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Such as `0.169.0`.
    pub version: String,
    /// What npm is asked for: `@openai/codex@VERSION-PLATFORM`.
    pub package: String,
    pub integrity: Integrity,
    /// The directory below `package/vendor/` in the package.
    pub target: String,
}

/// The sha512 of a package's tarball, written as npm does: `sha512-` and base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Integrity(Box<[u8; 64]>);

impl Integrity {
    pub fn new(sha512: [u8; 64]) -> Self {
        Self(Box::new(sha512))
    }

    pub fn parse(text: &str) -> Result<Self, LockError> {
        let wrong = || LockError::Integrity(text.to_owned());
        let encoded = text.strip_prefix("sha512-").ok_or_else(wrong)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| wrong())?;
        bytes.try_into().map(Self::new).map_err(|_| wrong())
    }

    /// The first 16 hexadecimal digits: enough to name a file in a cache that is verified on each use.
    pub fn short_hex(&self) -> String {
        self.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha512-{}", STANDARD.encode(*self.0))
    }
}

impl fmt::Debug for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("Codex is not published for Linux on {0}; images can be built on x86_64 and aarch64")]
    Platform(String),
    #[error("config/codex.lock.toml, embedded in this binary, is wrong: {0}")]
    Syntax(#[from] toml::de::Error),
    #[error("config/codex.lock.toml, embedded in this binary, is wrong: {0:?} is no sha512 integrity value")]
    Integrity(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LockFile {
    version: String,
    linux_x64: LockedPackage,
    linux_arm64: LockedPackage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedPackage {
    package: String,
    integrity: String,
    target: String,
}

/// The version of Codex that this binary was committed with, whatever the platform.
pub fn pinned_version() -> Result<String, LockError> {
    Ok(toml::from_str::<LockFile>(LOCK)?.version)
}

impl Release {
    /// The release that this binary was committed with.
    pub fn pinned(platform: Platform) -> Result<Self, LockError> {
        Self::parse(LOCK, platform)
    }

    fn parse(text: &str, platform: Platform) -> Result<Self, LockError> {
        let lock: LockFile = toml::from_str(text)?;
        let locked = match platform {
            Platform::LinuxX64 => lock.linux_x64,
            Platform::LinuxArm64 => lock.linux_arm64,
        };
        Ok(Self {
            version: lock.version,
            package: locked.package,
            integrity: Integrity::parse(&locked.integrity)?,
            target: locked.target,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_lock_names_one_version_on_both_platforms() {
        for (platform, suffix, target) in [
            (Platform::LinuxX64, "linux-x64", "x86_64-unknown-linux-musl"),
            (Platform::LinuxArm64, "linux-arm64", "aarch64-unknown-linux-musl"),
        ] {
            let release = Release::pinned(platform).unwrap();
            assert_eq!(release.package, format!("@openai/codex@{}-{suffix}", release.version));
            assert_eq!(release.target, target);
            assert_eq!(release.version, pinned_version().unwrap());
        }
        let [x64, arm64] = [Platform::LinuxX64, Platform::LinuxArm64].map(|p| Release::pinned(p).unwrap().integrity);
        assert_ne!(x64, arm64);
    }

    #[test]
    fn integrity_survives_a_round_trip_and_nothing_else_is_one() {
        let integrity = Integrity::new([7; 64]);
        assert_eq!(Integrity::parse(&integrity.to_string()).unwrap(), integrity);
        for wrong in ["", "sha512-", "sha1-BwcHBw==", "sha512-BwcHBw==", "sha512-!"] {
            assert!(Integrity::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn unknown_keys_and_platforms_are_refused() {
        let text = format!("{LOCK}\nextra = 1\n");
        assert!(matches!(
            Release::parse(&text, Platform::LinuxX64),
            Err(LockError::Syntax(_))
        ));
        let message = Platform::of_architecture("riscv64").unwrap_err().to_string();
        assert!(message.contains("riscv64") && message.contains("aarch64"), "{message}");
    }
}
