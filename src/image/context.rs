//! The directory that an engine's own `build` works on: `config/Containerfile`, its script, the lists that the
//! script reads, and Codex's tree.

#![expect(clippy::disallowed_methods, reason = "this module stages the build context")]

use super::error::ImageError;
use super::fetch::VerifiedPackage;
use super::layout::MOUNT_POINTS;
use super::recipe::{CONTAINERFILE, INSTALL_TOOLS, PackageName, Recipe};
use super::tools::Watch;
use super::vendor;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Fills `directory`, which is empty.
pub fn stage(directory: &Path, recipe: &Recipe, package: VerifiedPackage, watch: &Watch) -> Result<(), ImageError> {
    let mount_points: Vec<String> = MOUNT_POINTS
        .iter()
        .map(|point| format!("{} {:o} {}", point.kind.word(), point.mode, point.path))
        .collect();
    let packages: Vec<&str> = recipe.packages.iter().map(PackageName::as_str).collect();
    for (name, content) in [
        ("Containerfile", CONTAINERFILE.to_owned()),
        ("install-tools", INSTALL_TOOLS.to_owned()),
        ("mount-points", lines(&mount_points)),
        ("packages", lines(&packages)),
    ] {
        let path = directory.join(name);
        std::fs::write(&path, content).map_err(ImageError::file("write", &path))?;
    }
    let tree = directory.join("codex");
    make_directory(&tree)?;
    vendor::each_file(package, watch, |file, content| {
        let path = tree.join(&file.path);
        // Validated by `vendor` to be plain components, in a directory that nobody else can write.
        let parents: Vec<&Path> = path.ancestors().skip(1).take_while(|parent| *parent != tree).collect();
        parents.into_iter().rev().try_for_each(make_directory)?;
        let failed = ImageError::file("write", &path);
        let mut out = File::create_new(&path).map_err(&failed)?;
        io::copy(content, &mut out).map_err(&failed)?;
        // COPY keeps modes, so they are set whatever the umask is.
        out.set_permissions(Permissions::from_mode(file.mode()))
            .map_err(&failed)
    })
}

fn lines<T: AsRef<str>>(items: &[T]) -> String {
    items.iter().map(|item| format!("{}\n", item.as_ref())).collect()
}

fn make_directory(path: &Path) -> Result<(), ImageError> {
    let failed = ImageError::file("create the directory", path);
    match std::fs::create_dir(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_what_the_script_reads() {
        assert_eq!(lines::<&str>(&[]), "", "an empty list is no line at all");
        assert_eq!(lines(&["jq", "make"]), "jq\nmake\n");
    }

    #[test]
    fn the_containerfile_copies_what_is_staged() {
        for name in ["COPY codex /opt/codex", "install-tools packages mount-points"] {
            assert!(CONTAINERFILE.contains(name), "{name}");
        }
        for name in ["$here/packages", "$here/mount-points"] {
            assert!(INSTALL_TOOLS.contains(name), "{name}");
        }
    }
}
