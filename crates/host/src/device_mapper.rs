//! The device mapper's control device, after the kernel's `linux/dm-ioctl.h` (version 4).

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Direction, Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use std::ffi::c_void;
use std::io;
use std::os::fd::OwnedFd;

/// The control device.
const CONTROL: &str = "/dev/mapper/control";
/// The size of `struct dm_ioctl`, with which every request and answer begins.
const HEADER: usize = 312;
/// More than any machine's list takes.
const MAX_BUFFER: usize = 16 << 20;
/// The answer did not fit.
const BUFFER_FULL: u32 = 1 << 8;
/// A table is asked for, not how its devices are.
const STATUS_TABLE: u32 = 1 << 4;

/// What is asked.
#[derive(Clone, Copy)]
enum Command {
    ListDevices = 2,
    TableStatus = 12,
}

/// A device of the device mapper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedDevice {
    /// Its name in `/dev/mapper`.
    pub name: String,
    /// Its minor number, as in `dm-MINOR`.
    pub minor: u32,
}

/// The device mapper, open.
pub struct DeviceMapper(OwnedFd);

impl DeviceMapper {
    /// Opens it. `None` where the kernel has none.
    pub fn open() -> io::Result<Option<DeviceMapper>> {
        match open(CONTROL, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Ok(control) => Ok(Some(DeviceMapper(control))),
            Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// All devices whose table begins with a target of this type, such as `multipath`.
    pub fn devices_of(&self, target: &str) -> io::Result<Vec<MappedDevice>> {
        let mut found = Vec::new();
        for device in devices(&self.ask(Command::ListDevices, "", 0)?) {
            match self.ask(Command::TableStatus, &device.name, STATUS_TABLE) {
                Ok(answer) if first_target(&answer).as_deref() == Some(target) => found.push(device),
                Ok(_) => {}
                // It has gone meanwhile.
                Err(e) if e.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// Asks about a device of this name, or about all, with a buffer that grows until the answer fits.
    fn ask(&self, command: Command, name: &str, flags: u32) -> io::Result<Vec<u8>> {
        let mut size = 16 << 10;
        loop {
            let mut buffer = vec![0; size];
            let mut put = |at: usize, value: u32| buffer[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            put(0, 4);
            put(12, size as u32);
            put(16, HEADER as u32);
            put(28, flags);
            // 127 bytes and a zero.
            let name = name.as_bytes().get(..127).unwrap_or(name.as_bytes());
            buffer[48..48 + name.len()].copy_from_slice(name);
            // SAFETY: the buffer says of itself how large it is, which is what `Request` rests on.
            #[allow(
                unsafe_code,
                reason = "a system call whose argument is a buffer that tells its own size"
            )]
            unsafe { ioctl(&self.0, Request { command, buffer: &mut buffer }) }?;
            if word(&buffer, 28).is_some_and(|flags| flags & BUFFER_FULL == 0) {
                return Ok(buffer);
            }
            size *= 4;
            if size > MAX_BUFFER {
                return Err(io::Error::other("the device mapper's answer has no end"));
            }
        }
    }
}

/// One request. The kernel reads from the buffer how large it is (`data_size`), and writes no further.
struct Request<'b> {
    command: Command,
    buffer: &'b mut Vec<u8>,
}

// SAFETY: the opcode is that of the kernel's header for a structure of 312 bytes, which the kernel copies in first. It
// takes `data_size` from it, which `ask` has set to the buffer's length, and copies in and out no more than that; the
// buffer is borrowed for as long as the call lasts.
#[allow(unsafe_code, reason = "a system call whose argument is a buffer that tells its own size")]
unsafe impl Ioctl for Request<'_> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::from_components(Direction::ReadWrite, 0xfd, self.command as u8, HEADER)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.buffer.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    String::from_utf8(bytes[..end].to_vec()).ok()
}

/// The data of an answer.
fn data(answer: &[u8]) -> Option<&[u8]> {
    answer.get(word(answer, 16)? as usize..)
}

/// The list in an answer: of each device its number, how far it is to the next one, and its name.
fn devices(answer: &[u8]) -> Vec<MappedDevice> {
    let mut devices = Vec::new();
    let mut rest = data(answer);
    while let Some(entry) = rest {
        let (Some(low), Some(next)) = (word(entry, 0), word(entry, 8)) else { break };
        // Where there is no device there is one entry without a number.
        if low == 0 && word(entry, 4) == Some(0) {
            break;
        }
        let minor = (low & 0xff) | ((low >> 12) & 0xf_ff00);
        devices.extend(entry.get(12..).and_then(text).map(|name| MappedDevice { name, minor }));
        rest = if next == 0 { None } else { entry.get(next as usize..) };
    }
    devices
}

/// The type of the first target in an answer, of which the kernel has 16 bytes behind 24 of other things.
fn first_target(answer: &[u8]) -> Option<String> {
    (word(answer, 20)? > 0).then(|| data(answer)?.get(24..40).and_then(text)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(data: &[u8], targets: u32) -> Vec<u8> {
        let mut answer = vec![0; HEADER];
        answer[16..20].copy_from_slice(&(HEADER as u32).to_ne_bytes());
        answer[20..24].copy_from_slice(&targets.to_ne_bytes());
        answer.extend(data);
        answer
    }

    #[test]
    fn a_list_and_a_table() {
        let entry = |number: u64, next: u32, name: &str| {
            let mut entry = number.to_ne_bytes().to_vec();
            entry.extend(next.to_ne_bytes());
            entry.extend(name.as_bytes());
            entry.resize(32, 0);
            entry
        };
        let list = [entry(253 << 8, 32, "mpatha"), entry((253 << 8) | 7 | (1 << 20), 0, "vg-lv")].concat();
        let device = |name: &str, minor| MappedDevice { name: name.to_owned(), minor };
        assert_eq!(devices(&answer(&list, 0)), [device("mpatha", 0), device("vg-lv", 263)]);
        assert_eq!(devices(&answer(&[0; 16], 0)), []);
        // An entry that leads nowhere ends the list.
        assert_eq!(devices(&answer(&entry(253 << 8, 1 << 30, "x"), 0)).len(), 1);
        assert_eq!(devices(&[]), []);

        let mut table = vec![0; 24];
        table.extend(b"multipath\0\0\0\0\0\0\0");
        assert_eq!(first_target(&answer(&table, 1)).as_deref(), Some("multipath"));
        assert_eq!(first_target(&answer(&table, 0)), None);
        assert_eq!(first_target(&answer(&table[..30], 1)), None);
    }
}
