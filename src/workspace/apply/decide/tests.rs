//! Three states in, one decision out.

use super::*;
use proptest::prelude::*;

fn path(text: &str) -> RelativePath {
    RelativePath::parse(text.as_bytes()).unwrap()
}

fn id(content: &str) -> ObjectId {
    crate::workspace::blob::blob_id(crate::workspace::git::ObjectFormat::Sha1, content.as_bytes())
}

/// "" is absent, "x…" an executable file, "l…" a link, anything else a file.
fn state(text: &str) -> State {
    match text.as_bytes().first() {
        None => State::Absent,
        Some(b'l') => State::Symlink { id: id(text) },
        Some(b'x') => State::File {
            id: id(&text[1..]),
            executable: true,
        },
        Some(_) => State::File {
            id: id(text),
            executable: false,
        },
    }
}

/// "d" is a directory, "s" a socket, "?" unreadable, all else as for [`state`].
fn found(text: &str) -> Found {
    match text {
        "d" => Found::Directory,
        "s" => Found::Special,
        "?" => Found::Unreadable,
        text => match state(text) {
            State::Absent => Found::Nothing,
            State::Symlink { id } => Found::Symlink { id },
            State::File { id, executable } => Found::File(HostFile {
                id,
                attributes: Attributes {
                    mode: if executable { 0o750 } else { 0o640 },
                    uid: 7,
                    gid: 8,
                },
            }),
        },
    }
}

/// Path, base, session.
type Given<'g> = (&'g str, &'g str, &'g str);

