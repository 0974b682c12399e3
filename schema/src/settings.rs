//! Options that need not be typed: those of the command line can stand in the environment, and below that in a file.
//!
//! `--by comm` of `ipc-analyzer latency` is `IPC_ANALYZER_BY=comm` in the environment, and in the file
//!
//! ```toml
//! tz = "local"       # for every command that has such an option
//!
//! [latency]
//! by = ["comm"]      # for one command, before what stands above
//! ```
//!
//! The command line is above the environment, that above the file, that above the defaults.

use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Options of this one are asked for anew each time, or make no sense as a habit.
const NEVER: [&str; 3] = ["help", "version", "output"];

/// `command` with the defaults that environment and file give.
///
/// # Errors
/// The file cannot be read, or says what no option is: which, and where.
pub fn with_settings(command: Command, file: Option<&Path>) -> Result<Command, String> {
    let table = file.map(read).transpose()?.unwrap_or_default();
    let prefix = command.get_name().replace('-', "_").to_uppercase();
    let commands: Vec<String> = command.get_subcommands().map(|of| of.get_name().to_owned()).collect();
    check(&command, &table).map_err(|what| match file {
        Some(file) => format!("{}: {what}", file.display()),
        None => what,
    })?;
    let of_command = |command: Command| {
        let name = command.get_name().to_owned();
        command.mut_args(|arg| with_setting(arg, &name, &prefix, &table))
    };
    Ok(commands.iter().fold(command, |command, name| command.mut_subcommand(name, of_command)))
}

/// Whether the command line only asks how to use the program: then a file that is wrong must not be in the way.
pub fn is_for_help(arguments: impl Iterator<Item = OsString>) -> bool {
    let is_help = |(place, word): (usize, OsString)| match word.to_str() {
        Some("-h" | "--help" | "-V" | "--version") => true,
        Some("help" | "completions") => place == 0,
        _ => false,
    };
    arguments.enumerate().any(is_help)
}

/// Where the file of a program is: `IPC_ANALYZER_CONFIG`, else `ipctrace/ipc-analyzer.toml` in the user's folder of
/// settings, if it is there.
pub fn file_of(program: &str) -> Option<PathBuf> {
    let named = format!("{}_CONFIG", program.replace('-', "_").to_uppercase());
    if let Some(path) = std::env::var_os(named).filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    let folder =
        std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(home)?;
    Some(folder.join("ipctrace").join(format!("{program}.toml"))).filter(|path| path.exists())
}

fn read(file: &Path) -> Result<Table, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    text.parse().map_err(|error| format!("{}: {error}", file.display()))
}

fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some_and(|long| !NEVER.contains(&long)) && !arg.is_hide_set()
}

/// Every word of the file must mean something.
fn check(command: &Command, table: &Table) -> Result<(), String> {
    for (key, value) in table {
        let of_command = command.get_subcommands().filter(|of| !of.is_hide_set()).find(|of| of.get_name() == key);
        match (of_command, value) {
            (Some(of), Value::Table(settings)) => {
                for (key, value) in settings {
                    check_setting([of].into_iter(), key, value)
                        .map_err(|what| format!("[{}] {what}", of.get_name()))?;
                }
            }
            (None, Value::Table(_)) => return Err(format!("[{key}] is no command")),
            _ => check_setting(command.get_subcommands(), key, value)?,
        }
    }
    Ok(())
}

fn check_setting<'a>(commands: impl Iterator<Item = &'a Command>, key: &str, value: &Value) -> Result<(), String> {
    let mut known: Vec<&str> = Vec::new();
    for arg in commands.flat_map(Command::get_arguments).filter(|arg| is_setting(arg)) {
        known.extend(arg.get_long());
        if arg.get_long() == Some(key) {
            return text_of(value)
                .map(drop)
                .ok_or_else(|| format!("{key}: neither a text, a number, true or false, nor a list of them"));
        }
    }
    known.sort_unstable();
    known.dedup();
    Err(format!("{key} is no option that can be set; those are {}", known.join(", ")))
}

/// The option, with what the environment or the file says as its default. clap looks at the environment first.
fn with_setting(arg: Arg, command: &str, prefix: &str, table: &Table) -> Arg {
    let Some(long) = arg.get_long().filter(|_| is_setting(&arg)).map(str::to_owned) else { return arg };
    let of_command = table.get(command).and_then(Value::as_table).and_then(|settings| settings.get(&long));
    let found = of_command.or_else(|| table.get(&long)).and_then(text_of);
    let arg = arg.env(format!("{prefix}_{}", long.replace('-', "_").to_uppercase())).hide_env(true);
    match (found, arg.get_action()) {
        // A default is as good as an answer.
        (Some(text), ArgAction::SetTrue) => arg.default_value(text).required(false),
        (Some(text), _) => arg.default_value(text).required(false),
        (None, _) => arg,
    }
}

/// As it would be typed; lists with commas.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Array(values) => values.iter().map(text_of).collect::<Option<Vec<_>>>().map(|texts| texts.join(",")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn command() -> Command {
        let by = Arg::new("by").long("by").value_delimiter(',').default_value("syscall");
        let strict = Arg::new("strict").long("strict").action(ArgAction::SetTrue);
        let limit = Arg::new("limit").long("limit").value_parser(clap::value_parser!(usize));
        Command::new("ipc-settings-test").subcommand(Command::new("latency").args([by, strict, limit]))
    }

    fn ask(table: &str, arguments: &[&str]) -> Result<(Vec<String>, bool, Option<usize>), String> {
        let folder = std::env::temp_dir().join(format!("ipc-settings-{}-{}", std::process::id(), table.len()));
        std::fs::write(&folder, table).unwrap();
        let command = with_settings(command(), Some(&folder))?;
        let words = ["ipc-settings-test", "latency"].iter().chain(arguments);
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        let of = matches.subcommand_matches("latency").unwrap();
        let by = of.get_many::<String>("by").unwrap().cloned().collect();
        Ok((by, of.get_flag("strict"), of.get_one("limit").copied()))
    }

    #[test]
    fn the_file_is_below_the_command_line_and_a_command_before_all() {
        let table = "limit = 5\nby = \"pid\"\n[latency]\nby = [\"comm\", \"error\"]\nstrict = true\n";
        assert_eq!(ask(table, &[]).unwrap(), (vec!["comm".to_owned(), "error".to_owned()], true, Some(5)));
        assert_eq!(
            ask(table, &["--by", "object", "--limit", "7"]).unwrap(),
            (vec!["object".to_owned()], true, Some(7))
        );
        assert_eq!(ask("", &[]).unwrap(), (vec!["syscall".to_owned()], false, None));
    }

    #[test]
    fn what_is_no_option_is_told() {
        for (table, told) in [
            ("bye = 1", "bye is no option that can be set; those are by, limit, strict"),
            ("[latencies]", "[latencies] is no command"),
            ("[latency]\nbye = 1", "[latency] bye is no option"),
            ("by = 1.5", "by: neither a text"),
            ("by = ", "TOML parse error"),
            ("limit = \"many\"", "invalid value 'many' for '--limit"),
        ] {
            let error = ask(table, &[]).unwrap_err();
            assert!(error.contains(told), "{table}: {error}");
        }
    }
}
