//! An apply that others meet, or that ends before its end.

use super::*;
use crate::workspace::apply::journal::JournalError;

/// Ready to be carried out, with the lock.
async fn planned(request: &Request) -> (Held, Plan) {
    let (held, work) = hold(request, LeftBehind::Finished).await.unwrap();
    let cancel = CancellationToken::new();
    let mut prepared = prepare(request, Consent::Explicit, &work, &cancel).await.unwrap();
    let needed = prepared.needed();
    let contents = &mut prepared.contents;
    contents
        .fetch(&request.objects, needed, u64::MAX, &work, &cancel)
        .await
        .unwrap();
    (held, Plan::of(prepared, request).unwrap())
}

#[tokio::test]
async fn an_edit_between_decision_and_commit_is_noticed_by_its_content() {
    let edits: [fn(&Path); 5] = [
        // Of the same size and time.
        |folder| {
            let times = fs::metadata(folder.join("edited")).unwrap().modified().unwrap();
            write(folder.join("edited"), "usr\n");
            let file = fs::File::options().write(true).open(folder.join("edited")).unwrap();
            file.set_modified(times).unwrap();
        },
        |folder| write(folder.join("a/b"), "the user's"),
        |folder| write(folder.join("becomes-file/hosts-own"), "the user's"),
        |folder| set_mode(&folder.join("script"), 0o700),
        |folder| fs::remove_file(folder.join("gone/deep/file")).unwrap(),
    ];
    for edit in edits {
        let bench = Bench::new(of_all_kinds);
        let request = bench.session(change_all_kinds);
        let (held, plan) = planned(&request).await;
        edit(&bench.folder());
        let before = bench.tree(&bench.folder());
        let error = plan.perform(&held).unwrap_err();
        assert!(matches!(error, ApplyError::Changed { .. }), "{error}");
        assert_eq!(bench.tree(&bench.folder()), before);
        held.clear_work().unwrap();
        bench.assert_clean();
    }
}

#[tokio::test]
async fn what_the_user_changed_after_the_commit_stays_and_is_reported() {
    let bench = Bench::new(of_all_kinds);
    let request = bench.session(change_all_kinds);
    let (held, mut plan) = planned(&request).await;
    perform::stage(&plan.folder, &plan.journal, &plan.contents, plan.deadline).unwrap();
    plan.journal.phase = Phase::Committed;
    held.write(&plan.journal).unwrap();
    drop(held);
    let folder = bench.folder();
    write(folder.join("edited"), "the user's\n");
    write(folder.join("gone/deep/file"), "the user's\n");
    write(folder.join("empty"), "the user's\n");
    write(folder.join("becomes-file/hosts-own"), "the user's\n");

    let ends = recover(&bench.state()).await.unwrap();
    let [Ok(Recovered { folder: named, end, .. })] = ends.as_slice() else {
        panic!("{ends:?}")
    };
    let RecoveryEnd::Finished { left, files } = end else {
        panic!("{end:?}")
    };
    assert_eq!(*named, folder.canonicalize().unwrap());
    let mut left = paths(left);
    left.sort_unstable();
    assert_eq!(left, ["becomes-file", "edited", "empty", "gone/deep/file"]);
    assert!(files.iter().all(|written| written.path.as_str() != "edited"));
    for path in ["edited", "gone/deep/file", "empty", "becomes-file/hosts-own"] {
        assert_eq!(fs::read_to_string(folder.join(path)).unwrap(), "the user's\n", "{path}");
    }
    assert_eq!(fs::read_to_string(folder.join("a/b/c/d/e")).unwrap(), "deep");
    bench.assert_clean();
}

#[tokio::test]
async fn after_any_number_of_steps_the_rest_is_done_by_recovery() {
    let mut number = 0;
    loop {
        let bench = Bench::new(of_all_kinds);
        let request = bench.session(change_all_kinds);
        let (held, mut plan) = planned(&request).await;
        perform::stage(&plan.folder, &plan.journal, &plan.contents, plan.deadline).unwrap();
        plan.journal.phase = Phase::Committed;
        held.write(&plan.journal).unwrap();
        drop(held);
        let all = plan.journal.tasks.len();
        let mut done = plan.journal.clone();
        done.tasks.truncate(number);
        assert_eq!(perform::carry_out(&plan.folder, &done).unwrap(), []);
        // The next apply to the folder is as good a recovery as a start.
        let applied = explicitly(&request).await.unwrap();
        assert_eq!(applied.files, [], "{number} of {all}");
        assert_eq!(
            bench.tree(&bench.folder()),
            bench.tree(&bench.copy()),
            "{number} of {all}"
        );
        bench.assert_clean();
        number += 3;
        if number > all + 2 {
            break;
        }
    }
}

/// As a process leaves it that was killed in the middle of writing.
async fn cut_short(bench: &Bench) -> Request {
    let request = bench.session(change_all_kinds);
    let (held, mut plan) = planned(&request).await;
    perform::stage(&plan.folder, &plan.journal, &plan.contents, plan.deadline).unwrap();
    plan.journal.phase = Phase::Committed;
    held.write(&plan.journal).unwrap();
    request
}

#[tokio::test]
async fn a_preview_finishes_nothing() {
    let bench = Bench::new(of_all_kinds);
    let request = cut_short(&bench).await;
    let before = bench.tree(&bench.folder());
    let error = preview(&request, Consent::Explicit, &CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(error, ApplyError::CutShort { .. }), "{error}");
    assert_eq!(bench.tree(&bench.folder()), before);
    explicitly(&request).await.unwrap();
    assert_eq!(bench.tree(&bench.folder()), bench.tree(&bench.copy()));
    bench.assert_clean();
}

