//! What images are like, read from their headers and object maps as Ceph's `rbd` class tells it (`src/cls/rbd` of its
//! sources): one answer for each, many on their way at once, and no image opened.

use cenote_host::ceph::{Call, Calling, ImageName, Pool};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// So many answers are waited for at once.
const WINDOW: usize = 64;
/// `CEPH_NOSNAP`: the image itself, and none of its snapshots.
const HEAD: [u8; 8] = (-2i64).to_le_bytes();
/// Features (`include/rbd/features.h`).
const OBJECT_MAP: u64 = 1 << 3;
const FAST_DIFF: u64 = 1 << 4;
const MIGRATING: u64 = 1 << 9;
/// More objects than an image has: 4 EiB in the usual ones of 4 MiB.
const MOST_OBJECTS: u64 = 1 << 40;

/// What the header of an image tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The image's size in bytes.
    pub size: u64,
    /// The size of its objects is two to this power.
    order: u8,
    features: u64,
    flags: u64,
}

/// How an image's allocation is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allocation {
    /// In bytes.
    Known(u64),
    /// It was not asked for.
    NotAsked,
    /// The image has to be opened to find out.
    Unknown,
}

/// An image's size in bytes, and its allocation; `None` if it has to be opened for both.
pub(super) type Seen = Option<(u64, Allocation)>;

/// What is wanted of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Their sizes.
    Sizes,
    /// Their allocations as well.
    Allocations,
}

impl Head {
    /// Reads the answers of `get_size`, `get_features` and `get_flags`.
    pub fn parse(size: &[u8], features: &[u8], flags: &[u8]) -> Option<Head> {
        let number =
            |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let head = Head {
            size: number(size, 1)?,
            order: *size.first()?,
            features: number(features, 0)?,
            flags: number(flags, 0)?,
        };
        // While it moves, another image has part of what it is.
        (head.order < 64 && head.features & MIGRATING == 0).then_some(head)
    }

    fn objects(&self) -> u64 {
        self.size.div_ceil(1 << self.order)
    }

    fn has_object_map(&self) -> bool {
        let features = OBJECT_MAP | FAST_DIFF;
        // Any flag says that one of the two is not to be trusted.
        self.features & features == features && self.flags == 0 && self.objects() < MOST_OBJECTS
    }

    fn allocated(&self, objects: u64) -> u64 {
        objects.saturating_mul(1 << self.order).min(self.size)
    }
}

/// How many objects there are by an object map (`common/bit_vector.hpp`): a length, a header of that length, two bits an
/// object, the first of a byte's four in its highest bits, and checksums. `None` if it is not of so many objects.
pub fn count_objects(map: &[u8], objects: u64) -> Option<u64> {
    let length = u32::from_le_bytes(map.get(..4)?.try_into().ok()?) as usize;
    let header = map.get(4..4usize.checked_add(length)?)?;
    // Two versions and a length come before the number of objects.
    let told = u64::from_le_bytes(header.get(6..14)?.try_into().ok()?);
    let bits = map.get(4 + length..)?.get(..usize::try_from(objects.div_ceil(4)).ok()?)?;
    if told != objects {
        return None;
    }
    // 1 is there, 3 is there and unchanged since the last snapshot; 0 is not, 2 may go at any time.
    let there = |at: u64| bits[(at / 4) as usize] >> (6 - 2 * (at % 4)) & 1 == 1;
    Some((0..objects).filter(|at| there(*at)).count() as u64)
}

/// Reads them, and tells of each what was found out in the order of the names. What fails for one image is told of it.
pub(super) fn read(
    pool: &Arc<Pool>,
    names: Vec<ImageName>,
    wanted: Wanted,
    each: &mut dyn FnMut(ImageName, io::Result<Seen>) -> cenote_model::Result<()>,
) -> cenote_model::Result<()> {
    let mut names = names.into_iter();
    let mut heads = VecDeque::new();
    let mut maps: VecDeque<(ImageName, Mapped)> = VecDeque::new();
    loop {
        while heads.len() < WINDOW
            && let Some(name) = names.next()
        {
            let calling = begin_head(pool, &name);
            heads.push_back((name, calling));
        }
        let head = heads.pop_front();
        if head.is_none() || maps.len() == WINDOW {
            match maps.pop_front() {
                Some((name, mapped)) => each(name, mapped.wait())?,
                None if head.is_none() => return Ok(()),
                None => {}
            }
        }
        if let Some((name, calling)) = head {
            let mapped = Mapped::begin(pool, &name, calling, wanted);
            maps.push_back((name, mapped));
        }
    }
}

