//! What clients and the operator do: steps of the plan, carried out against the system and told to the model.
//! Invariants: the model hears of a write before the system does, and of its answer after it came; a read that the
//! system answers must be explained by the model; reads never fail.
//! Not here: what may be asked (`plan`), looks at rest (`check`).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use server::ops::api::{
    BodyReader, CompleteUpload, CompletedPart, CopyObject, CreateUpload, DeleteCondition, DeleteEntry, ETag,
    ListObjects, ObjectKey, ObjectLock, OpError, OpenedObject, Operations, PutObject, PutPart, UploadId,
    VersionId, WriteCondition,
};
use shardstore_reactor::Clock;

use crate::content::{Body, Content, Part};
use crate::model::{Outcome, Upload, Value};
use crate::plan::{Action, Client, Condition, Ending, Hint, Step};
use crate::process::{Ops, Process, bucket};
use crate::world::World;

/// Someone who works through steps.
pub(crate) struct Worker {
    pub(crate) world: Rc<World>,
    pub(crate) process: Rc<Process>,
}

/// One step under way.
pub(crate) struct Doing<'a> {
    pub(crate) world: &'a World,
    process: &'a Process,
    pub(crate) core: &'a Ops,
    step: &'a Step,
    pub(crate) rng: fastrand::Rng,
}

pub(crate) fn key_of(key: &str) -> ObjectKey {
    ObjectKey::parse(key.to_owned()).expect("a key")
}

impl Worker {
    pub(crate) async fn work(self, steps: Vec<Step>) {
        for step in &steps {
            self.world.executor.sleep(Duration::from_micros(step.pause_micros)).await;
            tracing::info!(at_micros = self.world.executor.now().micros, ?step, "begins");
            self.perform(step).await;
            tracing::info!(at_micros = self.world.executor.now().micros, step = step.id, "is done");
        }
    }

    async fn perform(&self, step: &Step) {
        let (world, process) = (&*self.world, &*self.process);
        let core = &process.cores[step.id as usize % process.cores.len()];
        let rng = fastrand::Rng::with_seed(world.plan.seed << 32 | u64::from(step.id));
        let mut doing = Doing { world, process, core, step, rng };
        doing.perform(&step.action).await;
    }
}

