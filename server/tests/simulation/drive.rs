//! The simulated drives as the system sees them: as they are, or with a deliberate bug between.
//! Invariants: without a mutation every call goes through unchanged.
//! Not here: faults of drives (`shardstore-sim`).

use futures_channel::oneshot;
use shardstore_reactor::{
    AlignedBuf, Drive, DriveFile, DriveSpace, FenceReason, IoError, OpenMode, PendingWrite, SECTOR_BYTES,
    WriteOutcome,
};
use shardstore_sim::{SimDrive, SimFile};

use crate::mutation::Mutation;

/// A drive of the simulated machine.
#[derive(Clone)]
pub(crate) struct TestDrive {
    pub(crate) sim: SimDrive,
    mutation: Option<Mutation>,
    /// Data shards of the pool: from this number on a segment is parity.
    k: u8,
}

/// An open file of a [`TestDrive`].
#[derive(Clone)]
pub(crate) struct TestFile {
    sim: SimFile,
    mutation: Option<Mutation>,
    is_parity: bool,
    is_segment: bool,
}

impl TestDrive {
    pub(crate) fn new(sim: SimDrive, mutation: Option<Mutation>, k: u8) -> TestDrive {
        TestDrive { sim, mutation, k }
    }

    /// After a restart, or for a drive that came back: another handle, unfenced.
    pub(crate) fn reopen(&self) -> TestDrive {
        TestDrive { sim: self.sim.reopen(), ..self.clone() }
    }
}

impl Drive for TestDrive {
    type File = TestFile;

    fn label(&self) -> &str {
        self.sim.label()
    }

    async fn open(&self, path: &str, mode: OpenMode) -> Result<TestFile, IoError> {
        let sim = self.sim.open(path, mode).await?;
        let is_segment = path.starts_with("segments/");
        let shard = path.rsplit_once('.').and_then(|(_, hex)| u8::from_str_radix(hex, 16).ok());
        let is_parity = is_segment && shard.is_some_and(|shard| shard >= self.k);
        Ok(TestFile { sim, mutation: self.mutation, is_parity, is_segment })
    }

    async fn remove(&self, path: &str) -> Result<(), IoError> {
        self.sim.remove(path).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.sim.rename(from, to).await
    }

    async fn create_dir(&self, path: &str) -> Result<(), IoError> {
        self.sim.create_dir(path).await
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, IoError> {
        self.sim.list(path).await
    }

    async fn sync_dir(&self, path: &str) -> Result<(), IoError> {
        match self.mutation {
            Some(Mutation::SkipDirFlush) => Ok(()),
            _ => self.sim.sync_dir(path).await,
        }
    }

    async fn space(&self) -> Result<DriveSpace, IoError> {
        self.sim.space().await
    }

    fn fence(&self, reason: FenceReason) {
        self.sim.fence(reason);
    }

    fn fenced(&self) -> Option<FenceReason> {
        self.sim.fenced()
    }

    async fn read_small(&self, path: &str, len_max_bytes: usize) -> Result<Vec<u8>, IoError> {
        self.sim.read_small(path, len_max_bytes).await
    }

    async fn write_small(&self, path: &str, bytes: Vec<u8>) -> Result<(), IoError> {
        self.sim.write_small(path, bytes).await
    }
}

impl DriveFile for TestFile {
    async fn read_at(&self, offset_bytes: u64, buf: AlignedBuf) -> (Result<(), IoError>, AlignedBuf) {
        self.sim.read_at(offset_bytes, buf).await
    }

    fn write_durable(&self, offset_bytes: u64, bufs: Vec<AlignedBuf>) -> PendingWrite {
        match self.mutation {
            Some(Mutation::DropParity) if self.is_parity => done(bufs),
            Some(Mutation::AcknowledgeBeforeWrite) if self.is_segment => {
                let copies = bufs.iter().map(copy_of).collect();
                drop(self.sim.write_durable(offset_bytes, copies));
                done(bufs)
            }
            _ => self.sim.write_durable(offset_bytes, bufs),
        }
    }

    async fn allocate(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), IoError> {
        self.sim.allocate(offset_bytes, len_bytes).await
    }

    async fn punch(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), IoError> {
        self.sim.punch(offset_bytes, len_bytes).await
    }

    async fn sync(&self) -> Result<(), IoError> {
        self.sim.sync().await
    }

    async fn set_len(&self, len_bytes: u64) -> Result<(), IoError> {
        match self.mutation {
            Some(Mutation::CutTooMuch) if self.is_segment => {
                self.sim.set_len(len_bytes.saturating_sub(SECTOR_BYTES as u64)).await
            }
            _ => self.sim.set_len(len_bytes).await,
        }
    }

    async fn len_bytes(&self) -> Result<u64, IoError> {
        self.sim.len_bytes().await
    }
}

fn copy_of(buf: &AlignedBuf) -> AlignedBuf {
    let mut copy = AlignedBuf::zeroed(buf.len());
    copy.copy_from_slice(buf);
    copy
}

fn done(bufs: Vec<AlignedBuf>) -> PendingWrite {
    let (sender, receiver) = oneshot::channel();
    // The receiver is in hand.
    drop(sender.send(WriteOutcome { result: Ok(()), bufs }));
    PendingWrite::new(receiver)
}
