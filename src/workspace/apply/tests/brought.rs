//! What comes over, how it is merged, and what becomes of it where both sides changed.

use super::*;

#[tokio::test]
async fn all_that_git_keeps_comes_over_and_nothing_else_is_touched() {
    for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
        let bench = Bench::of_format(format, of_all_kinds);
        let request = bench.session(change_all_kinds);
        // The host's own, which the session never saw.
        write(bench.folder().join("hosts-own"), "untouched");
        write(bench.copy().join("hosts-own"), "untouched");

        let preview = preview(&request, Consent::Explicit, &CancellationToken::new())
            .await
            .unwrap();
        bench.assert_clean();
        let applied = explicitly(&request).await.unwrap();
        assert_eq!(preview.would_write, applied.files);
        assert_eq!(applied.left, []);
        assert_eq!(bench.tree(&bench.folder()), bench.tree(&bench.copy()));
        bench.assert_clean();

        let folder = bench.folder();
        assert!(!folder.join("gone").exists(), "a directory goes with its last file");
        assert_eq!(mode_of(&folder.join("private")), 0o600, "what a file had it keeps");
        assert_eq!(mode_of(&folder.join("tool")), 0o755);
        assert_eq!(mode_of(&folder.join("a/b/c")), 0o755);
        let effects = effects(&applied);
        assert_eq!(effects[r#"new\nline\xff"quote\\"#], Effect::Modified);
        assert_eq!(effects[r"more\xfe/a\tb/\u{1}"], Effect::Added);
        assert_eq!(effects["gone/deep/file"], Effect::Deleted);
        assert_eq!(effects["script"], Effect::Modified);

        // Once more there is nothing to do.
        let again = explicitly(&request).await.unwrap();
        assert_eq!((again.files.len(), again.already.len()), (0, request.changes.len()));
    }
}

#[tokio::test]
async fn new_files_are_as_open_as_their_directory() {
    let bench = Bench::new(|folder| write(folder.join("in/x"), "x"));
    set_mode(&bench.folder().join("in"), 0o700);
    let request = bench.session(|copy| {
        write(copy.join("in/new"), "new");
        write(copy.join("in/deep/tool"), "new");
        set_mode(&copy.join("in/deep/tool"), 0o755);
    });
    explicitly(&request).await.unwrap();
    let folder = bench.folder();
    assert_eq!(mode_of(&folder.join("in/new")), 0o600);
    assert_eq!(mode_of(&folder.join("in/deep")), 0o700);
    assert_eq!(mode_of(&folder.join("in/deep/tool")), 0o700);
}

#[tokio::test]
async fn root_gives_files_to_whoever_has_the_folder_or_had_the_file() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let bench = Bench::new(|folder| write(folder.join("edited"), "x"));
    let request = bench.session(|copy| {
        write(copy.join("edited"), "y");
        write(copy.join("new/file"), "y");
        symlink("file", copy.join("new/link")).unwrap();
    });
    let folder = bench.folder();
    std::os::unix::fs::chown(&folder, Some(1234), Some(1235)).unwrap();
    std::os::unix::fs::chown(folder.join("edited"), Some(4321), Some(4322)).unwrap();
    explicitly(&request).await.unwrap();
    let owner = |path: &str| {
        let metadata = fs::symlink_metadata(folder.join(path)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(owner("edited"), (4321, 4322));
    for path in ["new", "new/file", "new/link"] {
        assert_eq!(owner(path), (1234, 1235), "{path}");
    }
}

#[tokio::test]
async fn lines_that_both_sides_changed_apart_are_merged() {
    let lines = |edit: &dyn Fn(usize) -> Option<&'static str>| -> String {
        let line = |number| edit(number).map_or_else(|| format!("line {number}\n"), |line| format!("{line}\n"));
        (0..20).map(line).collect()
    };
    let bench = Bench::new(|folder| {
        write(folder.join("text"), lines(&|_| None));
        write(folder.join("same"), lines(&|_| None));
    });
    let request = bench.session(|copy| {
        write(
            copy.join("text"),
            lines(&|number| (number == 2).then_some("the session's")),
        );
        set_mode(&copy.join("text"), 0o755);
        write(copy.join("same"), lines(&|number| (number == 2).then_some("of both")));
    });
    let hosts = |number| match number {
        2 => Some("of both"),
        17 => Some("the host's"),
        _ => None,
    };
    write(
        bench.folder().join("text"),
        lines(&|number| (number == 17).then_some("the host's")),
    );
    set_mode(&bench.folder().join("text"), 0o640);
    write(bench.folder().join("same"), lines(&hosts));
    let applied = explicitly(&request).await.unwrap();
    let merged = lines(&|number| match number {
        2 => Some("the session's"),
        17 => Some("the host's"),
        _ => None,
    });
    assert_eq!(fs::read_to_string(bench.folder().join("text")).unwrap(), merged);
    assert_eq!(mode_of(&bench.folder().join("text")), 0o750);
    assert_eq!(effects(&applied), [("text", Effect::Modified)].into_iter().collect());
    assert_eq!(applied.already, [Untrusted::new("same")]);
}

#[tokio::test]
async fn one_conflict_and_nothing_is_written() {
    let bench = Bench::new(|folder| {
        for name in ["lines", "binary", "deleted-there", "deleted-here", "fine"] {
            write(folder.join(name), "one\ntwo\n");
        }
        write(folder.join("directory/file"), "x");
    });
    let request = bench.session(|copy| {
        write(copy.join("lines"), "one\nsession\n");
        write(copy.join("binary"), b"session\0");
        write(copy.join("deleted-there"), "session");
        fs::remove_file(copy.join("deleted-here")).unwrap();
        write(copy.join("fine"), "session");
        write(copy.join("added"), "session");
        fs::remove_dir_all(copy.join("directory")).unwrap();
        write(copy.join("directory"), "session");
    });
    let folder = bench.folder();
    write(folder.join("lines"), "one\nhost\n");
    write(folder.join("binary"), b"host\0");
    fs::remove_file(folder.join("deleted-there")).unwrap();
    write(folder.join("deleted-here"), "host");
    write(folder.join("added"), "host");
    write(folder.join("directory/hosts-own"), "host");
    let before = bench.tree(&folder);
    let error = explicitly(&request).await.unwrap_err();
    let ApplyError::Conflicts(preview) = &error else {
        panic!("{error}")
    };
    let mut conflicts = paths(&preview.conflicts);
    conflicts.sort_unstable();
    assert_eq!(
        conflicts,
        ["added", "binary", "deleted-here", "deleted-there", "directory", "lines"]
    );
    let message = error.to_string();
    assert!(
        message.contains("lines (the session and the host changed the same lines)"),
        "{message}"
    );
    assert!(message.contains("nothing was written"), "{message}");
    assert_eq!(bench.tree(&folder), before);
    bench.assert_clean();
}

#[tokio::test]
async fn ten_thousand_files_at_once() {
    let bench = Bench::new(|folder| {
        for number in 0..2_000 {
            write(
                folder.join(format!("old/{}/{number}", number % 50)),
                format!("{number}\n"),
            );
        }
    });
    let request = bench.session(|copy| {
        for number in 0..10_000 {
            if number < 1_000 {
                fs::remove_file(copy.join(format!("old/{}/{number}", number % 50))).unwrap();
            } else if number < 2_000 {
                write(copy.join(format!("old/{}/{number}", number % 50)), "changed");
            } else {
                write(
                    copy.join(format!("new/{}/{number}", number % 100)),
                    format!("{number}\n"),
                );
            }
        }
    });
    assert_eq!(request.changes.len(), 10_000);
    let since = Instant::now();
    let applied = explicitly(&request).await.unwrap();
    println!("applied 10,000 changes in {:?}", since.elapsed());
    assert_eq!(applied.files.len(), 10_000);
    assert_eq!(bench.tree(&bench.folder()), bench.tree(&bench.copy()));
    bench.assert_clean();
}
