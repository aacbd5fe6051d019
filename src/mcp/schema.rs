//! What `tools/list` says.
//!
//! The contract is the removed server's: names, types and `required` of its parameters, the union of what its last
//! two shapes took (0.130.0 and 0.153.4). Written by hand because derived schemas carry `format` keywords, which
//! several clients warn about, and because a schema that clients depend on should be read, not inferred.

use crate::mcp::network_argument::MAX_RULES;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};
use std::sync::Arc;

pub const CODEX: &str = "codex";
pub const CODEX_REPLY: &str = "codex-reply";

/// What a call accepts, as the tools' own parser sees it: [`crate::mcp::arguments`] refuses every other name.
pub const CODEX_PARAMETERS: [&str; 11] = [
    "approval-policy",
    "base-instructions",
    "compact-prompt",
    "config",
    "cwd",
    "developer-instructions",
    "model",
    "network",
    "profile",
    "prompt",
    "sandbox",
];
pub const CODEX_REPLY_PARAMETERS: [&str; 3] = ["conversationId", "prompt", "threadId"];

pub const APPROVAL_POLICIES: [&str; 4] = ["untrusted", "on-failure", "on-request", "never"];
pub const SANDBOX_MODES: [&str; 3] = ["read-only", "workspace-write", "danger-full-access"];

/// The tools, always in the same order: clients cache the list.
pub fn tools() -> Vec<Tool> {
    vec![codex(), codex_reply()]
}

fn codex() -> Tool {
    let input = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["prompt"],
        "properties": {
            "approval-policy": {
                "type": "string",
                "enum": APPROVAL_POLICIES,
                "description": "When Codex asks before it runs a command. `never` asks nothing; the other three all \
                                become `untrusted`. The container is the boundary either way."
            },
            "base-instructions": {
                "type": "string",
                "description": "The set of instructions to use instead of the default ones."
            },
            "compact-prompt": {
                "type": "string",
                "description": "Prompt used when compacting the conversation."
            },
            "config": {
                "type": "object",
                "additionalProperties": true,
                "description": "Individual settings that override Codex's configuration. Only settings that can't \
                                weaken the isolation are taken, such as `model_reasoning_effort`."
            },
            "cwd": {
                "type": "string",
                "description": "The folder to work on. Codex gets a copy of it. If relative, it is resolved against \
                                the server process's current working directory."
            },
            "developer-instructions": {
                "type": "string",
                "description": "Developer instructions that should be injected as a developer role message."
            },
            "model": {
                "type": "string",
                "description": "Optional override for the model name."
            },
            "network": {
                "type": "object",
                "additionalProperties": false,
                "required": ["allow"],
                "description": "Narrows, for this thread, what the operator allowed commands to reach. It never widens \
                                it.",
                "properties": {
                    "allow": {
                        "type": "array",
                        "maxItems": MAX_RULES,
                        "items": {"type": "string"},
                        "description": "Rules such as `api.example.com` (port 443), `*.example.com:8443` or \
                                        `192.0.2.0/24:80`; `[]` leaves nothing but the model."
                    }
                }
            },
            "profile": {
                "type": "string",
                "description": "Configuration profile to specify default options."
            },
            "prompt": {
                "type": "string",
                "description": "The *initial user prompt* to start the Codex conversation."
            },
            "sandbox": {
                "type": "string",
                "enum": SANDBOX_MODES,
                "description": "`read-only` makes the workspace read-only; with the other two Codex may write to its \
                                copy. It never reaches beyond its container."
            }
        }
    });
    Tool::new(
        CODEX,
        "Run a Codex session in a hardened container of its own, on a copy of the working directory. Returns the \
         thread id, with which `codex-reply` continues.",
        object(input),
    )
    .with_title("Codex")
    .with_raw_output_schema(Arc::new(object(output())))
    .with_annotations(annotations())
}

fn codex_reply() -> Tool {
    let input = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["prompt"],
        "properties": {
            "conversationId": {
                "type": "string",
                "description": "DEPRECATED: use threadId instead."
            },
            "prompt": {
                "type": "string",
                "description": "The *next user prompt* to continue the Codex conversation."
            },
            "threadId": {
                "type": "string",
                "description": "The thread id for this Codex session. Required, but kept optional here for clients \
                                that still use conversationId."
            }
        }
    });
    Tool::new(
        CODEX_REPLY,
        "Continue a Codex conversation by providing the thread id and prompt.",
        object(input),
    )
    .with_title("Codex Reply")
    .with_raw_output_schema(Arc::new(object(output())))
    .with_annotations(annotations())
}

