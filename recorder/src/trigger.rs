//! What a flight recorder writes its trace for.

use crate::call::Call;
use ipc_schema::flags;
use std::time::Duration;

/// A condition that one call meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// It waited for longer.
    Wait(Duration),
    /// It has not ended for longer.
    Open(Duration),
    /// It failed so.
    Error(String),
}

impl Trigger {
    /// `wait>5s`, `open>30s`, `error=ENOSPC`.
    ///
    /// # Errors
    /// It is none of these, or no errno has this name.
    pub fn parse(text: &str) -> Result<Trigger, String> {
        let time = |text| humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 5s or 500ms"));
        match (text.split_once('>'), text.split_once('=')) {
            (Some(("wait", than)), _) => Ok(Trigger::Wait(time(than)?)),
            (Some(("open", than)), _) => Ok(Trigger::Open(time(than)?)),
            (_, Some(("error", name))) if flags::ERRNOS.iter().any(|(_, errno)| *errno == name) => {
                Ok(Trigger::Error(name.to_owned()))
            }
            (_, Some(("error", name))) => Err(format!("no errno is called {name:?}")),
            _ => Err("write it as 'wait>5s', 'open>30s' or error=ENOSPC".into()),
        }
    }

    /// Whether it is about calls that have not ended.
    pub fn is_of_open(&self) -> bool {
        matches!(self, Trigger::Open(_))
    }

    /// Whether a call that ended meets it.
    fn is_met_by(&self, call: &Call) -> bool {
        match self {
            Trigger::Wait(than) => call.wait_ns().is_some_and(|wait| u128::from(wait) > than.as_nanos()),
            Trigger::Error(name) => call.error().as_deref() == Some(name),
            Trigger::Open(_) => false,
        }
    }

    /// Whether a call that is open since `age_ns` meets it.
    fn is_met_after(&self, age_ns: u64) -> bool {
        matches!(self, Trigger::Open(than) if u128::from(age_ns) > than.as_nanos())
    }
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trigger::Wait(than) => write!(f, "wait>{}", humantime::format_duration(*than)),
            Trigger::Open(than) => write!(f, "open>{}", humantime::format_duration(*than)),
            Trigger::Error(name) => write!(f, "error={name}"),
        }
    }
}

/// What a trace is written for: the condition and the call that met it.
pub fn met(triggers: &[Trigger], ended: &[Box<Call>]) -> Option<String> {
    ended.iter().find_map(|call| Some(told(triggers.iter().find(|trigger| trigger.is_met_by(call))?, call)))
}

/// The same, of a call that is open at this time: CLOCK_BOOTTIME nanoseconds.
pub fn met_by_open(triggers: &[Trigger], call: &Call, now_ns: u64) -> Option<String> {
    let age_ns = now_ns.saturating_sub(call.start_ns);
    Some(told(triggers.iter().find(|trigger| trigger.is_met_after(age_ns))?, call))
}

fn told(trigger: &Trigger, call: &Call) -> String {
    format!("{trigger}: {} of thread {}, call_id {}", call.operation(), call.tid, call.call_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_told_as_they_are_written() {
        for text in ["wait>5s", "open>30s", "error=ENOSPC", "wait>500ms"] {
            assert_eq!(Trigger::parse(text).map(|trigger| trigger.to_string()), Ok(text.to_owned()));
        }
        for text in ["wait", "wait>x", "error=ENOSPACE", "open=3s", ""] {
            assert!(Trigger::parse(text).is_err(), "{text}");
        }
    }
}
