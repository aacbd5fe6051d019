//! The command line: records what was asked, then calls the room that does it; prints results.
