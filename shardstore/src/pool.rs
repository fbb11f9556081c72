//! The drives of a deployment at the start: formatting them, or recognising them.
//! Invariants: a directory is formatted only if every given one is blank, or a formatting was interrupted; in a
//! formed pool a blank directory is a missing drive; no more than m drives are missing when this succeeds.
//! Not here: locks on directories (`reactor`), the metadata log's term (`fdb-schema`).

use std::collections::BTreeSet;

use futures_util::future::{Either, join_all, select};
use shardstore_format::{
    DriveId, DriveIdentity, FormatPhase, IDENTITY_MAX_BYTES, IdentityError, LABEL_MAX_BYTES, MEMBERS_MAX,
    Member, MemberPlan, Membership, PoolId, Profile, SHARDS_MAX,
};
use shardstore_reactor::{Drive, Executor, IoError, WRITE_DEADLINE};

use crate::membership::PoolFacts;
use crate::table::SEGMENTS_DIR;

/// The directory of a drive's identity files.
pub(crate) const IDENTITY_DIR: &str = "identity";
pub(crate) const IDENTITY_PATH: &str = "identity/drive";
/// Directories that a drive which left the pool keeps, emptied: it may join again.
const LEFT_EMPTY_DIRS: [&str; 2] = [SEGMENTS_DIR, "log"];

/// What the operator asks for.
#[derive(Clone, Debug, Default)]
pub struct PoolOptions {
    /// Redundancy of a new pool; of a formed one it must be what that has. Default by the number of drives.
    pub redundancy: Option<Profile>,
    /// A sentence for each drive that was asked for and cannot even be opened: a formed pool goes on without up to m of
    /// them, a new one is not formed.
    pub set_aside: Vec<String>,
}

/// One member of an opened pool.
#[derive(Clone)]
pub struct PoolMember<D> {
    /// Its identity.
    pub id: DriveId,
    /// The name that it is known by: the given one, or for a missing drive the one it joined with.
    pub label: String,
    /// The drive, unless it is missing.
    pub drive: Option<D>,
    /// What is to become of it.
    pub plan: MemberPlan,
}

/// The drives of a deployment, recognised.
#[derive(Clone)]
pub struct Pool<D> {
    id: PoolId,
    profile: Profile,
    created_unix_ms: u64,
    is_new: bool,
    revision: u64,
    members: Vec<PoolMember<D>>,
    /// Sentences about drives that are given but take no part.
    notes: Vec<String>,
}

impl<D> Pool<D> {
    /// The deployment.
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// What never changes of it.
    pub fn facts(&self) -> PoolFacts {
        PoolFacts { id: self.id, profile: self.profile, created_unix_ms: self.created_unix_ms }
    }

    /// Redundancy of new volumes.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// When it was made.
    pub fn created_unix_ms(&self) -> u64 {
        self.created_unix_ms
    }

    /// Whether this start formatted it.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Counts changes of the member list.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The member list as drives and metadata keep it.
    pub fn membership(&self) -> Membership {
        let member = |member: &PoolMember<D>| Member {
            drive: member.id,
            label: clipped(&member.label),
            plan: member.plan,
        };
        Membership { revision: self.revision, members: self.members.iter().map(member).collect() }
    }

    /// All members, in the order in which they joined.
    pub fn members(&self) -> &[PoolMember<D>] {
        &self.members
    }

    /// Labels of members that are missing.
    pub fn missing(&self) -> Vec<&str> {
        let missing = self.members.iter().filter(|member| member.drive.is_none());
        missing.map(|member| member.label.as_str()).collect()
    }

    /// Sentences for the operator about what was found.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The same pool with another handle of each drive that is there, such as one that may go to another thread.
    pub fn with_drives<T>(&self, mut handle: impl FnMut(&D) -> Option<T>) -> Pool<T> {
        let members = self.members.iter().map(|member| PoolMember {
            id: member.id,
            label: member.label.clone(),
            drive: member.drive.as_ref().and_then(&mut handle),
            plan: member.plan,
        });
        Pool {
            id: self.id,
            profile: self.profile,
            created_unix_ms: self.created_unix_ms,
            is_new: self.is_new,
            revision: self.revision,
            members: members.collect(),
            notes: self.notes.clone(),
        }
    }
}

