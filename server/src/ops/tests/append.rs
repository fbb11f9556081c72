//! Append end to end: bytes, checksums and refusals.

use super::*;
use crate::ops::api::{AppendObject, Versioning};

async fn append(machine: &Machine, name: &str, offset_bytes: u64, bytes: &[u8]) -> Result<Written, OpError> {
    let append = AppendObject { put: put(name, bytes), offset_bytes };
    machine.core.append_object(append, &mut Body::whole(bytes)).await
}

#[test]
fn appended_bytes_follow_those_that_are_there_and_the_checksum_covers_all() {
    machine(1, 6, async |machine| {
        for (name, len) in [("empty", 0), ("inline", 700), ("stored", 300_000)] {
            let mut bytes = noise(len as u64, len);
            machine.put(name, &bytes).await;
            for more_len in [10, 100_000, 1] {
                let more = noise(more_len as u64, more_len);
                let written = append(&machine, name, bytes.len() as u64, &more).await.unwrap();
                bytes.extend_from_slice(&more);
                assert_eq!(written.size_bytes, bytes.len() as u64);
                let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
                assert_eq!(written.checksum.unwrap().value, crc.to_be_bytes().as_slice());
                assert_eq!(machine.get_whole(name).await.unwrap(), bytes, "{name}");
            }
            let unchanged = append(&machine, name, bytes.len() as u64, b"").await.unwrap();
            assert_eq!(unchanged.size_bytes, bytes.len() as u64);
            let tail = bytes.len() as u64 - 7;
            assert_eq!(machine.get(name, tail..tail + 7).await.unwrap(), bytes[bytes.len() - 7..]);
        }
    });
}

#[test]
fn an_append_at_another_offset_is_refused_and_at_zero_makes_an_object() {
    machine(2, 6, async |machine| {
        let refused = append(&machine, "k", 1, b"x").await;
        assert_eq!(refused, Err(OpError::InvalidWriteOffset { size_bytes: 0 }));
        append(&machine, "k", 0, b"first").await.unwrap();
        let refused = append(&machine, "k", 0, b"again").await;
        assert_eq!(refused, Err(OpError::InvalidWriteOffset { size_bytes: 5 }));
        assert_eq!(machine.get_whole("k").await.unwrap(), b"first");
    });
}

#[test]
fn deleted_appended_objects_give_their_space_back() {
    machine(3, 6, async |machine| {
        machine.put("k", &noise(1, 200_000)).await;
        append(&machine, "k", 200_000, &noise(2, 50_000)).await.unwrap();
        let delete = super::objects::entry("k");
        machine.core.delete_object(bucket(), delete).await.unwrap();
        machine.clean().await;
        machine.clean().await;
        assert_eq!(machine.space().await, (0, 0));
    });
}

/// Story: a GET of the part after the last, opened before an append and asked for its part after it, found the appended
/// part, which lies behind the size that was opened, and an assert ended the process. Found by reading.
#[test]
fn a_read_that_has_begun_does_not_see_a_part_that_is_appended_meanwhile() {
    machine(4, 6, async |machine| {
        machine.put("k", &noise(1, 200_000)).await;
        append(&machine, "k", 200_000, &noise(2, 50_000)).await.unwrap();
        let opened = machine.core.open_object(bucket(), key("k"), None).await.unwrap();
        append(&machine, "k", 250_000, &noise(3, 10)).await.unwrap();
        assert_eq!(opened.part(2).await.unwrap().range, 200_000..250_000);
        assert_eq!(opened.part(3).await.unwrap_err(), OpError::NoSuchPart { part_count: 2 });
        let parts = opened.parts(0, 10).await.unwrap();
        assert_eq!((parts.parts.len(), parts.part_count), (2, 2));
    });
}

#[test]
fn a_bucket_that_keeps_versions_refuses_an_append_before_its_body() {
    machine(5, 6, async |machine| {
        machine.core.set_versioning(bucket(), Versioning::Enabled).await.unwrap();
        for name in ["new", "k"] {
            assert_eq!(append(&machine, name, 0, b"bytes").await, Err(OpError::KeepsVersions));
            machine.put("k", b"").await;
        }
    });
}
