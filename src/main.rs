//! The binary: PID 1 of a container when its first argument is `guest`, else the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any runtime or thread starts: the guest makes itself undumpable and moves its pipe away first.
    if std::env::args_os().nth(1).is_some_and(|command| command == "guest") {
        return codex_mcp::guest::main();
    }
    codex_mcp::cli::main()
}
