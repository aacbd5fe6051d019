//! The prompts that a client offers its user: what is worth asking of a contained Codex, spelled out. Pure.
//!
//! A prompt is text for the client's own model, which then calls a tool: nothing here runs anything.

use rmcp::ErrorData;
use rmcp::model::{GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role};

/// The longest value of an argument, in characters.
const MOST_CHARS: usize = 4_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptName {
    Delegate,
    Review,
    FixFailingTests,
    ExplainRepository,
    WriteTests,
}

/// One argument: its name, what it is, whether the prompt needs it.
struct Argument(&'static str, &'static str, bool);

const FOLDER: Argument = Argument("cwd", "The folder to work on; the server's own unless named.", false);
const MODEL: Argument = Argument("model", "The model to use.", false);

impl PromptName {
    pub const ALL: [Self; 5] = [
        Self::Delegate,
        Self::Review,
        Self::FixFailingTests,
        Self::ExplainRepository,
        Self::WriteTests,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delegate => "delegate",
            Self::Review => "review",
            Self::FixFailingTests => "fix-failing-tests",
            Self::ExplainRepository => "explain-repository",
            Self::WriteTests => "write-tests",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|prompt| prompt.as_str() == name)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Delegate => "Delegate a task to Codex",
            Self::Review => "Have Codex review changes",
            Self::FixFailingTests => "Have Codex fix failing tests",
            Self::ExplainRepository => "Have Codex explain a repository",
            Self::WriteTests => "Have Codex write tests",
        }
    }

    fn arguments(self) -> Vec<Argument> {
        let own = match self {
            Self::Delegate => Argument("task", "What is to be done, and how to tell that it is.", true),
            Self::Review => Argument(
                "scope",
                "What to review: a branch, a commit, files; else what is uncommitted.",
                false,
            ),
            Self::FixFailingTests => Argument("command", "The command that runs the tests.", false),
            Self::ExplainRepository => Argument("question", "What you want to know in particular.", false),
            Self::WriteTests => Argument("target", "The file, module or function to test.", true),
        };
        vec![own, FOLDER, MODEL]
    }

    pub fn described(self) -> Prompt {
        let arguments = self
            .arguments()
            .into_iter()
            .map(|Argument(name, description, required)| {
                PromptArgument::new(name)
                    .with_description(description)
                    .with_required(required)
            });
        Prompt::new(self.as_str(), Some(self.title()), Some(arguments.collect())).with_title(self.title())
    }

    /// # Errors
    /// An argument that the prompt does not have, one that is missing, no text, or too long.
    pub fn filled(self, arguments: Option<JsonObject>) -> Result<GetPromptResult, ErrorData> {
        let mut given = arguments.unwrap_or_default();
        let mut values = Vec::new();
        for Argument(name, _, required) in self.arguments() {
            values.push(text(&mut given, name, required)?);
        }
        if let Some(unknown) = given.keys().next() {
            let shown: String = unknown.chars().take(60).collect();
            return Err(refused(format!(
                "the prompt `{}` has no argument {shown:?}",
                self.as_str()
            )));
        }
        let [own, folder, model] = <[Option<String>; 3]>::try_from(values).unwrap_or_default();
        let task = self.task(own.as_deref());
        let mut call = String::from("Call the tool `codex`");
        if let Some(folder) = folder {
            call.push_str(&format!(" with `cwd` {folder:?}"));
        }
        if let Some(model) = model {
            call.push_str(&format!(" and `model` {model:?}"));
        }
        let message = format!(
            "{call} and the prompt below. Where it returns before the end of the turn, wait with `codex-status`. Then tell me its \
             answer and what it changed; bring changes to my folder with `codex-apply` only once I agree.\n\nPrompt:\n{task}"
        );
        let messages = vec![PromptMessage::new_text(Role::User, message)];
        Ok(GetPromptResult::new(messages).with_description(self.title()))
    }

    fn task(self, own: Option<&str>) -> String {
        match (self, own) {
            (Self::Delegate, own) => own.unwrap_or_default().to_owned(),
            (Self::Review, None) => {
                "Review the uncommitted changes of this repository. List real defects, worst first, each with file \
                                     and line, the input that shows it, and how to mend it. Change nothing."
                    .to_owned()
            }
            (Self::Review, Some(scope)) => format!(
                "Review {scope}. List real defects, worst first, each with file and line, the input that shows it, and how to mend it. \
                 Change nothing."
            ),
            (Self::FixFailingTests, None) => {
                "Find out how this project runs its tests, run them, and fix the code until they pass. Change \
                                              a test only where it is wrong, and say why."
                    .to_owned()
            }
            (Self::FixFailingTests, Some(command)) => format!(
                "Run the tests with `{command}` and fix the code until they pass. Change a test only where it is wrong, and say why."
            ),
            (Self::ExplainRepository, question) => {
                let mut task = "Explain this repository to an engineer who is new to it: what it is for, its parts and how they work \
                                together, where to begin reading, how it is built and tested. Name files. Change nothing."
                    .to_owned();
                if let Some(question) = question {
                    task.push_str(&format!(" In particular: {question}"));
                }
                task
            }
            (Self::WriteTests, own) => format!(
                "Write tests for {}, in the style of the tests that there are: what it promises, its edges and its errors. Run them. Do not \
                 change the code under test; report what they find.",
                own.unwrap_or_default()
            ),
        }
    }
}