/// Both tools answer in the same shape. Clients of the removed server read the two required fields only.
fn output() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "type": "object",
        "required": ["threadId", "content"],
        "properties": {
            "threadId": {"type": "string"},
            "content": {"type": "string"},
            "session": {
                "type": "object",
                "description": "The container that the thread runs in.",
                "required": ["id", "engine", "rootless", "image", "model"],
                "properties": {
                    "id": {"type": "string"},
                    "engine": {"type": "string"},
                    "rootless": {"type": "boolean"},
                    "image": {"type": "string"},
                    "model": {"type": "string"}
                }
            },
            "turn": {
                "type": "object",
                "required": ["id", "status"],
                "properties": {
                    "id": {"type": "string"},
                    "status": {"type": "string", "enum": ["completed", "interrupted", "failed"]},
                    "error": {"type": "string"}
                }
            },
            "usage": {
                "type": "object",
                "description": "Tokens of the whole thread so far.",
                "properties": {
                    "inputTokens": count,
                    "cachedInputTokens": count,
                    "outputTokens": count,
                    "reasoningOutputTokens": count,
                    "totalTokens": count
                }
            },
            "modelUsage": {
                "type": "object",
                "description": "What the thread has asked of its model so far, as counted on the host, and what its quota leaves.",
                "properties": {
                    "requests": count,
                    "refused": count,
                    "requestBytes": count,
                    "responseBytes": count,
                    "tokens": {"type": "object", "properties": {"input": count, "output": count}},
                    "quotaLeft": {"type": "object", "properties": {"tokens": count, "requests": count}}
                }
            },
            "limits": {
                "type": "array",
                "description": "What the session may use: bytes, thousandths of a CPU, processes, open files of one, seconds. Where by is kernel, as it was read back inside; where it is watchdog, codex-mcp ends the turn or the session.",
                "items": {
                    "type": "object",
                    "required": ["name", "limit", "enforced", "by"],
                    "properties": {
                        "name": {"type": "string", "enum": ["memory", "cpus", "pids", "open_files", "scratch", "workspace", "turn", "idle", "wall"]},
                        "limit": count,
                        "peak": count,
                        "enforced": {"type": "boolean"},
                        "by": {"type": "string", "enum": ["kernel", "watchdog"]}
                    }
                }
            },
            "used": {
                "type": "object",
                "description": "What the container has used so far, where it is counted.",
                "properties": {
                    "cpuSeconds": {"type": "number", "minimum": 0},
                    "diskBytes": count,
                    "diskFiles": count,
                    "memoryKills": count,
                    "egressBytes": count
                }
            },
            "quotaLeft": {
                "type": "object",
                "description": "What is left of the operator's bounds, of this session and of the day; renews says when the day's are whole again.",
                "properties": {
                    "session": {"type": "object"},
                    "day": {"type": "object"}
                }
            },
            "unenforced": {
                "type": "array",
                "description": "Limits that this machine can't enforce and the operator accepted as best-effort.",
                "items": {
                    "type": "object",
                    "required": ["limit", "reason", "remedy"],
                    "properties": {
                        "limit": {"type": "string"},
                        "reason": {"type": "string"},
                        "remedy": {"type": "string"}
                    }
                }
            },
            "changes": {
                "type": "object",
                "description": "What the thread changed in its copy of the workspace so far.",
                "required": ["files", "insertions", "deletions"],
                "properties": {
                    "files": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["path", "kind"],
                            "properties": {
                                "path": {"type": "string"},
                                "kind": {"type": "string", "enum": ["added", "modified", "deleted", "renamed"]},
                                "renamedFrom": {"type": "string"},
                                "insertions": count,
                                "deletions": count
                            }
                        }
                    },
                    "insertions": count,
                    "deletions": count,
                    "base": {"type": "string", "description": "What they are changes to, in the session's private git directory."},
                    "hash": {"type": "string", "description": "SHA-256 of the whole patch."},
                    "withheld": {"type": "integer", "minimum": 0, "description": "Files that are not brought back: sockets, hard links, what can't be read."}
                }
            },
            "applied": {
                "type": "object",
                "description": "What became of bringing the changes to the user's folder, where that is done after each turn.",
                "properties": {
                    "files": {"type": "array", "items": {"type": "object"}},
                    "held": {"type": "array", "items": {"type": "object"}},
                    "refused": {"type": "string", "description": "Why nothing was written."}
                }
            },
            "egressDenied": {
                "type": "array",
                "description": "Connections of commands that were refused since the turn before, equal ones counted.",
                "items": {
                    "type": "object",
                    "required": ["host", "port", "count", "rule", "howToAllow"],
                    "properties": {
                        "host": {
                            "type": "string",
                            "description": "Empty where the request named nothing that could be a host."
                        },
                        "port": {"type": "integer", "minimum": 0, "description": "0 where none was named."},
                        "count": count,
                        "rule": {"type": "string", "description": "What refused it, and where that stands."},
                        "howToAllow": {"type": "string", "description": "What the operator would set to allow it."}
                    }
                }
            },
            "notes": {
                "type": "array",
                "description": "What parameters came to, where that is not what their names say.",
                "items": {"type": "string"}
            }
        }
    })
}

