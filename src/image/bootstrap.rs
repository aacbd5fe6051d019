//! A Debian base made by mmdebstrap, where no registry is in reach (or none is wanted).
//!
//! The suite is the host's own where the host is Debian: its mirrors and keys are known to serve it, internal ones
//! included. Elsewhere it is [`FALLBACK_SUITE`] from Debian's own mirrors. mmdebstrap picks its mode itself: root's,
//! or a user namespace for an ordinary user with subordinate ids.

#![expect(
    clippy::disallowed_methods,
    reason = "this module reads /etc/os-release and the bootstrapped base"
)]

use super::cache::Cache;
use super::error::ImageError;
use super::recipe::{Recipe, Suite, hex};
use super::tools::{SHORT, Tools};
use crate::supervise::command::CommandLine;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

const FALLBACK_SUITE: &str = "bookworm";

/// Documentation that nobody reads in a container: a quarter of the base. Licences stay.
const DPKG_OPTIONS: [&str; 5] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
];

/// Whether a base in the cache will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Cached,
    /// Made anew, with what the mirrors serve today.
    Fresh,
}

/// The suite to bootstrap when nobody named one.
pub fn host_suite() -> Result<Suite, ImageError> {
    let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    match debian_suite(&os_release) {
        Some(suite) => Ok(suite),
        None => Ok(FALLBACK_SUITE.parse()?),
    }
}

/// os-release(5) → the code name, if it is Debian's own. A derivative's mirrors serve other packages.
fn debian_suite(os_release: &str) -> Option<Suite> {
    let value = |key: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches(['"', '\'']))
    };
    (value("ID") == Some("debian")).then(|| value("VERSION_CODENAME")?.parse().ok())?
}

/// The base for this recipe as a tar archive.
pub async fn base(
    recipe: &Recipe,
    suite: &Suite,
    freshness: Freshness,
    cache: &Cache,
    tools: &Tools,
) -> Result<File, ImageError> {
    let packages = recipe.debian_packages();
    let path = cache.base_path(&cache_key(suite, &packages));
    if freshness == Freshness::Fresh || !path.exists() {
        let mmdebstrap = tools.find("mmdebstrap").ok_or(ImageError::BootstrapMissing)?;
        tools
            .progress()
            .step(&format!("Bootstrapping Debian {}", suite.as_str()));
        let mirrors = mirrors(suite, tools).await?;
        let staging = cache.staging_directory()?;
        let whole = staging.path().join("base.tar");
        let command = bootstrap_command(mmdebstrap, suite, &packages, &whole, &mirrors);
        let end = tools.watch(command).await?;
        if !end.status.success() {
            return Err(ImageError::BootstrapFailed {
                suite: suite.as_str().to_owned(),
                said: end.tail.join("\n"),
            });
        }
        cache.publish(&whole, &path)?;
    }
    File::open(&path).map_err(ImageError::file("open", &path))
}

fn cache_key(suite: &Suite, packages: &BTreeSet<&str>) -> String {
    let mut hash = Sha256::new();
    for word in std::iter::once(suite.as_str())
        .chain(packages.iter().copied())
        .chain(DPKG_OPTIONS)
    {
        hash.update(word);
        hash.update([0]);
    }
    format!(
        "{}-{}",
        suite.as_str(),
        hex(hash.finalize().get(..8).unwrap_or_default())
    )
}

fn bootstrap_command(
    mmdebstrap: PathBuf,
    suite: &Suite,
    packages: &BTreeSet<&str>,
    to: &Path,
    mirrors: &[String],
) -> CommandLine {
    let packages: Vec<&str> = packages.iter().copied().collect();
    CommandLine::new(mmdebstrap)
        .args(["--variant=minbase", "--format=tar"])
        .arg(format!("--include={}", packages.join(",")))
        .args(DPKG_OPTIONS.map(|option| format!("--dpkgopt={option}")))
        .arg(suite.as_str())
        .arg(to)
        .args(mirrors)
}

