//! The signed part of the admin listener: drives, scrub, repair, census, fsck, gc, dumps of
//! metadata, objects, in JSON.
//! Invariants: every request below `/v1/` is signed with SigV4 by the root account before anything is looked at; a
//! change is asked for by POST, its parameters in the signed query; an error is `{"code", "message"}` with a status
//! that says whose it is; `docs/openapi.yaml` describes exactly [`ROUTES`].
//! Not here: carrying out (`drives`, `shardstore`, `inspector`).

use std::cell::OnceCell;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use fdb_schema::schema::VersionId;
use serde::Serialize;
use serde_json::json;
use shardstore::{ScrubPhase, StoreShared};

use super::identities::{IdentityError, IdentityHandle, IdentityRequest, WantedKey};
use super::inspector::{InspectError, InspectorHandle};
use crate::auth::{Accounts, AuthError, BodySignature, CoreAccounts, Verifier};
use crate::drives::{DriveHandle, DriveRequest, RequestError};
use crate::http::{Method, RequestHead, Response};
use crate::logs;
use crate::ops::{ExportError, GcHandle};
use crate::s3::query::Query;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// All drives.
    Drives,
    /// An empty directory joins.
    DriveAdd,
    /// An empty directory takes a drive's place.
    DriveReplace,
    /// A drive is emptied.
    DriveDrain,
    /// A drain is called off.
    DriveUndrain,
    /// A drive is emptied and leaves.
    DriveRemove,
    /// A fenced drive is used again.
    DriveRejoin,
    /// How scrub stands.
    Scrub,
    /// Scrub now.
    ScrubStart,
    /// Hold scrub.
    ScrubPause,
    /// How repair stands.
    Repair,
    /// How the census stands.
    Census,
    /// Begin a census.
    CensusStart,
    /// How fsck stands.
    Fsck,
    /// Begin an fsck.
    FsckStart,
    /// How gc stands.
    Gc,
    /// Begin a gc, or a dry run of one.
    GcStart,
    /// Begin a dump of metadata.
    ExportStart,
    /// A part of it.
    ExportPart,
    /// What helps whoever is asked for support.
    Support,
    /// The last lines of its log.
    Log,
    /// One object.
    Inspect,
    /// All users and their keys.
    Users,
    /// A new user.
    UserAdd,
    /// A user goes.
    UserRemove,
    /// One more key.
    KeyAdd,
    /// Another secret.
    KeyRotate,
    /// A key opens what it may again.
    KeyEnable,
    /// A key opens nothing.
    KeyDisable,
    /// A key goes.
    KeyRemove,
}

/// A secret that the operator chose, so that it is in no log of targets; signed, as every `x-amz-` field must be.
const SECRET_HEADER: &str = "x-amz-basalt-secret-key";
/// Says whether a part of a dump is its last.
const LAST_PART_HEADER: &str = "X-Basalt-Last";

/// Every signed route: method, path, what it does.
pub const ROUTES: &[(Method, &str, Route)] = &[
    (Method::Get, "/v1/drives", Route::Drives),
    (Method::Post, "/v1/drives/add", Route::DriveAdd),
    (Method::Post, "/v1/drives/replace", Route::DriveReplace),
    (Method::Post, "/v1/drives/drain", Route::DriveDrain),
    (Method::Post, "/v1/drives/undrain", Route::DriveUndrain),
    (Method::Post, "/v1/drives/remove", Route::DriveRemove),
    (Method::Post, "/v1/drives/rejoin", Route::DriveRejoin),
    (Method::Get, "/v1/scrub", Route::Scrub),
    (Method::Post, "/v1/scrub/start", Route::ScrubStart),
    (Method::Post, "/v1/scrub/pause", Route::ScrubPause),
    (Method::Get, "/v1/repair", Route::Repair),
    (Method::Get, "/v1/census", Route::Census),
    (Method::Post, "/v1/census/start", Route::CensusStart),
    (Method::Get, "/v1/fsck", Route::Fsck),
    (Method::Post, "/v1/fsck/start", Route::FsckStart),
    (Method::Get, "/v1/gc", Route::Gc),
    (Method::Post, "/v1/gc/start", Route::GcStart),
    (Method::Post, "/v1/meta/export/start", Route::ExportStart),
    (Method::Get, "/v1/meta/export", Route::ExportPart),
    (Method::Get, "/v1/support", Route::Support),
    (Method::Get, "/v1/log", Route::Log),
    (Method::Get, "/v1/inspect", Route::Inspect),
    (Method::Get, "/v1/users", Route::Users),
    (Method::Post, "/v1/users/add", Route::UserAdd),
    (Method::Post, "/v1/users/remove", Route::UserRemove),
    (Method::Post, "/v1/keys/add", Route::KeyAdd),
    (Method::Post, "/v1/keys/rotate", Route::KeyRotate),
    (Method::Post, "/v1/keys/enable", Route::KeyEnable),
    (Method::Post, "/v1/keys/disable", Route::KeyDisable),
    (Method::Post, "/v1/keys/remove", Route::KeyRemove),
];

