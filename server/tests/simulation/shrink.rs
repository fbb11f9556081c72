//! Makes a failing plan small: leaves out steps for as long as it still fails.
//! Invariants: what is returned fails; the number of attempts is bounded.
//! Not here: what a failure is (`main`).

use std::collections::BTreeSet;

use crate::plan::Plan;

/// Runs that shrinking may take: a minute or two.
const ATTEMPTS_MAX: u32 = 200;

/// The smallest plan that was found, beginning with `plan`, for which `fails` is true.
pub(crate) fn shrink(plan: &Plan, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut steps: Vec<u32> = plan.lives.iter().flat_map(|life| &life.steps).map(|step| step.id).collect();
    let mut attempts = 0;
    let mut group_len = steps.len().div_ceil(2);
    while group_len > 0 && attempts < ATTEMPTS_MAX {
        let mut begin = 0;
        while begin < steps.len() && attempts < ATTEMPTS_MAX {
            let end = steps.len().min(begin + group_len);
            let without: BTreeSet<u32> = steps[..begin].iter().chain(&steps[end..]).copied().collect();
            attempts += 1;
            if fails(&plan.with_steps(|id| without.contains(&id))) {
                steps.drain(begin..end);
            } else {
                begin = end;
            }
        }
        group_len /= 2;
    }
    let kept: BTreeSet<u32> = steps.into_iter().collect();
    plan.with_steps(|id| kept.contains(&id))
}
