//! Uploads as forms (`multipart/form-data`): Quetz' `…/files/`, with any number of packages, and the dialect of prefix.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::TryStreamExt as _;
use granary_core::{Action, Sha256};
use granary_http::{Body, Call, Refusal, form, respond};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use multer::{Field, Multipart};
use serde_json::Value;

use super::{Held, Received, bad_request, forced, give_up, publish_all, receive_and_publish, take_in};
use crate::api::body::truth_of;
use crate::format::PackageFile;
use crate::state::Conda;

/// What a form may hold beside its packages, in bytes.
const FORM_ALLOWANCE: u64 = 4 << 20;
/// What may stand between two fields, in bytes: the head of one, and as much of it as one read brings.
const MOST_BETWEEN_FIELDS: usize = 4 << 20;
/// The longest text of a field, in bytes.
const LONGEST_TEXT: usize = 64 << 10;
/// The most packages of one form.
const MOST_PACKAGES: usize = 1000;

/// A form, read to its end.
struct Form {
    packages: Vec<Received>,
    force: bool,
}

/// `POST /api/channels/CHANNEL/files/`.
pub(in crate::routes) async fn files(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    Box::pin(of_quetz(&state, call, None)).await
}

/// `POST /api/channels/CHANNEL/packages/PACKAGE/files/`: all of them of this package, which is there already.
pub(in crate::routes) async fn files_of_package(
    state: Arc<Conda>,
    call: Call,
) -> Result<Response<Body>, Refusal> {
    let package = call.arrival.params.get("package").unwrap_or_default().to_owned();
    call.check(Action::Publish, Some(&package))?;
    if state.named(call.channel()?, &package).await?.is_none() {
        return Err(call.unknown("there is no such package in this channel"));
    }
    Box::pin(of_quetz(&state, call, Some(&package))).await
}

async fn of_quetz(state: &Conda, mut call: Call, package: Option<&str>) -> Result<Response<Body>, Refusal> {
    let form = read(state, &mut call, "files", None, package).await?;
    if form.packages.is_empty() {
        return Err(unprocessable("the form has no file in a field named files"));
    }
    publish_all(state, &mut call, form.packages, form.force).await?;
    respond::json(StatusCode::CREATED, &Value::Null).map_err(Refusal::internal)
}

/// `POST /api/v1/upload/CHANNEL?force=…`: one package, in a field named `file`, or as the whole body beside its name in a header.
pub(in crate::routes) async fn of_prefix(
    state: Arc<Conda>,
    mut call: Call,
) -> Result<Response<Body>, Refusal> {
    let header = |name: &str| call.arrival.headers.get(name).and_then(|value| value.to_str().ok());
    let expected = header("x-file-sha256").map(|digest| digest.to_lowercase().parse::<Sha256>());
    let expected = expected.transpose().map_err(bad_request)?;
    let name = header("x-file-name").map(str::to_owned);
    let mut force = forced(&call)?;
    if boundary(&call).is_ok() {
        let form = read(&state, &mut call, "file", expected, None).await?;
        if form.packages.len() != 1 {
            give_up(&state, form.packages).await?;
            return Err(Refusal::bad_request("the form has to have one package in a field named file"));
        }
        force |= form.force;
        publish_all(&state, &mut call, form.packages, force).await?;
    } else {
        let name = name.ok_or_else(|| Refusal::bad_request("name the file in the header X-File-Name"))?;
        let file: PackageFile = name.parse().map_err(bad_request)?;
        receive_and_publish(&state, &mut call, file, expected, force, None).await?;
    }
    respond::json(StatusCode::OK, &Value::Null).map_err(Refusal::internal)
}

fn boundary(call: &Call) -> Result<String, Refusal> {
    let content_type = call.arrival.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    multer::parse_boundary(content_type.unwrap_or_default())
        .map_err(|_| unprocessable("an upload to this path is a form (multipart/form-data) of packages"))
}

fn unprocessable(message: &'static str) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message)
}

/// Reads a form whose packages are in fields of this name.
async fn read(
    state: &Conda,
    call: &mut Call,
    named: &str,
    expected: Option<Sha256>,
    package: Option<&str>,
) -> Result<Form, Refusal> {
    let boundary = boundary(call)?;
    // Each package has a limit of its own.
    let body = call.arrival.take_body();
    if named == "file" {
        body.check_declared()?;
    }
    let mut form = Form { packages: Vec::new(), force: false };
    // The parser keeps what it reads until a field has begun, so that this has to be little.
    let budget = Arc::new(AtomicUsize::new(0));
    let spent = Arc::clone(&budget);
    let guarded = body.map_err(std::io::Error::other).and_then(move |chunk| {
        let left = spent.load(Ordering::Relaxed).checked_sub(chunk.len());
        spent.store(left.unwrap_or(0), Ordering::Relaxed);
        let refusal = || std::io::Error::other("there is too much between two fields");
        std::future::ready(left.map(|_| chunk).ok_or_else(refusal))
    });
    let mut multipart = Multipart::new(guarded, boundary);
    let mut texts = 0_u64;
    loop {
        budget.store(MOST_BETWEEN_FIELDS, Ordering::Relaxed);
        let next = match multipart.next_field().await {
            Ok(Some(field)) => {
                budget.store(usize::MAX, Ordering::Relaxed);
                add(state, call, &mut form, field, (named, expected, package), &mut texts).await
            }
            Ok(None) => return Ok(form),
            Err(error) => Err(form::refusal(error)),
        };
        if let Err(refusal) = next {
            give_up(state, form.packages).await?;
            return Err(refusal);
        }
    }
}

/// Takes in one field.
async fn add(
    state: &Conda,
    call: &Call,
    form: &mut Form,
    field: Field<'_>,
    (named, expected, package): (&str, Option<Sha256>, Option<&str>),
    texts: &mut u64,
) -> Result<(), Refusal> {
    let name = field.name().unwrap_or_default().to_owned();
    let Some(filename) = field.file_name().map(str::to_owned).filter(|_| name == named) else {
        let text = form::text(field, LONGEST_TEXT).await?;
        *texts += text.len() as u64;
        if *texts > FORM_ALLOWANCE {
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the form has too much text"));
        }
        if name == "force" {
            form.force = truth_of(&text)
                .ok_or_else(|| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "force is true or false"))?;
        }
        return Ok(());
    };
    if form.packages.len() == MOST_PACKAGES {
        return Err(Refusal::bad_request(format!("a form has at most {MOST_PACKAGES} packages")));
    }
    let Some((of, _)) = filename.rsplit_once('-').and_then(|(rest, _)| rest.rsplit_once('-')) else {
        return Err(Refusal::bad_request(format!("package file name has wrong format {filename}")));
    };
    if let Some(package) = package.filter(|package| *package != of) {
        return Err(Refusal::bad_request(format!(
            "requested package endpoint '{package}' does not match the uploaded package name '{of}'"
        )));
    }
    let file: PackageFile = filename.parse().map_err(bad_request)?;
    // Before any of it is taken in; and again when all of it is.
    call.check(Action::Publish, Some(file.name().as_str()))?;
    let bytes = futures_util::stream::try_unfold(field, |mut field| async move {
        let chunk = field.chunk().await.map_err(form::refusal)?;
        Ok::<_, Refusal>(chunk.map(|chunk| (chunk, field)))
    });
    let limit = call.max_upload_size();
    let (package, upload) = take_in(state, call, limit, file, expected, bytes).await?;
    // An upload that is not ended holds a buffer that others wait for.
    form.packages.push(Received { package, held: Held::Stored(upload.finish().await?) });
    Ok(())
}