/// What the API answers from, once the process serves.
pub struct AdminApi {
    /// All access keys; those of root may ask.
    pub accounts: Arc<Accounts>,
    /// The region of signatures.
    pub region: String,
    /// The keeper of the drives.
    pub drives: DriveHandle,
    /// The store's shared half.
    pub store: Arc<StoreShared>,
    /// Looks at what is stored.
    pub inspector: InspectorHandle,
    /// Gives space back at once.
    pub gc: GcHandle,
    /// Users and their keys.
    pub identities: IdentityHandle,
    /// Of this start: version, machine, configuration, pool; no secret.
    pub facts: serde_json::Value,
}

/// An answer that is no success.
struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
}

fn refusal(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, code, message: message.into() }
}

type Answer = Result<Response<()>, Refusal>;

/// Answers one request below `/v1/`; `api` is none while the process starts.
pub(super) async fn answer(
    api: Option<&AdminApi>,
    verifier: &OnceCell<Verifier<CoreAccounts>>,
    head: &RequestHead,
    now_ms: u64,
) -> Response<()> {
    let answered = async {
        let api = api.ok_or_else(|| refusal(503, "Starting", "the server is starting: try again soon"))?;
        let verifier = verifier.get_or_init(|| Verifier::new(api.accounts.on_core(), &api.region));
        authenticate(verifier, head, now_ms)?;
        let route = find(head.method(), head.raw_path())?;
        carry_out(api, route, head).await
    };
    answered.await.unwrap_or_else(|refusal| {
        json_answer(refusal.status, &json!({ "code": refusal.code, "message": refusal.message }))
    })
}

fn json_answer(status: u16, value: &impl Serialize) -> Response<()> {
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    Response::new(status).with_bytes("application/json", body)
}

fn authenticate(verifier: &Verifier<CoreAccounts>, head: &RequestHead, now_ms: u64) -> Result<(), Refusal> {
    let who = verifier.authenticate(head, None, now_ms).map_err(|error| match error {
        AuthError::TimeSkewed { .. } => {
            refusal(403, "RequestTimeTooSkewed", "the clocks differ by more than 15 minutes: set one of them")
        }
        AuthError::WrongRegion { expected, .. } => {
            refusal(403, "WrongRegion", format!("sign for the region {expected}"))
        }
        other => refusal(403, "AccessDenied", format!("the signature is refused: {other:?}")),
    })?;
    if !who.identity().account().is_some_and(|account| account.is_root) {
        return Err(refusal(403, "AccessDenied", "sign the request with the root account's key"));
    }
    let is_empty_body = match who.body() {
        BodySignature::Unsigned => true,
        BodySignature::Sha256(sent) => digest(&SHA256, b"").as_ref() == sent,
        // A streamed body.
        _ => false,
    };
    if is_empty_body {
        Ok(())
    } else {
        Err(refusal(400, "BodyNotEmpty", "parameters go into the query; send no body"))
    }
}

fn find(method: Method, path: &str) -> Result<Route, Refusal> {
    let mut is_known = false;
    for (allowed, known, route) in ROUTES {
        if *known == path {
            is_known = true;
            if *allowed == method {
                return Ok(*route);
            }
        }
    }
    Err(match is_known {
        true => {
            refusal(405, "MethodNotAllowed", format!("{path} takes another method: see docs/openapi.yaml"))
        }
        false => refusal(404, "NotFound", format!("there is no {path}: see docs/openapi.yaml")),
    })
}

fn parameter(head: &RequestHead, name: &str) -> Result<String, Refusal> {
    let value = Query::new(head.raw_query()).get(name).map(|value| value.into_owned());
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| refusal(400, "MissingParameter", format!("the query parameter {name} is missing")))
}

/// A parameter that is `true` or `false`; false if it is left out.
fn flag(head: &RequestHead, name: &str) -> Result<bool, Refusal> {
    match Query::new(head.raw_query()).get(name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => {
            Err(refusal(400, "InvalidParameter", format!("{name} is true or false and not {other}")))
        }
    }
}

