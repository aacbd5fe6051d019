//! The stop ladder as a pure state machine: close the pipe → SIGTERM the client → engine `kill` → engine
//! `rm --force` → SIGKILL the client's group → confirm that the container is gone.
//!
//! [`Ladder::handle`] gets what happened and says what to do; [`super::stop`] does it. It knows no engine, clock or
//! process, so every path of it is tested without one.
//!
//! Two things make it longer than "kill the child":
//! - The client is not the container. Docker's client can be gone while the daemon still runs, or only now creates,
//!   what it asked for. Only an `rm --force` *begun after the client's end* says anything about the container, so
//!   every path ends with one. (It costs some 60 ms, and says "gone" as readily of what never was.)
//! - Where the client had to be forced, a request of its can still be under way in docker's daemon, so one answer
//!   "gone" is not believed: a second is asked for after a pause.

use std::time::Duration;

/// How long each rung may take before the next. [`Graces::worst_case`] is what they add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Graces {
    /// From closing the pipe to SIGTERM: PID 1 ends on end of file, all else inside with it.
    pub pipe: Duration,
    /// From SIGTERM to `kill`.
    pub term: Duration,
    /// For `kill`, and for the client to end by it.
    pub kill: Duration,
    /// For `rm --force` while the client still runs.
    pub remove: Duration,
    /// From SIGKILL to the client's end.
    pub reap: Duration,
    /// For the first `rm --force` that confirms: at a server's end it is that of many containers.
    pub together: Duration,
    /// For each further one.
    pub confirm: Duration,
    /// Between two of those.
    pub pause: Duration,
}

/// How often the container's removal is asked for at most, once the client is gone.
const CONFIRMATIONS: u32 = 3;

impl Graces {
    /// Every rung together stays below the 10 s in which a signalled server must have ended.
    pub const DEFAULT: Self = Self {
        // Twenty clients of podman that end at once take two cores more than a second.
        pipe: Duration::from_millis(1800),
        term: Duration::from_millis(500),
        kill: Duration::from_millis(700),
        remove: Duration::from_millis(1300),
        reap: Duration::from_millis(400),
        together: Duration::from_millis(2000),
        confirm: Duration::from_millis(1200),
        pause: Duration::from_millis(150),
    };

    /// The longest that a stop can take, all rungs used to their end.
    pub const fn worst_case(&self) -> Duration {
        let rungs = self.pipe.saturating_add(self.term).saturating_add(self.kill);
        rungs.saturating_add(self.worst_case_hurried())
    }

    /// The longest that it can take from [`Event::Hurry`] on.
    pub const fn worst_case_hurried(&self) -> Duration {
        let confirming = self
            .confirm
            .saturating_mul(CONFIRMATIONS - 1)
            .saturating_add(self.together);
        let pauses = self.pause.saturating_mul(CONFIRMATIONS - 1);
        self.remove
            .saturating_add(self.reap)
            .saturating_add(confirming)
            .saturating_add(pauses)
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    StopRequested,
    /// A second request, or a first one in a hurry: no more graces.
    Hurry,
    /// The client was reaped.
    ClientExited,
    /// The last timer that was started has run out.
    GraceElapsed,
    /// The last command that was started has ended.
    CommandFinished(CommandEnd),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEnd {
    Succeeded,
    Failed,
}

/// What to do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Close both directions of the pipe to PID 1.
    ClosePipe,
    /// SIGTERM to the client.
    Terminate,
    /// Start the engine's `kill`, in place of a command still running.
    RunKill,
    /// Start the engine's `rm --force`, in place of a command still running.
    RunRemove,
    /// The same, perhaps together with other containers that are asked about now, in a command that begins after this.
    Confirm,
    /// SIGKILL to the client's process group.
    KillGroup,
    /// Start the timer, in place of one still running.
    StartTimer(Duration),
    Finished(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The engine said so after the client's end.
    Gone,
    /// Not proven: the next start's reconcile has to look for it.
    MayRemain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    PipeClosed,
    Terminated,
    Killing,
    /// `rm --force` while the client runs, or ended only since.
    Removing,
    Reaping,
    Confirming {
        asked: u32,
        answers: u32,
    },
    Pausing {
        asked: u32,
        answers: u32,
    },
    Finished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Running,
    Exited,
}

/// How the client was made to end, and so how far one answer of the engine is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Force {
    None,
    Used,
}

/// One stop, from the request to its end.
#[derive(Debug)]
pub struct Ladder {
    graces: Graces,
    stage: Stage,
    client: Client,
    force: Force,
}

impl Ladder {
    pub fn new(graces: Graces) -> Self {
        Self {
            graces,
            stage: Stage::Running,
            client: Client::Running,
            force: Force::None,
        }
    }