fn decided_by(changes: &[Given<'_>], host: &[(&str, &str)], rules: &Rules) -> Decision {
    let changes: Vec<Change> = changes
        .iter()
        .map(|(at, base, session)| Change {
            path: path(at),
            base: state(base),
            session: state(session),
        })
        .collect();
    let facts = HostFacts {
        found: host.iter().map(|(at, what)| (path(at), found(what))).collect(),
        ..HostFacts::default()
    };
    decide(&changes, &BTreeMap::new(), &facts, rules)
}

fn explicit() -> Rules {
    Rules {
        consent: Consent::Explicit,
        hooks: Vec::new(),
    }
}

fn decided(changes: &[Given<'_>], host: &[(&str, &str)]) -> Decision {
    decided_by(changes, host, &explicit())
}

/// A decision in words.
fn one(base: &str, session: &str, host: &str) -> String {
    let decision = decided(&[("f", base, session)], &[("f", host)]);
    if let [(_, conflict)] = decision.conflicts.as_slice() {
        return format!("{conflict:?}");
    }
    if let [(_, refusal)] = decision.refused.as_slice() {
        return format!("{refusal:?}");
    }
    if let [merge] = decision.merges.as_slice() {
        return format!("merge, executable: {}", merge.executable);
    }
    match decision.steps.as_slice() {
        [] => {
            assert_eq!(decision.already, [path("f")]);
            "already".to_owned()
        }
        [Step::Remove { .. }] => "remove".to_owned(),
        [Step::Put { after, replaces, .. }] => {
            let kept = replaces.map(|attributes| format!(" over {:o}", attributes.mode));
            let known = ["a", "b", "c", "xa", "xb", "xc", "la", "lb", "lc"];
            let put = known.iter().find(|text| state(text) == *after).unwrap();
            format!("put {put}{}", kept.unwrap_or_default())
        }
        [Step::SetExecutable { mode, .. }] => format!("mode {mode:o}"),
        steps => panic!("{steps:?}"),
    }
}

#[test]
fn each_combination_of_three_states_has_its_decision() {
    for (base, session, host, decision) in [
        // The host has what the session began with.
        ("a", "b", "a", "put b over 640"),
        ("a", "xb", "a", "put xb over 640"),
        ("a", "xa", "a", "mode 750"),
        ("xa", "a", "xa", "mode 640"),
        ("", "b", "", "put b"),
        ("", "lb", "", "put lb"),
        ("a", "", "a", "remove"),
        ("la", "", "la", "remove"),
        ("a", "lb", "a", "put lb over 640"),
        ("la", "b", "la", "put b"),
        // The host has what the session made of it.
        ("a", "b", "b", "already"),
        ("a", "", "", "already"),
        ("", "b", "b", "already"),
        ("la", "lb", "lb", "already"),
        // One changed the content, the other the mode.
        ("a", "xa", "b", "mode 750"),
        ("a", "b", "xa", "put xb over 750"),
        ("a", "xb", "b", "mode 750"),
        ("a", "b", "xb", "already"),
        // Both changed it.
        ("a", "b", "c", "merge, executable: false"),
        ("a", "xb", "c", "merge, executable: true"),
        ("a", "b", "xc", "merge, executable: true"),
        ("", "b", "c", "BothAdded"),
        ("", "b", "xb", "BothAdded"),
        ("", "b", "lc", "BothAdded"),
        ("a", "", "b", "DeletedInSession"),
        ("a", "", "xa", "DeletedInSession"),
        ("a", "b", "", "DeletedOnHost"),
        ("a", "lb", "c", "Kinds"),
        ("a", "b", "lc", "Kinds"),
        ("la", "lb", "lc", "Links"),
        // Something is in the way.
        ("", "b", "d", "DirectoryInTheWay"),
        ("a", "b", "d", "DirectoryInTheWay"),
        ("a", "", "d", "already"),
        ("a", "b", "s", "SpecialInTheWay"),
        ("a", "b", "?", "Unreadable"),
    ] {
        assert_eq!(one(base, session, host), decision, "{base:?} {session:?} {host:?}");
    }
}

#[test]
fn directories_are_made_for_what_goes_into_them() {
    let decision = decided(&[("a/b/c", "", "x")], &[("a", "d"), ("a/b", "")]);
    let steps: Vec<&RelativePath> = decision.steps.iter().map(Step::path).collect();
    assert_eq!(steps, [&path("a/b"), &path("a/b/c")]);
    assert!(matches!(decision.steps[0], Step::MakeDirectory { .. }));
}

#[test]
fn what_stands_above_a_path_counts() {
    let refused = |host| decided(&[("a/b", "b", "c")], &[("a", host)]);
    assert_eq!(refused("l").refused, [(path("a/b"), Refusal::ThroughLink)]);
    assert_eq!(refused("?").refused, [(path("a/b"), Refusal::Unreadable)]);
    assert_eq!(refused("f").conflicts, [(path("a/b"), Conflict::FileInTheWay)]);
    // With its directory the file is deleted, on the host.
    let deleted = |host| decided(&[("a/b", "b", "")], &[("a", host)]);
    assert_eq!(deleted("f").already, [path("a/b")]);
    assert_eq!(deleted("l").refused, [(path("a/b"), Refusal::ThroughLink)]);
}

#[test]
fn a_file_makes_way_for_a_directory() {
    let changes = [("a", "f", ""), ("a/b", "", "x")];
    let decision = decided(&changes, &[("a", "f")]);
    let kinds: Vec<&str> = decision.steps.iter().map(kind).collect();
    assert_eq!(kinds, ["remove", "make directory", "put"]);
    // Unless it is no longer that file.
    let decision = decided(&changes, &[("a", "g")]);
    assert!(decision.conflicts.contains(&(path("a"), Conflict::DeletedInSession)));
}

#[test]
fn a_directory_makes_way_for_a_file_when_nothing_else_is_in_it() {
    let changes: Vec<Change> = [("d", "", "f"), ("d/a", "1", ""), ("d/b/c", "2", "")]
        .iter()
        .map(|(at, base, session)| Change {
            path: path(at),
            base: state(base),
            session: state(session),
        })
        .collect();
    let mut facts = HostFacts::default();
    for (at, what) in [("d", "d"), ("d/a", "1"), ("d/b", "d"), ("d/b/c", "2")] {
        facts.found.insert(path(at), found(what));
    }
    let occupants = |more: &[&str]| Occupants {
        files: ["d/a", "d/b/c"].iter().chain(more).map(|at| path(at)).collect(),
        directories: vec![path("d/b"), path("d/empty")],
    };
    facts.occupants.insert(path("d"), Some(occupants(&[])));
    let decision = decide(&changes, &BTreeMap::new(), &facts, &explicit());
    assert_eq!(decision.conflicts, []);
    let steps: Vec<String> = decision
        .steps
        .iter()
        .map(|step| format!("{} {}", kind(step), step.path()))
        .collect();
    assert_eq!(
        steps,
        [
            "remove d/a",
            "remove d/b/c",
            "remove directory d/empty",
            "remove directory d/b",
            "remove directory d",
            "put d"
        ]
    );
    for unclear in [Some(occupants(&["d/hosts-own"])), None] {
        facts.occupants.insert(path("d"), unclear);
        let decision = decide(&changes, &BTreeMap::new(), &facts, &explicit());
        assert_eq!(decision.conflicts, [(path("d"), Conflict::DirectoryInTheWay)]);
    }
}

fn kind(step: &Step) -> &'static str {
    match step {
        Step::Remove { .. } => "remove",
        Step::RemoveDirectory { .. } => "remove directory",
        Step::MakeDirectory { .. } => "make directory",
        Step::Put { .. } => "put",
        Step::SetExecutable { .. } => "mode",
    }
}

#[test]
fn hooks_and_what_is_above_them_are_refused() {
    let rules = Rules {
        consent: Consent::Explicit,
        hooks: vec![path("tools/hooks")],
    };
    let changes = [
        ("tools/hooks/pre-commit", "", "x"),
        ("tools/other", "", "x"),
        ("tools", "", "lx"),
    ];
    let decision = decided_by(&changes, &[("tools", "d")], &rules);
    let refused: Vec<(RelativePath, Refusal)> = decision.refused;
    assert_eq!(
        refused,
        [
            (path("tools/hooks/pre-commit"), Refusal::Hooks),
            (path("tools"), Refusal::Hooks)
        ]
    );
}

#[test]
fn what_makes_a_repository_of_a_directory_is_refused_and_what_only_looks_like_one_is_not() {
    let refused = |changes: &[Given<'_>], parts: &[(Option<&str>, &str)]| {
        let mut facts = HostFacts::default();
        for (directory, name) in parts {
            let parts = facts.git_parts.entry(directory.map(path)).or_default();
            parts.add(name.as_bytes());
        }
        let changes: Vec<Change> = changes
            .iter()
            .map(|(at, base, session)| Change {
                path: path(at),
                base: state(base),
                session: state(session),
            })
            .collect();
        let decision = decide(&changes, &BTreeMap::new(), &facts, &explicit());
        let refused = decision.refused.into_iter();
        refused.map(|(path, why)| (path.to_string(), why)).collect::<Vec<_>>()
    };
    let git = |paths: &[&str]| -> Vec<_> {
        let refused = paths.iter();
        refused
            .map(|path| ((*path).to_owned(), Refusal::GitDirectory))
            .collect()
    };
    let new = [
        ("s/HEAD", "", "a"),
        ("s/config", "", "a"),
        ("s/objects/x", "", "a"),
        ("s/refs/x", "", "a"),
        ("t", "", "a"),
    ];
    assert_eq!(
        refused(&new, &[]),
        git(&["s/HEAD", "s/config", "s/objects/x", "s/refs/x"])
    );
    // Piece by piece over several applies, in another case, with links, by way of another repository's, and in the folder itself.
    assert_eq!(
        refused(&[("s/refs", "", "l")], &[(Some("s"), "HEAD"), (Some("s"), "objects")]),
        git(&["s/refs"])
    );
    assert_eq!(
        refused(&[("s/head", "", "a"), ("s/CommonDir", "", "a")], &[]),
        git(&["s/head", "s/CommonDir"])
    );
    let bare = [(None, "HEAD"), (None, "objects"), (None, "refs")];
    assert_eq!(refused(&[("hooks/update", "", "x")], &bare), git(&["hooks/update"]));
    // What is deleted runs no more, and one file of that name is no repository.
    assert_eq!(refused(&[("hooks/update", "x", "")], &bare), []);
    assert_eq!(
        refused(&[("s/HEAD", "", "a"), ("objects/x", "", "a"), ("s/refs", "a", "")], &[]),
        []
    );
}

#[test]
fn a_flawed_link_is_refused() {
    let change = Change {
        path: path("l"),
        base: State::Absent,
        session: state("l"),
    };
    let flaws = [(path("l"), LinkFlaw::Absolute)].into_iter().collect();
    let decision = decide(&[change], &flaws, &HostFacts::default(), &explicit());
    assert_eq!(decision.refused, [(path("l"), Refusal::Link(LinkFlaw::Absolute))]);
    assert_eq!(decision.steps, []);
}

#[test]
fn what_runs_by_itself_waits_only_where_nobody_asked() {
    let changes = [
        ("Makefile", "a", "b"),
        (".envrc", "", "x"),
        ("src", "a", "b"),
        (".npmrc", "a", ""),
        ("build.rs", "a", "b"),
        ("AGENTS.md", "a", "b"),
    ];
    // Changed on the host as well; there already.
    let host = [
        ("Makefile", "c"),
        (".envrc", ""),
        ("src", "a"),
        (".npmrc", "a"),
        ("build.rs", "a"),
        ("AGENTS.md", "b"),
    ];
    let each_turn = Rules {
        consent: Consent::EachTurn,
        hooks: Vec::new(),
    };
    let decision = decided_by(&changes, &host, &each_turn);
    let names = |listed: &[(RelativePath, &str)]| listed.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&decision.held), ["Makefile", ".envrc", "build.rs"]);
    assert_eq!(names(&decision.runs_by_itself), [] as [&str; 0]);
    assert_eq!((decision.merges.len(), decision.conflicts.len()), (0, 0));
    let steps: Vec<String> = decision.steps.iter().map(|step| step.path().to_string()).collect();
    assert_eq!(steps, [".npmrc", "src"]);
    assert_eq!(decision.already, [path("AGENTS.md")]);

    let decision = decided(&changes, &host);
    assert_eq!(names(&decision.held), [] as [&str; 0]);
    assert_eq!(names(&decision.runs_by_itself), ["Makefile", ".envrc", "build.rs"]);

    // What is deleted does not run, so what the host changed of it is a conflict as anywhere.
    let decision = decided_by(&[("Makefile", "a", "")], &[("Makefile", "b")], &each_turn);
    assert_eq!((names(&decision.held).len(), decision.conflicts.len()), (0, 1));
}

