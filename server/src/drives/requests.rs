//! What an operator asks of the drives, from any thread, and what is answered.
//! Invariants: a request is answered once; every refusal is a sentence that says what to do.
//! Not here: carrying requests out (`keeper`).

use std::path::PathBuf;

use futures_channel::{mpsc, oneshot};
use serde::Serialize;

/// A change that an operator asks for. A drive is named by its path, its label or its id in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriveRequest {
    /// All members.
    List,
    /// An empty directory becomes a member.
    Add(PathBuf),
    /// An empty directory takes the place of a member, which leaves once nothing lies on it.
    Replace {
        /// The member.
        old: String,
        /// The directory.
        new: PathBuf,
    },
    /// Moves what lies on a drive elsewhere; it stays a member.
    Drain(String),
    /// Calls a drain off.
    Undrain(String),
    /// Moves what lies on a drive elsewhere; then it is no member any more.
    Remove(String),
    /// Takes a drive that was fenced back into use: its owner has looked at it.
    Rejoin(String),
}

/// A member as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriveReport {
    /// Its identity, in hex.
    pub id: String,
    /// Where it is, or was.
    pub path: String,
    /// `healthy`, `draining`, `missing`, `failed` or `removed`.
    pub state: &'static str,
    /// `stay`, `drain` or `leave`.
    pub plan: &'static str,
    /// Shards of volumes on it, metadata runs included.
    pub shards: usize,
    /// Size of its file system in bytes, if it answers.
    pub total_bytes: Option<u64>,
    /// Free bytes, if it answers.
    pub free_bytes: Option<u64>,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// As things are, it cannot be done: a sentence.
    Refused(String),
    /// It was begun and failed; nothing is lost: a sentence.
    Failed(String),
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RequestError::Refused(what) | RequestError::Failed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for RequestError {}

pub(super) type Answer = oneshot::Sender<Result<Vec<DriveReport>, RequestError>>;

/// The way to the thread that keeps the drives.
#[derive(Clone)]
pub struct DriveHandle(mpsc::UnboundedSender<(DriveRequest, Answer)>);

impl DriveHandle {
    pub(super) fn new() -> (DriveHandle, mpsc::UnboundedReceiver<(DriveRequest, Answer)>) {
        let (sender, requests) = mpsc::unbounded();
        (DriveHandle(sender), requests)
    }

    /// Carries out a request; answers with all members as they are then. What takes long goes on in the background.
    ///
    /// # Errors
    /// [`RequestError`]: its text is the sentence for the operator.
    pub async fn ask(&self, request: DriveRequest) -> Result<Vec<DriveReport>, RequestError> {
        let (answer, answered) = oneshot::channel();
        let gone = || RequestError::Failed("the server is stopping".to_owned());
        self.0.unbounded_send((request, answer)).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}
