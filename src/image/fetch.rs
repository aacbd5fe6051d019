//! Codex's package: downloaded by the npm client, kept in the cache, hashed on each use.

#![expect(clippy::disallowed_methods, reason = "this module reads the downloaded package")]

use super::cache::Cache;
use super::error::ImageError;
use super::lock::{Integrity, Release};
use super::tools::{Tools, Watch};
use crate::supervise::command::CommandLine;
use sha2::{Digest, Sha512};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

/// A tarball whose bytes were hashed and found to be the committed ones. There is no other way to get one, and the
/// file that was hashed is the one that is read, whatever the path names later.
pub struct VerifiedPackage {
    file: File,
    release: Release,
}

impl VerifiedPackage {
    pub fn release(&self) -> &Release {
        &self.release
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Hashes the file at `path`; what is wrong is deleted, so that nobody finds it again.
    fn check(path: &Path, release: Release, watch: &Watch) -> Result<Self, ImageError> {
        let failed = ImageError::file("read", path);
        let mut file = File::open(path).map_err(&failed)?;
        let size = file.metadata().map_err(&failed)?.len();
        let found = Integrity::new(sha512(watch.reader(&file, size)).map_err(&failed)?);
        if found != release.integrity {
            std::fs::remove_file(path).map_err(ImageError::file("delete", path))?;
            return Err(ImageError::Integrity {
                package: release.package,
                expected: release.integrity,
                found,
                path: path.to_owned(),
            });
        }
        file.rewind().map_err(&failed)?;
        Ok(Self { file, release })
    }
}

fn sha512(mut content: impl Read) -> io::Result<[u8; 64]> {
    let mut hash = Sha512::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        match content.read(&mut chunk)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(chunk.get(..count).unwrap_or_default()),
        }
    }
}

/// The package of this release, from the cache or from npm.
pub async fn codex_package(release: &Release, cache: &Cache, tools: &Tools) -> Result<VerifiedPackage, ImageError> {
    let cached = cache.codex_path(release);
    if !cached.exists() {
        tools.progress().step(&format!("Fetching {}", release.package));
        let staging = cache.staging_directory()?;
        let tarball = download(release, staging.path(), tools).await?;
        let package = check(tarball.clone(), release, tools).await?;
        cache.publish(&tarball, &cached)?;
        return Ok(package);
    }
    tools.progress().step(&format!("Verifying {}", release.package));
    check(cached, release, tools).await
}

async fn check(path: PathBuf, release: &Release, tools: &Tools) -> Result<VerifiedPackage, ImageError> {
    let release = release.clone();
    tools
        .blocking(move |watch| VerifiedPackage::check(&path, release, watch))
        .await
}