impl Doing<'_> {
    async fn perform(&mut self, action: &Action) {
        match action {
            Action::Put { key, len_bytes, hint, piece_len, condition, client_is } => {
                self.put(key, *len_bytes, *hint, *piece_len, *condition, *client_is).await;
            }
            Action::Copy { from, to, client_is } => self.copy(from, to, *client_is).await,
            Action::Multipart { key, parts, again, ending } => {
                self.multipart(key, parts, *again, *ending).await;
            }
            Action::EndUpload { complete } => self.end_oldest_upload(*complete).await,
            Action::Get { key, range_per_mille, is_slow } => self.get(key, *range_per_mille, *is_slow).await,
            Action::Delete { key, is_conditional, client_is } => {
                self.delete(key, *is_conditional, *client_is).await;
            }
            Action::DeleteMany { keys } => self.delete_many(keys).await,
            Action::List { prefix, delimiter, page } => {
                list(self.world, self.core, prefix, *delimiter, *page).await;
            }
            Action::SetVersioning { is_enabled } => self.set_versioning(*is_enabled).await,
            Action::Lock => self.lock().await,
            Action::BreakLock => self.break_lock().await,
            Action::Seal => self.core.store().seal_open().await,
            Action::Scrub => self.process.shared.start_scrub(),
            Action::Break { drive, how } => self.world.break_drive(*drive, *how, &mut self.rng).await,
            Action::Mend { drive } => self.process.keeper.mend(*drive).await,
            Action::Replace { drive } => self.world.replace_drive(&self.process.keeper, *drive).await,
            Action::Fill { free_bytes, millis } => self.world.fill(*free_bytes, *millis).await,
        }
    }

    fn part(&self, index: u64, len_bytes: u64) -> Part {
        Part { tag: self.world.plan.seed << 32 | u64::from(self.step.id) << 8 | index, len_bytes }
    }

    /// Waits as long as the client does; `None` when it goes away.
    async fn patiently<T>(&self, client_is: Client, request: impl Future<Output = T>) -> Option<T> {
        let Client::GoneAfter { micros } = client_is else { return Some(request.await) };
        let patience = std::pin::pin!(self.world.executor.sleep(Duration::from_micros(micros)));
        match select(std::pin::pin!(request), patience).await {
            Either::Left((result, _)) => Some(result),
            Either::Right(_) => None,
        }
    }

    async fn put(
        &mut self,
        key: &str,
        len_bytes: u64,
        hint: Hint,
        piece_len: usize,
        condition: Condition,
        client_is: Client,
    ) {
        let part = self.part(0, len_bytes);
        let content = Content::whole(part);
        let condition = self.condition(key, condition).await;
        let put = PutObject {
            bucket: bucket(),
            key: key_of(key),
            headers: Vec::new(),
            condition: condition.clone(),
            len_bytes: matches!(hint, Hint::Exact).then_some(len_bytes),
            storage_class: None,
            lock: self.lock_of_new(),
            encrypt: self.world.plan.encrypt(key),
        };
        let lock = put.lock;
        let mut body = Body::new(part, piece_len);
        if client_is == Client::CutsBody {
            body = body.cut();
        }
        let id = self.world.model.borrow_mut().begin(key, Value::Known(Some(content.clone())));
        let result = self.patiently(client_is, self.core.put_object(put, &mut body)).await;
        let Some(result) = result else { return };
        let result = result.map(|written| {
            assert_eq!((written.etag, written.size_bytes), (content.etag(), len_bytes));
            self.keeps(key, written.version, Some(&content), lock);
            written.version
        });
        self.judge(key, id, &condition, result);
    }

    async fn condition(&self, key: &str, condition: Condition) -> WriteCondition {
        match condition {
            Condition::Always => WriteCondition::Always,
            Condition::IfAbsent => WriteCondition::IfAbsent,
            Condition::IfMatch => match self.tag_of(key).await {
                Some(tag) => WriteCondition::IfMatch(tag.to_string()),
                None => WriteCondition::IfAbsent,
            },
        }
    }

    /// The tag of what a key holds now.
    async fn tag_of(&self, key: &str) -> Option<ETag> {
        let begun = self.world.model.borrow_mut().moment();
        let tag = match self.core.head_object(bucket(), key_of(key), None).await {
            Ok(info) => Some(info.etag),
            Err(OpError::NoSuchKey | OpError::DeleteMarker { .. }) => None,
            Err(error) => panic!("a look at {key} fails: {error}"),
        };
        let mut model = self.world.model.borrow_mut();
        let ended = model.moment();
        model.saw(key, begun, ended, tag);
        tag
    }

    /// Tells the model under which version a write is kept, and what locks it.
    fn keeps(&self, key: &str, version: Option<VersionId>, content: Option<&Content>, lock: ObjectLock) {
        let mut model = self.world.model.borrow_mut();
        model.keeps(key, version, content);
        if let Some(version) = version.filter(|_| lock != ObjectLock::NONE) {
            model.locked.insert((key.to_owned(), version.to_string()), lock);
        }
    }

    /// Tells the model how a write was answered, and checks that its condition was decided on what could be there.
    fn judge(
        &self,
        key: &str,
        id: u64,
        condition: &WriteCondition,
        result: Result<Option<VersionId>, OpError>,
    ) {
        let mut model = self.world.model.borrow_mut();
        let now = model.moment();
        let tags: Vec<Option<ETag>> = model
            .possible(key, id, now, Some(id))
            .iter()
            .map(|value| value.as_ref().map(Content::etag))
            .collect();
        let is_possible = |holds: &dyn Fn(&Option<ETag>) -> bool| {
            assert!(tags.iter().any(holds), "{condition:?} of {key} was answered {result:?} with {tags:?}");
        };
        let outcome = match &result {
            Ok(_) => {
                is_possible(&|tag| holds(condition, tag.as_ref()));
                Some(Outcome::Done)
            }
            Err(OpError::PreconditionFailed) => {
                is_possible(&|tag| tag.is_some() && !holds(condition, tag.as_ref()));
                Some(Outcome::Refused)
            }
            Err(OpError::NoSuchKey) => {
                is_possible(&|tag| tag.is_none());
                Some(Outcome::Refused)
            }
            Err(OpError::Body(_) | OpError::ConditionalRequestConflict) => Some(Outcome::Refused),
            // To the client this says nothing of what happened.
            Err(error) => {
                self.check_refusal(error);
                None
            }
        };
        if let Some(outcome) = outcome {
            model.end(key, id, outcome);
            let is_named = matches!(result, Ok(Some(VersionId::Named { .. })));
            model.end_null(key, id, if is_named { Outcome::Refused } else { outcome });
        }
    }

    /// Writes are refused only under load, or while something is in their way.
    pub(crate) fn check_refusal(&self, error: &OpError) {
        let is_allowed = match error {
            OpError::SlowDown => true,
            OpError::ServiceUnavailable(_) | OpError::InsufficientStorage => !self.world.is_calm.get(),
            _ => false,
        };
        assert!(is_allowed, "a write was refused: {error}");
    }

    async fn copy(&mut self, from: &str, to: &str, client_is: Client) {
        if from == to {
            return;
        }
        let copy = CopyObject {
            source_bucket: bucket(),
            source_key: key_of(from),
            bucket: bucket(),
            key: key_of(to),
            replace_headers: None,
            replace_tagging: None,
            storage_class: None,
            replace_checksum: None,
            redirect: None,
            condition: WriteCondition::Always,
            source_version: None,
            lock: self.lock_of_new(),
            encrypt: self.world.plan.encrypt(to),
            source_key_of_customer: None,
        };
        let lock = copy.lock;
        let id = self.world.model.borrow_mut().begin(to, Value::CopyOf(from.to_owned()));
        let copied = self.patiently(client_is, self.core.copy_object(copy, |_| Ok(()))).await;
        let mut model = self.world.model.borrow_mut();
        let ended = model.moment();
        match copied {
            Some(Ok(copied)) => {
                let value = model.saw(from, id, ended, Some(copied.written.etag));
                drop(model);
                self.keeps(to, copied.written.version, value.as_ref(), lock);
                let mut model = self.world.model.borrow_mut();
                model.learn(to, id, value);
                model.end(to, id, Outcome::Done);
            }
            Some(Err(OpError::NoSuchKey | OpError::DeleteMarker { .. })) => {
                model.saw(from, id, ended, None);
                model.end(to, id, Outcome::Refused);
            }
            Some(Err(OpError::CopyMovesBytes)) => {
                let plan = &self.world.plan;
                assert!(plan.encrypt(from) != plan.encrypt(to), "bytes of {from} can be shared with {to}");
                model.end(to, id, Outcome::Refused);
            }
            Some(Err(error)) => self.check_refusal(&error),
            None => {}
        }
    }

    async fn multipart(&mut self, key: &str, parts: &[u64], again: bool, ending: Ending) {
        let create = CreateUpload {
            bucket: bucket(),
            key: key_of(key),
            headers: Vec::new(),
            checksum: None,
            storage_class: None,
            initiator: "root".to_owned(),
            lock: self.lock_of_new(),
            encrypt: self.world.plan.encrypt(key),
        };
        let lock = create.lock;
        let id = match self.core.create_upload(create).await {
            Ok(info) => info.upload,
            Err(error) => return self.check_refusal(&error),
        };
        let upload =
            Upload { key: key.to_owned(), id, lock, parts: BTreeMap::new(), is_ending: false, is_busy: true };
        self.world.model.borrow_mut().uploads.push(upload);
        let mut all_are_there = true;
        for (number, len_bytes) in (1u16..).zip(parts) {
            if again && usize::from(number) == parts.len() {
                self.put_part(id, key, number, self.part(u64::from(number) + 100, 777)).await;
            }
            let part = self.part(u64::from(number), *len_bytes);
            all_are_there &= self.put_part(id, key, number, part).await;
        }
        match ending {
            Ending::Complete if all_are_there => self.complete(id).await,
            Ending::Abort => self.abort(id).await,
            Ending::Complete | Ending::Leave => self.change_upload(id, |upload| upload.is_busy = false),
        }
    }

    fn change_upload(&self, id: UploadId, change: impl FnOnce(&mut Upload)) {
        let mut model = self.world.model.borrow_mut();
        let upload = model.uploads.iter_mut().find(|upload| upload.id == id);
        change(upload.expect("it is known until it ended"));
    }

    /// Whether it was acknowledged.
    async fn put_part(&self, upload: UploadId, key: &str, part_number: u16, part: Part) -> bool {
        self.change_upload(upload, |upload| upload.parts.entry(part_number).or_default().begin(part));
        let put = PutPart {
            bucket: bucket(),
            key: key_of(key),
            upload,
            part_number,
            len_bytes: Some(part.len_bytes),
            customer_key: None,
        };
        match self.core.put_part(put, &mut Body::new(part, 128 * 1024)).await {
            Ok(info) => {
                assert_eq!((info.etag, info.size_bytes), (ETag::whole(part.md5()), part.len_bytes));
                self.change_upload(upload, |upload| upload.parts.entry(part_number).or_default().end(part));
                true
            }
            Err(error) => {
                self.check_refusal(&error);
                false
            }
        }
    }

    async fn complete(&self, id: UploadId) {
        let (key, lock, parts) = {
            let mut model = self.world.model.borrow_mut();
            let upload = model.uploads.iter_mut().find(|upload| upload.id == id).expect("it is known");
            upload.is_ending = true;
            let parts: Vec<(u16, Part)> = upload
                .parts
                .iter()
                .filter_map(|(number, part)| Some((*number, part.acknowledged?)))
                .collect();
            (upload.key.clone(), upload.lock, parts)
        };
        let complete = CompleteUpload {
            bucket: bucket(),
            key: key_of(&key),
            upload: id,
            parts: parts
                .iter()
                .map(|(part_number, part)| CompletedPart {
                    part_number: *part_number,
                    etag: ETag::whole(part.md5()).to_string(),
                    checksum: None,
                })
                .collect(),
            size_bytes: None,
            checksum: None,
            checksum_kind: None,
            condition: WriteCondition::Always,
            customer_key: None,
        };
        let content = Content::of_parts(parts.into_iter().map(|(_, part)| part).collect());
        let write = self.world.model.borrow_mut().begin(&key, Value::Known(Some(content.clone())));
        let result = self.core.complete_upload(complete).await;
        let ended = result.is_ok();
        let result = result.map(|written| {
            assert_eq!(written.etag, content.etag());
            self.keeps(&key, written.version, Some(&content), lock);
            written.version
        });
        self.judge(&key, write, &WriteCondition::Always, result);
        self.end_upload(id, ended);
    }

    async fn abort(&self, id: UploadId) {
        let mut key = String::new();
        self.change_upload(id, |upload| {
            upload.is_ending = true;
            key.clone_from(&upload.key);
        });
        let result = self.core.abort_upload(bucket(), key_of(&key), id).await;
        if let Err(error) = &result {
            self.check_refusal(error);
        }
        self.end_upload(id, result.is_ok());
    }

    fn end_upload(&self, id: UploadId, is_gone: bool) {
        let mut model = self.world.model.borrow_mut();
        if is_gone {
            model.uploads.retain(|upload| upload.id != id);
        }
    }

    async fn end_oldest_upload(&self, complete: bool) {
        let oldest = {
            let mut model = self.world.model.borrow_mut();
            let mut open = model.uploads.iter_mut().filter(|upload| !upload.is_ending && !upload.is_busy);
            open.next().map(|upload| {
                upload.is_busy = true;
                (upload.id, upload.is_complete())
            })
        };
        match oldest {
            Some((id, true)) if complete => self.complete(id).await,
            Some((id, _)) => self.abort(id).await,
            None => {}
        }
    }

    async fn get(&mut self, key: &str, range_per_mille: Option<(u64, u64)>, is_slow: bool) {
        let begun = self.world.model.borrow_mut().moment();
        let opened = self.core.open_object(bucket(), key_of(key), None).await;
        let opened = match opened {
            Ok(opened) => Some(opened),
            Err(OpError::NoSuchKey | OpError::DeleteMarker { .. }) => None,
            Err(error) => panic!("{key} cannot be opened: {error}"),
        };
        let tag = opened.as_ref().map(|opened| opened.info().etag);
        let content = {
            let mut model = self.world.model.borrow_mut();
            let ended = model.moment();
            model.saw(key, begun, ended, tag)
        };
        let (Some(mut opened), Some(content)) = (opened, content) else { return };
        opened.unlock(None).unwrap_or_else(|error| panic!("{key} is not unlocked: {error}"));
        let len_bytes = content.len_bytes();
        assert_eq!(opened.info().size_bytes, len_bytes, "{key}");
        let (begin, end) = range_per_mille.unwrap_or((0, 1_000));
        let range = len_bytes * begin / 1_000..len_bytes * end / 1_000;
        let mut reader = opened.read(range.clone());
        let mut got = Vec::new();
        while let Some(slices) = reader.next().await {
            let slices = slices.unwrap_or_else(|error| panic!("a read of {key} {range:?} fails: {error}"));
            slices.iter().for_each(|slice| got.extend_from_slice(slice));
            if is_slow {
                self.world.executor.sleep(Duration::from_millis(self.rng.u64(..3_000))).await;
            }
        }
        let at = |offset: u64| usize::try_from(offset).expect("small");
        let is_right = got == content.bytes()[at(range.start)..at(range.end)];
        assert!(is_right, "{key} {range:?} of {len_bytes} does not read as it was written");
    }

    async fn delete(&mut self, key: &str, is_conditional: bool, client_is: Client) {
        let mut condition = DeleteCondition::default();
        if is_conditional {
            condition.if_match = self.tag_of(key).await.map(|tag| tag.to_string());
        }
        let id = self.world.model.borrow_mut().begin(key, Value::Known(None));
        let entry = DeleteEntry { condition: condition.clone(), ..DeleteEntry::current(key_of(key)) };
        let Some(result) = self.patiently(client_is, self.core.delete_object(bucket(), entry)).await else {
            return;
        };
        if matches!(result, Err(OpError::PreconditionFailed | OpError::NoSuchKey)) {
            assert!(condition.if_match.is_some(), "an unconditional delete failed by its condition");
            let mut model = self.world.model.borrow_mut();
            model.end(key, id, Outcome::Refused);
            return model.end_null(key, id, Outcome::Refused);
        }
        self.judge(key, id, &WriteCondition::Always, result.map(|deleted| deleted.version));
    }

    async fn delete_many(&mut self, keys: &[String]) {
        let keys: BTreeSet<&String> = keys.iter().collect();
        let begun: Vec<(&String, u64)> = keys
            .iter()
            .map(|key| (*key, self.world.model.borrow_mut().begin(key, Value::Known(None))))
            .collect();
        let entries = keys.iter().map(|key| DeleteEntry::current(key_of(key))).collect();
        match self.core.delete_objects(bucket(), entries).await {
            Ok(results) => {
                for ((key, id), result) in begun.into_iter().zip(results) {
                    let result = result.map(|deleted| deleted.version);
                    self.judge(key, id, &WriteCondition::Always, result);
                }
            }
            Err(error) => self.check_refusal(&error),
        }
    }
}

