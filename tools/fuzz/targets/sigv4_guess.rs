//! A stranger's signed head, checked against an access key that exists: shared by the targets of SigV4.
//! Invariants: nothing is authenticated; what is hashed for a stranger is not much longer than what he sent.
//! Not here: which bytes of the head the fuzzer chooses (`sigv4_header`, `sigv4_query`).

use bytes::BytesMut;
use server::auth::{AccountTable, Accounts, AuthError, CoreAccounts, Identity, Verifier};
use server::http::{HeadLimits, HeadParse, parse_head};

/// 2013-05-24, as the seeds are dated.
const NOW_MS: u64 = 1_369_353_600_000;

fn one_key() -> CoreAccounts {
    let id = "a".repeat(64);
    let mut table = AccountTable::new(&id, "root");
    table.add_key(&id, "AK", "secret");
    Accounts::new(table).on_core()
}

/// Tries the head that these parts make.
pub fn check(parts: &[&[u8]]) {
    let mut buf = BytesMut::from(&parts.concat()[..]);
    let head_bytes = buf.len();
    let Ok(HeadParse::Complete(head)) = parse_head(&mut buf, 0, &HeadLimits::default()) else { return };
    match Verifier::new(one_key(), "us-east-1").authenticate(&head, Some("bkt"), NOW_MS) {
        Ok(who) => assert!(matches!(who.identity(), Identity::Anonymous), "a signature was guessed"),
        Err(AuthError::Mismatch(mismatch)) => {
            let hashed_bytes = mismatch.canonical_request.len() + mismatch.string_to_sign.len();
            assert!(hashed_bytes <= 4 * head_bytes + 1_024, "{hashed_bytes} of {head_bytes}");
        }
        Err(_) => {}
    }
}