async fn download(release: &Release, staging: &Path, tools: &Tools) -> Result<PathBuf, ImageError> {
    let npm = tools.find("npm").ok_or(ImageError::NpmMissing)?;
    let end = tools.watch(pack_command(npm, release, staging)).await?;
    if !end.status.success() {
        return Err(ImageError::NpmFailed {
            package: release.package.clone(),
            said: end.tail.join("\n"),
        });
    }
    let failed = ImageError::file("list", staging);
    let files: Vec<PathBuf> = std::fs::read_dir(staging)
        .map_err(&failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .map_err(&failed)?;
    match <[PathBuf; 1]>::try_from(files) {
        Ok([tarball]) => Ok(tarball),
        Err(files) => Err(ImageError::NpmUnclear {
            package: release.package.clone(),
            found: files.len(),
        }),
    }
}

/// Runs npm in an empty directory: a `package.json` or `.npmrc` of wherever the person stands has no say.
fn pack_command(npm: PathBuf, release: &Release, destination: &Path) -> CommandLine {
    CommandLine::new(npm)
        .in_directory(destination)
        .args([
            "pack",
            "--ignore-scripts",
            "--no-update-notifier",
            "--loglevel=warn",
            &release.package,
            "--pack-destination",
        ])
        .arg(destination)
}

#[cfg(test)]
mod tests {
    use super::super::progress::Silent;
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use tokio_util::sync::CancellationToken;

    fn release_of(content: &[u8]) -> Release {
        Release {
            version: "1.2.3".into(),
            package: "@openai/codex@1.2.3-test".into(),
            integrity: Integrity::new(Sha512::digest(content).into()),
            target: "test".into(),
        }
    }

    struct Scene {
        directory: tempfile::TempDir,
        cache: Cache,
        tools: Tools,
    }

    /// A machine whose npm is this script, to which `$7` is the directory to pack to.
    fn scene(npm: &str) -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("npm");
        std::fs::write(&program, format!("#!/bin/sh\n{npm}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let environment = [("PATH".into(), path.into())].into();
        let tools = Tools::new(&environment, Arc::new(Silent), CancellationToken::new());
        let cache = Cache::open(&directory.path().join("cache")).unwrap();
        Scene {
            directory,
            cache,
            tools,
        }
    }

    #[test]
    fn npm_is_asked_for_the_pinned_package_alone() {
        let command = pack_command("/usr/bin/npm".into(), &release_of(b""), Path::new("/staging"));
        insta::assert_snapshot!(command, @"/usr/bin/npm pack --ignore-scripts --no-update-notifier --loglevel=warn @openai/codex@1.2.3-test --pack-destination /staging");
    }

    #[tokio::test]
    async fn a_good_package_is_fetched_once_and_read_from_the_start() {
        let scene = scene("printf good > \"$7/codex.tgz\"; echo called >> \"$7/../../../../calls\"");
        let release = release_of(b"good");
        for _ in 0..2 {
            let package = codex_package(&release, &scene.cache, &scene.tools).await.unwrap();
            assert_eq!(io::read_to_string(package.into_file()).unwrap(), "good");
        }
        let calls = std::fs::read_to_string(scene.directory.path().join("calls")).unwrap();
        assert_eq!(calls, "called\n");
    }

    #[tokio::test]
    async fn a_wrong_download_is_refused_with_both_values_and_never_cached() {
        let scene = scene("printf evil > \"$7/codex.tgz\"");
        let release = release_of(b"good");
        let error = codex_package(&release, &scene.cache, &scene.tools)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(&release.integrity.to_string()), "{error}");
        assert!(error.contains(&release_of(b"evil").integrity.to_string()), "{error}");
        assert!(error.contains("deleted"), "{error}");
        assert!(!scene.cache.codex_path(&release).exists());
    }

    #[tokio::test]
    async fn a_corrupted_cache_is_refused_and_deleted() {
        let scene = scene("exit 1");
        let release = release_of(b"good");
        let cached = scene.cache.codex_path(&release);
        std::fs::write(&cached, "goof").unwrap();
        let error = codex_package(&release, &scene.cache, &scene.tools).await.err().unwrap();
        assert!(matches!(error, ImageError::Integrity { .. }), "{error}");
        assert!(!cached.exists());
    }

    #[tokio::test]
    async fn npms_own_words_are_passed_on() {
        let scene = scene("echo 'npm error code ENOTFOUND' >&2; exit 1");
        let error = codex_package(&release_of(b""), &scene.cache, &scene.tools)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("npm error code ENOTFOUND"), "{error}");
    }

    #[tokio::test]
    async fn without_npm_the_error_says_how_to_get_it() {
        let mut scene = scene("");
        std::fs::remove_file(scene.directory.path().join("npm")).unwrap();
        let path = scene.directory.path().as_os_str().to_owned();
        scene.tools = Tools::new(
            &[("PATH".into(), path)].into(),
            Arc::new(Silent),
            CancellationToken::new(),
        );
        let error = codex_package(&release_of(b""), &scene.cache, &scene.tools)
            .await
            .err()
            .unwrap();
        assert!(matches!(error, ImageError::NpmMissing), "{error}");
    }
}
