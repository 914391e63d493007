//! What comes over the wire: frames, arguments of calls, replies and errors.
#![no_main]

use cenote_rpc::frame::{Frame, LENGTH};
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
    let Some((length, rest)) = data.split_first_chunk::<LENGTH>() else { return };
    let _ = Frame::rest(*length);
    let Ok(frame) = Frame::from_rest(rest.to_vec()) else { return };
    let payload = &frame.payload[..];
    match frame.header.procedure % 8 {
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
    let bytes = frame.to_bytes();
    assert_eq!(Frame::from_rest(bytes[LENGTH..].to_vec()), Ok(frame));
});