async fn carry_out(api: &AdminApi, route: Route, head: &RequestHead) -> Answer {
    match route {
        Route::Drives => drives(api, DriveRequest::List).await,
        Route::DriveAdd => drives(api, DriveRequest::Add(parameter(head, "path")?.into())).await,
        Route::DriveReplace => {
            let (old, new) = (parameter(head, "old")?, parameter(head, "new")?.into());
            drives(api, DriveRequest::Replace { old, new }).await
        }
        Route::DriveDrain => drives(api, DriveRequest::Drain(parameter(head, "drive")?)).await,
        Route::DriveUndrain => drives(api, DriveRequest::Undrain(parameter(head, "drive")?)).await,
        Route::DriveRemove => drives(api, DriveRequest::Remove(parameter(head, "drive")?)).await,
        Route::DriveRejoin => drives(api, DriveRequest::Rejoin(parameter(head, "drive")?)).await,
        Route::Scrub => Ok(scrub(api)),
        Route::ScrubStart => {
            api.store.start_scrub();
            Ok(scrub(api))
        }
        Route::ScrubPause => {
            api.store.pause_scrub();
            Ok(scrub(api))
        }
        Route::Repair => Ok(repair(api)),
        Route::Census => Ok(json_answer(200, &api.inspector.progress().status())),
        Route::CensusStart => {
            if !api.inspector.start_census() {
                return Err(refusal(409, "CensusRunning", "a census is running: wait for it"));
            }
            Ok(json_answer(202, &api.inspector.progress().status()))
        }
        Route::Fsck => Ok(json_answer(200, &api.inspector.fsck().status())),
        Route::FsckStart => {
            if !api.inspector.start_fsck() {
                return Err(refusal(409, "FsckRunning", "an fsck is running: wait for it"));
            }
            Ok(json_answer(202, &api.inspector.fsck().status()))
        }
        Route::Gc => Ok(json_answer(200, &api.gc.progress().status())),
        Route::GcStart => {
            if !api.gc.start(flag(head, "dry_run")?) {
                return Err(refusal(409, "GcRunning", "a gc is running: wait for it"));
            }
            Ok(json_answer(202, &api.gc.progress().status()))
        }
        Route::ExportStart => {
            let id = api.inspector.start_export().await.map_err(export_refusal)?;
            Ok(json_answer(202, &json!({ "export": id })))
        }
        Route::ExportPart => {
            let (id, number) = (parameter(head, "export")?, parameter(head, "part")?);
            let number = number.parse().map_err(|_| {
                refusal(400, "InvalidParameter", format!("part is a number and not {number}"))
            })?;
            let part = api.inspector.export_part(id, number).await.map_err(export_refusal)?;
            let is_last = if part.is_last { "true" } else { "false" };
            let answer = Response::new(200).with_bytes("application/octet-stream", part.bytes);
            Ok(answer.with_header(LAST_PART_HEADER, is_last))
        }
        Route::Users
        | Route::UserAdd
        | Route::UserRemove
        | Route::KeyAdd
        | Route::KeyRotate
        | Route::KeyEnable
        | Route::KeyDisable
        | Route::KeyRemove => identity(api, identity_request(route, head)?).await,
        Route::Support => Ok(json_answer(200, &api.facts)),
        Route::Log => Ok(Response::new(200).with_bytes("application/x-ndjson", logs::last_lines())),
        Route::Inspect => {
            let (bucket, key) = (parameter(head, "bucket")?, parameter(head, "key")?);
            let version = match parameter(head, "version").ok() {
                None => None,
                Some(text) => match VersionId::parse(&text) {
                    Some(version) => Some(version),
                    None => {
                        let what = format!("{text} is no version id");
                        return Err(refusal(400, "InvalidParameter", what));
                    }
                },
            };
            match api.inspector.object(bucket, key.into_bytes(), version).await {
                Ok(found) => Ok(json_answer(200, &found)),
                Err(InspectError::NotFound(what)) => Err(refusal(404, "NoSuchKey", what)),
                Err(InspectError::Failed(what)) => Err(refusal(500, "Failed", what)),
            }
        }
    }
}

fn identity_request(route: Route, head: &RequestHead) -> Result<IdentityRequest, Refusal> {
    let chosen = |name| parameter(head, name).ok();
    let secret_key = head.header_str(SECRET_HEADER).map(str::to_owned);
    Ok(match route {
        Route::UserAdd => {
            let (user, access_key) = (parameter(head, "user")?, chosen("access_key"));
            IdentityRequest::AddUser(user, WantedKey { access_key, secret_key })
        }
        Route::UserRemove => IdentityRequest::RemoveUser(parameter(head, "user")?),
        Route::KeyAdd => {
            let (user, access_key) = (parameter(head, "user")?, chosen("access_key"));
            IdentityRequest::AddKey(user, WantedKey { access_key, secret_key })
        }
        Route::KeyRotate => IdentityRequest::RotateKey(parameter(head, "access_key")?, secret_key),
        Route::KeyEnable | Route::KeyDisable => {
            let is_enabled = route == Route::KeyEnable;
            IdentityRequest::EnableKey(parameter(head, "access_key")?, is_enabled)
        }
        Route::KeyRemove => IdentityRequest::RemoveKey(parameter(head, "access_key")?),
        _ => IdentityRequest::List,
    })
}

