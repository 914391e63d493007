//! Being told of devices, as udev tells it when it has dealt with them: netlink(7), with the messages of libudev's monitor.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Where udev tells; the kernel tells in the first group, before anything has been done.
const FROM_UDEV: u32 = 2;
/// What a message of udev's begins with.
const PREFIX: &[u8] = b"libudev\0\xfe\xed\xca\xfe";
/// More than any message has, in bytes.
const LONGEST: usize = 64 << 10;

/// What has happened to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uevent(Vec<(String, String)>);

impl Uevent {
    /// What udev says under this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads a message; `None` for one that is none of udev's.
    pub fn parse(message: &[u8]) -> Option<Uevent> {
        if !message.starts_with(PREFIX) {
            return None;
        }
        let word = |at: usize| -> Option<usize> {
            let bytes: [u8; 4] = message.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_ne_bytes(bytes)).ok()
        };
        let (from, length) = (word(16)?, word(20)?);
        let properties = message.get(from..from.checked_add(length)?)?;
        let properties = properties.split(|byte| *byte == 0).filter_map(|property| {
            let (name, value) = std::str::from_utf8(property).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Some(Uevent(properties.collect()))
    }
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something has happened to a device.
    Event(Uevent),
    /// More than the system could remember.
    Lost,
}

/// All that udev tells from now on.
#[derive(Debug)]
pub struct Uevents(OwnedFd);

impl Uevents {
    /// Begins to listen.
    pub fn new() -> io::Result<Uevents> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, FROM_UDEV))?;
        Ok(Uevents(socket))
    }

    /// Waits for the next thing that is told, at most so long.
    pub fn next(&mut self, within: Duration) -> Option<Told> {
        let until = Instant::now() + within;
        let mut message = vec![0; LONGEST];
        loop {
            let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
            let ready = poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)], left.as_ref());
            if ready.is_ok_and(|ready| ready == 0) {
                return None;
            }
            match recvfrom(&self.0, &mut message[..], RecvFlags::empty()) {
                Ok((length, _, from)) => {
                    // Anybody may send to this socket, but only udev to the group.
                    let groups = from
                        .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                        .map(|from| from.groups());
                    let event =
                        message.get(..length).filter(|_| groups == Some(FROM_UDEV)).and_then(Uevent::parse);
                    if let Some(event) = event {
                        return Some(Told::Event(event));
                    }
                }
                Err(Errno::NOBUFS) => return Some(Told::Lost),
                Err(_) => {}
            }
            if Instant::now() >= until {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(properties: &[u8]) -> Vec<u8> {
        let mut message = PREFIX.to_vec();
        for word in [40, 40, properties.len() as u32, 0, 0, 0, 0] {
            message.extend(word.to_ne_bytes());
        }
        message.extend(properties);
        message
    }

    #[test]
    fn a_message_of_udev() {
        let event =
            Uevent::parse(&message(b"ACTION=add\0DEVNAME=/dev/dm-0\0DEVLINKS=/dev/a /dev/b=c\0")).unwrap();
        assert_eq!(event.get("ACTION"), Some("add"));
        assert_eq!(event.get("DEVLINKS"), Some("/dev/a /dev/b=c"));
        assert_eq!(event.get("SUBSYSTEM"), None);
    }

    #[test]
    fn what_is_none() {
        assert_eq!(Uevent::parse(b"add@/devices/x\0ACTION=add\0"), None);
        assert_eq!(Uevent::parse(PREFIX), None);
        let mut long = message(b"A=b\0");
        long[20] = 0xff;
        assert_eq!(Uevent::parse(&long), None);
        Uevents::new().unwrap();
    }
}
