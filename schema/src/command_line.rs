//! What the command lines of both programs have in common.

use crate::settings::{self, Settings};
use clap::{CommandFactory, FromArgMatches};
use clap_complete::Shell;
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The program's arguments, and below them its [`settings`]. Wrong arguments, `--help` and `--version` end the process.
///
/// # Errors
/// The file of settings cannot be read, or says what no option is: which, and where.
pub fn parse<C: CommandFactory + FromArgMatches>() -> Result<C, String> {
    let command = C::command();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = match needs_settings(&command, &arguments) {
        true => Settings::of(command.get_name())?.applied_to(command)?,
        false => command,
    };
    Ok(C::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit()))
}

/// Not where the user only asks how to use the program, as a file that is wrong must not be in the way then; nor for what
/// one program asks of another.
fn needs_settings(command: &clap::Command, arguments: &[OsString]) -> bool {
    let first = arguments.first().and_then(|word| word.to_str()).unwrap_or("help");
    let is_internal = command.find_subcommand(first).is_some_and(clap::Command::is_hide_set);
    let is_help = |word: &OsString| settings::HELP.iter().any(|help| word == help);
    // What stands behind -- is another program's.
    let mut own = arguments.iter().take_while(|word| *word != "--");
    !is_internal && !["help", "completions"].contains(&first) && !own.any(is_help)
}

/// Prints what makes `shell` complete the words of the command line.
pub fn completions<C: CommandFactory>(shell: Shell) {
    let command = &mut C::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, command, name, &mut io::stdout());
}

/// Writes man pages and shell completions into `folder`.
///
/// # Errors
/// The folder cannot be written.
pub fn pages<C: CommandFactory>(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(C::command(), folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let command = &mut C::command();
        let name = command.get_name().to_owned();
        clap_complete::generate_to(shell, command, name, folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    #[test]
    fn who_asks_for_help_needs_no_settings() {
        let command = Command::new("x").subcommands([Command::new("record"), Command::new("helper").hide(true)]);
        for (line, needs) in [
            ("record", true),
            ("record --help", false),
            ("record -o x -h", false),
            ("record -- ./server --help", true),
            ("helper", false),
            ("completions zsh", false),
            ("help record", false),
            ("", false),
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(needs_settings(&command, &words), needs, "{line}");
        }
    }
}
