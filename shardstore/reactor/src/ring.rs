//! The kernel's io_uring: which flags it takes, and what to do when there is none.
//! Kernel floor: 5.13, below which the multishot poll that wakes a core is missing and [`probe`] fails.
//! 5.19 adds COOP_TASKRUN and TASKRUN_FLAG, 6.0 SINGLE_ISSUER, 6.1 DEFER_TASKRUN; each is used when the kernel
//! takes it. Without them completions interrupt the core: 125k instead of 211k small requests a second
//! (DESIGN section 2). Liveness: with DEFER_TASKRUN completions are posted only inside io_uring_enter with
//! GETEVENTS, which the runtime calls before it sleeps and every 61 polls of tasks.
//! Not here: the runtime's tasks (`cores`), drives, sockets.

use std::io;
use std::time::Duration;

use compio::driver::{Proactor, ProactorBuilder};

/// Where the kernel says whether io_uring may be used.
const DISABLED_SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";
const ENOSYS: i32 = 38;
const EPERM: i32 = 1;
const EINVAL: i32 = 22;
const ENOMEM: i32 = 12;
const EMFILE: i32 = 24;
/// How often, and how long apart, a ring is tried for while memory is short: 5 s in all.
pub(crate) const MEMORY_TRIES: u32 = 100;
const MEMORY_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no io_uring; its text says what to do.
#[derive(Debug)]
pub enum RingError {
    /// The kernel has no io_uring: install Linux 5.13 or later, 6.1 for full speed.
    NotInKernel,
    /// The sysctl `kernel.io_uring_disabled` forbids it; the value found.
    DisabledBySysctl(u8),
    /// A seccomp filter, as of a container runtime, forbids the system calls.
    ForbiddenBySeccomp,
    /// Locked memory or file descriptors are used up; the kernel's error.
    NoResources(io::Error),
    /// Anything else that the kernel said.
    Kernel(io::Error),
}

impl std::fmt::Display for RingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RingError::NotInKernel => {
                f.write_str("this kernel has no io_uring: use Linux 5.13 or later, 6.1 for full speed")
            }
            RingError::DisabledBySysctl(value) => write!(
                f,
                "io_uring is disabled by the sysctl kernel.io_uring_disabled={value}: \
                 run `sysctl kernel.io_uring_disabled=0`, or with value 1 add this user to kernel.io_uring_group"
            ),
            RingError::ForbiddenBySeccomp => f.write_str(
                "io_uring is forbidden to this process, most likely by a container's seccomp profile: allow \
                 io_uring_setup, io_uring_enter and io_uring_register (Docker: --security-opt seccomp=unconfined)",
            ),
            RingError::NoResources(source) => {
                write!(f, "no room for a ring ({source}): raise `ulimit -l` (locked memory) and `ulimit -n`")
            }
            RingError::Kernel(source) => write!(f, "the kernel refused an io_uring: {source}"),
        }
    }
}

impl std::error::Error for RingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RingError::NoResources(source) | RingError::Kernel(source) => Some(source),
            _ => None,
        }
    }
}

/// The ring flags that this kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFlags {
    coop_taskrun: bool,
    single_issuer: bool,
    defer_taskrun: bool,
}

impl RingFlags {
    /// From the best to none: each step is what an older kernel lacks.
    const STEPS: [RingFlags; 4] = [
        RingFlags { coop_taskrun: true, single_issuer: true, defer_taskrun: true },
        RingFlags { coop_taskrun: true, single_issuer: true, defer_taskrun: false },
        RingFlags { coop_taskrun: true, single_issuer: false, defer_taskrun: false },
        RingFlags { coop_taskrun: false, single_issuer: false, defer_taskrun: false },
    ];

    /// Whether nothing is lost against the newest kernels.
    pub fn complete(self) -> bool {
        self == RingFlags::STEPS[0]
    }

    pub(crate) fn builder(self, entries: u32) -> ProactorBuilder {
        let mut builder = ProactorBuilder::new();
        builder
            .capacity(entries)
            .cqsize(entries * 4)
            .coop_taskrun(self.coop_taskrun)
            .taskrun_flag(self.coop_taskrun)
            .single_issuer(self.single_issuer)
            .defer_taskrun(self.defer_taskrun);
        builder
    }
}

