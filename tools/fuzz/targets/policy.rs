//! Fuzzes bucket policies: the document that is put, and what it is asked.
//! Invariants: a policy is read whole or refused; asking it twice says the same; without a statement that allows it is
//! not public and allows nothing.
#![no_main]

use server::policy::{Action, Caller, Facts, Network, Policy, Question, Values, Verdict, address_of};

/// A request whose keys all have the same value.
struct Same<'v>(&'v str);

impl Facts for Same<'_> {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        (!key.contains("none")).then(|| std::iter::once(self.0.into()).collect())
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        Network::parse(text);
        address_of(text);
    }
    let Ok(policy) = Policy::parse(bytes, "bkt") else { return };
    // Only a policy that has the word can allow; an escape in it hides the word from this check, not from the parser.
    let allows = bytes.contains(&b'\\') || bytes.windows(5).any(|word| word == b"Allow");
    assert!(allows || !policy.is_public());
    policy.asks_for_existing_tags();
    for caller in [
        Caller::Anonymous,
        Caller::Service("logging.s3.amazonaws.com"),
        Caller::Account { id: "a1", name: "anna", is_root: false },
    ] {
        for (action, resource) in
            [(Action::GetObject, "bkt/a/b"), (Action::ListBucket, "bkt"), (Action::PutObjectTagging, "bkt/*")]
        {
            for value in ["", "10.0.0.1", "7", "true", "2026-11-28T00:00:00Z", "arn:aws:iam::a1:user/anna"] {
                let facts = Same(value);
                let question = Question { caller, action, resource, facts: &facts };
                let verdict = policy.ask(&question);
                assert_eq!(verdict, policy.ask(&question));
                assert!(verdict != Verdict::Allow || allows);
            }
        }
    }
});
