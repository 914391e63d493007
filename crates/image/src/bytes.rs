//! Fields at fixed places, read only where they are.

/// Bytes of a header.
pub(crate) struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Bytes<'b> {
        Bytes(bytes)
    }

    pub(crate) fn at(&self, offset: usize, length: usize) -> Option<&'b [u8]> {
        self.0.get(offset..offset.checked_add(length)?)
    }

    pub(crate) fn from(&self, offset: usize) -> Option<&'b [u8]> {
        self.0.get(offset..)
    }

    pub(crate) fn starts_with(&self, magic: &[u8]) -> bool {
        self.0.starts_with(magic)
    }

    pub(crate) fn u8(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    pub(crate) fn be16(&self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_be_bytes)
    }

    pub(crate) fn be32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_be_bytes)
    }

    pub(crate) fn be64(&self, offset: usize) -> Option<u64> {
        self.array(offset).map(u64::from_be_bytes)
    }

    pub(crate) fn le32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }

    pub(crate) fn le64(&self, offset: usize) -> Option<u64> {
        self.array(offset).map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.at(offset, N)?.try_into().ok()
    }
}
