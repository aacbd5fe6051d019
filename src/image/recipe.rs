//! What an image is made of. Pure: no engine, no file, no clock.

use super::layout::{DEBIAN_PACKAGES, MOUNT_POINTS};
use super::lock::Release;
use crate::config::name::{ImageReference, NameError};
use crate::wire::contract::CONTRACT;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

pub const CONTAINERFILE: &str = include_str!("../../config/Containerfile");
pub const INSTALL_TOOLS: &str = include_str!("../../config/install-tools");

/// Where [`Base`] comes from when nobody says. A short name: which registry that means is the engine's configuration.
pub const DEFAULT_BASE: &str = "debian:bookworm-slim";

const MAX_PACKAGES: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    #[error("{text:?} is no image reference: {reason}")]
    Reference { text: String, reason: NameError },
    #[error("{0:?} is no Debian suite: expected a code name such as bookworm")]
    Suite(String),
    #[error(
        "--package {0:?} is no Debian package name: expected lower-case letters, digits and + - . after a letter or \
         digit, at least two characters"
    )]
    Package(String),
    #[error("{0} packages were named; at most {MAX_PACKAGES} are accepted")]
    TooManyPackages(usize),
}

/// `localhost/codex-mcp:VERSION`: what `image build` names its result when nobody says.
pub fn default_reference(release: &Release) -> Result<ImageReference, RecipeError> {
    reference(&format!("localhost/codex-mcp:{}", release.version))
}

fn reference(text: &str) -> Result<ImageReference, RecipeError> {
    text.parse().map_err(|reason| RecipeError::Reference {
        text: text.to_owned(),
        reason,
    })
}

/// A Debian suite by its code name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite(String);

impl Suite {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Suite {
    type Err = RecipeError;

    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let well_formed = (2..=32).contains(&text.len()) && text.chars().all(|c| c.is_ascii_lowercase());
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(RecipeError::Suite(text.to_owned()))
        }
    }
}

/// A Debian package name (Debian policy 5.6.7).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageName(String);

impl PackageName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageName {
    type Err = RecipeError;

    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if starts_well && (2..=128).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RecipeError::Package(text.to_owned()))
        }
    }
}

/// The base as the person asked for it: `bootstrap`, `bootstrap:SUITE`, or a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseChoice {
    Registry(ImageReference),
    /// `None`: the host's own suite where the host is Debian.
    Bootstrap(Option<Suite>),
}

impl FromStr for BaseChoice {
    type Err = RecipeError;

    fn from_str(text: &str) -> Result<Self, RecipeError> {
        match text.split_once(':') {
            None if text == "bootstrap" => Ok(Self::Bootstrap(None)),
            Some(("bootstrap", suite)) => Ok(Self::Bootstrap(Some(suite.parse()?))),
            _ => Ok(Self::Registry(reference(text)?)),
        }
    }
}

/// The base, nothing left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    Registry(ImageReference),
    Bootstrap(Suite),
}

/// As the label says it.
impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "{reference}"),
            Self::Bootstrap(suite) => write!(f, "bootstrap:{}", suite.as_str()),
        }
    }
}

/// What one image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    pub base: Base,
    /// On top of the base's and [`DEBIAN_PACKAGES`].
    pub packages: BTreeSet<PackageName>,
    pub release: Release,
}

impl Recipe {
    pub fn new(
        base: Base,
        packages: impl IntoIterator<Item = PackageName>,
        release: Release,
    ) -> Result<Self, RecipeError> {
        let packages: BTreeSet<PackageName> = packages.into_iter().collect();
        if packages.len() > MAX_PACKAGES {
            return Err(RecipeError::TooManyPackages(packages.len()));
        }
        Ok(Self {
            base,
            packages,
            release,
        })
    }

    /// All Debian packages of a bootstrapped base, sorted.
    pub fn debian_packages(&self) -> BTreeSet<&str> {
        let extra = self.packages.iter().map(PackageName::as_str);
        DEBIAN_PACKAGES.into_iter().chain(extra).collect()
    }

