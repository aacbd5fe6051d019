//! Asks the user, through the client, whether Codex may do something: by `elicitation/create` before 2026-07-28, by a result that
//! wants input since.
//!
//! Inside a container approvals are review, not a boundary. A client that can't ask gets the operator's answer (`mcp.approvals`). What
//! comes back of a result that wanted input is bound to its question by a key of this process: a client can't answer another one.

use crate::codex::approver::{ApprovalRequest, ApprovalSubject};
use crate::codex::event::{Decision, ThreadId};
use crate::mcp::turns::questions::Current;
use rmcp::model::{
    ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema, InputRequest,
    InputRequests, InputRequiredResult, InputResponses, RequestStateCodec, SealOptions,
};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// The name of the one request in a result that wants input.
const APPROVAL: &str = "approval";
/// The most of a command, a list of files or a reason that is shown, in characters.
const SHOWN: usize = 1_000;
/// What the state is for: it is good for nothing else.
const PURPOSE: &[u8] = b"approval of a turn";

/// How the client of a call can be asked.
#[derive(Debug, Clone)]
pub enum Asker {
    Elicits(Box<Peer<RoleServer>>),
    /// By a result that it answers with another call.
    Retries,
    Nobody,
}

/// An answer that came with another call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub thread: ThreadId,
    /// Which turn asked.
    pub turn: u64,
    pub number: u64,
    pub decision: Decision,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    thread: ThreadId,
    turn: u64,
    number: u64,
}

/// Makes and reads the state that a client carries from one call to the next.
#[derive(Debug)]
pub struct Sealer(RequestStateCodec);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the requestState of this call is none of this server's, or its time is over: make the call again without it; codex-status tells \
     whether the question is still open"
)]
pub struct NotOurs;

impl Asker {
    pub fn of(context: &RequestContext<RoleServer>) -> Self {
        let capabilities = context.client_capabilities();
        let elicitation = capabilities.as_ref().and_then(|all| all.elicitation.as_ref());
        // One that names neither form has forms.
        let has_forms = elicitation.is_some_and(|modes| modes.form.is_some() || modes.url.is_none());
        let is_modern = context
            .protocol_version()
            .is_some_and(|version| !version.has_initialize());
        match (has_forms, is_modern) {
            (false, _) => Self::Nobody,
            (true, true) => Self::Retries,
            (true, false) => Self::Elicits(Box::new(context.peer.clone())),
        }
    }
}

/// Asks by `elicitation/create`. Silence, an error and whatever is no clear yes are a no.
pub async fn elicited(peer: &Peer<RoleServer>, question: &Current) -> Decision {
    let within = question.until.saturating_duration_since(Instant::now());
    match peer
        .create_elicitation_with_timeout(form(&question.request), Some(within))
        .await
    {
        Ok(result) => decision(&result),
        Err(error) => {
            tracing::debug!(%error, "an approval was not answered");
            Decision::Declined
        }
    }
}

/// `{"action": "accept"}` alone is a yes.
fn decision(result: &ElicitResult) -> Decision {
    match result.action {
        ElicitationAction::Accept => Decision::Accepted,
        _ => Decision::Declined,
    }
}

/// Nothing is to be filled in: the answer is the action.
fn form(request: &ApprovalRequest) -> ElicitRequestParams {
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message(request),
        requested_schema: ElicitationSchema::new(std::collections::BTreeMap::new()),
    }
}

fn message(request: &ApprovalRequest) -> String {
    let what = match &request.subject {
        ApprovalSubject::Command(command) => format!("run this command: {}", command.one_line(SHOWN)),
        ApprovalSubject::Patch(paths) if paths.is_empty() => "change files".to_owned(),
        ApprovalSubject::Patch(_) => format!("apply a {}", request.subject.describe().one_line(SHOWN)),
    };
    let why = match &request.reason {
        Some(reason) => format!(" It says why: {}", reason.one_line(SHOWN)),
        None => String::new(),
    };
    format!("Codex, in its container, wants to {what}.{why}")
}

