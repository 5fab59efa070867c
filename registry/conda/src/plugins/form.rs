//! Small files in a form.

use futures_util::stream;
use granary_http::{Call, Refusal};
use http::StatusCode;
use http::header::CONTENT_TYPE;

/// The most of all files of a form together, in bytes.
const MAX_FORM: u64 = 1 << 20;

/// A file of a form.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) text: String,
}

/// The files of this field, in their order; without a form, the body itself. Each has to be text.
pub(super) async fn files(call: &mut Call, wanted: &'static str) -> Result<Vec<File>, Refusal> {
    let body = call.arrival.take_body().collect(MAX_FORM).await?;
    let content_type = call.arrival.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Ok(boundary) = multer::parse_boundary(content_type.unwrap_or_default()) else {
        return Ok(vec![file(String::new(), &body)?]);
    };
    let unreadable = |_| Refusal::bad_request("the form cannot be read");
    let mut form = multer::Multipart::new(stream::iter([Ok::<_, std::io::Error>(body)]), boundary);
    let mut files = Vec::new();
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        if field.name() == Some(wanted) {
            let name = field.file_name().unwrap_or_default().to_owned();
            files.push(file(name, &field.bytes().await.map_err(unreadable)?)?);
        }
    }
    if files.is_empty() { Err(lacks(wanted)) } else { Ok(files) }
}

/// The text of the first of them.
pub(super) async fn text(call: &mut Call, wanted: &'static str) -> Result<String, Refusal> {
    let first = files(call, wanted).await?.into_iter().next();
    first.map(|file| file.text).ok_or_else(|| lacks(wanted))
}

fn lacks(wanted: &str) -> Refusal {
    let message = format!("the form has no file in a field {wanted}");
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message)
}

fn file(name: String, bytes: &[u8]) -> Result<File, Refusal> {
    // Postgres takes no zero bytes.
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0') && !name.contains('\0'));
    let text = text.ok_or_else(|| Refusal::bad_request("a file is not text in UTF-8"))?;
    Ok(File { name, text: text.to_owned() })
}
