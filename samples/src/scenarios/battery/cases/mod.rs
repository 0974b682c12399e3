//! The table: one line per case. What fails must fail with exactly this errno, and what succeeds with this result.

mod i386;
mod mq;
mod msg;
mod sem;
mod shm;
mod sig;

use super::abi::Way;
use super::bench::Bench;
use crate::Result;

/// What one case does.
pub(super) type Calls = fn(&mut Bench) -> Result<()>;

/// The ways that a case can be made in.
#[derive(Clone, Copy)]
pub(super) enum Ways {
    Every,
    Only(Way),
}

/// One case.
pub(super) struct Case {
    pub(super) name: &'static str,
    ways: Ways,
    pub(super) calls: Calls,
}

impl Case {
    /// Whether it can be made in this way.
    pub(super) fn is_of(&self, way: Way) -> bool {
        match self.ways {
            Ways::Every => true,
            Ways::Only(only) => only == way,
        }
    }
}

/// A case of every ABI.
const fn every(name: &'static str, calls: Calls) -> Case {
    Case { name, ways: Ways::Every, calls }
}

/// A case that needs the layouts or the numbers of one way.
const fn only(way: Way, name: &'static str, calls: Calls) -> Case {
    Case { name, ways: Ways::Only(way), calls }
}

/// Every case.
pub(super) fn all() -> impl Iterator<Item = &'static Case> {
    [sem::CASES, shm::CASES, msg::CASES, mq::CASES, sig::CASES, i386::CASES].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_case_has_its_own_name() {
        let mut names: Vec<&str> = super::all().map(|case| case.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