fn holds(condition: &WriteCondition, tag: Option<&ETag>) -> bool {
    match condition {
        WriteCondition::Always => true,
        WriteCondition::IfAbsent => tag.is_none(),
        WriteCondition::IfMatch(wanted) => tag.is_some_and(|tag| tag.to_string() == *wanted),
    }
}

/// Lists all pages and compares them with what can be there.
pub(crate) async fn list(world: &World, core: &Ops, prefix: &str, delimiter: Option<char>, page: usize) {
    let begun = world.model.borrow_mut().moment();
    let (mut seen, mut rolled) = (BTreeMap::new(), BTreeSet::new());
    let mut after = bytes::Bytes::new();
    loop {
        let list = ListObjects {
            bucket: bucket(),
            prefix: bytes::Bytes::copy_from_slice(prefix.as_bytes()),
            delimiter: delimiter.map(|delimiter| delimiter.to_string().into()),
            after: after.clone(),
            max_keys: page,
            with_headers: false,
            with_acl: false,
        };
        let found = core.list_objects(list).await;
        let found = found.unwrap_or_else(|error| panic!("a listing of {prefix:?} fails: {error}"));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("keys are text");
        for object in &found.objects {
            let before = seen.insert(text(&object.key), object.etag);
            assert!(before.is_none(), "{:?} is listed twice", object.key);
        }
        rolled.extend(found.common_prefixes.iter().map(|prefix| text(prefix)));
        match found.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let mut model = world.model.borrow_mut();
    let ended = model.moment();
    model.saw_listing(prefix, delimiter, (begun, ended), &seen, &rolled);
}
