//! Base and Codex merged into one tar for the engine's `import`: streamed, so no root is needed to keep owners, and
//! nothing is unpacked.
//!
//! Every name comes once: podman refuses an archive in which a directory is there twice. The result depends on the
//! two inputs alone: what is ours has owner 0:0 and one fixed time.

use super::error::ImageError;
use super::fetch::VerifiedPackage;
use super::layout::{CODEX_DIR, MOUNT_POINTS, MountPointKind};
use super::tools::Watch;
use super::vendor::{self, VendorFile};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// 1985-10-26T08:15:00Z, the time that npm gives every file of a package.
const OUR_TIME: u64 = 499_162_500;

/// Writes the merged archive to `out`. `base_size`: bytes of `base`, for progress.
pub fn assemble(
    base: impl Read,
    base_size: u64,
    package: VerifiedPackage,
    out: impl Write,
    watch: &Watch,
) -> Result<(), ImageError> {
    let mut archive = Assembly::new(out);
    archive.copy_base(BufReader::new(watch.reader(base, base_size)))?;
    archive.add_mount_points()?;
    vendor::each_file(package, watch, |file, content| archive.add_codex_file(file, content))?;
    archive.finish()
}

struct Assembly<W: Write> {
    out: tar::Builder<W>,
    /// Every path written so far, relative and without trailing slash.
    written: BTreeSet<PathBuf>,
}

fn failed(source: io::Error) -> ImageError {
    ImageError::file("assemble", Path::new("the image's file system"))(source)
}

impl<W: Write> Assembly<W> {
    fn new(out: W) -> Self {
        Self {
            out: tar::Builder::new(out),
            written: BTreeSet::new(),
        }
    }