/// The sources of this suite that the machine's own apt is configured with, as sources.list(5) lines; none where apt
/// is absent or serves another suite, and then mmdebstrap takes Debian's own mirrors.
async fn mirrors(suite: &Suite, tools: &Tools) -> Result<Vec<String>, ImageError> {
    let Some(apt_get) = tools.find("apt-get") else {
        return Ok(Vec::new());
    };
    let command = CommandLine::new(apt_get).args([
        "indextargets",
        "--format",
        "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)",
        "Created-By: Packages",
    ]);
    let end = tools.ask(command, SHORT).await?;
    Ok(mirror_lines(&String::from_utf8_lossy(&end.stdout), suite))
}

/// apt's answer → `deb` lines. Only what says it comes from Debian: third parties use Debian's suite names too. A
/// mirror with a password in its address is left out, for the lines stay in the image's sources.list.
fn mirror_lines(targets: &str, suite: &Suite) -> Vec<String> {
    let main = suite.as_str();
    let releases = [main.to_owned(), format!("{main}-updates"), format!("{main}-security")];
    let lines: BTreeSet<String> = targets
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('|').collect();
            let [uri, release, component, "Debian"] = fields[..] else {
                return None;
            };
            let wanted = releases.iter().any(|name| name == release) && !uri.contains('@');
            wanted.then(|| format!("deb {uri} {release} {component}"))
        })
        .collect();
    let serves_the_suite = lines.iter().any(|line| line.contains(&format!(" {main} ")));
    if serves_the_suite {
        lines.into_iter().collect()
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite() -> Suite {
        "bookworm".parse().unwrap()
    }

    #[test]
    fn the_hosts_suite_is_taken_from_debian_only() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 13\"\nVERSION_CODENAME=trixie\nID=debian\n";
        assert_eq!(debian_suite(debian).unwrap().as_str(), "trixie");
        assert!(debian_suite("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n").is_none());
        assert!(debian_suite("ID=debian\n").is_none());
        assert!(debian_suite("").is_none());
    }

    #[test]
    fn mirrors_are_apts_own_for_this_suite_and_from_debian() {
        let targets = "\
http://mirror.example/debian/|bookworm|main|Debian
http://mirror.example/debian/|bookworm|main|Debian
http://mirror.example/debian/|bookworm-updates|main|Debian
http://mirror.example/debian/|bookworm-backports|main|Debian
http://mirror.example/security/|bookworm-security|main|Debian
https://download.example/linux|bookworm|stable|Docker
https://unknown.example/|bookworm|main|$(ORIGIN)
http://user:secret@mirror.example/debian/|bookworm|contrib|Debian
http://mirror.example/debian/|trixie|main|Debian
nonsense
";
        insta::assert_snapshot!(mirror_lines(targets, &suite()).join("\n"), @r"
        deb http://mirror.example/debian/ bookworm main
        deb http://mirror.example/debian/ bookworm-updates main
        deb http://mirror.example/security/ bookworm-security main
        ");
        assert!(mirror_lines("http://m/|bookworm-security|main|Debian", &suite()).is_empty());
    }

    #[test]
    fn the_command_line() {
        let packages = ["bash", "git"].into();
        let mirrors = ["deb http://m/ bookworm main".to_owned()];
        let command = bootstrap_command(
            "/usr/bin/mmdebstrap".into(),
            &suite(),
            &packages,
            Path::new("/c/b.tar"),
            &mirrors,
        );
        insta::assert_snapshot!(command, @"/usr/bin/mmdebstrap --variant=minbase --format=tar --include=bash,git '--dpkgopt=path-exclude=/usr/share/doc/*' '--dpkgopt=path-include=/usr/share/doc/*/copyright' '--dpkgopt=path-exclude=/usr/share/info/*' '--dpkgopt=path-exclude=/usr/share/locale/*' '--dpkgopt=path-exclude=/usr/share/man/*' bookworm /c/b.tar 'deb http://m/ bookworm main'");
    }

    #[test]
    fn another_package_list_is_another_base() {
        let one = cache_key(&suite(), &["a", "bc"].into());
        assert!(one.starts_with("bookworm-"));
        assert_ne!(one, cache_key(&suite(), &["ab", "c"].into()));
        assert_ne!(one, cache_key(&"trixie".parse().unwrap(), &["a", "bc"].into()));
    }
}
