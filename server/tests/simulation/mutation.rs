//! Deliberate bugs: each stands for a mistake that a change of the product could make, and must be found.
//! Invariants: a process runs with at most one; none of them exists outside the tests: they sit in the wrappers around
//! drives, engine and runs that only this simulation puts between the parts.
//! Not here: how each is made (`drive`, `engine`, `runs`, `process`).

/// One deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Writes are acknowledged out of the drive's volatile cache.
    SkipFlush,
    /// Names of files are acknowledged without a flush of their directory.
    SkipDirFlush,
    /// A write is acknowledged when it begins.
    AcknowledgeBeforeWrite,
    /// Parity pages are acknowledged and never written.
    DropParity,
    /// A sealed volume is cut one sector short.
    CutTooMuch,
    /// A commit of an object is acknowledged before it is in the log.
    AcknowledgeBeforeCommit,
    /// Some owner rows are not written.
    ForgetOwner,
    /// Some changes of a volume's live bytes are not made.
    ForgetLiveBytes,
    /// Some deleted data ids are not remembered as garbage.
    ForgetGarbage,
    /// A volume is sealed on drives and not in metadata.
    ForgetSeal,
    /// Transactions are not checked against what others wrote since.
    BlindReads,
    /// A volume counts as dead although it has owners.
    ReclaimOwned,
    /// Merged metadata runs are never removed.
    KeepMergedRuns,
    /// A finished metadata run takes the one before with it, which is still named.
    RemoveRunEarly,
    /// The metadata log is kept on one drive less than parity promises.
    ShortLogSet,
    /// Some objects keep another data key than their bytes were sealed under.
    KeepOtherKey,
}

impl Mutation {
    /// Every deliberate bug, and within how many seeds it is found.
    pub(crate) const ALL: [(Mutation, u64); 16] = [
        (Mutation::SkipFlush, 30),
        (Mutation::SkipDirFlush, 30),
        (Mutation::AcknowledgeBeforeWrite, 30),
        (Mutation::DropParity, 30),
        (Mutation::CutTooMuch, 30),
        (Mutation::AcknowledgeBeforeCommit, 30),
        (Mutation::ForgetOwner, 30),
        (Mutation::ForgetLiveBytes, 30),
        (Mutation::ForgetGarbage, 30),
        (Mutation::ForgetSeal, 30),
        (Mutation::BlindReads, 60),
        (Mutation::ReclaimOwned, 30),
        (Mutation::KeepMergedRuns, 60),
        (Mutation::RemoveRunEarly, 30),
        (Mutation::ShortLogSet, 60),
        (Mutation::KeepOtherKey, 30),
    ];

    /// Whether it shows only where objects are encrypted.
    pub(crate) fn is_of_sealing(self) -> bool {
        self == Mutation::KeepOtherKey
    }
}
