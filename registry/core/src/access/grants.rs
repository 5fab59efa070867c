//! The grants of one channel, with a way to those that may concern somebody.

use std::collections::HashMap;
use std::ops::Deref;

use super::Grant;
use crate::{Principal, Subject, SubjectName};

/// The grants of one channel, in their order. Who asks is told from those of others by a look at their names, so that what a
/// request costs hardly depends on how many grants there are.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    all: Vec<Grant>,
    /// Places of grants with a subject that takes in everybody, or everybody who is logged in.
    of_everybody: Vec<u32>,
    of_user: HashMap<SubjectName, Vec<u32>>,
    of_group: HashMap<SubjectName, Vec<u32>>,
    /// By the name of the issuer.
    of_workload: HashMap<SubjectName, Vec<u32>>,
}

impl From<Vec<Grant>> for Grants {
    fn from(all: Vec<Grant>) -> Self {
        let mut grants = Self::default();
        for (place, grant) in (0..).zip(&all) {
            for subject in &grant.subjects {
                let places = match subject {
                    Subject::Anonymous | Subject::Authenticated => &mut grants.of_everybody,
                    Subject::User(name) => grants.of_user.entry(name.clone()).or_default(),
                    Subject::Group(name) => grants.of_group.entry(name.clone()).or_default(),
                    Subject::Workload(workload) => {
                        grants.of_workload.entry(workload.issuer.clone()).or_default()
                    }
                };
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        Self { all, ..grants }
    }
}

impl Deref for Grants {
    type Target = [Grant];

    fn deref(&self) -> &[Grant] {
        &self.all
    }
}

impl PartialEq for Grants {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl PartialEq<Vec<Grant>> for Grants {
    fn eq(&self, other: &Vec<Grant>) -> bool {
        self.all == *other
    }
}

impl Grants {
    /// The grants that cover the principal, in their order, with their places.
    pub(super) fn covering<'a>(&'a self, principal: &Principal) -> impl Iterator<Item = (usize, &'a Grant)> {
        let named = |places: Option<&'a Vec<u32>>| places.map(Vec::as_slice).unwrap_or_default();
        let mut places = self.of_everybody.clone();
        match principal {
            Principal::Anonymous => {}
            Principal::User { name, groups, .. } => {
                places.extend(named(self.of_user.get(name)));
                for group in groups {
                    places.extend(named(self.of_group.get(group)));
                }
            }
            Principal::Workload { workload, .. } => {
                places.extend(named(self.of_workload.get(&workload.issuer)));
            }
        }
        places.sort_unstable();
        places.dedup();
        let found = places.into_iter().filter_map(|place| {
            let place = usize::try_from(place).ok()?;
            Some((place, self.all.get(place)?))
        });
        found.filter(|(_, grant)| grant.subjects.iter().any(|subject| subject.covers(principal)))
    }
}
