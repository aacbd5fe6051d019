//! The ladder's rungs in every order of events.

use super::*;
use proptest::prelude::*;

/// All different, so that a timer tells which rung started it.
const GRACES: Graces = Graces {
    pipe: Duration::from_millis(1201),
    term: Duration::from_millis(1002),
    kill: Duration::from_millis(1003),
    remove: Duration::from_millis(1504),
    reap: Duration::from_millis(505),
    together: Duration::from_millis(2008),
    confirm: Duration::from_millis(1006),
    pause: Duration::from_millis(157),
};

fn ladder() -> Ladder {
    Ladder::new(GRACES)
}

#[test]
fn worst_case_is_below_the_promise() {
    for graces in [GRACES, Graces::DEFAULT] {
        assert!(
            graces.worst_case() < Duration::from_secs(10),
            "{:?}",
            graces.worst_case()
        );
    }
}

#[test]
fn the_usual_stop_closes_the_pipe_and_confirms_once() {
    let mut ladder = ladder();
    assert_eq!(
        ladder.handle(Event::StopRequested),
        [Action::ClosePipe, Action::StartTimer(GRACES.pipe)]
    );
    assert_eq!(
        ladder.handle(Event::ClientExited),
        [Action::Confirm, Action::StartTimer(GRACES.together)]
    );
    assert_eq!(
        ladder.handle(Event::CommandFinished(CommandEnd::Succeeded)),
        [Action::Finished(Outcome::Gone)]
    );
}

#[test]
fn nothing_helps_but_the_whole_ladder() {
    let mut ladder = ladder();
    let _ = ladder.handle(Event::StopRequested);
    let mut rungs = Vec::new();
    for _ in 0..20 {
        rungs.extend(ladder.handle(Event::GraceElapsed));
    }
    rungs.retain(|action| !matches!(action, Action::StartTimer(_)));
    assert_eq!(
        rungs,
        [
            Action::Terminate,
            Action::RunKill,
            Action::RunRemove,
            Action::KillGroup,
            Action::Confirm,
            Action::Finished(Outcome::MayRemain),
        ]
    );
}

#[test]
fn a_forced_client_is_confirmed_twice() {
    let mut ladder = ladder();
    let _ = ladder.handle(Event::StopRequested);
    let _ = ladder.handle(Event::GraceElapsed);
    let _ = ladder.handle(Event::ClientExited);
    let succeeded = Event::CommandFinished(CommandEnd::Succeeded);
    assert_eq!(ladder.handle(succeeded), [Action::StartTimer(GRACES.pause)]);
    assert_eq!(
        ladder.handle(Event::GraceElapsed),
        [Action::Confirm, Action::StartTimer(GRACES.confirm)]
    );
    assert_eq!(ladder.handle(succeeded), [Action::Finished(Outcome::Gone)]);
}

#[test]
fn a_hurry_goes_straight_to_the_removal() {
    let mut first = ladder();
    assert_eq!(
        first.handle(Event::Hurry),
        [Action::ClosePipe, Action::RunRemove, Action::StartTimer(GRACES.remove)]
    );
    let mut second = ladder();
    let _ = second.handle(Event::StopRequested);
    assert_eq!(
        second.handle(Event::Hurry),
        [Action::RunRemove, Action::StartTimer(GRACES.remove)]
    );
    assert_eq!(second.handle(Event::Hurry), [], "a third request changes nothing");
}

#[test]
fn a_removal_under_way_is_not_cut_by_the_end_of_the_client() {
    let mut ladder = ladder();
    let _ = ladder.handle(Event::Hurry);
    assert_eq!(ladder.handle(Event::ClientExited), []);
    assert_eq!(
        ladder.handle(Event::CommandFinished(CommandEnd::Succeeded)),
        [Action::Confirm, Action::StartTimer(GRACES.together)],
        "it began before the client's end, so it proves nothing"
    );
}

#[test]
fn a_client_that_ends_by_itself_is_confirmed_too() {
    let mut ladder = ladder();
    assert_eq!(
        ladder.handle(Event::ClientExited),
        [Action::ClosePipe, Action::Confirm, Action::StartTimer(GRACES.together)]
    );
}

