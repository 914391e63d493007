//! Partition tables: no partition leads beyond the disk, and nothing free is a partition's. Where the first byte says so, a
//! GPT's checksums are made right, which no fuzzer finds.
#![no_main]

use cenote_image::partitions::{self, Role};

const SECTOR: usize = 512;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    let mut disk = data.to_vec();
    match first % 3 {
        0 if disk.len() >= SECTOR => disk[510..512].copy_from_slice(&[0x55, 0xaa]),
        1 if disk.len() > 3 * SECTOR => make_gpt(&mut disk),
        _ => {}
    }
    let Ok(Some(table)) = partitions::read(disk.as_slice(), SECTOR as u64) else { return };
    let size = disk.len() as u64;
    for partition in &table.partitions {
        assert!(partition.bytes.start < partition.bytes.end && partition.bytes.end <= size);
    }
    for (_, gap) in table.free() {
        assert!(gap.start < gap.end && gap.end <= size);
        let data = table.partitions.iter().filter(|partition| partition.role != Role::Extended);
        for partition in data {
            assert!(partition.bytes.end <= gap.start || gap.end <= partition.bytes.start || is_outside(&table, partition));
        }
    }
});

/// A damaged table may have a logical partition that is not in the extended one.
fn is_outside(table: &partitions::Table, partition: &partitions::Partition) -> bool {
    let mut extended = table.partitions.iter().filter(|partition| partition.role == Role::Extended);
    partition.role == Role::Logical
        && !extended.any(|e| e.bytes.start <= partition.bytes.start && partition.bytes.end <= e.bytes.end)
}

fn make_gpt(disk: &mut [u8]) {
    let (header, entries) = (SECTOR, 2 * SECTOR);
    let count = ((disk.len() - entries) / 128).min(8) as u32;
    disk[header..header + 8].copy_from_slice(b"EFI PART");
    let mut put = |at: usize, value: u32| disk[header + at..][..4].copy_from_slice(&value.to_le_bytes());
    put(12, 92);
    put(16, 0);
    put(72, 2);
    put(76, 0);
    put(80, count);
    put(84, 128);
    let checksum = crc32fast::hash(&disk[entries..entries + 128 * count as usize]);
    disk[header + 88..][..4].copy_from_slice(&checksum.to_le_bytes());
    let checksum = crc32fast::hash(&disk[header..header + 92]);
    disk[header + 16..][..4].copy_from_slice(&checksum.to_le_bytes());
}
