//! A delivery in a capture file: one line of JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use tower_inqud::contract;

use crate::pretty;

/// The headers that decide whether a delivery is accepted. Others may be private, such as cookies.
const KEPT: [HeaderName; 3] =
    [contract::DIGEST_HEADER, header::CONTENT_TYPE, header::CONTENT_ENCODING];

#[derive(Deserialize, Serialize)]
pub(crate) struct Record {
    pub(crate) at: String,
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    /// The exact text. Absent if the body is not UTF-8, or did not arrive completely.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// A body that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl Record {
    pub(crate) fn new(at: String, head: &Parts, body: Option<&[u8]>) -> Self {
        let headers = head.headers.iter().filter(|(name, _)| KEPT.contains(name));
        let text = body.map(std::str::from_utf8);
        Self {
            at,
            method: head.method.to_string(),
            path: head.uri.path_and_query().map_or("/", |it| it.as_str()).to_owned(),
            headers: headers
                .map(|(name, value)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect(),
            body: text.and_then(Result::ok).map(str::to_owned),
            body_base64: body
                .filter(|_| text.is_some_and(|it| it.is_err()))
                .map(|it| STANDARD.encode(it)),
        }
    }

    /// The exact bytes of the body. `None` if they were not captured.
    pub(crate) fn body(&self) -> Result<Option<Bytes>, base64::DecodeError> {
        match (&self.body, &self.body_base64) {
            (Some(text), _) => Ok(Some(Bytes::from(text.clone()))),
            (None, Some(text)) => Ok(Some(STANDARD.decode(text)?.into())),
            (None, None) => Ok(None),
        }
    }

    pub(crate) fn headers(&self) -> Result<HeaderMap, http::Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name)?;
            headers.append(name, HeaderValue::try_from(value)?);
        }
        Ok(headers)
    }
}

/// A file that deliveries are appended to.
pub(crate) struct Recorder(File);

impl Recorder {
    /// Opens or creates the file. Only its owner may read it, because bodies contain personal data.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        Self::append_to(path)
            .map_err(|error| format!("cannot capture to {}: {error}", path.display()))
    }

    fn append_to(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).read(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions());
            if file.metadata()?.is_file() && mode & 0o077 != 0 {
                let advice = format!("others can read it: run chmod 600 {}", path.display());
                return Err(io::Error::other(advice));
            }
        }
        // A process that was killed may have left half a line.
        if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self(file))
    }

    pub(crate) fn write(&mut self, record: &Record) -> io::Result<()> {
        let line = pretty::escaped(&serde_json::to_string(record)?) + "\n";
        self.0.write_all(line.as_bytes())
    }
}