async fn identity(api: &AdminApi, request: IdentityRequest) -> Answer {
    match api.identities.ask(request).await {
        Ok(identities) => Ok(json_answer(200, &identities)),
        Err(IdentityError::Invalid(what)) => Err(refusal(400, "InvalidParameter", what)),
        Err(IdentityError::NotFound(what)) => Err(refusal(404, "NotFound", what)),
        Err(IdentityError::Refused(what)) => Err(refusal(409, "Refused", what)),
        Err(IdentityError::Failed(what)) => Err(refusal(500, "Failed", what)),
    }
}

fn export_refusal(error: ExportError) -> Refusal {
    match error {
        ExportError::Busy => refusal(
            409,
            "ExportRunning",
            "an export is under way: wait for it, it is given up after a minute",
        ),
        ExportError::Gone => {
            refusal(404, "NoSuchExport", "there is no such part of an export under way: begin again")
        }
        ExportError::Failed(what) => refusal(500, "Failed", what),
    }
}

async fn drives(api: &AdminApi, request: DriveRequest) -> Answer {
    match api.drives.ask(request).await {
        Ok(drives) => Ok(json_answer(200, &json!({ "drives": drives }))),
        Err(RequestError::Refused(what)) => Err(refusal(409, "Refused", what)),
        Err(RequestError::Failed(what)) => Err(refusal(500, "Failed", what)),
    }
}

fn scrub(api: &AdminApi) -> Response<()> {
    let (status, stats) = (api.store.scrub_status(), api.store.stats());
    let phase = match status.phase {
        ScrubPhase::Idle => "idle",
        ScrubPhase::Running => "running",
    };
    json_answer(
        200,
        &json!({
            "phase": phase,
            "paused": status.is_paused,
            "volumes_done": status.volumes.0,
            "volumes": status.volumes.1,
            "last_full_ms": status.last_full_ms,
            "read_bytes": stats.scrubbed_bytes,
            "pages_bad": stats.pages_bad,
            "pages_mended": stats.pages_mended,
            "stripes_lost": stats.stripes_lost,
        }),
    )
}

fn repair(api: &AdminApi) -> Response<()> {
    let (status, stats) = (api.store.repair_status(), api.store.stats());
    let balance = api.store.balance_status();
    json_answer(
        200,
        &json!({
            "shards_left": status.shards_left,
            "shards_waiting": status.shards_waiting,
            "waits_for": status.waits_for,
            "shards_lost": status.volumes_lost,
            "shards_repaired": stats.shards_repaired,
            "shards_balanced": stats.shards_balanced,
            "shards_to_balance": balance.shards_left,
            "balanced": balance.is_even,
            "read_bytes": stats.repair_bytes,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths and methods of the description, read by their indentation.
    fn described() -> Vec<(String, String)> {
        let text = include_str!("../../../docs/openapi.yaml");
        let (mut path, mut found) = (String::new(), Vec::new());
        for line in text.lines().skip_while(|line| *line != "paths:") {
            if let Some(name) = line.strip_prefix("  /").and_then(|rest| rest.strip_suffix(':')) {
                path = format!("/{name}");
            } else if let Some(method) = line.strip_prefix("    ").and_then(|rest| rest.strip_suffix(':'))
                && ["get", "post"].contains(&method)
            {
                found.push((method.to_owned(), path.clone()));
            }
        }
        found
    }

    #[test]
    fn the_description_names_every_route_and_no_other() {
        let name = |method: &Method| match method {
            Method::Get => "get".to_owned(),
            Method::Post => "post".to_owned(),
            other => panic!("{other:?} is not described"),
        };
        let mut routed: Vec<(String, String)> =
            ROUTES.iter().map(|(method, path, _)| (name(method), (*path).to_owned())).collect();
        let open = ["/healthz", "/readyz", "/metrics"].map(|path| ("get".to_owned(), path.to_owned()));
        routed.extend(open);
        let mut described = described();
        routed.sort();
        described.sort();
        assert_eq!(described, routed);
    }

    #[test]
    fn a_path_is_found_by_its_method() {
        assert_eq!(find(Method::Get, "/v1/drives").ok(), Some(Route::Drives));
        assert_eq!(find(Method::Get, "/v1/drives/add").err().map(|refusal| refusal.status), Some(405));
        assert_eq!(find(Method::Get, "/v1/nothing").err().map(|refusal| refusal.status), Some(404));
    }
}
