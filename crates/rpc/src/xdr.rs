//! XDR (RFC 4506), as far as libvirt's protocol uses it: everything is a multiple of four bytes, integers are
//! big-endian.

use cenote_host::SecretValue;
use cenote_model::Uuid;

/// What a string may hold at most (`REMOTE_STRING_MAX`), in bytes.
pub const MAX_STRING: usize = 4 << 20;
/// What a list of pools, volumes or secrets may hold at most.
pub const MAX_LIST: usize = 16384;
/// What the value of a secret may hold at most, in bytes.
pub const MAX_SECRET: usize = 65536;

/// Why a payload is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XdrError {
    /// It ends too early.
    #[error("the payload ends too early")]
    Short,
    /// A length in it is larger than allowed.
    #[error("a length of {length} in the payload is larger than {limit}")]
    TooLong {
        /// What the payload says.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A value is of a kind that there is not.
    #[error("there is no kind {0} of values")]
    NoSuchKind(i32),
    /// A string is no UTF-8, or has a NUL in it.
    #[error("a string in the payload is no text")]
    NoText,
}

/// What can be written.
pub trait Encode {
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);
}

/// What can be read.
pub trait Decode: Sized {
    /// Takes the value from the front.
    fn decode(input: &mut Input<'_>) -> Result<Self, XdrError>;
}

/// Bytes that are being read.
#[derive(Debug)]
pub struct Input<'b>(&'b [u8]);

impl<'b> Input<'b> {
    /// Reads these bytes.
    pub fn new(bytes: &'b [u8]) -> Input<'b> {
        Input(bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], XdrError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(XdrError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(XdrError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// Opaque bytes of variable length, and what fills them up to a multiple of four.
    fn opaque(&mut self, limit: usize) -> Result<&'b [u8], XdrError> {
        let length = u32::decode(self)? as usize;
        if length > limit {
            return Err(XdrError::TooLong { length, limit });
        }
        let bytes = self.take(length)?;
        self.take(length.next_multiple_of(4) - length)?;
        Ok(bytes)
    }
}

fn encode_opaque(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as u32).encode(out);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

macro_rules! integers {
    ($($integer:ident)+) => { $(
        impl Encode for $integer {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }

        impl Decode for $integer {
            fn decode(input: &mut Input<'_>) -> Result<$integer, XdrError> {
                Ok($integer::from_be_bytes(input.array()?))
            }
        }
    )+ };
}

integers!(u32 i32 u64 i64);

/// A `char`, which takes four bytes like everything small.
impl Encode for u8 {
    fn encode(&self, out: &mut Vec<u8>) {
        u32::from(*self).encode(out);
    }
}

impl Decode for u8 {
    fn decode(input: &mut Input<'_>) -> Result<u8, XdrError> {
        Ok(u32::decode(input)? as u8)
    }
}

impl Encode for str {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_opaque(self.as_bytes(), out);
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_str().encode(out);
    }
}

impl Decode for String {
    fn decode(input: &mut Input<'_>) -> Result<String, XdrError> {
        let bytes = input.opaque(MAX_STRING)?;
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
            _ => Err(XdrError::NoText),
        }
    }
}

impl Encode for SecretValue {
    fn encode(&self, out: &mut Vec<u8>) {
        // What grows while it is written leaves copies behind; a few numbers may follow.
        out.reserve(64 + self.expose().len());
        encode_opaque(self.expose(), out);
    }
}

impl Decode for SecretValue {
    fn decode(input: &mut Input<'_>) -> Result<SecretValue, XdrError> {
        input.opaque(MAX_SECRET).map(SecretValue::copy_of)
    }
}

impl Encode for Uuid {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Decode for Uuid {
    fn decode(input: &mut Input<'_>) -> Result<Uuid, XdrError> {
        Ok(Uuid::from_bytes(input.array()?))
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        u32::from(self.is_some()).encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(input: &mut Input<'_>) -> Result<Option<T>, XdrError> {
        // Other numbers than 1 say yes too, as in libvirt's decoder: there is a client that sends them.
        match u32::decode(input)? {
            0 => Ok(None),
            _ => Ok(Some(T::decode(input)?)),
        }
    }
}

/// A list of at most [`MAX_LIST`] values.
impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u32).encode(out);
        self.iter().for_each(|value| value.encode(out));
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(input: &mut Input<'_>) -> Result<Vec<T>, XdrError> {
        let length = u32::decode(input)? as usize;
        if length > MAX_LIST {
            return Err(XdrError::TooLong { length, limit: MAX_LIST });
        }
        // What is said to come takes no memory before it is there.
        (0..length).map(|_| T::decode(input)).collect()
    }
}

macro_rules! tuples {
    ($(($($name:ident)*))+) => { $(
        impl<$($name: Encode),*> Encode for ($($name,)*) {
            #[allow(non_snake_case, unused_variables, reason = "the names are those of the types")]
            fn encode(&self, out: &mut Vec<u8>) {
                let ($($name,)*) = self;
                $($name.encode(out);)*
            }
        }

        impl<$($name: Decode),*> Decode for ($($name,)*) {
            #[allow(unused_variables, clippy::unused_unit, reason = "the empty one reads nothing")]
            fn decode(input: &mut Input<'_>) -> Result<($($name,)*), XdrError> {
                Ok(($($name::decode(input)?,)*))
            }
        }
    )+ };
}

tuples! { () (A) (A B) (A B C) (A B C D) }

/// Declares a structure whose fields follow one another.
macro_rules! xdr_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)+ }

        impl $crate::xdr::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$field.encode(out);)+
            }
        }

        impl $crate::xdr::Decode for $name {
            fn decode(input: &mut $crate::xdr::Input<'_>) -> Result<$name, $crate::xdr::XdrError> {
                Ok($name { $($field: $crate::xdr::Decode::decode(input)?,)+ })
            }
        }
    };
}
pub(crate) use xdr_struct;

