//! A service manager for a recorder: what sd_notify(3) sends, with the time of its arrival.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The manager's socket.
pub struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    /// One in `folder`, of which `command` is a service that must show every `limit` that it is alive.
    pub fn of(command: &mut Command, folder: &Path, limit: Duration) -> Manager {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", limit.as_micros().to_string());
        Manager { socket, heard: Vec::new() }
    }

    /// The lines that arrive within `time`.
    pub fn listen(&mut self, time: Duration) -> Vec<String> {
        let from = self.heard.len();
        let until = Instant::now() + time;
        while let Some(line) = self.receive(until) {
            self.heard.push(line);
        }
        self.heard[from..].iter().flat_map(|message| message.lines()).map(str::to_owned).collect()
    }

    /// Waits for this line.
    ///
    /// # Panics
    /// It does not arrive within 30 seconds.
    pub fn wait_for(&mut self, line: &str) {
        let until = Instant::now() + Duration::from_secs(30);
        while let Some(message) = self.receive(until) {
            self.heard.push(message);
            if self.heard.last().is_some_and(|message| message.lines().any(|l| l == line)) {
                return;
            }
        }
        panic!("{line} did not arrive; what did: {:?}", self.heard);
    }

    fn receive(&self, until: Instant) -> Option<String> {
        let left = until.saturating_duration_since(Instant::now());
        self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }
}
