//! One side of a socket pair: a line of JSON per message, and a file with it, if any.

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::time::Duration;

/// How much is received at once.
const CHUNK_BYTES: usize = 1 << 16;

/// One side.
pub struct Channel {
    socket: OwnedFd,
    received: Vec<u8>,
    /// How much of it was handed out.
    taken: usize,
    file: Option<OwnedFd>,
}

impl Channel {
    /// Both sides; only the second is to be inherited. The first waits so long for a message, at most.
    pub fn pair(patience: Duration) -> io::Result<(Channel, OwnedFd)> {
        let (own, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&own, Timeout::Recv, Some(patience))?;
        Ok((Channel::of(own), other))
    }

    /// The side that was inherited.
    pub fn of(socket: OwnedFd) -> Channel {
        Channel { socket, received: Vec::new(), taken: 0, file: None }
    }

    /// Sends a message.
    pub fn send(&self, message: &impl Serialize, file: Option<BorrowedFd>) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let files = file.map(|file| [file]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if let Some(files) = &files {
            ancillary.push(SendAncillaryMessage::ScmRights(files));
        }
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let parts = [IoSlice::new(rest)];
            let sent =
                rustix::io::retry_on_intr(|| sendmsg(&self.socket, &parts, &mut ancillary, SendFlags::NOSIGNAL))?;
            ancillary.clear();
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// The next message; `None`: the other side is gone.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: there was none in time.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        self.message(RecvFlags::CMSG_CLOEXEC)
    }

    /// The same of what has arrived.
    pub fn try_receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        self.message(RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
    }

    fn message<T: DeserializeOwned>(&mut self, flags: RecvFlags) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let mut searched = self.taken;
        loop {
            if let Some(length) = self.received[searched..].iter().position(|byte| *byte == b'\n') {
                let end = searched + length;
                let message = serde_json::from_slice(&self.received[self.taken..end])?;
                self.taken = end + 1;
                return Ok(Some((message, self.file.take())));
            }
            self.received.drain(..self.taken);
            self.taken = 0;
            searched = self.received.len();
            if self.receive_some(flags)? == 0 {
                return Ok(None);
            }
        }
    }

    fn receive_some(&mut self, flags: RecvFlags) -> io::Result<usize> {
        let before = self.received.len();
        self.received.resize(before + CHUNK_BYTES, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut self.received[before..])];
        let received = rustix::io::retry_on_intr(|| recvmsg(&self.socket, parts, &mut ancillary, flags));
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.file = files.last();
            }
        }
        let bytes = received.as_ref().map_or(0, |message| message.bytes);
        self.received.truncate(before + bytes);
        Ok(received.map(|_| bytes)?)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn messages_and_files_arrive_as_they_were_sent() {
        let (mut here, there) = Channel::pair(Duration::from_secs(60)).unwrap();
        let there = Channel::of(there);
        let long = "x".repeat(3 * CHUNK_BYTES);
        let sending = long.clone();
        let sender = std::thread::spawn(move || {
            let file = File::open("/proc/self/comm").unwrap();
            there.send(&"first", None).unwrap();
            there.send(&"second", Some(file.as_fd())).unwrap();
            there.send(&sending, None).unwrap();
        });
        let first: (String, _) = here.receive().unwrap().unwrap();
        assert_eq!(first.0, "first");
        let (second, file): (String, _) = here.receive().unwrap().unwrap();
        let mut text = String::new();
        File::from(file.or(first.1).unwrap()).read_to_string(&mut text).unwrap();
        assert!(second == "second" && !text.is_empty());
        assert_eq!(here.receive::<String>().unwrap().unwrap().0, long);
        sender.join().unwrap();
        assert!(here.receive::<String>().unwrap().is_none());
    }
}
