//! The app-server's notifications → events, in our words. Pure.
//!
//! An unknown method or kind of item is no error (Codex has some eighty notifications and adds more); a known one with
//! fields of the wrong type is, because then the turn would go on with what really happened left out.

use crate::codex::error::{ClientError, TurnError};
use crate::codex::event::{
    EndedTurn, Happening, ItemStatus, Retry, ThreadEvent, ThreadId, TurnEvent, TurnId, TurnOutcome, Usage,
};
use crate::codex::launch::BUBBLEWRAP_MISSING;
use crate::codex::wire_types as wire;
use crate::wire::untrusted::Untrusted;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// What a notification comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Interpreted {
    /// Nothing that concerns us.
    Nothing,
    Event(ThreadEvent),
    /// A warning about the whole connection, for whoever starts a thread.
    Notice(Untrusted),
    /// Codex did not take its configuration and runs with its own defaults. Nothing may run on it.
    ConfigRefused(Untrusted),
    /// A patch was begun; its approval names only this item.
    PatchBegun {
        item: String,
        paths: Vec<Untrusted>,
    },
}

/// Notifications that we never read. Codex is asked to leave them out, which spares the pipe.
pub(super) const UNREAD: &[&str] = &[
    "account/rateLimits/updated",
    "item/commandExecution/outputDelta",
    "item/fileChange/outputDelta",
    "item/fileChange/patchUpdated",
    "item/reasoning/summaryPartAdded",
    "item/reasoning/summaryTextDelta",
    "item/reasoning/textDelta",
    "remoteControl/status/changed",
    "thread/readState/changed",
    "thread/settings/updated",
    "turn/diff/updated",
];

pub(super) fn interpret(notification: &wire::Notification) -> Result<Interpreted, ClientError> {
    let params = &notification.params;
    let event = |thread: String, turn: Option<String>, happening| -> Result<Interpreted, ClientError> {
        Ok(Interpreted::Event(ThreadEvent {
            thread: Some(thread_id(&thread)?),
            turn: turn.as_deref().map(turn_id).transpose()?,
            happening,
        }))
    };
    match notification.method.as_str() {
        "turn/started" => {
            let notice: wire::TurnNotice = read(params)?;
            event(notice.thread_id, Some(notice.turn.id), Happening::TurnStarted)
        }
        "turn/completed" => {
            let notice: wire::TurnNotice = read(params)?;
            let turn = notice.turn.id.clone();
            match ended(notice.turn)? {
                Some(end) => event(notice.thread_id, Some(turn), Happening::TurnEnded(end)),
                None => Ok(Interpreted::Nothing),
            }
        }
        "item/started" => {
            let notice: wire::ItemNotice = read(params)?;
            begun(notice, event)
        }
        "item/completed" => {
            let notice: wire::ItemNotice = read(params)?;
            match completed(&notice.item)? {
                Some(shown) => event(notice.thread_id, Some(notice.turn_id), Happening::Shown(shown)),
                None => Ok(Interpreted::Nothing),
            }
        }
        "item/agentMessage/delta" => {
            let notice: wire::DeltaNotice = read(params)?;
            let shown = TurnEvent::AnswerDelta {
                text: notice.delta.into(),
            };
            event(notice.thread_id, Some(notice.turn_id), Happening::Shown(shown))
        }
        "thread/tokenUsage/updated" => {
            let notice: wire::UsageNotice = read(params)?;
            let total = notice.token_usage.total;
            let usage = Usage {
                input_tokens: total.input_tokens,
                cached_input_tokens: total.cached_input_tokens,
                output_tokens: total.output_tokens,
                reasoning_output_tokens: total.reasoning_output_tokens,
                total_tokens: total.total_tokens,
            };
            event(
                notice.thread_id,
                Some(notice.turn_id),
                Happening::Shown(TurnEvent::Usage(usage)),
            )
        }
        "thread/status/changed" => {
            let notice: wire::StatusNotice = read(params)?;
            let happening = match notice.status.kind.as_str() {
                "active" => Happening::ThreadBusy,
                // After a failed turn the status is `systemError` and never becomes `idle`.
                _ => Happening::ThreadQuiet,
            };
            event(notice.thread_id, None, happening)
        }
        "error" => {
            let notice: wire::ErrorNotice = read(params)?;
            let retry = if notice.will_retry {
                Retry::ByItself
            } else {
                Retry::None
            };
            let error = turn_error(notice.error);
            event(
                notice.thread_id,
                Some(notice.turn_id),
                Happening::Failing { error, retry },
            )
        }
        "model/rerouted" => {
            let notice: wire::ModelReroutedNotice = read(params)?;
            let message = format!(
                "the provider answered with {} in place of {}",
                notice.to_model, notice.from_model
            );
            let shown = TurnEvent::Warning {
                message: message.into(),
            };
            event(notice.thread_id, Some(notice.turn_id), Happening::Shown(shown))
        }
        "warning" => {
            let notice: wire::WarningNotice = read(params)?;
            let message = Untrusted::new(notice.message);
            match notice.thread_id {
                Some(thread) => event(thread, None, Happening::Shown(TurnEvent::Warning { message })),
                None => Ok(Interpreted::Notice(message)),
            }
        }
        "configWarning" => {
            let notice: wire::ConfigWarningNotice = read(params)?;
            Ok(config_warning(notice))
        }
        _ => Ok(Interpreted::Nothing),
    }
}