    /// `sha256:` and 64 hexadecimal digits over everything that decides what the image holds, this program's own
    /// part included. Packages' versions are not in it: they are whatever the distribution serves at build time.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut field = |text: &str| {
            // A length before each field: no two lists of fields run together into the same bytes.
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        field(&self.base.to_string());
        field(&self.release.version);
        field(&self.release.integrity.to_string());
        field(&CONTRACT.to_string());
        match self.base {
            Base::Registry(_) => {
                field(CONTAINERFILE);
                field(INSTALL_TOOLS);
                self.packages.iter().for_each(|package| field(package.as_str()));
            }
            Base::Bootstrap(_) => self.debian_packages().into_iter().for_each(&mut field),
        }
        for point in MOUNT_POINTS {
            field(&format!("{} {:o} {}", point.kind.word(), point.mode, point.path));
        }
        format!("sha256:{}", hex(&hash.finalize()))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::lock::Platform;
    use super::*;
    use proptest::prelude::*;

    fn recipe(base: &str, packages: &[&str]) -> Recipe {
        let base = match base.parse().unwrap() {
            BaseChoice::Registry(reference) => Base::Registry(reference),
            BaseChoice::Bootstrap(suite) => Base::Bootstrap(suite.unwrap()),
        };
        let packages = packages.iter().map(|name| name.parse().unwrap());
        Recipe::new(base, packages, Release::pinned(Platform::LinuxX64).unwrap()).unwrap()
    }

    #[test]
    fn bases_are_told_apart() {
        assert_eq!("bootstrap".parse(), Ok(BaseChoice::Bootstrap(None)));
        assert_eq!(recipe("bootstrap:trixie", &[]).base.to_string(), "bootstrap:trixie");
        let registry = "registry.example:5000/team/base@sha256:00";
        assert_eq!(recipe(registry, &[]).base.to_string(), registry);
        assert!(DEFAULT_BASE.parse::<ImageReference>().is_ok());
        for wrong in [
            "",
            "-v",
            "--privileged",
            "a b",
            "a\nb",
            "bootstrap:",
            "bootstrap:../x",
            "a;b",
            "${X}",
        ] {
            assert!(wrong.parse::<BaseChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn package_names_follow_debian_policy() {
        for good in ["g++", "libc6", "0ad", "python3.11-minimal"] {
            assert!(good.parse::<PackageName>().is_ok(), "{good}");
        }
        for wrong in [
            "",
            "a",
            "-y",
            "+x",
            "Git",
            "a b",
            "a/b",
            "git=1",
            "git:arm64",
            "a\n",
            "é2",
        ] {
            let error = wrong.parse::<PackageName>().unwrap_err().to_string();
            assert!(error.contains("--package"), "{error}");
        }
    }

    #[test]
    fn a_hundred_packages_are_the_most() {
        let names = |count: usize| (0..count).map(|n| format!("p{n:03}").parse().unwrap());
        let release = Release::pinned(Platform::LinuxX64).unwrap();
        let base = || Base::Bootstrap("bookworm".parse().unwrap());
        assert!(Recipe::new(base(), names(100), release.clone()).is_ok());
        assert_eq!(
            Recipe::new(base(), names(101), release),
            Err(RecipeError::TooManyPackages(101))
        );
    }

    #[test]
    fn the_digest_changes_with_what_goes_in_and_with_nothing_else() {
        let plain = recipe("bootstrap:bookworm", &[]).digest();
        assert_eq!(plain.len(), "sha256:".len() + 64);
        assert_eq!(
            plain,
            recipe("bootstrap:bookworm", &["git"]).digest(),
            "git is there anyway"
        );
        assert_eq!(
            recipe("bootstrap:bookworm", &["jq", "make"]).digest(),
            recipe("bootstrap:bookworm", &["make", "jq", "jq"]).digest(),
        );
        let mut other_codex = recipe("bootstrap:bookworm", &[]);
        other_codex.release.version.push('1');
        let all = [
            plain,
            recipe("bootstrap:trixie", &[]).digest(),
            recipe("bootstrap:bookworm", &["jq"]).digest(),
            recipe("debian:bookworm", &[]).digest(),
            recipe("debian:bookworm", &["jq"]).digest(),
            other_codex.digest(),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    proptest! {
        #[test]
        fn what_parses_as_a_reference_is_safe_on_a_command_line_and_in_a_label(text in "\\PC{0,40}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert!(!reference.as_str().starts_with('-'));
                prop_assert!(reference.as_str().chars().all(|c| c.is_ascii_graphic() && !"\"'\\$`=".contains(c)));
            }
        }

        #[test]
        fn what_parses_as_a_package_is_one_word_of_a_shell(text in "[ -~]{0,12}") {
            if let Ok(package) = text.parse::<PackageName>() {
                prop_assert!(package.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)));
                prop_assert!(!package.as_str().starts_with('-'));
            }
        }
    }
}
