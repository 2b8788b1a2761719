//! Tells what happens, when `NARRATE` is set: for whoever replays a seed.

use std::fmt::Arguments;
use std::sync::OnceLock;

/// True if `NARRATE` is set.
pub(crate) fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("NARRATE").is_some())
}

/// Prints a line, if anybody wants to hear it.
pub(crate) fn say(line: Arguments<'_>) {
    if is_on() {
        println!("{line}");
    }
}
