use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use clap::ValueEnum;
use tower_inqud::EventKind;

use crate::chain::BoxError;
use crate::stored_kind::Kind;

/// The longest id in bytes that the client sends.
const MAX_ID: usize = 200;

#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) id: String,
}

/// How to read a list of ids.
pub(super) struct Ids<'a> {
    /// The kind of lines without one.
    pub(super) kind: Option<Kind>,
    /// Whether the client can fetch ids with the prefix of this kind.
    pub(super) has_path: &'a dyn Fn(EventKind) -> bool,
}

impl Ids<'_> {
    /// Reads the whole list before anything is fetched. Each object is returned once.
    pub(super) fn read(&self, file: &Path) -> Result<Vec<Object>, BoxError> {
        let name = if file.as_os_str() == "-" { Path::new("standard input") } else { file };
        let objects = if file.as_os_str() == "-" {
            self.parse(io::stdin().lock())
        } else {
            let opened = File::open(file).map_err(|error| error.to_string());
            opened.and_then(|file| self.parse(BufReader::new(file)))
        };
        objects.map_err(|error| format!("{}: {error}", name.display()).into())
    }

    fn parse(&self, lines: impl BufRead) -> Result<Vec<Object>, String> {
        let mut known = HashSet::new();
        let mut objects = Vec::new();
        for (number, line) in (1_u64..).zip(lines.lines()) {
            let object = line.map_err(|error| error.to_string()).and_then(|it| self.object(&it));
            let object = object.map_err(|error| format!("line {number}: {error}"))?;
            objects.extend(object.filter(|object| known.insert(object.clone())));
        }
        // A query that failed leaves an empty file, of which nothing can be said.
        if objects.is_empty() {
            return Err("contains no ids".to_owned());
        }
        Ok(objects)
    }

    fn object(&self, line: &str) -> Result<Option<Object>, String> {
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (kind, id) = match (words.next(), words.next(), words.next()) {
            (Some(id), None, None) => (self.kind, id),
            (Some(kind), Some(id), None) => {
                let wrong = |_| format!("unknown kind {kind:?}: see --kind in --help");
                (Some(Kind::from_str(kind, false).map_err(wrong)?), id)
            }
            _ => return Err("must be `ID` or `KIND ID`".to_owned()),
        };
        if id.len() > MAX_ID
            || id.contains(char::is_control)
            || id.contains(['/', '\\'])
            || id.contains("..")
        {
            return Err(format!(
                "invalid id {id:?}: must have at most {MAX_ID} bytes, and no control character, slash, backslash or \
                 \"..\""
            ));
        }
        let of_prefix = Kind::value_variants().iter().copied().find(|kind| {
            let prefix = kind.of_object().and_then(EventKind::id_prefix);
            prefix.is_some_and(|prefix| id.starts_with(prefix))
        });
        let unknown =
            || format!("the id {id:?} has no known prefix: write `KIND ID`, or pass --kind");
        let kind = kind.or(of_prefix).ok_or_else(unknown)?;
        if let Some(other) = of_prefix.filter(|other| *other != kind && kind != Kind::Event) {
            let (other, kind) = (other.as_str(), kind.as_str());
            return Err(format!("{id:?} has the prefix of the kind `{other}`, not of `{kind}`"));
        }
        // The client chooses the path by the prefix.
        let path = of_prefix.and_then(Kind::of_object).unwrap_or(EventKind::Other);
        if !(self.has_path)(path) {
            return Err(format!(
                "the path of {id:?} in the API is not known: pass --path '{path}=/…/{{id}}'"
            ));
        }
        Ok(Some(Object { kind, id: id.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: Option<Kind>, text: &str) -> Result<Vec<String>, String> {
        let has_path = |kind| kind != EventKind::Subscription;
        let ids = Ids { kind, has_path: &has_path };
        let name = |it: Object| format!("{} {}", it.kind.as_str(), it.id);
        Ok(ids.parse(text.as_bytes())?.into_iter().map(name).collect())
    }

    #[test]
    fn reads_kinds_and_ids() {
        let text =
            "\u{feff}# of May\r\nCAPD-1\r\n\n  payment\tPMT-1  \nCAPD-1\nevent CAPD-1\ninvoice I-1";
        let read = parse(None, text).unwrap();
        assert_eq!(read, ["request CAPD-1", "payment PMT-1", "event CAPD-1", "invoice I-1"]);
        assert_eq!(parse(Some(Kind::Event), "x-1").unwrap(), ["event x-1"]);
    }

    #[test]
    fn rejects_malformed_lines_with_their_number() {
        for (line, error) in [
            ("x-1", "line 2: the id \"x-1\" has no known prefix"),
            ("a b c", "line 2: must be `ID` or `KIND ID`"),
            ("order CAPD-1", "line 2: unknown kind \"order\""),
            ("request PMT-1", "line 2: \"PMT-1\" has the prefix of the kind `payment`"),
            ("PMT-../1", "line 2: invalid id"),
            ("PMT-\u{1}", "line 2: invalid id \"PMT-\\u{1}\""),
            (
                "SUB-1",
                "line 2: the path of \"SUB-1\" in the API is not known: pass --path 'subscription=/…/{id}'",
            ),
        ] {
            let told = parse(None, &format!("CAPD-1\n{line}\n")).unwrap_err();
            assert!(told.starts_with(error), "{told}");
        }
        let long = format!("PMT-{}", "1".repeat(MAX_ID));
        assert!(parse(None, &long).unwrap_err().starts_with("line 1: invalid id"));
        assert_eq!(parse(None, "# none\n").unwrap_err(), "contains no ids");
    }
}