    /// What to do about `event`. An event that means nothing in this stage asks for nothing.
    #[must_use]
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::StopRequested => self.stop_requested(),
            Event::Hurry => self.hurry(),
            Event::ClientExited => self.client_exited(),
            Event::GraceElapsed => self.grace_elapsed(),
            Event::CommandFinished(end) => self.command_finished(end),
        }
    }

    fn stop_requested(&mut self) -> Vec<Action> {
        match self.stage {
            Stage::Running => {
                self.stage = Stage::PipeClosed;
                vec![Action::ClosePipe, Action::StartTimer(self.graces.pipe)]
            }
            _ => Vec::new(),
        }
    }

    fn hurry(&mut self) -> Vec<Action> {
        match self.stage {
            Stage::Running => {
                let mut actions = vec![Action::ClosePipe];
                actions.extend(self.remove());
                actions
            }
            Stage::PipeClosed | Stage::Terminated | Stage::Killing => self.remove(),
            // From here on nothing waits out of kindness.
            Stage::Removing | Stage::Reaping | Stage::Confirming { .. } | Stage::Pausing { .. } | Stage::Finished => {
                Vec::new()
            }
        }
    }

    fn client_exited(&mut self) -> Vec<Action> {
        self.client = Client::Exited;
        match self.stage {
            Stage::Running => {
                let mut actions = vec![Action::ClosePipe];
                actions.extend(self.confirm(0, 0));
                actions
            }
            Stage::PipeClosed | Stage::Terminated | Stage::Killing | Stage::Reaping => self.confirm(0, 0),
            // The removal under way is let finish: one cut off half-way leaves a container half removed.
            Stage::Removing | Stage::Finished => Vec::new(),
            // A client that outlived its SIGKILL for a while: no answer so far was about what it left. Two are
            // needed after force, so at least the last of them is to a question asked from now on.
            Stage::Confirming { asked, .. } => {
                self.stage = Stage::Confirming { asked, answers: 0 };
                Vec::new()
            }
            Stage::Pausing { asked, .. } => {
                self.stage = Stage::Pausing { asked, answers: 0 };
                Vec::new()
            }
        }
    }

    fn grace_elapsed(&mut self) -> Vec<Action> {
        match self.stage {
            Stage::Running | Stage::Finished => Vec::new(),
            Stage::PipeClosed => {
                self.stage = Stage::Terminated;
                self.force = Force::Used;
                vec![Action::Terminate, Action::StartTimer(self.graces.term)]
            }
            Stage::Terminated => {
                self.stage = Stage::Killing;
                vec![Action::RunKill, Action::StartTimer(self.graces.kill)]
            }
            Stage::Killing => self.remove(),
            Stage::Removing => self.after_removing(),
            Stage::Reaping => self.confirm(0, 0),
            // An engine this slow is no faster when asked again.
            Stage::Confirming { .. } => self.finish(Outcome::MayRemain),
            Stage::Pausing { asked, answers } => self.confirm(asked, answers),
        }
    }

    fn command_finished(&mut self, end: CommandEnd) -> Vec<Action> {
        match (self.stage, end) {
            (Stage::Removing, _) => self.after_removing(),
            (Stage::Confirming { asked, answers }, CommandEnd::Succeeded) => {
                let answers = answers + 1;
                if answers >= self.answers_needed() {
                    return self.finish(Outcome::Gone);
                }
                self.ask_again(asked, answers)
            }
            (Stage::Confirming { asked, .. }, CommandEnd::Failed) => self.ask_again(asked, 0),
            // `kill` says nothing that the client's end or the timer would not: a container that it refuses to
            // kill may not have been started yet.
            _ => Vec::new(),
        }
    }

    fn answers_needed(&self) -> u32 {
        match self.force {
            Force::None => 1,
            Force::Used => 2,
        }
    }

    fn remove(&mut self) -> Vec<Action> {
        self.stage = Stage::Removing;
        self.force = Force::Used;
        vec![Action::RunRemove, Action::StartTimer(self.graces.remove)]
    }

    fn after_removing(&mut self) -> Vec<Action> {
        match self.client {
            Client::Exited => self.confirm(0, 0),
            Client::Running => {
                self.stage = Stage::Reaping;
                vec![Action::KillGroup, Action::StartTimer(self.graces.reap)]
            }
        }
    }

    fn confirm(&mut self, asked: u32, answers: u32) -> Vec<Action> {
        self.stage = Stage::Confirming {
            asked: asked + 1,
            answers,
        };
        // What made trouble once is asked about alone, so that it keeps no other waiting.
        let ask = if answers == asked {
            Action::Confirm
        } else {
            Action::RunRemove
        };
        let grace = if asked == 0 {
            self.graces.together
        } else {
            self.graces.confirm
        };
        vec![ask, Action::StartTimer(grace)]
    }

    fn ask_again(&mut self, asked: u32, answers: u32) -> Vec<Action> {
        if asked >= CONFIRMATIONS {
            return self.finish(Outcome::MayRemain);
        }
        self.stage = Stage::Pausing { asked, answers };
        vec![Action::StartTimer(self.graces.pause)]
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Action> {
        self.stage = Stage::Finished;
        let outcome = match self.client {
            Client::Exited => outcome,
            // Not even SIGKILL ended it (a process in uninterruptible sleep): it may yet create something.
            Client::Running => Outcome::MayRemain,
        };
        vec![Action::Finished(outcome)]
    }
}

#[cfg(test)]
mod tests;