/// Why a pool cannot be opened: one sentence each, that says what, where and what to do.
#[derive(Debug)]
pub enum OpenError {
    /// No drive was given.
    NoDrives,
    /// More drives than a pool may have.
    TooManyDrives(usize),
    /// One drive was given twice.
    SameDriveTwice {
        /// Labels of the two.
        labels: [String; 2],
    },
    /// The redundancy does not fit the drives.
    RedundancyDoesNotFit {
        /// As asked for.
        asked: Profile,
        /// Number of drives.
        drives: usize,
    },
    /// The pool was formed with another redundancy.
    RedundancyIsFixed {
        /// As asked for.
        asked: Profile,
        /// As formed.
        formed: Profile,
    },
    /// A directory without an identity that is not empty.
    NotEmpty {
        /// Which.
        label: String,
        /// Something that it holds.
        found: String,
    },
    /// Drives of two pools.
    OtherPool {
        /// A drive of one pool.
        label: String,
        /// A drive of the other.
        other: String,
    },
    /// A drive of this pool that is none of those whose formatting was interrupted.
    NotAMember {
        /// Which.
        label: String,
    },
    /// Blank directories beyond the missing members.
    UnknownBlank {
        /// Which.
        label: String,
    },
    /// Written by a later version of this program.
    FutureVersion {
        /// Which.
        label: String,
        /// Its version.
        version: u32,
    },
    /// Formatting was interrupted, and the drives given now are others.
    InterruptedElsewhere {
        /// Labels that it began with.
        began_with: Vec<String>,
    },
    /// Two drives of one pool know different members by the same revision: each went on without the other.
    MembersDiffer {
        /// A drive of one half.
        label: String,
        /// A drive of the other.
        other: String,
    },
    /// More members are missing than parity mends.
    TooManyMissing {
        /// Labels of the missing members.
        missing: Vec<String>,
        /// Parity.
        m: u8,
        /// What was wrong with drives that are given.
        notes: Vec<String>,
    },
    /// No identity can be read, and not all drives are blank.
    NothingReadable {
        /// What was wrong with each.
        notes: Vec<String>,
    },
    /// A drive cannot be written.
    Format {
        /// Which.
        label: String,
        /// Why.
        source: IoError,
    },
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::NoDrives => f.write_str("no drive was given: name at least one directory"),
            OpenError::TooManyDrives(drives) => {
                write!(f, "{drives} drives were given and a pool has at most {MEMBERS_MAX}: give fewer")
            }
            OpenError::SameDriveTwice { labels: [first, second] } => write!(
                f,
                "{first} and {second} are the same drive or copies of it: give each drive once, and remove the copy"
            ),
            OpenError::RedundancyDoesNotFit { asked, drives } => write!(
                f,
                "redundancy {asked} needs {} drives (1 to {SHARDS_MAX}) and {drives} were given: add drives or \
                 choose a smaller one",
                asked.shards()
            ),
            OpenError::RedundancyIsFixed { asked, formed } => write!(
                f,
                "the pool was formed with redundancy {formed} and {asked} is asked for: leave out the option, \
                 redundancy is fixed at the first start"
            ),
            OpenError::NotEmpty { label, found } => write!(
                f,
                "{label} has no drive identity and is not empty (it holds {found:?}): give an empty directory, or \
                 remove what is in it"
            ),
            OpenError::OtherPool { label, other } => {
                write!(f, "{label} belongs to another pool than {other}: start each pool with its own drives")
            }
            OpenError::NotAMember { label } => write!(
                f,
                "{label} says that it is of this pool and is not among the drives whose formatting was interrupted: \
                 remove it from the command line"
            ),
            OpenError::UnknownBlank { label } => write!(
                f,
                "{label} is empty and no member of the pool is missing in its place: remove it from the command \
                 line, or add it with `basaltctl drive add`"
            ),
            OpenError::FutureVersion { label, version } => write!(
                f,
                "{label} was written by a later version of basalt (identity version {version}): start that version"
            ),
            OpenError::InterruptedElsewhere { began_with } => write!(
                f,
                "formatting was interrupted when it began with {}: start with the same drives again, or empty \
                 them all",
                began_with.join(", ")
            ),
            OpenError::MembersDiffer { label, other } => write!(
                f,
                "{label} and {other} were parted, and drives were replaced on both sides since: each holds what the other \
                 does not. Start with the drives of one side only"
            ),
            OpenError::TooManyMissing { missing, m, notes } => {
                write!(
                    f,
                    "{} drives are missing ({}) and parity mends at most {m}: bring them back",
                    missing.len(),
                    missing.join(", ")
                )?;
                write_notes(f, notes)
            }
            OpenError::NothingReadable { notes } => {
                f.write_str(
                    "no drive has a readable identity, and a new pool is only made of drives that can all be used: \
                     bring back the drives of the pool, or mend these",
                )?;
                write_notes(f, notes)
            }
            OpenError::Format { label, source } => {
                write!(f, "{label} cannot be formatted ({source}): check its permissions and its room")
            }
        }
    }
}

