//! Reading XML without trusting it, and writing it in libvirt's layout.

mod read;
mod write;

pub use read::{Document, Element};
pub use write::Writer;