impl std::fmt::Display for RingFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = [
            (self.coop_taskrun, "COOP_TASKRUN TASKRUN_FLAG"),
            (self.single_issuer, "SINGLE_ISSUER"),
            (self.defer_taskrun, "DEFER_TASKRUN"),
        ];
        let names: Vec<&str> = set.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(" "))
    }
}

/// Finds the best flags by building small rings; for start-up, before any core.
///
/// # Errors
/// [`RingError`], whose text tells the operator what to do.
pub fn probe() -> Result<RingFlags, RingError> {
    best_flags(MEMORY_TRIES)
}

fn best_flags(memory_tries: u32) -> Result<RingFlags, RingError> {
    for flags in RingFlags::STEPS {
        match when_memory_is_back(memory_tries, || flags.builder(8).build()) {
            Ok(ring) => {
                drop::<Proactor>(ring);
                return Ok(flags);
            }
            Err(error) if error.raw_os_error() == Some(EINVAL) => {}
            Err(error) => return Err(explain(error)),
        }
    }
    Err(RingError::Kernel(io::Error::from_raw_os_error(EINVAL)))
}

/// The flags in words for the start-up log, or why there is no ring.
pub fn flags_in_use() -> String {
    // Cores run by now: nobody waits for memory here.
    match best_flags(1) {
        Ok(flags) if flags.complete() => format!("io_uring with {flags}"),
        Ok(flags) => format!("io_uring with {flags} only; Linux 6.1 has more and is faster"),
        Err(error) => error.to_string(),
    }
}

/// Builds a ring; where locked memory is short, again for a while: the kernel takes the rings of a process that was
/// killed down a moment after its end, and a supervisor starts the next one at once.
#[expect(clippy::disallowed_methods, reason = "before there is a runtime whose clock could be waited on")]
pub(crate) fn when_memory_is_back<T>(tries: u32, build: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    again_while_short(build, tries, || std::thread::sleep(MEMORY_PAUSE))
}

fn again_while_short<T>(
    mut build: impl FnMut() -> io::Result<T>,
    tries: u32,
    mut pause: impl FnMut(),
) -> io::Result<T> {
    for _ in 1..tries {
        match build() {
            Err(error) if error.raw_os_error() == Some(ENOMEM) => pause(),
            built => return built,
        }
    }
    build()
}

pub(crate) fn explain(error: io::Error) -> RingError {
    match error.raw_os_error() {
        Some(ENOSYS) => RingError::NotInKernel,
        Some(EPERM) => match disabled_by_sysctl() {
            0 => RingError::ForbiddenBySeccomp,
            value => RingError::DisabledBySysctl(value),
        },
        Some(ENOMEM | EMFILE) => RingError::NoResources(error),
        _ => RingError::Kernel(error),
    }
}

fn disabled_by_sysctl() -> u8 {
    let text = std::fs::read_to_string(DISABLED_SYSCTL).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_tried_for_again_only_while_memory_is_short() {
        let attempt = |errors: &[i32], tries| {
            let mut errors = errors.iter();
            let mut pauses = 0;
            let build = || errors.next().map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(*errno)));
            let built = again_while_short(build, tries, || pauses += 1);
            (built.map_err(|error| error.raw_os_error()), pauses)
        };
        assert_eq!(attempt(&[ENOMEM, ENOMEM], 3), (Ok(()), 2));
        assert_eq!(attempt(&[ENOMEM, ENOMEM], 2), (Err(Some(ENOMEM)), 1));
        assert_eq!(attempt(&[EPERM], 3), (Err(Some(EPERM)), 0));
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for (errno, word) in [(ENOSYS, "Linux"), (ENOMEM, "ulimit -l"), (EMFILE, "ulimit -n"), (5, "kernel")]
        {
            let text = explain(io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(word), "{text}");
        }
        assert!(RingError::DisabledBySysctl(2).to_string().contains("sysctl kernel.io_uring_disabled=0"));
        assert!(RingError::ForbiddenBySeccomp.to_string().contains("seccomp"));
    }

    #[test]
    fn this_kernel_has_a_ring_and_its_flags_have_names() {
        let flags = probe().expect("tests need io_uring");
        assert!(flags_in_use().contains(&flags.to_string()));
    }
}