/// How a turn ended, or `None` for one that still runs.
pub(super) fn ended(turn: wire::Turn) -> Result<Option<EndedTurn>, ClientError> {
    let outcome = match turn.status {
        wire::TurnStatus::InProgress => return Ok(None),
        wire::TurnStatus::Completed => TurnOutcome::Completed,
        wire::TurnStatus::Interrupted => TurnOutcome::Interrupted,
        wire::TurnStatus::Failed => TurnOutcome::Failed(match turn.error {
            Some(error) => turn_error(error),
            None => TurnError::from_codex("Codex gave no reason".to_owned(), None),
        }),
    };
    let mut answer = None;
    for item in &turn.items {
        if let Some(TurnEvent::Answer { text }) = completed(item)? {
            answer = Some(text);
        }
    }
    Ok(Some(EndedTurn { outcome, answer }))
}

pub(super) fn thread_id(text: &str) -> Result<ThreadId, ClientError> {
    ThreadId::parse(text).ok_or_else(|| ClientError::malformed("not a thread id", text))
}

pub(super) fn turn_id(text: &str) -> Result<TurnId, ClientError> {
    TurnId::parse(text).ok_or_else(|| ClientError::malformed("not a turn id", text))
}

pub(super) fn read<T: DeserializeOwned>(json: &RawValue) -> Result<T, ClientError> {
    serde_json::from_str(json.get()).map_err(|error| ClientError::malformed(error, json.get()))
}

fn begun(
    notice: wire::ItemNotice,
    event: impl Fn(String, Option<String>, Happening) -> Result<Interpreted, ClientError>,
) -> Result<Interpreted, ClientError> {
    let kind: wire::Tagged = read(&notice.item)?;
    match kind.kind.as_str() {
        "commandExecution" => {
            let item: wire::CommandExecution = read(&notice.item)?;
            let shown = TurnEvent::CommandStarted {
                command: item.command.into(),
            };
            event(notice.thread_id, Some(notice.turn_id), Happening::Shown(shown))
        }
        "fileChange" => {
            let item: wire::FileChange = read(&notice.item)?;
            Ok(Interpreted::PatchBegun {
                paths: paths(item.changes),
                item: item.id,
            })
        }
        // The prompt itself, and what is told when it is whole.
        "userMessage" | "agentMessage" | "reasoning" => Ok(Interpreted::Nothing),
        _ => {
            let shown = TurnEvent::Other { kind: kind.kind.into() };
            event(notice.thread_id, Some(notice.turn_id), Happening::Shown(shown))
        }
    }
}

fn completed(item: &RawValue) -> Result<Option<TurnEvent>, ClientError> {
    let kind: wire::Tagged = read(item)?;
    Ok(match kind.kind.as_str() {
        "agentMessage" => {
            let item: wire::AgentMessage = read(item)?;
            Some(TurnEvent::Answer { text: item.text.into() })
        }
        "reasoning" => {
            let item: wire::Reasoning = read(item)?;
            let text = item.summary.join("\n");
            (!text.is_empty()).then(|| TurnEvent::Reasoning { text: text.into() })
        }
        "commandExecution" => {
            let item: wire::CommandExecution = read(item)?;
            item_status(item.status).map(|status| TurnEvent::CommandCompleted {
                command: item.command.into(),
                status,
                exit_code: item.exit_code,
                output: item.aggregated_output.unwrap_or_default().into(),
            })
        }
        "fileChange" => {
            let item: wire::FileChange = read(item)?;
            item_status(item.status).map(|status| TurnEvent::PatchCompleted {
                paths: paths(item.changes),
                status,
            })
        }
        _ => None,
    })
}

fn paths(changes: Vec<wire::FileUpdate>) -> Vec<Untrusted> {
    changes.into_iter().map(|change| change.path.into()).collect()
}

