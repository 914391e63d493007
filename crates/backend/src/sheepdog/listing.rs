//! What dog(8) prints with `-r`: fields between single blanks, where blanks in names have a backslash before them.

use cenote_model::pool::Usage;
use cenote_model::{Code, Error, Result};

/// What a virtual disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A disk that can be written.
    Current,
    /// One that was made from a snapshot, and can be written.
    Clone,
    /// What a disk was at some time.
    Snapshot(Snapshot),
}

/// Which of a disk's snapshots one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number, by which dog finds it whatever its tag is.
    pub id: u32,
    /// What it was called; empty if it was not.
    pub tag: String,
}

/// A virtual disk, or a snapshot of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vdi {
    /// What it is.
    pub state: State,
    /// Its name.
    pub name: String,
    /// The size that a guest sees, in bytes.
    pub size: u64,
    /// What it has of its own, in bytes.
    pub used: u64,
}

impl Vdi {
    /// Which snapshot it is, if it is one.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        match &self.state {
            State::Snapshot(snapshot) => Some(snapshot),
            State::Current | State::Clone => None,
        }
    }

    /// The name of the volume: that of the disk, or `DISK@SNAPSHOT`, with its number where a tag could be taken for one.
    pub fn volume_name(&self) -> String {
        match self.snapshot() {
            None => self.name.clone(),
            Some(Snapshot { id, tag }) if tag.bytes().all(|c| c.is_ascii_digit()) => {
                format!("{}@{id}", self.name)
            }
            Some(Snapshot { tag, .. }) => format!("{}@{tag}", self.name),
        }
    }
}

/// Reads what `dog vdi list -r` prints.
pub fn vdis(printed: &str) -> Result<Vec<Vdi>> {
    let strange =
        |row: &str| Error::new(Code::Internal, format!("dog prints a disk that cannot be: '{row}'"));
    printed.lines().filter(|row| !row.is_empty()).map(|row| vdi(row).ok_or_else(|| strange(row))).collect()
}

fn vdi(row: &str) -> Option<Vdi> {
    let fields = fields(row);
    // Flag, name, snapshot, size, used, shared, time, number, copies, tag, shift.
    let [flag, name, snapshot, size, used, _, _, _, _, tag @ .., _] = fields.as_slice() else { return None };
    let state = match flag.as_str() {
        "=" => State::Current,
        "c" => State::Clone,
        // Blanks in a tag have nothing before them.
        "s" if !tag.is_empty() => {
            State::Snapshot(Snapshot { id: snapshot.parse().ok()?, tag: tag.join(" ") })
        }
        _ => return None,
    };
    Some(Vdi { state, name: name.clone(), size: size.parse().ok()?, used: used.parse().ok()? })
}

/// Two blanks stand around a field that is empty.
fn fields(row: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = row.chars();
    while let Some(c) = letters.next() {
        match c {
            ' ' => fields.push(String::new()),
            c => {
                let c = if c == '\\' { letters.next().unwrap_or(c) } else { c };
                if let Some(field) = fields.last_mut() {
                    field.push(c);
                }
            }
        }
    }
    fields
}

/// Reads what `dog node info -r` prints: the last row has the sums.
pub fn usage(printed: &str) -> Result<Usage> {
    let total = printed.lines().find_map(|row| row.strip_prefix("Total ")).and_then(|row| {
        let mut numbers = row.split(' ').map(|number| number.parse::<u64>().ok());
        Some(Usage { capacity: numbers.next()??, allocation: numbers.next()??, available: numbers.next()?? })
    });
    total.ok_or_else(|| {
        Error::new(Code::Internal, format!("dog does not tell how full its cluster is: '{printed}'"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = "s vol2 2 8388608 0 8388608 1795456602 83d2b9 2  22\n\
        s vol1 1 2147483648 4194304 0 1795456602 83d7d1 2 s1 22\n\
        = vol1 0 2147483648 0 4194304 1795456630 83d7d3 2  22\n\
        c clone1 0 8388608 0 8388608 1795456603 c8f989 2  22\n\
        = with\\ space 0 4194304 0 0 1795456603 eceaa7 2  22\n";

    #[test]
    fn disks_and_snapshots() {
        let found = vdis(RECORDED).unwrap();
        let names: Vec<_> = found.iter().map(Vdi::volume_name).collect();
        assert_eq!(names, ["vol2@2", "vol1@s1", "vol1", "clone1", "with space"]);
        assert_eq!(found[1].snapshot(), Some(&Snapshot { id: 1, tag: "s1".to_owned() }));
        assert_eq!((&found[2].state, &found[3].state), (&State::Current, &State::Clone));
        assert_eq!((found[1].size, found[1].used), (2_147_483_648, 4_194_304));
        assert!(vdis("").unwrap().is_empty());
        let odd = vdis("s v 3 1 1 0 1 1 2 before the update 22\ns v 4 1 1 0 1 1 2 2026 22\n").unwrap();
        assert_eq!(odd.iter().map(Vdi::volume_name).collect::<Vec<_>>(), ["v@before the update", "v@4"]);
        for wrong in [
            "s v x 1 1 0 1 1 2  22",
            "s v 1 1 1 0 1 1 2 22",
            "x",
            "= v 0 1 2",
            "? v 0 1 1 0 1 1 2  22",
            "= v 0 big 1 0 1 1 2  22",
        ] {
            assert!(vdis(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn how_full_it_is() {
        let printed = "0 84985577472 0 84985577472 0%\n1 84985577472 0 84985577472 0%\nTotal 169971154944 5 169971154939 0% 0\n";
        let usage = usage(printed).unwrap();
        assert_eq!(
            (usage.capacity, usage.allocation, usage.available),
            (169_971_154_944, 5, 169_971_154_939)
        );
        assert!(super::usage("Total x\n").is_err() && super::usage("").is_err());
    }
}