    /// Copies the base, but for what this program writes itself, device nodes (each run has its own /dev, and an
    /// ordinary user's engine can't make them) and extended attributes (file capabilities, which no session may use).
    fn copy_base(&mut self, base: impl Read) -> Result<(), ImageError> {
        let mut base = tar::Archive::new(base);
        for entry in base.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() || kind.is_character_special() || kind.is_block_special() {
                continue;
            }
            let Some(path) = base_path(&entry.path_bytes())? else {
                continue;
            };
            if is_ours(&path) {
                continue;
            }
            if !self.written.insert(path.clone()) {
                return Err(ImageError::HostileBase {
                    entry: path.display().to_string(),
                    why: "is there twice",
                });
            }
            let mut header = entry.header().clone();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name_bytes().map(Cow::into_owned).unwrap_or_default();
                self.append_link(&mut header, &path, &target)?;
            } else {
                self.out.append_data(&mut header, &path, &mut entry).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn append_link(&mut self, header: &mut Header, path: &Path, target: &[u8]) -> Result<(), ImageError> {
        self.out
            .append_link(header, path, OsStr::from_bytes(target))
            .map_err(failed)
    }

    fn add_mount_points(&mut self) -> Result<(), ImageError> {
        for point in MOUNT_POINTS {
            let path = relative(point.path);
            self.add_parents(&path)?;
            match point.kind {
                MountPointKind::Directory => self.add(&path, EntryType::Directory, point.mode, 0, &mut io::empty())?,
                MountPointKind::File => self.add(&path, EntryType::Regular, point.mode, 0, &mut io::empty())?,
            }
        }
        Ok(())
    }

    fn add_codex_file(&mut self, file: &VendorFile, content: &mut dyn Read) -> Result<(), ImageError> {
        let path = relative(CODEX_DIR).join(&file.path);
        self.add_parents(&path)?;
        self.add(&path, EntryType::Regular, file.mode(), file.size, content)
    }

    /// The directories above `path` that neither the base nor this program has written yet.
    fn add_parents(&mut self, path: &Path) -> Result<(), ImageError> {
        let mut parents: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        parents.reverse();
        for parent in parents {
            if !self.written.contains(parent) {
                self.add(parent, EntryType::Directory, 0o755, 0, &mut io::empty())?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        path: &Path,
        kind: EntryType,
        mode: u32,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), ImageError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(OUR_TIME);
        header.set_size(size);
        self.written.insert(path.to_owned());
        self.out.append_data(&mut header, path, content).map_err(failed)
    }

    fn finish(self) -> Result<(), ImageError> {
        self.out.into_inner().and_then(|mut out| out.flush()).map_err(failed)
    }
}

/// True for what this program writes itself, whatever the base has there.
fn is_ours(path: &Path) -> bool {
    path.starts_with(relative(CODEX_DIR)) || MOUNT_POINTS.iter().any(|point| path == relative(point.path))
}

fn relative(absolute: &str) -> PathBuf {
    PathBuf::from(absolute.trim_start_matches('/'))
}

/// The name of a base's entry without `./` and trailing slash; `None` for the root itself.
fn base_path(name: &[u8]) -> Result<Option<PathBuf>, ImageError> {
    let hostile = |why| ImageError::HostileBase {
        entry: String::from_utf8_lossy(name).into_owned(),
        why,
    };
    if name.starts_with(b"/") {
        return Err(hostile("is absolute"));
    }
    let mut path = PathBuf::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(hostile("leads out of its directory")),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_entry(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: EntryType, mode: u32, owner: u64) {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(7);
        if kind.is_symlink() {
            header.set_link_name("usr/bin").unwrap();
        }
        let content = if kind.is_file() { "base" } else { "" };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }

    fn base(entries: &[(&str, EntryType, u32, u64)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, mode, owner) in entries {
            base_entry(&mut builder, name, *kind, *mode, *owner);
        }
        builder.into_inner().unwrap()
    }

    /// Everything but Codex's files, which [`vendor`] has its own tests for; one stands for them all.
    fn assembled(base: &[u8]) -> Result<Vec<u8>, ImageError> {
        let mut out = Vec::new();
        let mut assembly = Assembly::new(&mut out);
        assembly.copy_base(base)?;
        assembly.add_mount_points()?;
        let codex = VendorFile {
            path: "bin/codex".into(),
            executable: true,
            size: 5,
        };
        assembly.add_codex_file(&codex, &mut &b"codex"[..])?;
        assembly.finish()?;
        Ok(out)
    }

    fn listing(archive: &[u8]) -> Vec<String> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let link = entry
                    .link_name()
                    .unwrap()
                    .map(|to| format!(" -> {}", to.display()))
                    .unwrap_or_default();
                format!(
                    "{:?} {:o} {}:{} {} {}{link}",
                    header.entry_type(),
                    header.mode().unwrap(),
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.mtime().unwrap(),
                    entry.path().unwrap().display(),
                )
            })
            .collect()
    }

    fn debian() -> Vec<u8> {
        let long = format!("./usr/{}", "x".repeat(60));
        base(&[
            ("./", EntryType::Directory, 0o755, 0),
            ("./dev/", EntryType::Directory, 0o755, 0),
            ("./dev/null", EntryType::Char, 0o666, 0),
            ("./bin", EntryType::Symlink, 0o777, 0),
            ("./home/", EntryType::Directory, 0o755, 0),
            ("./opt/codex/planted", EntryType::Regular, 0o755, 0),
            ("./tmp/", EntryType::Directory, 0o700, 0),
            ("./usr/", EntryType::Directory, 0o755, 0),
            (&long, EntryType::Regular, 0o640, 42),
        ])
    }

    #[test]
    fn base_mount_points_and_codex_each_once() {
        insta::assert_snapshot!(listing(&assembled(&debian()).unwrap()).join("\n"), @r"
        Directory 755 0:0 7 dev
        Symlink 777 0:0 7 bin -> usr/bin
        Directory 755 0:0 7 home
        Directory 755 0:0 7 usr
        Regular 640 42:42 7 usr/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        Directory 1777 0:0 499162500 tmp
        Directory 1777 0:0 499162500 home/codex
        Directory 755 0:0 499162500 var
        Directory 755 0:0 499162500 var/lib
        Directory 755 0:0 499162500 var/lib/codex
        Directory 755 0:0 499162500 run
        Directory 755 0:0 499162500 run/codex-mcp
        Regular 755 0:0 499162500 run/codex-mcp/guest
        Regular 444 0:0 499162500 run/codex-mcp/ca-bundle.pem
        Directory 755 0:0 499162500 .cargo
        Regular 444 0:0 499162500 .cargo/config.toml
        Directory 755 0:0 499162500 workspace
        Directory 755 0:0 499162500 opt
        Directory 755 0:0 499162500 opt/codex
        Directory 755 0:0 499162500 opt/codex/bin
        Regular 755 0:0 499162500 opt/codex/bin/codex
        ");
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        assert_eq!(assembled(&debian()).unwrap(), assembled(&debian()).unwrap());
    }

    #[test]
    fn long_names_and_links_survive() {
        let name = format!("usr/{}", "d/".repeat(100) + "file");
        let target = "t/".repeat(100) + "x";
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(7);
        builder.append_link(&mut header, &name, &target).unwrap();
        let archive = assembled(&builder.into_inner().unwrap()).unwrap();
        let first = listing(&archive).remove(0);
        assert!(first.ends_with(&format!("{name} -> {target}")), "{first}");
    }

    #[test]
    fn a_hostile_base_is_refused() {
        for name in ["/etc/passwd", "./a/../../b"] {
            let error = assembled(&base(&[(name, EntryType::Regular, 0o644, 0)])).unwrap_err();
            assert!(
                matches!(&error, ImageError::HostileBase { entry, .. } if entry == name),
                "{error}"
            );
        }
        let twice = [
            ("./a/", EntryType::Directory, 0o755, 0),
            ("a", EntryType::Directory, 0o755, 0),
        ];
        assert!(matches!(assembled(&base(&twice)), Err(ImageError::HostileBase { .. })));
    }
}
