//! Request body → what to answer.
//!
//! A scenario is written in the prompt, one directive a line, and played one round a request: a round ends with the
//! first tool call, because its output only comes back with the next request. Which round is due is read off the
//! conversation itself (tool outputs since the last prompt), so the server keeps no state and a retried request gets
//! the same answer.
//!
//! | directive | does |
//! |---|---|
//! | `#text WORDS` | says the words |
//! | `#shell COMMAND` | runs a command |
//! | `#patch PATH [LINE]` | writes a file of one line with `apply_patch` |
//! | `#slow MS` | waits this long before each piece of text |
//! | `#long BYTES` | says this much text |
//! | `#hang` | begins an answer and never ends it |
//! | `#error STATUS [CODE]` | answers with an HTTP error, or a redirect |
//! | `#demo` | text, a command, a patch, a summary |
//!
//! A prompt without directives is answered with text that quotes it.

use serde_json::{Value, json};
use std::time::Duration;

/// The most that `#long` says, in bytes.
const MAX_LONG: usize = 8 << 20;
/// The longest pause of `#slow`.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How long Codex waits for a command before it says that it still runs, in milliseconds: the most that it takes. Its
/// usual ten seconds are over too soon on a loaded machine.
const LONGEST_WAIT: u64 = 30_000;
/// How much of a tool's output the closing text quotes, in bytes.
const MAX_QUOTE: usize = 16 << 10;

const KNOWN: &str = "#text #shell #patch #slow #long #hang #error #demo";

/// What the server does with one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Stream these, in this order, then complete the response.
    Items {
        /// Unique within the conversation, and the same for a repeated request.
        response: String,
        items: Vec<Item>,
        /// Before each piece of text.
        pause: Duration,
        input_tokens: u64,
    },
    /// Begin a response, then say nothing until the client goes away.
    Hang {
        response: String,
    },
    Error {
        status: u16,
        message: String,
        code: String,
    },
}

/// One output item of a response.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Message {
        id: String,
        text: String,
    },
    /// A tool call, whole: tool calls are not streamed in pieces.
    Call(Value),
}

/// How a model is driven: which tools it is offered and in which form it calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolDialect {
    /// `exec_command` is a function, `apply_patch` a custom tool.
    Plain,
    /// `exec_command` alone, as for models that Codex does not know: it sees `apply_patch` in the command line.
    ShellOnly,
    /// One custom tool `exec` that takes JavaScript, in which the others are functions.
    Code,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Text(String),
    Shell(String),
    Patch { path: String, line: String },
    Slow(Duration),
    Long(usize),
    Hang,
    Error { status: u16, code: String },
}

impl Step {
    fn is_tool_call(&self) -> bool {
        matches!(self, Self::Shell(_) | Self::Patch { .. })
    }
}

/// Decides the answer to one `POST /responses` body. Anything that is not such a body gets a 400.
pub fn answer(body: &Value) -> Answer {
    let Some(input) = body.get("input").and_then(Value::as_array) else {
        return Answer::Error {
            status: 400,
            message: "the scripted model needs an `input` array".to_owned(),
            code: "invalid_request_error".to_owned(),
        };
    };
    let prompt_at = input.iter().rposition(is_user_message);
    let prompt = prompt_at
        .and_then(|at| input.get(at))
        .map(message_text)
        .unwrap_or_default();
    let after_prompt = input.get(prompt_at.map_or(0, |at| at + 1)..).unwrap_or_default();
    let outputs: Vec<String> = after_prompt.iter().filter_map(tool_output).collect();

    let steps = parse(&prompt);
    let round = round_of(&steps, outputs.len());
    // The number of input items only grows within a conversation, so ids made from it never repeat.
    let names = Names {
        turn: input.len(),
        dialect: dialect(body),
    };
    if let Some(Step::Error { status, code }) = round.iter().find(|step| matches!(step, Step::Error { .. })) {
        return Answer::Error {
            status: *status,
            message: format!("The scripted model was told to fail with {status}."),
            code: code.clone(),
        };
    }
    if round.contains(&Step::Hang) {
        return Answer::Hang {
            response: names.response(),
        };
    }
    let pause = steps.iter().fold(Duration::ZERO, |pause, step| match step {
        Step::Slow(asked) => *asked,
        _ => pause,
    });
    let mut items = Vec::new();
    if let Some(output) = outputs.last() {
        items.push(names.message(0, format!("The tool answered:\n{}", quote(output))));
    }
    for step in round {
        let at = items.len();
        items.extend(names.item(at, step));
    }
    if items.is_empty() {
        let said = format!("The scripted model heard: {}", quote(&prompt));
        items.push(names.message(0, said));
    }
    Answer::Items {
        response: names.response(),
        items,
        pause,
        input_tokens: body.to_string().len() as u64 / 4,
    }
}