fn begin_head(pool: &Arc<Pool>, name: &ImageName) -> io::Result<Option<Calling>> {
    if name.id.is_empty() {
        return Ok(None);
    }
    let with_mode = [&HEAD[..], &[1]].concat();
    let call = |method, input, most| Call { class: c"rbd", method, input, most };
    let calls =
        [call(c"get_size", &HEAD, 9), call(c"get_features", &with_mode, 16), call(c"get_flags", &HEAD, 8)];
    pool.call(&format!("rbd_header.{}", name.id), &calls).map(Some)
}

/// An image whose header is known, and whose map may be under way.
enum Mapped {
    /// It has to be opened.
    Opaque,
    Failed(io::Error),
    NotAsked(Head),
    Unmapped(Head),
    Asked(Head, Calling),
}

impl Mapped {
    fn begin(
        pool: &Arc<Pool>,
        name: &ImageName,
        head: io::Result<Option<Calling>>,
        wanted: Wanted,
    ) -> Mapped {
        let answers = match head.and_then(|calling| calling.map(Calling::wait).transpose()) {
            Ok(Some(answers)) => answers,
            Ok(None) => return Mapped::Opaque,
            Err(e) => return Mapped::Failed(e),
        };
        let head = match answers.as_slice() {
            [size, features, flags] => Head::parse(size, features, flags),
            _ => None,
        };
        let Some(head) = head else { return Mapped::Opaque };
        match wanted {
            Wanted::Sizes => Mapped::NotAsked(head),
            Wanted::Allocations if !head.has_object_map() => Mapped::Unmapped(head),
            Wanted::Allocations => {
                // With a checksum of four bytes for each four KiB, and what is around.
                let bits = head.objects().div_ceil(4) as usize;
                let most = bits + bits / 512 + 1024;
                let call = Call { class: c"rbd", method: c"object_map_load", input: &[], most };
                match pool.call(&format!("rbd_object_map.{}", name.id), &[call]) {
                    Ok(calling) => Mapped::Asked(head, calling),
                    Err(e) => Mapped::Failed(e),
                }
            }
        }
    }

    fn wait(self) -> io::Result<Seen> {
        match self {
            Mapped::Opaque => Ok(None),
            Mapped::Failed(e) => Err(e),
            Mapped::NotAsked(head) => Ok(Some((head.size, Allocation::NotAsked))),
            Mapped::Unmapped(head) => Ok(Some((head.size, Allocation::Unknown))),
            Mapped::Asked(head, calling) => {
                // One that is not there, or is of another size, as while the image is being resized, says nothing.
                let map = match calling.wait() {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    answers => answers.ok().and_then(|mut answers| answers.pop()).unwrap_or_default(),
                };
                let counted = count_objects(&map, head.objects());
                let known = counted.map(|objects| Allocation::Known(head.allocated(objects)));
                let allocation = known.unwrap_or(Allocation::Unknown);
                Ok(Some((head.size, allocation)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(objects: u64, bits: &[u8]) -> Vec<u8> {
        let header = [&[1, 1, 8, 0, 0, 0][..], &objects.to_le_bytes()].concat();
        [&(header.len() as u32).to_le_bytes(), &header[..], bits, &[4, 0, 0, 0, 9, 9, 9, 9]].concat()
    }

    #[test]
    fn objects_that_are_there() {
        // There, not there, going, unchanged; there.
        let map = map(5, &[0b01_00_10_11, 0b01_00_00_00]);
        assert_eq!(count_objects(&map, 5), Some(3));
        assert_eq!(count_objects(&map, 4), None);
        assert_eq!(count_objects(&map[..19], 5), None);
        assert_eq!(count_objects(&[0xff; 64], 5), None);
        assert_eq!(count_objects(&[], 0), None);
    }

    #[test]
    fn heads() {
        let size = [&[22][..], &(10u64 << 20).to_le_bytes()].concat();
        let features = |features: u64| [features.to_le_bytes(), [0; 8]].concat();
        let head = Head::parse(&size, &features(0x3d), &[0; 8]).unwrap();
        assert_eq!((head.size, head.objects(), head.has_object_map()), (10 << 20, 3, true));
        assert_eq!(head.allocated(3), 10 << 20);
        assert!(!Head::parse(&size, &features(0x3d), &[1, 0, 0, 0, 0, 0, 0, 0]).unwrap().has_object_map());
        assert!(!Head::parse(&size, &features(1), &[0; 8]).unwrap().has_object_map());
        assert!(Head::parse(&size, &features(MIGRATING), &[0; 8]).is_none());
        assert!(Head::parse(&size[..8], &features(1), &[0; 8]).is_none());
        assert!(Head::parse(&[&[64], &size[1..]].concat(), &features(1), &[0; 8]).is_none());
    }
}
