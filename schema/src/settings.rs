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
//! The command line is above the environment, that above the file, that above the defaults. The file is
//! `~/.config/ipctrace/ipc-analyzer.toml`, else `/etc/ipctrace/ipc-analyzer.toml`.

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};
use std::path::PathBuf;
use toml::{Table, Value};

/// What only asks how to use a program.
pub(crate) const HELP: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// These say what one run is about: they make no sense as a habit, and would contradict what is typed.
const NEVER: [&str; 6] = ["help", "version", "output", "pid", "follow", "all"];

/// What a file says, if there is one.
#[derive(Default)]
pub(crate) struct Settings {
    path: PathBuf,
    table: Table,
}

impl Settings {
    /// Those of `program`.
    ///
    /// # Errors
    /// The file cannot be read, or is no TOML.
    pub(crate) fn of(program: &str) -> Result<Settings, String> {
        match file_of(program) {
            None => Ok(Settings::default()),
            Some(path) => Settings::read(path),
        }
    }

    fn read(path: PathBuf) -> Result<Settings, String> {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let table = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Settings { path, table })
    }

    /// `command` with the defaults that environment and file give.
    ///
    /// # Errors
    /// The file says what no option is: which, and where.
    pub(crate) fn applied_to(&self, command: Command) -> Result<Command, String> {
        check(&command, &self.table).map_err(|what| format!("{}: {what}", self.path.display()))?;
        let prefix = environment_name(command.get_name());
        let names: Vec<String> = public(&command).map(|of| of.get_name().to_owned()).collect();
        let of_command = |command: Command| {
            let name = command.get_name().to_owned();
            command.mut_args(|arg| with_setting(arg, &name, &prefix, &self.table))
        };
        Ok(names.iter().fold(command, |command, name| command.mut_subcommand(name, of_command)))
    }
}

/// Where the file of a program is: `IPC_ANALYZER_CONFIG`, else in the user's folder of settings, else in the machine's.
fn file_of(program: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = variable(&format!("{}_CONFIG", environment_name(program))) {
        return Some(path);
    }
    let user = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    let folders = user.into_iter().chain([PathBuf::from("/etc")]);
    let mut files = folders.map(|folder| folder.join("ipctrace").join(format!("{program}.toml")));
    files.find(|file| file.exists())
}

fn environment_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

fn public(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|of| !of.is_hide_set())
}

fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some_and(|long| !NEVER.contains(&long)) && !arg.is_hide_set()
}

/// Every word of the file must mean something.
fn check(command: &Command, table: &Table) -> Result<(), String> {
    for (key, value) in table {
        match (public(command).find(|of| of.get_name() == key), value) {
            (Some(of), Value::Table(settings)) => {
                for (key, value) in settings {
                    check_setting([of].into_iter(), key, value)
                        .map_err(|what| format!("[{}] {what}", of.get_name()))?;
                }
            }
            (None, Value::Table(_)) => return Err(format!("[{key}] is no command")),
            _ => check_setting(public(command), key, value)?,
        }
    }
    Ok(())
}

fn check_setting<'a>(commands: impl Iterator<Item = &'a Command>, key: &str, value: &Value) -> Result<(), String> {
    let mut known: Vec<&str> = Vec::new();
    for arg in commands.flat_map(Command::get_arguments).filter(|arg| is_setting(arg)) {
        known.extend(arg.get_long());
        if arg.get_long() == Some(key) {
            return words_of(value)
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
    let found = of_command.or_else(|| table.get(&long)).and_then(words_of);
    let arg = arg.env(format!("{prefix}_{}", environment_name(&long))).hide_env(true);
    let arg = match arg.get_action() {
        // 1 and yes, as people write in an environment.
        ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
        _ => arg,
    };
    match (found, arg.get_action()) {
        // A default is as good as an answer.
        (Some(words), ArgAction::Append) => arg.default_values(words).required(false),
        (Some(words), _) => arg.default_value(words.join(",")).required(false),
        (None, _) => arg,
    }
}

/// As they would be typed.
fn words_of(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Boolean(value) => Some(vec![value.to_string()]),
        Value::Array(values) => {
            let words: Option<Vec<Vec<String>>> = values.iter().map(words_of).collect();
            words.map(|words| words.concat())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use std::io::Write;

    fn command() -> Command {
        let by = Arg::new("by").long("by").value_delimiter(',').default_value("syscall");
        let strict = Arg::new("strict").long("strict").action(ArgAction::SetTrue);
        let limit = Arg::new("limit").long("limit").value_parser(clap::value_parser!(usize));
        Command::new("ipc-settings-test").subcommand(Command::new("latency").args([by, strict, limit]))
    }

    fn ask(table: &str, arguments: &[&str]) -> Result<(Vec<String>, bool, Option<usize>), String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(table.as_bytes()).unwrap();
        let command = Settings::read(file.path().to_owned())?.applied_to(command())?;
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