fn text(given: &mut JsonObject, name: &str, required: bool) -> Result<Option<String>, ErrorData> {
    match given.remove(name) {
        None if required => Err(refused(format!("the argument `{name}` is missing"))),
        None => Ok(None),
        Some(serde_json::Value::String(text)) if text.chars().count() > MOST_CHARS => Err(refused(format!(
            "the argument `{name}` has more than {MOST_CHARS} characters"
        ))),
        Some(serde_json::Value::String(text)) => Ok((!text.is_empty()).then_some(text)),
        Some(_) => Err(refused(format!("the argument `{name}` must be a string"))),
    }
}

fn refused(why: String) -> ErrorData {
    ErrorData::invalid_params(why, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled(prompt: PromptName, arguments: serde_json::Value) -> Result<String, String> {
        let serde_json::Value::Object(arguments) = arguments else {
            panic!("an object")
        };
        let result = prompt
            .filled(Some(arguments))
            .map_err(|error| error.message.to_string())?;
        Ok(serde_json::to_value(&result.messages[0]).expect("JSON")["content"]["text"].to_string())
    }

    #[test]
    fn each_prompt_says_what_to_call_and_what_is_to_be_done() {
        let text = filled(
            PromptName::Delegate,
            json!({"task": "Mend the clock", "cwd": "/src", "model": "gpt-5.5"}),
        )
        .expect("filled");
        for part in ["`codex`", "/src", "gpt-5.5", "Mend the clock", "codex-apply"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for prompt in PromptName::ALL {
            assert_eq!(PromptName::parse(prompt.as_str()), Some(prompt));
            let needed = prompt.arguments().into_iter().filter(|argument| argument.2);
            let arguments = needed.map(|argument| (argument.0.to_owned(), json!("this")));
            assert!(filled(prompt, serde_json::Value::Object(arguments.collect())).is_ok());
        }
    }

    #[test]
    fn a_wrong_argument_is_named() {
        let error = |arguments| filled(PromptName::Delegate, arguments).expect_err("refused");
        assert_eq!(error(json!({})), "the argument `task` is missing");
        assert_eq!(error(json!({"task": 1})), "the argument `task` must be a string");
        assert_eq!(
            error(json!({"task": "x", "tsak": "y"})),
            "the prompt `delegate` has no argument \"tsak\""
        );
        assert!(error(json!({"task": "x".repeat(MOST_CHARS + 1)})).contains("more than"));
    }
}
