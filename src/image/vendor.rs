//! Codex's vendor tree, read out of the verified package. Nothing is unpacked by path: each wanted file is handed
//! on as a validated relative path and a reader.

use super::error::ImageError;
use super::fetch::VerifiedPackage;
use super::layout::CODEX_PROGRAMS;
use super::tools::Watch;
use flate2::read::GzDecoder;
use std::collections::BTreeSet;
use std::io::{BufReader, Read};
use std::path::Path;
use tar::EntryType;

/// The most that the package may unpack to, in bytes; 0.169.0 needs 0.43 GB.
const MAX_UNPACKED: u64 = 2 << 30;
const MAX_ENTRIES: usize = 10_000;
/// The voice host and its libraries: 50 MB that no session uses.
const LEFT_OUT: &str = "codex-resources/voice/";
/// Beside [`CODEX_PROGRAMS`], what has to be in the package.
const MANIFEST: &str = "codex-package.json";

/// One file of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorFile {
    /// Relative to `/opt/codex`, of plain components only, such as `bin/codex`.
    pub path: String,
    pub executable: bool,
    /// Bytes.
    pub size: u64,
}

impl VendorFile {
    /// The mode it gets in the image.
    pub fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }
}

/// Hands each file of the tree to `take`, in the package's order.
pub fn each_file(
    package: VerifiedPackage,
    watch: &Watch,
    take: impl FnMut(&VendorFile, &mut dyn Read) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let target = package.release().target.clone();
    let file = package.into_file();
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let unpacked = GzDecoder::new(BufReader::new(watch.reader(file, size)));
    each_file_of(unpacked, &target, take)
}

fn each_file_of(
    tarball: impl Read,
    target: &str,
    mut take: impl FnMut(&VendorFile, &mut dyn Read) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let failed = ImageError::file("unpack", Path::new("the package of Codex"));
    let prefix = format!("package/vendor/{target}/");
    let mut archive = tar::Archive::new(tarball.take(MAX_UNPACKED));
    let mut seen = BTreeSet::new();
    let mut total = 0_u64;
    for entry in archive.entries().map_err(&failed)? {
        let mut entry = entry.map_err(&failed)?;
        let name = entry_name(&entry.path_bytes())?;
        let hostile = |why| ImageError::HostileEntry {
            entry: name.clone(),
            why,
        };
        match entry.header().entry_type() {
            EntryType::Regular => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            EntryType::Symlink | EntryType::Link => return Err(hostile("is a link")),
            _ => return Err(hostile("is neither a file nor a directory")),
        }
        total = total.saturating_add(entry.size());
        if total > MAX_UNPACKED || seen.len() == MAX_ENTRIES {
            return Err(hostile("makes the package larger than any version of Codex"));
        }
        if !seen.insert(name.clone()) {
            return Err(hostile("is there twice"));
        }
        let Some(path) = name.strip_prefix(&prefix) else {
            continue;
        };
        if path.starts_with(LEFT_OUT) {
            continue;
        }
        let file = VendorFile {
            path: path.to_owned(),
            executable: entry.header().mode().map_err(&failed)? & 0o111 != 0,
            size: entry.size(),
        };
        take(&file, &mut entry)?;
    }
    for required in CODEX_PROGRAMS.into_iter().chain([MANIFEST]) {
        if !seen.contains(&format!("{prefix}{required}")) {
            return Err(ImageError::PackageIncomplete(required.to_owned()));
        }
    }
    Ok(())
}

/// The entry's name, if it is a relative path of plain components that can't lead anywhere else.
fn entry_name(bytes: &[u8]) -> Result<String, ImageError> {
    let hostile = |why| ImageError::HostileEntry {
        entry: String::from_utf8_lossy(bytes).into_owned(),
        why,
    };
    let name = str::from_utf8(bytes).map_err(|_| hostile("is not UTF-8"))?;
    if name.starts_with('/') {
        return Err(hostile("is absolute"));
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Err(hostile("holds a control character or a backslash"));
    }
    let name = name.trim_end_matches('/');
    if name
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err(hostile("leads out of its directory, or is written in two ways"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes entries as they are named, hostile or not: the tar crate's own setters would refuse those.
    pub fn tarball(entries: &[(&str, EntryType, u32)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, mode) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            if kind.is_symlink() || kind.is_hard_link() {
                header.set_link_name("/etc/passwd").unwrap();
            }
            let content = if kind.is_file() { *name } else { "" };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    pub const WHOLE: [(&str, EntryType, u32); 8] = [
        ("package/vendor/t/bin/codex", EntryType::Regular, 0o700),
        ("package/vendor/t/bin/codex-code-mode-host", EntryType::Regular, 0o755),
        ("package/vendor/t/codex-path/rg", EntryType::Regular, 0o4777),
        ("package/vendor/t/codex-resources/bwrap", EntryType::Regular, 0o755),
        (
            "package/vendor/t/codex-resources/voice/lib/x.so",
            EntryType::Regular,
            0o755,
        ),
        ("package/vendor/t/codex-package.json", EntryType::Regular, 0o600),
        ("package/package.json", EntryType::Regular, 0o644),
        ("package/vendor/other/bin/codex", EntryType::Regular, 0o755),
    ];

    fn read(entries: &[(&str, EntryType, u32)]) -> Result<Vec<String>, ImageError> {
        let mut files = Vec::new();
        each_file_of(tarball(entries).as_slice(), "t", |file, content| {
            let content = std::io::read_to_string(content).unwrap();
            assert!(content.ends_with(&file.path));
            files.push(format!("{:o} {}", file.mode(), file.path));
            Ok(())
        })?;
        Ok(files)
    }

    #[test]
    fn the_tree_without_voice_with_plain_modes() {
        insta::assert_snapshot!(read(&WHOLE).unwrap().join("\n"), @r"
        755 bin/codex
        755 bin/codex-code-mode-host
        755 codex-path/rg
        755 codex-resources/bwrap
        644 codex-package.json
        ");
    }

    #[test]
    fn each_missing_part_is_named() {
        for left_out in [0, 1, 2, 3, 5] {
            let mut entries = WHOLE.to_vec();
            let (name, ..) = entries.remove(left_out);
            match read(&entries) {
                Err(ImageError::PackageIncomplete(missing)) => assert!(name.ends_with(&missing), "{name} {missing}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn hostile_entries_end_the_build_wherever_they_lie() {
        let hostile = [
            ("/etc/passwd", EntryType::Regular),
            ("package/../../etc/passwd", EntryType::Regular),
            ("package/vendor/t/bin/../../../x", EntryType::Regular),
            ("./package/x", EntryType::Regular),
            ("package//x", EntryType::Regular),
            ("package/vendor/t/bin/link", EntryType::Symlink),
            ("package/elsewhere", EntryType::Link),
            ("package/vendor/t/null", EntryType::Char),
            ("package/pipe", EntryType::Fifo),
            ("package/vendor/t/bin/codex", EntryType::Regular),
            ("package/a\nb", EntryType::Regular),
        ];
        for (name, kind) in hostile {
            let mut entries = WHOLE.to_vec();
            entries.push((name, kind, 0o755));
            match read(&entries) {
                Err(ImageError::HostileEntry { entry, .. }) => assert_eq!(entry, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_stays_below_its_directory(name in "[./a\\\\\n]{0,12}") {
            if let Ok(accepted) = entry_name(name.as_bytes()) {
                let path = Path::new(&accepted);
                prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert!(path.components().count() > 0);
            }
        }
    }
}