fn item_status(status: wire::WorkStatus) -> Option<ItemStatus> {
    match status {
        wire::WorkStatus::InProgress => None,
        wire::WorkStatus::Completed => Some(ItemStatus::Completed),
        wire::WorkStatus::Failed => Some(ItemStatus::Failed),
        wire::WorkStatus::Declined => Some(ItemStatus::Declined),
    }
}

/// While Codex retries, `message` is only "Reconnecting… 1/3" and the details say why.
fn turn_error(error: wire::ErrorBody) -> TurnError {
    let message = match error.additional_details {
        Some(details) => format!("{}: {details}", error.message),
        None => error.message,
    };
    TurnError::from_codex(message, error.codex_error_info.as_ref())
}

fn config_warning(notice: wire::ConfigWarningNotice) -> Interpreted {
    if notice.summary.starts_with(BUBBLEWRAP_MISSING) {
        return Interpreted::Nothing;
    }
    let refused = notice.summary.starts_with("Invalid configuration");
    let message = Untrusted::new(match notice.details {
        Some(details) => format!("{} {details}", notice.summary),
        None => notice.summary,
    });
    if refused {
        Interpreted::ConfigRefused(message)
    } else {
        Interpreted::Notice(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(method: &str, params: &Value) -> Result<Interpreted, ClientError> {
        let line = json!({"method": method, "params": params}).to_string();
        match wire::Incoming::parse(line.as_bytes()).unwrap() {
            wire::Incoming::Notification(notification) => interpret(&notification),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_failed_turns_status_counts_as_quiet() {
        for kind in ["idle", "systemError", "notLoaded"] {
            let Interpreted::Event(event) = told(
                "thread/status/changed",
                &json!({"threadId": "T", "status": {"type": kind}}),
            )
            .unwrap() else {
                panic!()
            };
            assert_eq!(event.happening, Happening::ThreadQuiet, "{kind}");
        }
    }

    #[test]
    fn a_refused_configuration_is_told_from_other_warnings() {
        let warn = |summary: &str, details: Value| {
            told(
                "configWarning",
                &json!({"summary": summary, "details": details, "more": 1}),
            )
            .unwrap()
        };
        assert_eq!(
            warn(
                "Invalid configuration; using defaults.",
                json!("config.toml:3:17: wanted string")
            ),
            Interpreted::ConfigRefused(
                "Invalid configuration; using defaults. config.toml:3:17: wanted string"
                    .to_owned()
                    .into()
            )
        );
        assert_eq!(
            warn("Codex could not find bubblewrap on PATH. Install…", Value::Null),
            Interpreted::Nothing
        );
        assert_eq!(
            warn("Something else", Value::Null),
            Interpreted::Notice("Something else".to_owned().into())
        );
    }

    #[test]
    fn unknown_methods_fields_and_items_are_tolerated_wrong_types_are_not() {
        assert_eq!(told("thread/goal/updated", &json!(7)).unwrap(), Interpreted::Nothing);
        let item = |item: Value| {
            told(
                "item/completed",
                &json!({"threadId": "T", "turnId": "U", "item": item, "new": []}),
            )
        };
        assert_eq!(
            item(json!({"type": "hologram", "text": 7})).unwrap(),
            Interpreted::Nothing
        );
        assert!(matches!(
            item(json!({"type": "agentMessage", "text": 7})),
            Err(ClientError::Malformed { .. })
        ));
        assert!(matches!(
            item(json!({"type": "commandExecution", "command": "x", "status": "dreaming"})),
            Err(ClientError::Malformed { .. })
        ));
        assert!(matches!(
            told(
                "turn/started",
                &json!({"threadId": "../x", "turn": {"id": "U", "status": "inProgress"}})
            ),
            Err(ClientError::Malformed { .. })
        ));
    }

    #[test]
    fn a_turn_reported_completed_while_in_progress_has_not_ended() {
        let params = json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress", "items": []}});
        assert_eq!(told("turn/completed", &params).unwrap(), Interpreted::Nothing);
    }

    #[test]
    fn the_last_message_of_a_turn_is_its_answer() {
        let params = json!({"threadId": "T", "turn": {"id": "U", "status": "completed", "items": [
            {"type": "userMessage", "id": "0"},
            {"type": "agentMessage", "id": "1", "text": "first"},
            {"type": "agentMessage", "id": "2", "text": "last"},
            {"type": "plan", "id": "3", "text": "no"},
        ]}});
        let Interpreted::Event(event) = told("turn/completed", &params).unwrap() else {
            panic!()
        };
        let end = EndedTurn {
            outcome: TurnOutcome::Completed,
            answer: Some(Untrusted::new("last")),
        };
        assert_eq!(event.happening, Happening::TurnEnded(end));
    }
}
