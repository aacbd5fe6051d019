//! Copies of folders that are odd, too large, or change meanwhile.
#![expect(clippy::disallowed_methods, reason = "tests make and read files")]

use super::*;
use crate::config::quantity::ByteSize;
use crate::config::{Origin, Sourced};
use crate::workspace::blob::{Entry, Inventory, Mode as GitMode, blob_id};
use crate::workspace::git::ObjectFormat;
use crate::workspace::inventory::InventoryRecorder;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn limits(mib: u64, files: u64) -> CopyLimits {
    CopyLimits {
        bytes: Sourced::new(ByteSize::from_mib(mib), Origin::Default),
        files: Sourced::new(files, Origin::Default),
    }
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[derive(Debug)]
struct Copied {
    inventory: Inventory,
    skipped: Skipped,
}

struct Bench {
    dir: tempfile::TempDir,
    source: PathBuf,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    Bench { dir, source }
}

impl Bench {
    fn destination(&self) -> PathBuf {
        self.dir.path().join("copy")
    }

    fn copy(&self, limits: &CopyLimits) -> Result<Copied, CopyError> {
        self.copy_to(&self.destination(), limits, &mut go_on)
    }

    fn copy_meanwhile(
        &self,
        limits: &CopyLimits,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Copied, CopyError> {
        self.copy_to(&self.destination(), limits, progress)
    }

    fn copy_to(
        &self,
        destination: &Path,
        limits: &CopyLimits,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Copied, CopyError> {
        let job = CopyJob {
            source: self.source.clone(),
            destination: destination.to_owned(),
            selection: Selection::WithoutGit,
            limits: limits.clone(),
            owner: CopyOwner::Caller,
        };
        let mut recorder = InventoryRecorder::new(ObjectFormat::Sha1);
        let skipped = take(&job, &mut recorder, progress)?;
        let inventory = recorder.finish(&Tree::open(destination)?)?;
        Ok(Copied { inventory, skipped })
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn content_modes_times_and_links_are_kept() {
    let bench = bench();
    let at = |name: &str| bench.source.join(name);
    fs::create_dir(at("read-only")).unwrap();
    fs::write(at("read-only/script"), "#!/bin/sh\n").unwrap();
    chmod(&at("read-only/script"), 0o4755);
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5);
    fs::File::open(at("read-only/script"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    fs::hard_link(at("read-only/script"), at("second")).unwrap();
    chmod(&at("read-only"), 0o555);
    symlink("/etc/passwd", at("link")).unwrap();
    fs::write(at("large"), vec![b'x'; PIECE * 2 + 1]).unwrap();
    let copied = bench.copy(&limits(1, 100)).unwrap();

    let copy = bench.destination();
    let script = fs::metadata(copy.join("read-only/script")).unwrap();
    assert_eq!((script.mode() & 0o7777, script.nlink()), (0o755, 1));
    assert_eq!(script.modified().unwrap(), old);
    assert_eq!(fs::metadata(copy.join("read-only")).unwrap().mode() & 0o7777, 0o555);
    assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read(copy.join("large")).unwrap(), fs::read(at("large")).unwrap());
    let second = Entry {
        mode: GitMode::Executable,
        id: blob_id(ObjectFormat::Sha1, b"#!/bin/sh\n"),
    };
    assert_eq!(copied.inventory.get(Path::new("second")), Some(&second));
    assert_eq!(copied.inventory.len(), 4);
    assert_eq!(copied.skipped, Skipped::default());
    chmod(&at("read-only"), 0o755);
    chmod(&copy.join("read-only"), 0o755);
}

#[test]
fn what_is_no_file_is_counted_and_names_are_bytes() {
    let bench = bench();
    nix::unistd::mkfifo(&bench.source.join("fifo"), Mode::S_IRWXU).unwrap();
    let name = OsStr::from_bytes(b"\xff\n");
    fs::write(bench.source.join(name), "x").unwrap();
    let copied = bench.copy(&limits(1, 100)).unwrap();
    assert_eq!(copied.skipped.special, 1);
    assert_eq!(fs::read(bench.destination().join(name)).unwrap(), b"x");
    assert_eq!(copied.inventory.len(), 1);
}

#[test]
fn limits_are_refused_with_the_setting_before_anything_stays() {
    let bench = bench();
    fs::write(bench.source.join("a"), vec![0; (1 << 20) + 1]).unwrap();
    fs::write(bench.source.join("b"), "").unwrap();
    let name = bench.source.display().to_string();
    let bytes = bench
        .copy(&limits(1, 100))
        .unwrap_err()
        .to_string()
        .replace(&name, "SOURCE");
    insta::assert_snapshot!(bytes, @"SOURCE holds 1048577 bytes (1.0 MiB) in files, more than limits.workspace = 1.0 MiB (default) allows to copy; raise limits.workspace, or work on a smaller folder");
    let files = bench
        .copy(&limits(10, 1))
        .unwrap_err()
        .to_string()
        .replace(&name, "SOURCE");
    insta::assert_snapshot!(files, @"SOURCE holds more than 1 files and directories, which is what workspace.max_files (default) allows to copy; raise workspace.max_files, or work on a smaller folder");
    assert!(!bench.destination().exists());
    assert!(bench.copy(&limits(2, 2)).is_ok());
}

#[test]
fn a_file_that_grows_meanwhile_meets_the_limit_and_leaves_nothing() {
    let bench = bench();
    fs::write(bench.source.join("a"), "1").unwrap();
    fs::write(bench.source.join("b"), "1").unwrap();
    let grow = bench.source.join("b");
    let mut progress = |_: Progress| {
        fs::write(&grow, vec![0; 1 << 20]).unwrap();
        ControlFlow::Continue(())
    };
    let error = bench.copy_meanwhile(&limits(1, 9), &mut progress);
    assert!(matches!(error.unwrap_err(), CopyError::TooManyBytes { .. }));
    assert!(!bench.destination().exists());
}

#[test]
fn what_vanishes_or_becomes_a_link_meanwhile_is_skipped() {
    let bench = bench();
    for name in ["a", "b", "c"] {
        fs::write(bench.source.join(name), "1").unwrap();
    }
    fs::create_dir(bench.source.join("d")).unwrap();
    let at = |name: &str| bench.source.join(name);
    let mut raced = false;
    let mut progress = |_: Progress| {
        if !std::mem::replace(&mut raced, true) {
            fs::remove_file(at("b")).unwrap();
            fs::remove_file(at("c")).unwrap();
            symlink("/etc/passwd", at("c")).unwrap();
            fs::remove_dir(at("d")).unwrap();
            symlink("/etc", at("d")).unwrap();
        }
        ControlFlow::Continue(())
    };
    let copied = bench.copy_meanwhile(&limits(1, 9), &mut progress).unwrap();
    assert!(copied.inventory.contains_key(Path::new("a")));
    // Links were copied as links, and what they point at was not.
    for name in ["c", "d"] {
        assert!(
            fs::symlink_metadata(bench.destination().join(name))
                .unwrap()
                .is_symlink(),
            "{name}"
        );
    }
    assert!(!bench.destination().join("b").exists());
    assert_eq!(copied.skipped.vanished, 1);
}

#[test]
fn a_cancelled_copy_leaves_nothing() {
    let bench = bench();
    fs::write(bench.source.join("a"), "1").unwrap();
    let error = bench.copy_meanwhile(&limits(1, 9), &mut |_| ControlFlow::Break(()));
    assert!(matches!(error.unwrap_err(), CopyError::Cancelled));
    assert!(!bench.destination().exists());
}

#[test]
fn a_copy_into_itself_or_over_something_is_refused() {
    let bench = bench();
    let inside = bench.source.join("copy");
    let error = bench.copy_to(&inside, &limits(1, 9), &mut go_on).unwrap_err();
    assert!(matches!(error, CopyError::Nested { .. }));
    assert!(!inside.exists());
    fs::create_dir(bench.destination()).unwrap();
    fs::write(bench.destination().join("precious"), "").unwrap();
    assert!(matches!(
        bench.copy(&limits(1, 9)).unwrap_err(),
        CopyError::Write {
            errno: Errno::EEXIST,
            ..
        }
    ));
    assert!(bench.destination().join("precious").exists());
}

#[test]
fn progress_ends_at_its_totals() {
    let bench = bench();
    fs::create_dir(bench.source.join("d")).unwrap();
    fs::write(bench.source.join("d/a"), "12345").unwrap();
    let mut last = Progress::default();
    let mut progress = |now: Progress| {
        assert!(now.files >= last.files && now.bytes >= last.bytes);
        last = now;
        ControlFlow::Continue(())
    };
    bench.copy_meanwhile(&limits(1, 9), &mut progress).unwrap();
    assert_eq!(
        last,
        Progress {
            files: 2,
            bytes: 5,
            total_files: 2,
            total_bytes: 5
        }
    );
}
