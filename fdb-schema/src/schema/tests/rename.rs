//! Rename: names, usage, tokens.

use super::super::Rename;
use super::*;

fn rename<'a>(source_key: &'a [u8], key: &'a [u8], token: Option<&'a str>) -> Rename<'a> {
    Rename { bucket: "b", source_key, key, token }
}

impl World {
    async fn rename(&self, rename: Rename<'_>) -> Result<(), Failure> {
        self.metadata.rename_object(rename, |_, _| Ok::<(), ()>(())).await.map(|result| result.unwrap())
    }
}

#[test]
fn a_renamed_object_is_the_same_under_its_new_name_and_replaces_what_had_it() {
    world(1, async |world| {
        let stored = world.put_stored(b"a", &[(0, 1_000)]).await;
        world.put_stored(b"b", &[(1, 70)]).await;
        world.rename(rename(b"a", b"b", None)).await.unwrap();
        assert_eq!(world.metadata.object("b", b"b", None).await.unwrap().record, stored);
        assert_eq!(refused(world.metadata.object("b", b"a", None).await), Refusal::NoSuchKey);
        assert_eq!(world.usage().await, (1, 1_000));
        world.put_inline(b"small", b"v").await;
        world.rename(rename(b"small", b"c", None)).await.unwrap();
        let (_, bytes) = world.metadata.object_and_inline("b", b"c", None).await.unwrap();
        assert_eq!(bytes.as_deref(), Some(&b"v"[..]));
        assert_eq!(refused(world.rename(rename(b"a", b"d", None)).await), Refusal::NoSuchKey);
        world.sweep_all().await;
        assert_eq!(world.live().await[&1], 0, "what it replaced is gone");
        for key in [&b"b"[..], b"c"] {
            world.metadata.delete_object("b", &delete(key)).await.unwrap();
        }
        world.sweep_all().await;
        assert_eq!((world.byte_rows().await, world.usage().await), (0, (0, 0)));
    });
}

#[test]
fn a_refused_rename_changes_nothing() {
    world(2, async |world| {
        world.put_inline(b"a", b"1").await;
        world.put_inline(b"b", b"22").await;
        let check =
            |_: &ObjectRecord, old: Option<&ObjectRecord>| if old.is_some() { Err("no") } else { Ok(()) };
        let result = world.metadata.rename_object(rename(b"a", b"b", Some("t")), check).await.unwrap();
        assert_eq!((result, world.usage().await), (Err("no"), (2, 3)));
        world.rename(rename(b"b", b"c", Some("t"))).await.expect("its token was not used up");
    });
}

#[test]
fn a_token_renames_once_a_day_and_only_what_it_named() {
    let sim = Sim::new(3);
    let executor = sim.executor();
    sim.block_on(async {
        let world = World::new(executor.clone(), Outcomes::Known).await;
        world.put_inline(b"a", b"1").await;
        let once = rename(b"a", b"b", Some("t"));
        world.rename(once).await.unwrap();
        world.put_inline(b"a", b"new").await;
        world.rename(once).await.unwrap();
        assert_eq!(world.usage().await.0, 2, "the repetition did nothing");
        assert_eq!(refused(world.rename(rename(b"a", b"c", Some("t"))).await), Refusal::TokenReused);
        assert_eq!(world.metadata.forget_renames().await, Ok(true));
        assert_eq!(refused(world.rename(rename(b"a", b"c", Some("t"))).await), Refusal::TokenReused);
        shardstore_reactor::Clock::sleep(&executor, std::time::Duration::from_hours(25)).await;
        assert_eq!(world.metadata.forget_renames().await, Ok(true));
        world.rename(rename(b"a", b"c", Some("t"))).await.unwrap();
    });
}