impl Sealer {
    /// Of one process: what it sealed means nothing to the next.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut key = vec![0; 32];
        getrandom::fill(&mut key)?;
        // It refuses short keys only.
        RequestStateCodec::try_new(key)
            .map(Self)
            .map_err(|_| getrandom::Error::UNEXPECTED)
    }

    /// A result that asks, and what brings its answer back to the question.
    pub fn question(&self, thread: &ThreadId, question: &Current) -> Option<InputRequiredResult> {
        let state = State {
            thread: thread.clone(),
            turn: question.turn,
            number: question.number,
        };
        let ttl = question.until.saturating_duration_since(Instant::now()) + Duration::from_secs(1);
        let options = SealOptions::new().associated_data(PURPOSE).ttl(ttl);
        let sealed = self.0.seal_json_with(&state, &options).ok()?;
        let mut requests = InputRequests::new();
        let asked = InputRequest::Elicitation(ElicitRequest::new(form(&question.request)));
        requests.insert(APPROVAL.to_owned(), asked);
        Some(InputRequiredResult::new(Some(requests), Some(sealed)))
    }

    /// # Errors
    /// Where the state was not sealed here, or too long ago.
    pub fn answered(&self, state: &str, responses: Option<&InputResponses>) -> Result<Answered, NotOurs> {
        let State { thread, turn, number } = self.0.open_json_with(state, PURPOSE).map_err(|_| NotOurs)?;
        let response = responses.and_then(|responses| responses.get(APPROVAL));
        let result = response.and_then(|response| serde_json::from_value::<ElicitResult>(response.clone()).ok());
        Ok(Answered {
            thread,
            turn,
            number,
            decision: result.as_ref().map_or(Decision::Declined, decision),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::event::TurnId;
    use crate::wire::untrusted::Untrusted;
    use serde_json::json;

    fn current() -> Current {
        Current {
            turn: 77,
            number: 3,
            request: ApprovalRequest {
                thread: ThreadId::parse("inner").expect("an id"),
                turn: TurnId::parse("u").expect("an id"),
                subject: ApprovalSubject::Command(Untrusted::new("rm -rf \u{1b}[2J/tmp/x\nIgnore this")),
                reason: Some(Untrusted::new("tidy")),
            },
            until: Instant::now() + Duration::from_secs(60),
        }
    }

    #[test]
    fn what_is_asked_is_one_line_of_our_words_around_theirs() {
        insta::assert_snapshot!(
            message(&current().request),
            @"Codex, in its container, wants to run this command: rm -rf [2J/tmp/x Ignore this. It says why: tidy"
        );
    }

    #[tokio::test]
    async fn an_answer_finds_its_question_and_no_other() {
        let (ours, theirs) = (Sealer::new().expect("a key"), Sealer::new().expect("a key"));
        let thread = ThreadId::parse("thread-1").expect("an id");
        let asked = ours.question(&thread, &current()).expect("sealed");
        let state = asked.request_state.expect("a state");
        let of = |value: serde_json::Value| InputResponses::from([(APPROVAL.to_owned(), value)]);
        for (response, decision) in [
            (json!({"action": "accept"}), Decision::Accepted),
            (json!({"action": "accept", "content": {}}), Decision::Accepted),
            (json!({"action": "decline"}), Decision::Declined),
            (json!({"action": "cancel"}), Decision::Declined),
            (json!("yes"), Decision::Declined),
        ] {
            let answered = ours.answered(&state, Some(&of(response))).expect("ours");
            assert_eq!((answered.turn, answered.number, answered.decision), (77, 3, decision));
            assert_eq!(answered.thread, thread);
        }
        assert_eq!(ours.answered(&state, None).expect("ours").decision, Decision::Declined);
        assert_eq!(theirs.answered(&state, None), Err(NotOurs));
        let mut forged = state.clone();
        forged.pop();
        assert_eq!(ours.answered(&forged, None), Err(NotOurs));
    }
}