#[test]
fn the_right_to_execute_follows_the_right_to_read() {
    for (mode, executable, wanted) in [
        (0o644, true, 0o755),
        (0o640, true, 0o750),
        (0o600, true, 0o700),
        (0o755, false, 0o644),
        (0o711, false, 0o600),
    ] {
        assert_eq!(with_executable(mode, executable), wanted, "{mode:o}");
    }
}

fn any_state() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "b", "c", "xa", "xb", "xc", "la", "lb"])
}

proptest! {
    /// Where the host is as it was, the session's state comes to it; whatever is done is done to what was there; and
    /// what nobody else changed is never a conflict.
    #[test]
    fn nothing_of_the_hosts_is_overwritten_unseen(base in any_state(), session in any_state(), host in any_state()) {
        prop_assume!(base != session);
        let decision = decided(&[("f", base, session)], &[("f", host)]);
        let outcomes = decision.steps.len() + decision.merges.len() + decision.conflicts.len() + decision.already.len();
        prop_assert_eq!(outcomes, 1);
        if base == host {
            prop_assert_eq!(decision.steps.len(), 1);
        }
        if session == host {
            prop_assert_eq!(decision.already.len(), 1);
        }
        for step in &decision.steps {
            let (before, after) = match step {
                Step::Remove { before, .. } => (before.clone(), State::Absent),
                Step::Put { before, after, .. } | Step::SetExecutable { before, after, .. } => (before.clone(), after.clone()),
                _ => unreachable!(),
            };
            prop_assert_eq!(before, state(host));
            if base == host {
                prop_assert_eq!(after, state(session));
            }
        }
    }
}