fn write_notes(f: &mut std::fmt::Formatter<'_>, notes: &[String]) -> std::fmt::Result {
    if notes.is_empty() { Ok(()) } else { write!(f, " ({})", notes.join("; ")) }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Format { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Redundancy of a new pool by its number of drives.
pub fn default_redundancy(drives: usize) -> Profile {
    let (k, m) = match drives {
        0 | 1 => (1, 0),
        2 => (1, 1),
        3 => (2, 1),
        4 => (2, 2),
        5 => (3, 2),
        6..=11 => (4, 2),
        _ => (8, 4),
    };
    Profile { k, m }
}

/// What lies on a given drive.
enum Found {
    /// Nothing: never formatted, or not mounted.
    Blank,
    Identity(DriveIdentity),
    /// An identity that cannot be read: a sentence.
    Broken(String),
}

/// Formats the drives if all are blank, else recognises them.
///
/// # Errors
/// [`OpenError`]: its text is the sentence for the operator.
pub async fn open_pool<D: Drive, X: Executor>(
    drives: Vec<D>,
    options: PoolOptions,
    executor: &X,
) -> Result<Pool<D>, OpenError> {
    if drives.is_empty() {
        return Err(OpenError::NoDrives);
    }
    if drives.len() > MEMBERS_MAX {
        return Err(OpenError::TooManyDrives(drives.len()));
    }
    let looked = join_all(drives.into_iter().map(|drive| async move {
        let found = {
            let looking = std::pin::pin!(look(&drive));
            match select(looking, std::pin::pin!(executor.sleep(WRITE_DEADLINE))).await {
                Either::Left((found, _)) => found,
                Either::Right(_) => Ok(Found::Broken(format!("{} does not answer", drive.label()))),
            }
        };
        (drive, found)
    }));
    let mut given = Vec::new();
    for (drive, found) in looked.await {
        given.push((drive, found?));
    }
    refuse_mixtures(&given)?;
    refuse_halves(&given)?;
    let ready = newest_identity(&given, FormatPhase::Ready).cloned();
    let forming = newest_identity(&given, FormatPhase::Forming).cloned();
    match (ready, forming) {
        (Some(identity), _) => recognise(given, &identity, options).await,
        (None, Some(identity)) => resume(given, &identity, options).await,
        (None, None) => format_new(given, options, executor).await,
    }
}

async fn look<D: Drive>(drive: &D) -> Result<Found, OpenError> {
    let label = drive.label().to_owned();
    match drive.read_small(IDENTITY_PATH, IDENTITY_MAX_BYTES).await {
        Ok(bytes) => match DriveIdentity::decode(&bytes) {
            Ok(identity) => Ok(Found::Identity(identity)),
            Err(IdentityError::FutureVersion(version)) => Err(OpenError::FutureVersion { label, version }),
            Err(error) => Ok(Found::Broken(format!("the identity of {label} cannot be used: {error}"))),
        },
        Err(IoError::NotFound) => match first_foreign_name(drive).await {
            Ok(None) => Ok(Found::Blank),
            Ok(Some(found)) => Err(OpenError::NotEmpty { label, found }),
            Err(error) => Ok(Found::Broken(format!("{label} cannot be listed: {error}"))),
        },
        Err(error) => Ok(Found::Broken(format!("the identity of {label} cannot be read: {error}"))),
    }
}

/// Something in the directory that neither a file system nor an interrupted formatting puts there.
pub(crate) async fn first_foreign_name<D: Drive>(drive: &D) -> Result<Option<String>, IoError> {
    let mut names = drive.list("").await?;
    names.sort();
    for name in names {
        let is_ours_to_ignore = name == "lost+found" || name == IDENTITY_DIR || name.starts_with('.');
        let is_empty_dir = LEFT_EMPTY_DIRS.contains(&name.as_str())
            && match drive.list(&name).await {
                Ok(inside) => inside.is_empty(),
                Err(_) => false,
            };
        if !is_ours_to_ignore && !is_empty_dir {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

type Given<D> = Vec<(D, Found)>;

fn identities<D>(given: &Given<D>) -> impl Iterator<Item = (&D, &DriveIdentity)> {
    given.iter().filter_map(|(drive, found)| match found {
        Found::Identity(identity) => Some((drive, identity)),
        Found::Blank | Found::Broken(_) => None,
    })
}

/// Of the identities in a phase, one with the highest revision: a change of members reaches the drives one by one.
fn newest_identity<D>(given: &Given<D>, phase: FormatPhase) -> Option<&DriveIdentity> {
    let of_phase = identities(given).map(|(_, identity)| identity).filter(|identity| identity.phase == phase);
    of_phase.max_by_key(|identity| identity.membership.revision)
}

fn notes_of<D>(given: &Given<D>) -> Vec<String> {
    let broken = given.iter().filter_map(|(_, found)| match found {
        Found::Broken(note) => Some(note.clone()),
        Found::Blank | Found::Identity(_) => None,
    });
    broken.collect()
}

fn refuse_mixtures<D: Drive>(given: &Given<D>) -> Result<(), OpenError> {
    let mut seen: Vec<(&D, &DriveIdentity)> = Vec::new();
    for (drive, identity) in identities(given) {
        let label = drive.label().to_owned();
        if let Some((other, _)) = seen.iter().find(|(_, other)| other.pool != identity.pool) {
            return Err(OpenError::OtherPool { label, other: other.label().to_owned() });
        }
        if let Some((other, _)) = seen.iter().find(|(_, other)| other.drive == identity.drive) {
            return Err(OpenError::SameDriveTwice { labels: [other.label().to_owned(), label] });
        }
        seen.push((drive, identity));
    }
    Ok(())
}

/// Opens a formed pool: identified drives in their places, everything else missing.
async fn recognise<D: Drive>(
    given: Given<D>,
    identity: &DriveIdentity,
    options: PoolOptions,
) -> Result<Pool<D>, OpenError> {
    refuse_other_redundancy(identity, &options)?;
    let mut notes = notes_of(&given);
    notes.extend(options.set_aside);
    let blank_member = |member: &Member| PoolMember {
        id: member.drive,
        label: member.label.clone(),
        drive: None,
        plan: member.plan,
    };
    let mut members: Vec<PoolMember<D>> = identity.membership.members.iter().map(blank_member).collect();
    let mut gone = Vec::new();
    let mut never_joined = Vec::new();
    let mut blank = Vec::new();
    for (drive, found) in given {
        let label = drive.label().to_owned();
        match found {
            Found::Identity(its) => {
                let place = members.iter_mut().find(|member| member.id == its.drive);
                let Some(member) = place else {
                    let is_forming = its.phase == FormatPhase::Forming;
                    if is_forming {
                        never_joined.push(label)
                    } else {
                        gone.push(label)
                    }
                    continue;
                };
                if its.phase == FormatPhase::Forming {
                    // Another drive is ready, so every drive had its identity: only this mark is missing.
                    write_identity(&drive, &DriveIdentity { phase: FormatPhase::Ready, ..its }).await?;
                }
                *member = PoolMember { label, drive: Some(drive), ..member.clone() };
            }
            Found::Blank => blank.push(label),
            Found::Broken(_) => {}
        }
    }
    let missing: Vec<String> =
        members.iter().filter(|member| member.drive.is_none()).map(|member| member.label.clone()).collect();
    if missing.len() > usize::from(identity.profile.m) {
        notes.extend(blank.iter().map(|label| format!("{label} is empty: is it mounted?")));
        return Err(OpenError::TooManyMissing { missing, m: identity.profile.m, notes });
    }
    // Broken drives stand for missing members too.
    if blank.len() + notes.len() > missing.len()
        && let Some(label) = blank.last()
    {
        return Err(OpenError::UnknownBlank { label: label.clone() });
    }
    notes.extend(gone.iter().map(|label| {
        format!(
            "{label} was removed from the pool or replaced: take it off the command line; it may be emptied"
        )
    }));
    notes.extend(never_joined.iter().map(|label| {
        format!("{label} was to join the pool and never did: add it again, or take it off the command line")
    }));
    notes.extend(blank.iter().map(|label| {
        format!(
            "{label} is empty and counts as a missing drive: mount it, or replace it with `basaltctl drive replace`"
        )
    }));
    Ok(pool_of(identity, members, false, notes))
}

fn pool_of<D>(
    identity: &DriveIdentity,
    members: Vec<PoolMember<D>>,
    is_new: bool,
    notes: Vec<String>,
) -> Pool<D> {
    let (id, profile, created_unix_ms) = (identity.pool, identity.profile, identity.created_unix_ms);
    Pool { id, profile, created_unix_ms, is_new, revision: identity.membership.revision, members, notes }
}

fn refuse_other_redundancy(identity: &DriveIdentity, options: &PoolOptions) -> Result<(), OpenError> {
    match options.redundancy {
        Some(asked) if asked != identity.profile => {
            Err(OpenError::RedundancyIsFixed { asked, formed: identity.profile })
        }
        _ => Ok(()),
    }
}

/// Goes on with a formatting that was cut off: no data was ever written.
async fn resume<D: Drive>(
    given: Given<D>,
    identity: &DriveIdentity,
    options: PoolOptions,
) -> Result<Pool<D>, OpenError> {
    refuse_other_redundancy(identity, &options)?;
    let began_with =
        || identity.membership.members.iter().map(|member| member.label.clone()).collect::<Vec<_>>();
    let present: BTreeSet<DriveId> = identities(&given).map(|(_, its)| its.drive).collect();
    let mut unplaced: Vec<&Member> =
        identity.membership.members.iter().filter(|member| !present.contains(&member.drive)).collect();
    if given.len() != identity.membership.members.len() {
        return Err(OpenError::InterruptedElsewhere { began_with: began_with() });
    }
    let mut placed = Vec::new();
    for (drive, found) in given {
        let id = match found {
            Found::Identity(its) if identity.membership.member(its.drive).is_some() => its.drive,
            Found::Identity(_) => return Err(OpenError::NotAMember { label: drive.label().to_owned() }),
            // A file cut short by the interruption is as good as none: nothing was stored yet.
            Found::Blank | Found::Broken(_) => {
                let same = unplaced.iter().position(|member| member.label == clipped(drive.label()));
                if unplaced.is_empty() {
                    return Err(OpenError::InterruptedElsewhere { began_with: began_with() });
                }
                unplaced.remove(same.unwrap_or(0)).drive
            }
        };
        placed.push((drive, id));
    }
    form(placed, identity).await
}

/// Formats blank drives.
async fn format_new<D: Drive, X: Executor>(
    given: Given<D>,
    options: PoolOptions,
    executor: &X,
) -> Result<Pool<D>, OpenError> {
    let mut notes = notes_of(&given);
    notes.extend(options.set_aside);
    if !notes.is_empty() {
        return Err(OpenError::NothingReadable { notes });
    }
    let drives = given.len();
    let profile = options.redundancy.unwrap_or_else(|| default_redundancy(drives));
    if profile.k == 0 || profile.shards() > drives || profile.shards() > SHARDS_MAX {
        return Err(OpenError::RedundancyDoesNotFit { asked: profile, drives });
    }
    let random = || u128::from(executor.random_u64()) << 64 | u128::from(executor.random_u64());
    let placed: Vec<(D, DriveId)> = given.into_iter().map(|(drive, _)| (drive, DriveId(random()))).collect();
    let member = |(drive, id): &(D, DriveId)| Member {
        drive: *id,
        label: clipped(drive.label()),
        plan: MemberPlan::Stay,
    };
    let members = placed.iter().map(member).collect();
    let identity = DriveIdentity {
        phase: FormatPhase::Forming,
        pool: PoolId(random()),
        drive: placed[0].1,
        profile,
        created_unix_ms: executor.unix_ms(),
        membership: Membership { revision: 1, members },
    };
    form(placed, &identity).await
}

/// Both phases: every drive gets its identity, then every drive is marked ready.
async fn form<D: Drive>(placed: Vec<(D, DriveId)>, identity: &DriveIdentity) -> Result<Pool<D>, OpenError> {
    for phase in [FormatPhase::Forming, FormatPhase::Ready] {
        let writes = placed.iter().map(|(drive, id)| async move {
            write_identity(drive, &DriveIdentity { phase, drive: *id, ..identity.clone() }).await
        });
        join_all(writes).await.into_iter().collect::<Result<(), OpenError>>()?;
    }
    let members = identity.membership.members.iter().map(|member| {
        let place = placed.iter().find(|(_, id)| *id == member.drive);
        let drive = place.map(|(drive, _)| drive.clone());
        let label = drive.as_ref().map_or(member.label.clone(), |drive| drive.label().to_owned());
        PoolMember { id: member.drive, label, drive, plan: member.plan }
    });
    Ok(pool_of(identity, members.collect(), true, Vec::new()))
}

async fn write_identity<D: Drive>(drive: &D, identity: &DriveIdentity) -> Result<(), OpenError> {
    let write = async {
        drive.create_dir(IDENTITY_DIR).await?;
        drive.create_dir(SEGMENTS_DIR).await?;
        drive.sync_dir("").await?;
        drive.write_small(IDENTITY_PATH, identity.encode()).await
    };
    write.await.map_err(|source| OpenError::Format { label: drive.label().to_owned(), source })
}

/// Of the ready drives with the highest revision, all must know the same members.
fn refuse_halves<D: Drive>(given: &Given<D>) -> Result<(), OpenError> {
    let Some(newest) = newest_identity(given, FormatPhase::Ready) else { return Ok(()) };
    let members = |identity: &DriveIdentity| -> BTreeSet<DriveId> {
        identity.membership.members.iter().map(|member| member.drive).collect()
    };
    let revision = newest.membership.revision;
    let mut same = identities(given).filter(|(_, identity)| {
        identity.phase == FormatPhase::Ready && identity.membership.revision == revision
    });
    let Some((first, its)) = same.next() else { return Ok(()) };
    match same.find(|(_, other)| members(other) != members(its)) {
        Some((other, _)) => {
            Err(OpenError::MembersDiffer { label: first.label().to_owned(), other: other.label().to_owned() })
        }
        None => Ok(()),
    }
}

/// A label as it fits into an identity.
fn clipped(label: &str) -> String {
    let mut end = label.len().min(LABEL_MAX_BYTES);
    while !label.is_char_boundary(end) {
        end -= 1;
    }
    label[..end].to_owned()
}