#[test]
fn a_client_that_outlives_its_sigkill_spoils_the_answers_before_its_end() {
    let mut ladder = ladder();
    let _ = ladder.handle(Event::Hurry);
    let _ = ladder.handle(Event::GraceElapsed); // the removal hangs: SIGKILL
    let _ = ladder.handle(Event::GraceElapsed); // nor does that help: the first question
    let succeeded = Event::CommandFinished(CommandEnd::Succeeded);
    assert_eq!(ladder.handle(succeeded), [Action::StartTimer(GRACES.pause)]);
    let _ = ladder.handle(Event::GraceElapsed); // the second question
    assert_eq!(ladder.handle(Event::ClientExited), []);
    assert_eq!(
        ladder.handle(succeeded),
        [Action::StartTimer(GRACES.pause)],
        "it was asked too early"
    );
    let _ = ladder.handle(Event::GraceElapsed);
    assert_eq!(ladder.handle(succeeded), [Action::Finished(Outcome::Gone)]);
}

#[test]
fn a_removal_that_keeps_failing_is_given_up() {
    let mut ladder = ladder();
    let mut event = Event::ClientExited;
    let mut asked = 0;
    loop {
        let actions = ladder.handle(event);
        asked += actions.iter().filter(|action| asks(action)).count();
        event = match actions.last() {
            Some(Action::Finished(outcome)) => {
                assert_eq!(*outcome, Outcome::MayRemain);
                break;
            }
            Some(Action::StartTimer(grace)) if *grace == GRACES.pause => Event::GraceElapsed,
            _ => Event::CommandFinished(CommandEnd::Failed),
        };
    }
    assert_eq!(asked, 3);
}

#[test]
fn a_failed_removal_is_tried_again() {
    let mut ladder = ladder();
    let _ = ladder.handle(Event::ClientExited);
    let failed = Event::CommandFinished(CommandEnd::Failed);
    assert_eq!(ladder.handle(failed), [Action::StartTimer(GRACES.pause)]);
    assert_eq!(
        ladder.handle(Event::GraceElapsed),
        [Action::RunRemove, Action::StartTimer(GRACES.confirm)],
        "alone"
    );
    assert_eq!(
        ladder.handle(Event::CommandFinished(CommandEnd::Succeeded)),
        [Action::Finished(Outcome::Gone)]
    );
}

/// Whether the answer says that the container is gone.
fn asks(action: &Action) -> bool {
    matches!(action, Action::RunRemove | Action::Confirm)
}

/// What the client ends by, in the order of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndsBy {
    Itself,
    Pipe,
    Term,
    Kill,
    Remove,
    Group,
    Nothing,
}

/// A world for the ladder to act on: what ends the client, how each command ends (`None`: it hangs), and after which
/// step a second request comes.
#[derive(Debug, Clone)]
struct World {
    ends_by: EndsBy,
    commands: Vec<Option<CommandEnd>>,
    hurry_at: Option<usize>,
}

#[derive(Debug)]
struct Run {
    actions: Vec<Action>,
    /// Index into `actions` at the client's end.
    client_end: Option<usize>,
    /// Index into `actions` at the second request.
    hurry: Option<usize>,
    waited: Duration,
    waited_after_hurry: Duration,
}

fn play(world: &World) -> Run {
    let mut ladder = ladder();
    let mut run = Run {
        actions: Vec::new(),
        client_end: None,
        hurry: None,
        waited: Duration::ZERO,
        waited_after_hurry: Duration::ZERO,
    };
    let mut commands = world.commands.iter().copied();
    let (mut timer, mut command) = (None, None::<Option<CommandEnd>>);
    let mut next = if world.ends_by == EndsBy::Itself {
        Event::ClientExited
    } else {
        Event::StopRequested
    };
    for step in 0.. {
        assert!(step < 100, "the ladder has no end: {run:?}");
        if next == Event::ClientExited {
            run.client_end = Some(run.actions.len());
        }
        let actions = ladder.handle(next);
        let mut ended = false;
        for action in &actions {
            let ends_by = match action {
                Action::ClosePipe => EndsBy::Pipe,
                Action::Terminate => EndsBy::Term,
                Action::RunKill => EndsBy::Kill,
                Action::RunRemove => EndsBy::Remove,
                Action::KillGroup => EndsBy::Group,
                Action::Confirm | Action::StartTimer(_) | Action::Finished(_) => EndsBy::Nothing,
            };
            match action {
                Action::StartTimer(grace) => timer = Some(*grace),
                Action::RunKill | Action::RunRemove | Action::Confirm => {
                    command = Some(commands.next().unwrap_or(Some(CommandEnd::Succeeded)));
                }
                _ => {}
            }
            ended |= ends_by == world.ends_by && ends_by != EndsBy::Nothing && run.client_end.is_none();
        }
        run.actions.extend(&actions);
        if matches!(actions.last(), Some(Action::Finished(_))) {
            return run;
        }
        next = if world.hurry_at == Some(step) {
            run.hurry = Some(run.actions.len());
            Event::Hurry
        } else if ended {
            Event::ClientExited
        } else if let Some(Some(end)) = command.take() {
            Event::CommandFinished(end)
        } else {
            let grace: Duration = timer.take().expect("a ladder that waits has a timer");
            run.waited += grace;
            if run.hurry.is_some() {
                run.waited_after_hurry += grace;
            }
            Event::GraceElapsed
        };
    }
    run
}