/// The form that this request's model calls tools in. Code-mode models get no `tools`, but an input item with them.
pub fn dialect(body: &Value) -> ToolDialect {
    let has_additional_tools = body
        .get("input")
        .and_then(Value::as_array)
        .is_some_and(|input| input.iter().any(|item| kind(item) == "additional_tools"));
    if has_additional_tools {
        return ToolDialect::Code;
    }
    let tools = body.get("tools").and_then(Value::as_array);
    let has_apply_patch = tools.is_some_and(|tools| tools.iter().any(|tool| tool["name"] == "apply_patch"));
    if has_apply_patch {
        ToolDialect::Plain
    } else {
        ToolDialect::ShellOnly
    }
}

fn parse(prompt: &str) -> Vec<Step> {
    prompt.lines().flat_map(parse_line).collect()
}

fn parse_line(line: &str) -> Vec<Step> {
    let Some(directive) = line.trim().strip_prefix('#') else {
        return Vec::new();
    };
    let (name, rest) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
    let rest = rest.trim();
    let (first, remainder) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match name {
        "text" => vec![Step::Text(rest.to_owned())],
        "shell" => vec![Step::Shell(rest.to_owned())],
        "patch" => vec![patch_step(first, remainder.trim())],
        "slow" => {
            let pause = Duration::from_millis(first.parse().unwrap_or(100));
            vec![Step::Slow(pause.min(MAX_PAUSE))]
        }
        "long" => vec![Step::Long(first.parse().unwrap_or(MAX_LONG).min(MAX_LONG))],
        "hang" => vec![Step::Hang],
        "error" => vec![error_step(first, remainder.trim())],
        "demo" => demo(),
        // `# Heading` and `## Heading` are ordinary Markdown in a prompt.
        "" => Vec::new(),
        heading if heading.starts_with('#') => Vec::new(),
        unknown => vec![Step::Text(format!(
            "The scripted model does not know #{}. It knows {KNOWN}.",
            quote(unknown)
        ))],
    }
}

fn patch_step(path: &str, line: &str) -> Step {
    let or = |text: &str, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text.to_owned()
        }
    };
    Step::Patch {
        path: or(path, "scripted.txt"),
        line: or(line, "Written by the scripted model."),
    }
}

fn error_step(status: &str, code: &str) -> Step {
    let status = status
        .parse()
        .ok()
        .filter(|status| (300..=599).contains(status))
        .unwrap_or(500);
    let code = if code.is_empty() { "scripted_error" } else { code };
    Step::Error {
        status,
        code: code.to_owned(),
    }
}

fn demo() -> Vec<Step> {
    vec![
        Step::Text("I look around first.".to_owned()),
        Step::Shell("id; uname -sr; ls -A | head -n 20".to_owned()),
        Step::Text("Now I leave a note in the workspace.".to_owned()),
        Step::Patch {
            path: "NOTES.md".to_owned(),
            line: "A scripted model wrote this through apply_patch.".to_owned(),
        },
        Step::Text("Done: I ran a command and wrote NOTES.md, all inside the container.".to_owned()),
    ]
}

/// The steps due after `done` tool calls: up to and with the next tool call.
fn round_of(steps: &[Step], done: usize) -> &[Step] {
    let mut rounds = steps.split_inclusive(Step::is_tool_call);
    rounds.nth(done).unwrap_or_default()
}

struct Names {
    turn: usize,
    dialect: ToolDialect,
}

impl Names {
    fn response(&self) -> String {
        format!("resp_{}", self.turn)
    }

    fn message(&self, at: usize, text: String) -> Item {
        Item::Message {
            id: format!("msg_{}_{at}", self.turn),
            text,
        }
    }

