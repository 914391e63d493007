//! libvirt's wire protocol.
//!
//! A connection carries [frames](frame): a header and a payload in [XDR](xdr). What the payload of a call and its reply
//! holds is in the table of [procedures]. A frame is made of bytes and turned into bytes, and every length in it is
//! compared with what is there before memory is taken for it. [`client`] is the side that calls.
//!
//! The numbers and layouts are libvirt's: `virnetprotocol.x` and `remote_protocol.x` of version 11.3.

#![warn(missing_docs)]

pub mod client;
mod error;
pub mod events;
pub mod flags;
pub mod frame;
pub mod own;
pub mod procedures;
pub mod xdr;

pub use error::WireError;
pub use frame::{Frame, Header};
pub use procedures::{Call, Procedure};
pub use xdr::{Decode, Encode, XdrError};
