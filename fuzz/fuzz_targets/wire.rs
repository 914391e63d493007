//! What comes over the wire: frames, arguments of calls, replies and errors.
#![no_main]

use cenote_rpc::frame::{self, Frame, HEAD};
use cenote_rpc::own::JobRecord;
use cenote_rpc::procedures::{PoolId, PoolLifecycle, StreamHole, VolumeId};
use cenote_rpc::{Decode, Encode, WireError, xdr};

/// What is read is written to something that is read to the same.
fn same<T: Decode + Encode + PartialEq + std::fmt::Debug>(payload: &[u8]) {
    if let Ok(value) = xdr::from_bytes::<T>(payload) {
        assert_eq!(xdr::from_bytes::<T>(&xdr::to_bytes(&value)), Ok(value));
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((head, payload)) = data.split_first_chunk::<HEAD>() else { return };
    let Some((header, _)) = Frame::head(head) else { return };
    match header.procedure % 8 {
        0 => same::<(PoolId, String, VolumeId, u32)>(payload),
        1 => same::<(Option<String>, u32)>(payload),
        2 => same::<(Vec<PoolId>, u32)>(payload),
        3 => same::<(Vec<VolumeId>, u32)>(payload),
        4 => same::<(i32, Option<PoolId>)>(payload),
        5 => same::<(Vec<String>, Vec<JobRecord>)>(payload),
        6 => same::<(PoolLifecycle, StreamHole)>(payload),
        _ => {
            let _ = xdr::from_bytes::<WireError>(payload).map(WireError::into_error);
        }
    }
    let bytes = frame::to_bytes(&header, payload);
    assert_eq!(bytes.first_chunk().and_then(Frame::head), Some((header, payload.len())));
});
