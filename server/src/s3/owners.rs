//! Who owns the entries of a listing, as S3 shows them.
//! Invariants: an entry whose access list names no owner, or that has none, is its bucket owner's; each owner is looked
//! up once a page.
//! Not here: what lists allow (`authorize`), the XML (`xml`).

use bytes::Bytes;

use crate::auth::Person;

/// The owners of one page.
#[derive(Clone, Debug)]
pub struct Owners {
    of_bucket: Person,
    /// By the id that a list names, in order.
    others: Vec<(Bytes, Person)>,
}

impl Owners {
    /// Of entries whose lists name these. `person` shows an account.
    pub fn new<'l>(
        of_bucket: Person,
        named: impl Iterator<Item = &'l Bytes>,
        person: impl Fn(&str) -> Person,
    ) -> Owners {
        let mut named: Vec<&Bytes> = named.collect();
        named.sort_unstable();
        named.dedup();
        let others = named.into_iter().filter_map(|named| {
            let id = std::str::from_utf8(named).ok().filter(|id| !id.is_empty())?;
            Some((named.clone(), person(id)))
        });
        Owners { others: others.collect(), of_bucket }
    }

    /// Of an entry whose list names this.
    pub fn of(&self, named: Option<&Bytes>) -> &Person {
        let found = named.and_then(|named| self.others.binary_search_by(|(id, _)| id.cmp(named)).ok());
        found.map_or(&self.of_bucket, |at| &self.others[at].1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::ops::api::owner_of_list;
    use crate::s3::acl::Acl;

    fn person(id: &str) -> Person {
        Person { id: id.to_owned(), name: format!("name of {id}") }
    }

    #[test]
    fn an_entry_is_its_lists_owners_and_else_the_buckets() {
        let named = |owner: &str| owner_of_list(&[Acl::private(owner).to_header()]).unwrap();
        let (anna, ben) = (named("anna"), named("ben"));
        assert_eq!(&anna[..], b"anna");
        let damaged = [Bytes::new(), Bytes::from_static(b"\xff")];
        let owners =
            Owners::new(person("bucket"), [&ben, &anna, &damaged[0], &damaged[1], &ben].into_iter(), person);
        assert_eq!(owners.of(Some(&anna)), &person("anna"));
        assert_eq!(owners.of(Some(&ben)), &person("ben"));
        for other in [None, Some(&damaged[0]), Some(&damaged[1]), Some(&named("nobody"))] {
            assert_eq!(owners.of(other), &person("bucket"));
        }
    }
}