/// The user took the half-written one away, and cloned the project again.
#[tokio::test]
async fn another_folder_of_that_name_is_left_alone() {
    let bench = Bench::new(of_all_kinds);
    let request = cut_short(&bench).await;
    let (folder, aside) = (bench.folder(), bench.folder().with_extension("aside"));
    fs::rename(&folder, &aside).unwrap();
    fs::create_dir(&folder).unwrap();
    of_all_kinds(&folder);
    let before = bench.tree(&folder);
    let ends = recover(&bench.state()).await.unwrap();
    let [Err(ApplyError::OtherFolder { journal, .. })] = ends.as_slice() else {
        panic!("{ends:?}")
    };
    let refused = explicitly(&request).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("remove {}", journal.display())), "{refused}");
    assert_eq!(bench.tree(&folder), before);
    // The one that it is about is back.
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    explicitly(&request).await.unwrap();
    assert_eq!(bench.tree(&folder), bench.tree(&bench.copy()));
    bench.assert_clean();
}

#[tokio::test]
async fn before_the_commit_recovery_leaves_no_trace() {
    let bench = Bench::new(of_all_kinds);
    let request = bench.session(change_all_kinds);
    let before = bench.tree(&bench.folder());
    let (held, plan) = planned(&request).await;
    held.write(&plan.journal).unwrap();
    let mut half = plan.journal.clone();
    half.tasks.truncate(plan.journal.tasks.len() / 2 + 4);
    perform::stage(&plan.folder, &half, &plan.contents, plan.deadline).unwrap();
    assert_ne!(bench.tree(&bench.folder()), before, "something was staged");
    assert!(
        recover(&bench.state()).await.unwrap().is_empty(),
        "a living owner is left alone"
    );
    drop(held);
    let ends = recover(&bench.state()).await.unwrap();
    assert!(
        matches!(
            ends.as_slice(),
            [Ok(Recovered {
                end: RecoveryEnd::RolledBack,
                ..
            })]
        ),
        "{ends:?}"
    );
    assert_eq!(bench.tree(&bench.folder()), before);
    bench.assert_clean();
}

#[tokio::test]
async fn journals_that_are_not_understood_are_left_alone() {
    let bench = Bench::new(of_all_kinds);
    let request = bench.session(change_all_kinds);
    let (held, plan) = planned(&request).await;
    let path = held.slot.journal();
    held.write(&plan.journal).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    for (spoiled, wanted) in [
        (
            text.replace("\"version\":2", "\"version\":3"),
            "another version of codex-mcp (3)",
        ),
        (
            text.replace(".codex-mcp-", "../../etc/"),
            "it names a file that is not codex-mcp's",
        ),
        (text[..text.len() / 2].to_owned(), "is damaged"),
    ] {
        fs::write(&path, &spoiled).unwrap();
        let error = recovery::finish(&held).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), spoiled);
    }
    fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_folder_that_is_gone_keeps_its_journal_until_it_is_back() {
    let bench = Bench::new(of_all_kinds);
    let request = bench.session(change_all_kinds);
    let (held, plan) = planned(&request).await;
    held.write(&plan.journal).unwrap();
    drop(held);
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::rename(bench.folder(), &elsewhere).unwrap();
    let ends = recover(&bench.state()).await.unwrap();
    assert!(matches!(ends.as_slice(), [Err(ApplyError::Host(_))]), "{ends:?}");
    fs::rename(&elsewhere, bench.folder()).unwrap();
    assert!(recover(&bench.state()).await.unwrap()[0].is_ok());
    bench.assert_clean();
}

#[test]
fn two_applies_to_one_folder_do_not_meet() {
    let state = tempfile::tempdir().unwrap();
    let folder = Path::new("/work/project");
    let slot = Slot::of(state.path(), folder);
    let held = slot.clone().hold(folder, Duration::ZERO).unwrap();
    let error = slot.clone().hold(folder, Duration::ZERO).unwrap_err();
    assert!(matches!(error, JournalError::Busy { .. }), "{error}");
    let other = Path::new("/work/other");
    Slot::of(state.path(), other).hold(other, Duration::ZERO).unwrap();
    drop(held);
    slot.hold(folder, Duration::ZERO).unwrap();
}

/// As root a directory's mode keeps nobody out, but a read-only mount does.
#[test]
fn where_nothing_can_be_written_nothing_is_half_written() {
    let bench = Bench::new(of_all_kinds);
    let request = bench.session(change_all_kinds);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (held, plan) = runtime.block_on(planned(&request));
    let before = bench.tree(&bench.folder());
    let becomes_directory = bench.folder().join("gone/deep");
    let error = if nix::unistd::geteuid().is_root() {
        let folder = bench.folder();
        // Its own thread: a mount namespace is a thread's.
        std::thread::spawn(move || {
            use nix::mount::{MsFlags, mount};
            let none: Option<&str> = None;
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            // Only deletions lie here: nothing is staged beside them that would fail first.
            let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let place = folder.join("gone/deep");
            mount(Some(&place), &place, none, MsFlags::MS_BIND, none).unwrap();
            mount(none, &place, none, read_only, none).unwrap();
            // The folder as this thread sees it.
            let plan = Plan {
                folder: Arc::new(HostFolder::open(&folder, ObjectFormat::Sha1).unwrap()),
                ..plan
            };
            plan.perform(&held).unwrap_err()
        })
        .join()
        .unwrap()
    } else {
        set_mode(&becomes_directory, 0o555);
        let error = plan.perform(&held).unwrap_err();
        set_mode(&becomes_directory, 0o755);
        error
    };
    let message = error.to_string();
    assert!(
        message.starts_with("nothing was written: can't remove gone/deep/file: "),
        "{message}"
    );
    assert_eq!(bench.tree(&bench.folder()), before);
}
