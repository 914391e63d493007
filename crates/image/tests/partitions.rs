//! Partition tables that parted makes, read as parted reads them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_image::partitions::{self, Area, Purpose, Role, Table, TableKind};
use cenote_image::{Error, WriteAt};
use cenote_test_support::{have, run};
use std::fs::File;
use std::path::PathBuf;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

struct Disk {
    path: PathBuf,
    file: File,
    _folder: TempDir,
}

impl Disk {
    fn new(label: &str) -> Disk {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let file = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        file.set_size(100 * MIB).unwrap();
        let disk = Disk { path, file, _folder: folder };
        disk.parted(&["mklabel", label]);
        disk
    }

    fn parted(&self, args: &[&str]) -> String {
        run("parted", &[&["-sm", self.path.to_str().unwrap(), "unit", "B"], args].concat())
    }

    fn make(&self, what: &[&str], mebibytes: std::ops::Range<u64>) {
        let (start, end) = (format!("{}B", mebibytes.start * MIB), format!("{}B", mebibytes.end * MIB - 1));
        self.parted(&[&["mkpart"], what, &[&start, &end]].concat());
    }

    fn table(&self) -> Table {
        partitions::read(&self.file, 512).unwrap().unwrap()
    }

    /// The partitions as parted sees them: number, first byte, byte after the last.
    fn as_parted_sees_it(&self) -> Vec<(u32, u64, u64)> {
        let printed = self.parted(&["print"]);
        let rows = printed.lines().skip(2).map(|row| {
            let fields: Vec<_> = row.split(':').collect();
            let bytes = |field: &str| field.trim_end_matches('B').parse::<u64>().unwrap();
            (fields[0].parse().unwrap(), bytes(fields[1]), bytes(fields[2]) + 1)
        });
        rows.collect()
    }

    fn check(&self) -> Table {
        let table = self.table();
        let mut seen: Vec<_> =
            table.partitions.iter().map(|p| (p.number, p.bytes.start, p.bytes.end)).collect();
        let mut expected = self.as_parted_sees_it();
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected);
        table
    }
}

#[test]
fn gpt() {
    if !have("parted") {
        return;
    }
    let disk = Disk::new("gpt");
    let table = disk.check();
    assert_eq!((table.kind, table.partitions.len()), (TableKind::Gpt, 0));
    disk.make(&["one", "ext4"], 1..11);
    disk.make(&["two", "linux-swap"], 20..30);
    disk.make(&["three"], 30..90);
    disk.parted(&["set", "3", "lvm", "on"]);
    let table = disk.check();
    let purposes: Vec<_> = table.partitions.iter().map(|p| p.purpose).collect();
    assert_eq!(purposes, [Purpose::Linux, Purpose::LinuxSwap, Purpose::LinuxLvm]);
    // Both ends as parted shows them.
    let free: Vec<_> = table.free().into_iter().map(|(_, gap)| (gap.start, gap.end)).collect();
    assert_eq!(free, [(17408, MIB), (11 * MIB, 20 * MIB), (90 * MIB, 104_840_704)]);
    disk.parted(&["rm", "2"]);
    assert_eq!(disk.check().free().len(), 3);

    // The second header serves where the first one is damaged; without both there is nothing to believe.
    disk.file.write_all_at(&[0xff; 8], 512 + 40).unwrap();
    assert_eq!(disk.table().partitions.len(), 2);
    disk.file.write_all_at(&[0xff; 8], 100 * MIB - 512 + 40).unwrap();
    assert!(matches!(partitions::read(&disk.file, 512), Err(Error::Damaged(_))));
}

#[test]
fn an_entry_that_begins_beyond_every_disk() {
    if !have("parted") {
        return;
    }
    let disk = Disk::new("gpt");
    disk.make(&["one"], 1..11);
    let (mut header, mut entries) = ([0; 92], [0; 128 * 128]);
    cenote_image::read_full_at(&disk.file, &mut header, 512).unwrap();
    cenote_image::read_full_at(&disk.file, &mut entries, 1024).unwrap();
    entries[32..40].fill(0xff);
    header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
    header[16..20].fill(0);
    let checksum = crc32fast::hash(&header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    disk.file.write_all_at(&entries, 1024).unwrap();
    disk.file.write_all_at(&header, 512).unwrap();
    assert_eq!(disk.table().partitions.len(), 0);
}

#[test]
fn dos_with_logical_partitions() {
    if !have("parted") {
        return;
    }
    let disk = Disk::new("msdos");
    assert_eq!(disk.check().free().len(), 1);
    disk.make(&["primary", "ext2"], 1..11);
    disk.make(&["extended"], 20..90);
    disk.make(&["logical", "fat32"], 21..31);
    disk.make(&["logical", "linux-swap"], 40..50);
    disk.make(&["logical"], 60..61);
    disk.parted(&["set", "7", "raid", "on"]);
    let table = disk.check();
    let seen: Vec<_> = table.partitions.iter().map(|p| (p.number, p.role, p.purpose)).collect();
    let expected = [
        (1, Role::Primary, Purpose::Linux),
        (2, Role::Extended, Purpose::Other),
        (5, Role::Logical, Purpose::Fat32),
        (6, Role::Logical, Purpose::LinuxSwap),
        (7, Role::Logical, Purpose::LinuxRaid),
    ];
    assert_eq!(seen, expected);
    let free = table.free();
    let inside: u64 =
        free.iter().filter(|(area, _)| *area == Area::Extended).map(|(_, gap)| gap.end - gap.start).sum();
    // All of it but the three logical ones, each with its sector of the chain.
    assert_eq!(inside, (70 - 21) * MIB - 3 * 512);
    // What is not in the middle of the chain any more is not missed.
    disk.parted(&["rm", "6"]);
    assert_eq!(disk.check().partitions.len(), 4);
}

#[test]
fn chains_that_bite_their_tails_and_file_systems_that_end_alike() {
    if !have("parted") {
        return;
    }
    let disk = Disk::new("msdos");
    disk.make(&["extended"], 20..90);
    disk.make(&["logical"], 21..31);
    disk.make(&["logical"], 40..50);
    // The second link leads to itself.
    let chain = disk.table();
    let second = chain.partitions.last().unwrap().bytes.start;
    let mut sector = [0; 512];
    let start = (0..).map(|n| second - 512 * n).find(|at| {
        cenote_image::read_full_at(&disk.file, &mut sector, *at).unwrap();
        sector[510..] == [0x55, 0xaa]
    });
    let start = start.unwrap();
    let link = u32::try_from((start - 20 * MIB) / 512).unwrap();
    sector[462 + 4] = 5;
    sector[462 + 8..][..4].copy_from_slice(&link.to_le_bytes());
    sector[462 + 12] = 1;
    disk.file.write_all_at(&sector, start).unwrap();
    assert!(disk.table().partitions.len() <= 130);

    let mut boot = vec![0; 4096];
    boot[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(partitions::read(&boot[..], 512).unwrap().unwrap().partitions.len(), 0);
    boot[82..87].copy_from_slice(b"FAT32");
    assert_eq!(partitions::read(&boot[..], 512).unwrap(), None);
}

#[test]
fn tables_of_other_machines_are_left_to_others() {
    if !have("parted") {
        return;
    }
    for label in ["mac", "bsd", "sun", "dvh", "pc98"] {
        let disk = Disk::new(label);
        assert_eq!(partitions::read(&disk.file, 512).unwrap(), None, "{label}");
    }
}