    fn item(&self, at: usize, step: &Step) -> Option<Item> {
        match step {
            Step::Text(text) => Some(self.message(at, text.clone())),
            Step::Long(bytes) => Some(self.message(at, long_text(*bytes))),
            Step::Shell(command) => Some(Item::Call(self.shell(at, command))),
            Step::Patch { path, line } => Some(Item::Call(self.patch(at, path, line))),
            Step::Slow(_) | Step::Hang | Step::Error { .. } => None,
        }
    }

    fn call_id(&self, at: usize) -> String {
        format!("call_{}_{at}", self.turn)
    }

    fn shell(&self, at: usize, command: &str) -> Value {
        let arguments = json!({ "cmd": command, "yield_time_ms": LONGEST_WAIT });
        match self.dialect {
            ToolDialect::Plain | ToolDialect::ShellOnly => json!({
                "type": "function_call",
                "call_id": self.call_id(at),
                "name": "exec_command",
                "arguments": arguments.to_string(),
            }),
            ToolDialect::Code => self.javascript(
                at,
                &format!("const r = await tools.exec_command({arguments});\ntext(r);"),
            ),
        }
    }

    fn patch(&self, at: usize, path: &str, line: &str) -> Value {
        let patch = format!("*** Begin Patch\n*** Add File: {path}\n+{line}\n*** End Patch\n");
        match self.dialect {
            ToolDialect::Plain => json!({
                "type": "custom_tool_call",
                "call_id": self.call_id(at),
                "name": "apply_patch",
                "input": patch,
            }),
            ToolDialect::ShellOnly => self.shell(at, &format!("apply_patch <<'EOF'\n{patch}EOF\n")),
            ToolDialect::Code => {
                // A JSON string is a JavaScript string.
                let patch = Value::String(patch);
                self.javascript(at, &format!("const r = await tools.apply_patch({patch});\ntext(r);"))
            }
        }
    }

    fn javascript(&self, at: usize, source: &str) -> Value {
        json!({
            "type": "custom_tool_call",
            "call_id": self.call_id(at),
            "name": "exec",
            "namespace": "functions",
            "input": source,
        })
    }
}

fn long_text(bytes: usize) -> String {
    const LINE: &str = "The quick brown fox jumps over the lazy dog, and this is not the last time.\n";
    LINE.chars().cycle().take(bytes).collect()
}

fn quote(text: &str) -> &str {
    let text = text.trim_end();
    text.get(..text.floor_char_boundary(MAX_QUOTE)).unwrap_or(text)
}