/// The bytes of a value.
pub fn to_bytes(value: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

/// The value in these bytes. What follows it is passed over, as libvirt does.
pub fn from_bytes<T: Decode>(bytes: &[u8]) -> Result<T, XdrError> {
    T::decode(&mut Input::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout() {
        assert_eq!(to_bytes(&"wp".to_owned()), b"\0\0\0\x02wp\0\0");
        assert_eq!(
            to_bytes(&(Some(1u32), None::<u32>, -1i32, 7u8)),
            b"\0\0\0\x01\0\0\0\x01\0\0\0\0\xff\xff\xff\xff\0\0\0\x07"
        );
        assert_eq!(to_bytes(&vec!["a".to_owned()]), b"\0\0\0\x01\0\0\0\x01a\0\0\0");
    }

    #[test]
    fn lying_lengths_are_refused() {
        let short = |bytes: &[u8]| assert_eq!(from_bytes::<String>(bytes), Err(XdrError::Short));
        short(b"");
        short(b"\0\0\0\x05abc");
        short(b"\0\0\0\x03abc");
        assert!(matches!(from_bytes::<String>(b"\xff\xff\xff\xffabc"), Err(XdrError::TooLong { .. })));
        assert!(matches!(from_bytes::<Vec<u32>>(b"\xff\xff\xff\xff"), Err(XdrError::TooLong { .. })));
        assert_eq!(from_bytes::<Vec<u32>>(b"\0\0\x40\0\0\0\0\x01"), Err(XdrError::Short));
        assert_eq!(from_bytes::<String>(b"\0\0\0\x01\0\0\0\0"), Err(XdrError::NoText));
        assert_eq!(from_bytes::<String>(b"\0\0\0\x01\xff\0\0\0"), Err(XdrError::NoText));
        assert_eq!(from_bytes::<Option<u32>>(b"\x01\0\0\0\0\0\0\x07"), Ok(Some(7)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in "[^\0]{0,40}", number: i64, list in proptest::collection::vec(any::<u32>(), 0..20)) {
            let value = (text, number, Some(list));
            prop_assert_eq!(from_bytes::<(String, i64, Option<Vec<u32>>)>(&to_bytes(&value)), Ok(value));
        }

        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_bytes::<(Vec<String>, Option<Uuid>, u64)>(&bytes);
        }
    }
}
