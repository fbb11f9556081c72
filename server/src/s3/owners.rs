//! Who owns the entries of a listing, as S3 shows them.
//! Invariants: an entry without an access list, or with one that cannot be read, is its bucket owner's; each owner is
//! looked up once a page.
//! Not here: what lists allow (`authorize`), the XML (`xml`).

use bytes::Bytes;

use crate::auth::Person;
use crate::s3::acl::Acl;

/// The owners of one page.
#[derive(Clone, Debug)]
pub struct Owners {
    of_bucket: Person,
    /// By the list as an object keeps it. Lists differ less than objects do, and a page has at most 1,000 of them.
    others: Vec<(Bytes, Person)>,
}

impl Owners {
    /// Of entries with these lists. `person` shows an account.
    pub fn new<'l>(
        of_bucket: Person,
        lists: impl Iterator<Item = &'l Bytes>,
        person: impl Fn(&str) -> Person,
    ) -> Owners {
        let mut kept: Vec<&Bytes> = lists.collect();
        kept.sort_unstable();
        kept.dedup();
        let others = kept.into_iter().filter_map(|list| {
            let acl = Acl::of_kept(list)?;
            Some((list.clone(), person(&acl.owner)))
        });
        Owners { others: others.collect(), of_bucket }
    }

    /// Of an entry with this list.
    pub fn of(&self, list: Option<&Bytes>) -> &Person {
        let found = list.and_then(|list| self.others.binary_search_by(|(kept, _)| kept.cmp(list)).ok());
        found.map_or(&self.of_bucket, |at| &self.others[at].1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn person(id: &str) -> Person {
        Person { id: id.to_owned(), name: format!("name of {id}") }
    }

    #[test]
    fn an_entry_is_its_lists_owners_and_else_the_buckets() {
        let list = |owner: &str| Acl::private(owner).to_kept();
        let (anna, ben, damaged) = (list("anna"), list("ben"), Bytes::from_static(b";"));
        let owners = Owners::new(person("bucket"), [&ben, &anna, &damaged, &ben].into_iter(), person);
        assert_eq!(owners.of(Some(&anna)), &person("anna"));
        assert_eq!(owners.of(Some(&ben)), &person("ben"));
        for other in [None, Some(&damaged), Some(&list("nobody"))] {
            assert_eq!(owners.of(other), &person("bucket"));
        }
    }
}
