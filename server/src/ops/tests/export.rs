//! A dump of metadata: one moment, whatever goes on, and every object reads back from it.

use std::time::Duration;

use fdb_schema::schema::{Restore, RestoreTarget};
use shardstore_format::PoolId;
use shardstore_reactor::Clock;

use super::objects::entry;
use super::*;
use crate::ops::api::Encrypt;
use crate::ops::{DumpReader, ExportError, Exports};

fn exports(machine: &Machine) -> Exports<Engine, SimExecutor> {
    let profile = machine.core.store().shared().profile();
    Exports::new(machine.core.metadata().clone(), machine.executor.clone(), PoolId(1), profile)
}

async fn all(exports: &Exports<Engine, SimExecutor>, between: impl AsyncFn()) -> Vec<u8> {
    let id = exports.start().await.unwrap();
    let mut file = Vec::new();
    for number in 0.. {
        let part = exports.part(&id, number).await.unwrap();
        assert_eq!(exports.part(&id, number).await, Ok(part.clone()), "a part can be asked for again");
        file.extend_from_slice(&part.bytes);
        if part.is_last {
            return file;
        }
        between().await;
    }
    unreachable!("parts end")
}

#[test]
fn a_dump_is_one_moment_and_a_new_machine_made_of_it_has_every_object() {
    machine(1, 6, async |machine| {
        let mut model = std::collections::BTreeMap::new();
        for n in 0..1_500u64 {
            let name = format!("inline{n:05}");
            let bytes = noise(n, 1_000);
            machine.put(&name, &bytes).await;
            model.insert(name, bytes);
        }
        for (n, len) in [0, 5_000, 90_000, 1_300_000, 3_000_000].into_iter().enumerate() {
            let (name, bytes) = (format!("stored{n}"), noise(n as u64, len));
            machine.put(&name, &bytes).await;
            model.insert(name, bytes);
        }
        let sealed = noise(7, 200_000);
        machine.put_sealed("sealed", &sealed, &Encrypt::Managed).await;
        let exports = exports(&machine);
        let file = all(&exports, async || {
            // What comes after the begin is not in it.
            machine.put("later", &noise(9, 500)).await;
            machine.core.delete_object(bucket(), entry("inline01499")).await.unwrap();
            machine.executor.sleep(Duration::from_secs(20)).await;
        })
        .await;
        assert!(file.len() > 1_500_000);
        let fresh = Engine::new(machine.executor.clone());
        let restore = Restore::new(fresh.clone(), machine.executor.clone());
        assert_eq!(restore.target().await, Ok(RestoreTarget::Empty));
        let mut reader = DumpReader::open(&file[..]).unwrap();
        let head = *reader.head();
        restore.begin(head.dump, VolumeId(head.next_volume.0 + 1_000)).await.unwrap();
        while let Some(rows) = reader.next_group().unwrap() {
            assert_eq!(restore.target().await, Ok(RestoreTarget::CutOff(head.dump)));
            restore.put(&rows).await.unwrap();
        }
        restore.finish().await.unwrap();
        assert_eq!(restore.target().await, Ok(RestoreTarget::InUse));
        let restored = Machine { engine: fresh, ..machine }.restart().await;
        let next = restored.core.metadata().next_volume_id().await.unwrap();
        assert!(next.0 >= head.next_volume.0 + 1_000, "ids of newer files are not given out again");
        for (name, bytes) in &model {
            assert!(restored.get_whole(name).await.unwrap() == *bytes, "{name}");
        }
        assert!(restored.read_sealed("sealed", None, None).await.unwrap() == sealed, "its key is in its row");
        assert_eq!(restored.get_whole("later").await, Err(OpError::NoSuchKey));
        restored.put("after", &noise(5, 2_000_000)).await;
        assert!(restored.get_whole("after").await.unwrap() == noise(5, 2_000_000));
    });
}

#[test]
fn one_export_at_a_time_and_one_that_nobody_asks_for_is_given_up() {
    machine(2, 6, async |machine| {
        machine.put("k", &noise(2, 700)).await;
        let exports = exports(&machine);
        let id = exports.start().await.unwrap();
        assert_eq!(exports.start().await, Err(ExportError::Busy));
        assert_eq!(exports.part(&id, 1).await, Err(ExportError::Gone), "parts come in order");
        assert_eq!(exports.part("another", 0).await, Err(ExportError::Gone));
        machine.executor.sleep(Duration::from_secs(59)).await;
        assert!(exports.part(&id, 0).await.unwrap().is_last);
        // Finished: another one may begin at once.
        let id = exports.start().await.unwrap();
        machine.executor.sleep(Duration::from_secs(61)).await;
        assert_eq!(exports.part(&id, 0).await, Err(ExportError::Gone));
        exports.start().await.unwrap();
    });
}
