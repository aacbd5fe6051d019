//! What is refused, held or too much: nothing of it is written.

use super::*;

fn added(path: &[u8], id: &ObjectId) -> TreeChange {
    TreeChange {
        path: OsStr::from_bytes(path).into(),
        old: None,
        new: Some(Entry {
            mode: Mode::File,
            id: id.clone(),
        }),
    }
}

#[tokio::test]
async fn git_and_ways_out_are_refused_with_their_reasons() {
    let bench = Bench::new(|folder| write(folder.join("file"), "x"));
    let mut request = bench.session(|copy| {
        write(copy.join("file"), "payload");
        symlink("/etc/passwd", copy.join("absolute")).unwrap();
        symlink("../outside", copy.join("upwards")).unwrap();
        symlink(".git/hooks", copy.join("into-git")).unwrap();
    });
    let payload = request
        .changes
        .iter()
        .find(|change| change.path == Path::new("file"))
        .unwrap();
    let payload = payload.new.clone().unwrap().id;
    let hostile: [&[u8]; 8] = [
        b".git/hooks/pre-commit",
        b".GIT/config",
        b"sub/.gIt/config",
        b".git ./config",
        b"git~1/config",
        ".g\u{200c}it/config".as_bytes(),
        b"../outside/file",
        b"/etc/cron.d/x",
    ];
    let hostile = hostile.iter().map(|path| added(path, &payload));
    request.changes.extend(hostile);
    let before = bench.tree(&bench.folder());
    let error = explicitly(&request).await.unwrap_err();
    let ApplyError::Refused(preview) = &error else {
        panic!("{error}")
    };
    assert_eq!(preview.refused.len(), 11, "{:?}", preview.refused);
    assert_eq!(bench.tree(&bench.folder()), before);
    assert!(!bench.folder().join(".git").exists() && !bench.outside().exists());
    bench.assert_clean();
}

#[tokio::test]
async fn links_that_were_planted_on_the_host_lead_nowhere() {
    let bench = Bench::new(|folder| {
        write(folder.join("dir/file"), "x");
        write(folder.join("file"), "x");
    });
    let request = bench.session(|copy| {
        write(copy.join("dir/file"), "session");
        write(copy.join("dir/new"), "session");
        write(copy.join("file"), "session");
    });
    let (folder, outside) = (bench.folder(), bench.outside());
    write(outside.join("file"), "x");
    fs::remove_dir_all(folder.join("dir")).unwrap();
    symlink(&outside, folder.join("dir")).unwrap();
    fs::remove_file(folder.join("file")).unwrap();
    symlink(outside.join("file"), folder.join("file")).unwrap();
    let preview = preview(&request, Consent::Explicit, &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(paths(&preview.refused), ["dir/file", "dir/new"]);
    assert_eq!(paths(&preview.conflicts), ["file"]);
    assert!(matches!(explicitly(&request).await, Err(ApplyError::Refused(_))));
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "x");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn what_runs_by_itself_waits_for_somebody_to_ask() {
    let bench = Bench::new(|folder| write(folder.join("Makefile"), "all:\n"));
    let request = bench.session(|copy| {
        write(copy.join("Makefile"), "all:\n\tevil\n");
        write(copy.join(".vscode/tasks.json"), "{}");
        write(copy.join("src/main.rs"), "fn main() {}\n");
    });
    let cancel = CancellationToken::new();
    let applied = apply(&request, Consent::EachTurn, None, &cancel).await.unwrap();
    assert_eq!(
        effects(&applied),
        [("src/main.rs", Effect::Added)].into_iter().collect()
    );
    assert_eq!(paths(&applied.held), [".vscode/tasks.json", "Makefile"]);
    assert_eq!(fs::read_to_string(bench.folder().join("Makefile")).unwrap(), "all:\n");
    let applied = explicitly(&request).await.unwrap();
    assert_eq!(paths(&applied.runs_by_itself), [".vscode/tasks.json", "Makefile"]);
    assert_eq!(bench.tree(&bench.folder()), bench.tree(&bench.copy()));
}

#[tokio::test]
async fn only_the_patch_that_was_shown_is_applied() {
    let bench = Bench::new(|folder| write(folder.join("file"), "x"));
    let request = bench.session(|copy| write(copy.join("file"), "y"));
    let cancel = CancellationToken::new();
    let other = "cd".repeat(32);
    let error = apply(&request, Consent::Explicit, Some(&other), &cancel)
        .await
        .unwrap_err();
    assert!(matches!(error, ApplyError::OtherPatch { .. }), "{error}");
    assert_eq!(fs::read_to_string(bench.folder().join("file")).unwrap(), "x");
    let shown = "AB".repeat(32);
    let applied = apply(&request, Consent::Explicit, Some(&shown), &cancel).await.unwrap();
    assert_eq!(applied.patch_sha256, "ab".repeat(32));
    assert_eq!(applied.base, request.patch.base);
}

#[tokio::test]
async fn what_is_too_much_is_refused_before_anything_is_read() {
    let bench = Bench::new(|_| ());
    let mut request = bench.session(|copy| {
        write(copy.join("one"), [b'x'; 600]);
        write(copy.join("two"), [b'y'; 600]);
    });
    request.bounds.files = 1;
    let error = explicitly(&request).await.unwrap_err();
    assert!(
        matches!(error, ApplyError::TooManyFiles { files: 2, limit: 1 }),
        "{error}"
    );
    request.bounds = Bounds {
        bytes: 1000,
        ..Bounds::default()
    };
    let error = explicitly(&request).await.unwrap_err();
    let too_large = ApplyError::Content(content::ContentError::TooLarge {
        bytes: 1200,
        limit: 1000,
    });
    assert_eq!(error.to_string(), too_large.to_string());
    request.bounds.bytes = 1200;
    request.bounds.time = Duration::ZERO;
    let error = explicitly(&request).await.unwrap_err();
    assert!(matches!(error, ApplyError::Late(_)), "{error}");
    assert_eq!(fs::read_dir(bench.folder()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_cancelled_apply_writes_nothing() {
    let bench = Bench::new(|_| ());
    let request = bench.session(|copy| write(copy.join("one"), "x"));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = apply(&request, Consent::Explicit, None, &cancel).await.unwrap_err();
    assert!(
        matches!(
            &error,
            ApplyError::Cancelled | ApplyError::Git(_) | ApplyError::Content(_)
        ),
        "{error}"
    );
    assert_eq!(fs::read_dir(bench.folder()).unwrap().count(), 0);
    bench.assert_clean();
}

#[tokio::test]
async fn a_missing_object_is_named_and_nothing_is_written() {
    let bench = Bench::new(|folder| write(folder.join("file"), "x"));
    let mut request = bench.session(|copy| write(copy.join("file"), "y"));
    let missing = ObjectId::parse(&[b'0'; 40]).unwrap();
    request.changes.push(added(b"new", &missing));
    let error = explicitly(&request).await.unwrap_err();
    assert!(error.to_string().contains(&missing.to_string()), "{error}");
    assert_eq!(fs::read_to_string(bench.folder().join("file")).unwrap(), "x");
}
