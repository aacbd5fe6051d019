//! What git on the host would run of what a session brings.

use super::*;

#[track_caller]
fn refused(error: &ApplyError) -> Vec<(String, String)> {
    let ApplyError::Refused(preview) = error else {
        panic!("{error}")
    };
    let listed = preview.refused.iter();
    listed
        .map(|listed| (listed.path.to_string(), listed.reason.clone()))
        .collect()
}

#[tokio::test]
async fn where_hooks_run_from_nothing_is_written() {
    let bench = Bench::new(|folder| write(folder.join("tools/hooks/pre-commit"), "#!/bin/sh\n"));
    let request = bench.session(|copy| write(copy.join("tools/hooks/pre-commit"), "#!/bin/sh\nevil\n"));
    sh("git", &["init", "-q"], &bench.folder());
    explicitly(&bench.request(&bench.base)).await.unwrap();
    for spelled in ["tools/hooks", "./tools/../tools/hooks", "alias"] {
        symlink("tools/hooks", bench.folder().join("alias")).ok();
        sh("git", &["config", "core.hooksPath", spelled], &bench.folder());
        let error = explicitly(&request).await.unwrap_err();
        let ApplyError::Refused(preview) = &error else {
            panic!("{spelled}: {error}")
        };
        assert_eq!(preview.refused[0].reason, Refusal::Hooks.to_string());
    }
    sh("git", &["config", "core.hooksPath", "."], &bench.folder());
    let error = explicitly(&request).await.unwrap_err();
    assert!(matches!(error, ApplyError::HooksEverywhere { .. }), "{error}");
    sh("git", &["config", "--unset", "core.hooksPath"], &bench.folder());
    explicitly(&request).await.unwrap();
}

/// With git's own directory for hooks, as most repositories have it.
#[tokio::test]
async fn what_a_hook_is_a_link_to_is_not_written() {
    let bench = Bench::new(|folder| write(folder.join("scripts/pre-commit"), "#!/bin/sh\n"));
    let request = bench.session(|copy| {
        write(copy.join("scripts/pre-commit"), "#!/bin/sh\nevil\n");
        write(copy.join("scripts/other"), "");
    });
    sh("git", &["init", "-q"], &bench.folder());
    fs::create_dir_all(bench.folder().join(".git/hooks")).unwrap();
    symlink("../../scripts/pre-commit", bench.folder().join(".git/hooks/pre-commit")).unwrap();
    let error = explicitly(&request).await.unwrap_err();
    let expected = ("scripts/pre-commit".to_owned(), Refusal::Hooks.to_string());
    assert_eq!(refused(&error), [expected]);
    fs::remove_file(bench.folder().join(".git/hooks/pre-commit")).unwrap();
    explicitly(&request).await.unwrap();
}