fn kind(item: &Value) -> &str {
    item.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn is_user_message(item: &Value) -> bool {
    let role = item.get("role").and_then(Value::as_str);
    matches!(kind(item), "message" | "") && role == Some("user")
}

fn message_text(item: &Value) -> String {
    item.get("content").map(text_of).unwrap_or_default()
}

fn tool_output(item: &Value) -> Option<String> {
    let is_output = matches!(kind(item), "function_call_output" | "custom_tool_call_output");
    is_output.then(|| item.get("output").map(text_of).unwrap_or_default())
}

/// The text of a content field: a string, or a list of parts of which some have text.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(text: &str) -> Value {
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
    }

    fn output(text: &str) -> Value {
        json!({"type": "function_call_output", "call_id": "c", "output": text})
    }

    fn items(input: &[Value]) -> Vec<Item> {
        match answer(&json!({ "input": input })) {
            Answer::Items { items, .. } => items,
            other => panic!("{other:?}"),
        }
    }

    fn texts(items: &[Item]) -> Vec<&str> {
        items
            .iter()
            .map(|item| match item {
                Item::Message { text, .. } => text.as_str(),
                Item::Call(_) => "(call)",
            })
            .collect()
    }

    #[test]
    fn a_plain_prompt_is_quoted() {
        assert_eq!(
            texts(&items(&[user("hello\n# Heading")])),
            ["The scripted model heard: hello\n# Heading"]
        );
    }

    #[test]
    fn the_last_user_message_is_the_prompt() {
        let found = items(&[user("#shell old"), output("x"), user("#text new")]);
        assert_eq!(texts(&found), ["new"]);
    }

    #[test]
    fn a_round_ends_with_its_tool_call_and_the_next_quotes_its_output() {
        let script = "#text one\n#shell id -u\n#text two\n#patch a.txt\n#text three";
        assert_eq!(texts(&items(&[user(script)])), ["one", "(call)"]);
        assert_eq!(
            texts(&items(&[user(script), output("1000")])),
            ["The tool answered:\n1000", "two", "(call)"]
        );
        let patched = json!({"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "ok"}]});
        assert_eq!(
            texts(&items(&[user(script), output("1000"), patched])),
            ["The tool answered:\nok", "three"]
        );
    }

    #[test]
    fn a_script_that_ends_with_a_tool_call_still_closes_with_text() {
        assert_eq!(
            texts(&items(&[user("#shell id"), output("0")])),
            ["The tool answered:\n0"]
        );
    }

    #[test]
    fn tools_are_called_in_the_dialect_of_the_model() {
        let plain = items(&[user("#shell echo 'a \"b\"'")]);
        insta::assert_json_snapshot!(call(&plain), @r#"
        {
          "arguments": "{\"cmd\":\"echo 'a \\\"b\\\"'\",\"yield_time_ms\":30000}",
          "call_id": "call_1_0",
          "name": "exec_command",
          "type": "function_call"
        }
        "#);
        let code = items(&[json!({"type": "additional_tools", "tools": []}), user("#patch a b c")]);
        insta::assert_json_snapshot!(call(&code), @r#"
        {
          "call_id": "call_2_0",
          "input": "const r = await tools.apply_patch(\"*** Begin Patch\\n*** Add File: a\\n+b c\\n*** End Patch\\n\");\ntext(r);",
          "name": "exec",
          "namespace": "functions",
          "type": "custom_tool_call"
        }
        "#);
    }

    #[test]
    fn a_patch_is_a_custom_tool_where_it_is_offered_and_a_command_elsewhere() {
        let call_with = |tools: Value| match answer(&json!({"input": [user("#patch a b")], "tools": tools})) {
            Answer::Items { items, .. } => call(&items).clone(),
            other => panic!("{other:?}"),
        };
        let offered = call_with(json!([{"type": "custom", "name": "apply_patch"}]));
        assert_eq!(
            (&offered["type"], &offered["name"]),
            (&json!("custom_tool_call"), &json!("apply_patch"))
        );
        let unknown = call_with(json!([{"type": "function", "name": "exec_command"}]));
        assert_eq!(unknown["name"], "exec_command");
        let command = unknown["arguments"].as_str().unwrap();
        assert!(
            command.contains("apply_patch <<'EOF'") && command.contains("*** Add File: a"),
            "{command}"
        );
    }

    fn call(items: &[Item]) -> &Value {
        match items.last() {
            Some(Item::Call(call)) => call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errors_hangs_and_pauses() {
        let one = |text: &str| answer(&json!({"input": [user(text)]}));
        assert!(
            matches!(one("#error 429 usage_limit_reached"), Answer::Error { status: 429, code, .. } if code == "usage_limit_reached")
        );
        assert!(matches!(one("#error 200"), Answer::Error { status: 500, .. }));
        assert!(matches!(one("#hang"), Answer::Hang { .. }));
        assert!(matches!(one("#slow 7\n#text a"), Answer::Items { pause, .. } if pause == Duration::from_millis(7)));
        assert!(matches!(answer(&json!({})), Answer::Error { status: 400, .. }));
    }

    #[test]
    fn an_error_after_a_tool_call_comes_after_it() {
        let script = user("#shell id\n#error 500");
        assert_eq!(texts(&items(std::slice::from_ref(&script))), ["(call)"]);
        assert!(matches!(
            answer(&json!({"input": [script, output("0")]})),
            Answer::Error { .. }
        ));
    }

    #[test]
    fn long_text_has_the_asked_length_up_to_a_bound() {
        for (asked, given) in [("10", 10), ("999999999999", MAX_LONG)] {
            let found = items(&[user(&format!("#long {asked}"))]);
            assert_eq!(texts(&found).concat().len(), given);
        }
    }

    proptest! {
        #[test]
        fn any_prompt_gets_an_answer_and_a_repeated_request_the_same(prompt in "(#?[a-z]{0,6} ?\\PC{0,12}\n?){0,6}", outputs in 0usize..4) {
            let mut input = vec![user(&prompt)];
            input.extend((0..outputs).map(|n| output(&n.to_string())));
            let body = json!({ "input": input });
            let first = answer(&body);
            prop_assert_eq!(&first, &answer(&body));
            if let Answer::Items { items, .. } = first {
                prop_assert!(!items.is_empty());
            }
        }
    }
}