fn world() -> impl Strategy<Value = World> {
    let ends_by = prop_oneof![
        Just(EndsBy::Itself),
        Just(EndsBy::Pipe),
        Just(EndsBy::Term),
        Just(EndsBy::Kill),
        Just(EndsBy::Remove),
        Just(EndsBy::Group),
        Just(EndsBy::Nothing),
    ];
    let command = prop_oneof![
        Just(None),
        Just(Some(CommandEnd::Failed)),
        Just(Some(CommandEnd::Succeeded))
    ];
    (
        ends_by,
        prop::collection::vec(command, 0..6),
        prop::option::of(0_usize..8),
    )
        .prop_map(|(ends_by, commands, hurry_at)| World {
            ends_by,
            commands,
            hurry_at,
        })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::StopRequested),
        Just(Event::Hurry),
        Just(Event::ClientExited),
        Just(Event::GraceElapsed),
        Just(Event::CommandFinished(CommandEnd::Succeeded)),
        Just(Event::CommandFinished(CommandEnd::Failed)),
    ]
}

proptest! {
    #[test]
    fn every_stop_ends_in_time_and_says_gone_only_of_what_was_asked_after_the_client(world in world()) {
        let run = play(&world);
        prop_assert!(run.waited <= GRACES.worst_case(), "{run:?}");
        prop_assert!(run.waited_after_hurry <= GRACES.worst_case_hurried(), "{run:?}");
        prop_assert!(run.actions.contains(&Action::ClosePipe));
        prop_assert!(run.actions.iter().any(asks), "{run:?}");
        if run.actions.last() == Some(&Action::Finished(Outcome::Gone)) {
            let after = run.client_end.map(|end| &run.actions[end..]).unwrap_or_default();
            prop_assert!(after.iter().any(asks), "{run:?}");
        }
    }

    #[test]
    fn a_second_request_ends_every_kind_wait(world in world()) {
        let run = play(&world);
        let kind = [GRACES.pipe, GRACES.term, GRACES.kill].map(Action::StartTimer);
        let after = &run.actions[run.hurry.unwrap_or(run.actions.len())..];
        prop_assert!(!after.iter().any(|action| kind.contains(action)), "{run:?}");
    }

    #[test]
    fn whatever_happens_no_reaped_client_is_signalled(events in prop::collection::vec(event(), 0..30)) {
        let mut ladder = ladder();
        let mut exited = false;
        let mut finished = 0;
        for event in events {
            exited |= event == Event::ClientExited;
            for action in ladder.handle(event) {
                let signals = matches!(action, Action::Terminate | Action::KillGroup);
                prop_assert!(!(signals && exited), "{action:?} after the client's end");
                prop_assert_eq!(finished, 0, "nothing comes after the end");
                finished += usize::from(matches!(action, Action::Finished(_)));
            }
        }
        // From wherever that led, time alone ends a stop that was begun.
        let _ = ladder.handle(Event::StopRequested);
        for _ in 0..20 {
            for action in ladder.handle(Event::GraceElapsed) {
                finished += usize::from(matches!(action, Action::Finished(_)));
            }
        }
        prop_assert_eq!(finished, 1);
    }
}