/// Where hooks would run from does not exist yet, or is a link's business.
#[tokio::test]
async fn what_would_lead_git_to_hooks_of_the_sessions_is_not_written() {
    // What the host has, what it is configured to, what the session does, and what of that is refused.
    type Case = (fn(&Path), &'static str, fn(&Path), &'static [&'static str]);
    let cases: [Case; 5] = [
        (
            |folder| {
                write(folder.join("tools/keep"), "");
                symlink("tools", folder.join(".husky")).unwrap();
            },
            ".husky/_",
            |copy| write(copy.join("tools/_/pre-commit"), "evil"),
            &["tools/_/pre-commit"],
        ),
        (
            |folder| write(folder.join("code"), ""),
            "not/yet/there",
            |copy| {
                write(copy.join("evil/there/pre-commit"), "evil");
                fs::create_dir(copy.join("not")).unwrap();
                symlink("../evil", copy.join("not/yet")).unwrap();
            },
            &["not/yet"],
        ),
        (
            |folder| {
                write(folder.join("b/x"), "");
                write(folder.join("c/keep"), "");
                symlink("b", folder.join("a")).unwrap();
                symlink("../../a/x", folder.join(".git/hooks/pre-commit")).unwrap();
            },
            "",
            |copy| {
                fs::remove_file(copy.join("a")).unwrap();
                symlink("c", copy.join("a")).unwrap();
                write(copy.join("c/x"), "evil");
            },
            &["a"],
        ),
        (
            |folder| symlink("../../scripts/pre-commit", folder.join(".git/hooks/pre-commit")).unwrap(),
            "",
            |copy| write(copy.join("scripts/pre-commit"), "evil"),
            &["scripts/pre-commit"],
        ),
        (
            |folder| symlink("circle", folder.join("circle")).unwrap(),
            "circle/hooks",
            |copy| {
                fs::remove_file(copy.join("circle")).unwrap();
                write(copy.join("circle/hooks/pre-commit"), "evil");
            },
            &["circle/hooks/pre-commit"],
        ),
    ];
    for (host, hooks, session, expected) in cases {
        let bench = Bench::new(|folder| {
            sh("git", &["init", "-q"], folder);
            fs::create_dir_all(folder.join(".git/hooks")).unwrap();
            host(folder);
        });
        if !hooks.is_empty() {
            sh("git", &["config", "core.hooksPath", hooks], &bench.folder());
        }
        let error = explicitly(&bench.session(session)).await.unwrap_err();
        let hook = |path: &&str| ((*path).to_owned(), Refusal::Hooks.to_string());
        let refused = refused(&error);
        assert!(
            expected.iter().map(hook).all(|one| refused.contains(&one)),
            "{hooks}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_link_that_leads_out_through_the_users_is_not_written() {
    let bench = Bench::new(|folder| {
        write(folder.join("sub/code"), "");
        symlink("/etc", folder.join("out")).unwrap();
        symlink("sub", folder.join("in")).unwrap();
        symlink("../.git", folder.join("sub/g")).unwrap();
    });
    sh("git", &["init", "-q"], &bench.folder());
    let request = bench.session(|copy| {
        symlink("out/passwd", copy.join("pw")).unwrap();
        symlink("sub/g/config", copy.join("cfg")).unwrap();
        symlink("in/code", copy.join("fine")).unwrap();
        symlink("in/not-yet", copy.join("fine-too")).unwrap();
    });
    let paths: Vec<String> = refused(&explicitly(&request).await.unwrap_err())
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(paths, ["cfg", "pw"]);
}

#[tokio::test]
async fn where_a_repository_below_the_folder_has_its_hooks_nothing_is_written() {
    let bench = Bench::new(|folder| write(folder.join("sub/code"), "a"));
    let request = bench.session(|copy| {
        write(copy.join("sub/code"), "b");
        write(copy.join("sub/tools/post-checkout"), "#!/bin/sh\nevil\n");
    });
    let sub = bench.folder().join("sub");
    sh("git", &["init", "-q"], &sub);
    sh("git", &["config", "core.hooksPath", "tools"], &sub);
    let error = explicitly(&request).await.unwrap_err();
    let expected = ("sub/tools/post-checkout".to_owned(), Refusal::Hooks.to_string());
    assert_eq!(refused(&error), [expected]);
    sh("git", &["config", "--unset", "core.hooksPath"], &sub);
    explicitly(&request).await.unwrap();
}

/// Shown first that git does run it.
#[tokio::test]
async fn a_directory_that_git_takes_for_a_repository_is_not_made() {
    let bench = Bench::new(|folder| write(folder.join("file"), "a"));
    let ran = bench.dir.path().join("ran");
    let request = bench.session(|copy| {
        let sub = copy.join("sub");
        write(sub.join("HEAD"), "ref: refs/heads/main\n");
        write(
            sub.join("config"),
            format!(
                "[core]\nrepositoryformatversion = 0\nbare = false\nworktree = ..\nfsmonitor = \"touch {}; false\"\n",
                ran.display()
            ),
        );
        write(sub.join("objects/x"), "");
        write(sub.join("refs/x"), "");
    });
    sh("sh", &["-c", "git status || true"], &bench.copy().join("sub"));
    assert!(ran.exists(), "git runs what such a directory names");
    fs::remove_file(&ran).unwrap();
    let error = explicitly(&request).await.unwrap_err();
    let paths: Vec<String> = refused(&error).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["sub/HEAD", "sub/config", "sub/objects/x", "sub/refs/x"]);
    assert!(!bench.folder().join("sub").exists());
}

/// One that the host has: a mirror beside the code.
#[tokio::test]
async fn nothing_is_written_into_a_bare_repository() {
    let bench = Bench::new(|folder| {
        sh("git", &["init", "-q", "--bare", "mirror.git"], folder);
        fs::remove_dir_all(folder.join("mirror.git/hooks")).unwrap();
    });
    let request = bench.session(|copy| write(copy.join("mirror.git/hooks/post-update"), "#!/bin/sh\nevil\n"));
    let error = explicitly(&request).await.unwrap_err();
    let expected = (
        "mirror.git/hooks/post-update".to_owned(),
        Refusal::GitDirectory.to_string(),
    );
    assert_eq!(refused(&error), [expected]);
}