/// A turn changes nothing outside its copy of the workspace. What it reaches is the operator's to say, and the list is the
/// same whatever that is: so the world counts as open.
fn annotations() -> ToolAnnotations {
    ToolAnnotations::new()
        .read_only(false)
        .destructive(false)
        .idempotent(false)
        .open_world(true)
}

/// Only ever given the literals above, which are objects.
fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(map) => map,
        _ => JsonObject::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The removed server's `tools/list`, as recorded from it: (parameter, type), by version and tool.
    const OLD_CODEX: [(&str, &str); 10] = [
        ("approval-policy", "string"),
        ("base-instructions", "string"),
        ("compact-prompt", "string"),
        ("config", "object"),
        ("cwd", "string"),
        ("developer-instructions", "string"),
        ("model", "string"),
        ("profile", "string"),
        ("prompt", "string"),
        ("sandbox", "string"),
    ];
    const OLD_CODEX_REPLY: [(&str, &str); 3] = [
        ("conversationId", "string"),
        ("prompt", "string"),
        ("threadId", "string"),
    ];

    fn parameters(tool: &Tool) -> Vec<(&str, &str)> {
        let properties = tool.input_schema["properties"].as_object().expect("properties");
        let mut all: Vec<_> = properties
            .iter()
            .map(|(name, schema)| (name.as_str(), schema["type"].as_str().expect("a type")))
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn every_parameter_of_the_removed_server_is_there_with_its_type() {
        let [codex, reply] = <[Tool; 2]>::try_from(tools()).expect("two tools");
        assert_eq!((codex.name.as_ref(), reply.name.as_ref()), ("codex", "codex-reply"));
        assert_eq!(
            (codex.title.as_deref(), reply.title.as_deref()),
            (Some("Codex"), Some("Codex Reply"))
        );
        let (ours, old): (Vec<_>, Vec<_>) = parameters(&codex).into_iter().partition(|(name, _)| *name == "network");
        assert_eq!(old, OLD_CODEX);
        assert_eq!(ours, [("network", "object")], "what is ours is optional");
        assert_eq!(parameters(&reply), OLD_CODEX_REPLY);
        for tool in [&codex, &reply] {
            assert_eq!(tool.input_schema["required"], json!(["prompt"]));
            assert_eq!(tool.input_schema["additionalProperties"], json!(false));
            assert_eq!(tool.input_schema["type"], json!("object"));
        }
        let enums = |name: &str| codex.input_schema["properties"][name]["enum"].clone();
        assert_eq!(
            enums("approval-policy"),
            json!(["untrusted", "on-failure", "on-request", "never"])
        );
        assert_eq!(
            enums("sandbox"),
            json!(["read-only", "workspace-write", "danger-full-access"])
        );
        assert_eq!(
            codex.input_schema["properties"]["config"]["additionalProperties"],
            json!(true)
        );
    }

    #[test]
    fn the_parsers_names_are_the_schemas() {
        let [codex, reply] = <[Tool; 2]>::try_from(tools()).expect("two tools");
        assert_eq!(
            parameters(&codex).iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            CODEX_PARAMETERS
        );
        assert_eq!(
            parameters(&reply).iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            CODEX_REPLY_PARAMETERS
        );
    }

    #[test]
    fn the_removed_servers_result_is_required_and_ours_is_optional() {
        for tool in tools() {
            let output = tool.output_schema.expect("an output schema");
            assert_eq!(output["required"], json!(["threadId", "content"]));
            assert_eq!(output["properties"]["threadId"], json!({"type": "string"}));
            assert_eq!(output["properties"]["content"], json!({"type": "string"}));
        }
    }

    #[test]
    fn no_schema_has_a_format_keyword() {
        let text = serde_json::to_string(&tools()).expect("serialises");
        assert!(!text.contains("\"format\""), "{text}");
    }
}
