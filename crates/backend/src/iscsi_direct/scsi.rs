//! Commands of SCSI and their answers, as far as disks need them (SPC-4, SBC-3).

/// What is asked for first, and then as much as there is.
pub(super) const FIRST_ANSWER: usize = 1024;
/// More than any answer of these takes.
pub(super) const MOST: usize = 1 << 20;

/// `TEST UNIT READY`
pub(super) const TEST_UNIT_READY: [u8; 6] = [0; 6];

/// `INQUIRY`, for the standard answer or a page of vital data.
pub(super) fn inquiry(page: Option<u8>, length: u16) -> [u8; 6] {
    let [high, low] = length.to_be_bytes();
    [0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low, 0]
}

/// `REPORT LUNS`
pub(super) fn report_luns(length: u32) -> [u8; 12] {
    let mut block = [0; 12];
    block[0] = 0xa0;
    block[6..10].copy_from_slice(&length.to_be_bytes());
    block
}

/// `READ CAPACITY (16)`
pub(super) fn read_capacity() -> [u8; 16] {
    let mut block = [0; 16];
    block[..2].copy_from_slice(&[0x9e, 0x10]);
    block[13] = 32;
    block
}

/// `SYNCHRONIZE CACHE (10)`, for all blocks.
pub(super) const SYNCHRONIZE: [u8; 10] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What is done with blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocks {
    /// `READ (16)`
    Read,
    /// `WRITE (16)`
    Write,
    /// `WRITE SAME (16)`, by which they are given up if that reads as what is written.
    Unmap,
}

/// A command for blocks.
pub(super) fn blocks(what: Blocks, first: u64, count: u32) -> [u8; 16] {
    let mut block = [0; 16];
    let (code, flags) = match what {
        Blocks::Read => (0x88, 0),
        Blocks::Write => (0x8a, 0),
        Blocks::Unmap => (0x93, 1 << 3),
    };
    block[..2].copy_from_slice(&[code, flags]);
    block[2..10].copy_from_slice(&first.to_be_bytes());
    block[10..14].copy_from_slice(&count.to_be_bytes());
    block
}

/// How long the whole answer to `REPORT LUNS` is.
pub fn luns_length(answer: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(answer.get(..4)?.try_into().ok()?);
    usize::try_from(length).ok()?.checked_add(8)
}

/// The numbers in an answer to `REPORT LUNS`; those with other ways of addressing are left out.
pub fn luns(answer: &[u8]) -> Vec<u16> {
    let end = luns_length(answer).unwrap_or(0).min(answer.len());
    let entries = answer.get(8..end).unwrap_or_default().chunks_exact(8);
    let mut luns: Vec<_> = entries
        .filter_map(|entry| match entry[0] >> 6 {
            0 => Some(u16::from(entry[1])),
            1 => Some(u16::from_be_bytes([entry[0] & 0x3f, entry[1]])),
            _ => None,
        })
        .collect();
    luns.sort_unstable();
    luns.dedup();
    luns
}

/// True if the standard answer to `INQUIRY` is that of a disk that is there.
pub fn is_disk(answer: &[u8]) -> bool {
    answer.first() == Some(&0)
}

/// The size of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// How many blocks it has.
    pub blocks: u64,
    /// The size of a block in bytes.
    pub block: u32,
    /// Whether blocks that are given up read as zeroes.
    pub has_zeroes: bool,
}

/// Reads the answer to `READ CAPACITY (16)`.
pub fn capacity(answer: &[u8]) -> Option<Capacity> {
    let last = u64::from_be_bytes(answer.get(..8)?.try_into().ok()?);
    let block = u32::from_be_bytes(answer.get(8..12)?.try_into().ok()?);
    let provisioning = answer.get(14)?;
    let blocks = last.checked_add(1)?;
    blocks.checked_mul(u64::from(block))?;
    let is_sane = block.is_power_of_two() && (512..=65536).contains(&block);
    is_sane.then_some(Capacity { blocks, block, has_zeroes: provisioning & 0xc0 == 0xc0 })
}

/// What a disk is called in the whole world, from its page of identifiers (83h), in the form in which udev's `scsi_id` has it.
pub fn identifier(page: &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes(page.get(2..4)?.try_into().ok()?));
    let mut rest = page.get(4..)?;
    rest = &rest[..length.min(rest.len())];
    let mut best: Option<(u8, String)> = None;
    while let Some((head, more)) = rest.split_first_chunk::<4>() {
        let (value, next) = more.split_at_checked(usize::from(head[3]))?;
        rest = next;
        // Only what names the unit, and not a port or the target.
        if head[1] & 0x30 != 0 {
            continue;
        }
        let hex = || value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let text = || String::from_utf8_lossy(value).split_whitespace().collect::<Vec<_>>().join("_");
        let (rank, named) = match head[1] & 0xf {
            3 => (0, format!("3{}", hex())),
            2 => (1, format!("2{}", hex())),
            1 => (2, format!("1{}", text())),
            _ => continue,
        };
        if !value.is_empty() && best.as_ref().is_none_or(|(known, _)| rank < *known) {
            best = Some((rank, named));
        }
    }
    best.map(|(_, named)| named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        assert_eq!(inquiry(Some(0x83), 0x1234), [0x12, 1, 0x83, 0x12, 0x34, 0]);
        assert_eq!(report_luns(16)[6..10], [0, 0, 0, 16]);
        let write = blocks(Blocks::Write, 0x1_0000_0002, 8);
        assert_eq!(write, [0x8a, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0]);
        assert_eq!(blocks(Blocks::Unmap, 0, 1)[..2], [0x93, 8]);
    }

    #[test]
    fn numbers_of_luns() {
        let mut answer = vec![0, 0, 0, 32, 0, 0, 0, 0];
        for entry in [[0, 7], [0x41, 2], [0xc1, 1], [0, 0]] {
            answer.extend(entry);
            answer.extend([0; 6]);
        }
        assert_eq!(luns(&answer), [0, 7, 258]);
        assert_eq!(luns(&answer[..20]), [7]);
        assert_eq!(luns_length(&answer), Some(40));
        assert!(luns(&[0xff; 6]).is_empty());
    }

    #[test]
    fn sizes() {
        let mut answer = [0; 32];
        answer[6..8].copy_from_slice(&[0xff, 0xff]);
        answer[10] = 2;
        assert_eq!(capacity(&answer), Some(Capacity { blocks: 65536, block: 512, has_zeroes: false }));
        answer[14] = 0xc0;
        assert!(capacity(&answer).unwrap().has_zeroes);
        answer[11] = 1;
        assert_eq!(capacity(&answer), None);
        assert_eq!(capacity(&[0xff; 32]), None);
        assert_eq!(capacity(&[0; 8]), None);
    }

    #[test]
    fn names() {
        let vendor = b"IET     00010001";
        let mut page = vec![0, 0x83, 0, 0];
        page.extend([2, 1, 0, vendor.len() as u8]);
        page.extend(vendor);
        page.extend([1, 0x14, 0, 4, 0, 0, 0, 1]);
        page[3] = (page.len() - 4) as u8;
        assert_eq!(identifier(&page).as_deref(), Some("1IET_00010001"));
        page.extend([1, 3, 0, 8, 0x60, 0, 0, 0, 0xe, 0, 0, 1]);
        page[3] = (page.len() - 4) as u8;
        assert_eq!(identifier(&page).as_deref(), Some("3600000000e000001"));
        assert_eq!(identifier(&page[..6]), None);
        assert_eq!(identifier(&[0, 0x83, 0, 4, 1, 3, 0, 9]), None);
    }
}
