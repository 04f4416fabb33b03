//! The TLS parameters of a database URL. tokio-postgres knows neither `verify-full` nor `sslrootcert`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

const MODES: &str = "sslmode must be disable, prefer, require, verify-ca or verify-full";

const UNSUPPORTED: &str = "client certificates and revocation lists are not supported: remove sslcert, sslkey, \
                           sslpassword and sslcrl";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Disable,
    Prefer,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn of(text: &str) -> Result<Self, &'static str> {
        match text {
            "disable" => Ok(Self::Disable),
            "allow" | "prefer" => Ok(Self::Prefer),
            "verify-ca" => Ok(Self::VerifyCa),
            // Other clients encrypt without checking whom they talk to.
            "require" | "verify-full" => Ok(Self::VerifyFull),
            _ => Err(MODES),
        }
    }
}

/// The TLS parameters of a database URL, or of its form `host=... user=...`, and the rest of it.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) rest: String,
    pub(crate) mode: Option<Mode>,
    /// The file of the trusted certificates, without which the system's are trusted.
    pub(crate) root: Option<String>,
}

impl Parameters {
    /// No error quotes the text.
    pub(crate) fn take(text: &str) -> Result<Self, &'static str> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if is_url { Self::take_of_url(text) } else { Self::take_of_pairs(text) }
    }

    fn take_of_url(url: &str) -> Result<Self, &'static str> {
        // A password may contain question marks, so the query begins at the first one after it.
        let (credentials, address) = url.split_at(url.find('@').unwrap_or_default());
        let Some((address, query)) = address.split_once('?') else {
            return Ok(Self { rest: url.to_owned(), ..Self::default() });
        };
        let mut taken = Self::default();
        let mut others = Vec::new();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded =
                |text| percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text));
            if !taken.is_taken(&decoded(key), &decoded(value))? {
                others.push(pair);
            }
        }
        taken.rest = format!("{credentials}{address}?{}", others.join("&"));
        Ok(taken)
    }

    fn take_of_pairs(text: &str) -> Result<Self, &'static str> {
        let mut taken = Self::default();
        let mut remaining = text;
        while let Some((key, value, after)) = pair(remaining) {
            let pair = remaining.strip_suffix(after).unwrap_or(remaining);
            if !taken.is_taken(key, &value)? {
                taken.rest.push_str(pair);
            }
            remaining = after;
        }
        // The parser of the rest reports text that is not a pair.
        taken.rest.push_str(remaining);
        Ok(taken)
    }

    /// Takes a parameter if it is one of TLS. Of several, the last counts.
    fn is_taken(&mut self, key: &str, value: &str) -> Result<bool, &'static str> {
        match key {
            "sslmode" => self.mode = Some(Mode::of(value)?),
            // As libpq writes it.
            "sslrootcert" => self.root = Some(value.to_owned()).filter(|it| it != "system"),
            "sslcert" | "sslkey" | "sslpassword" | "sslcrl" | "sslcrldir" => {
                return Err(UNSUPPORTED);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Returns the key and value of the first pair, and what comes after it. A value ends at white space unless it is in
/// single quotes, and a backslash quotes the next character.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (key, value) = text.split_once('=')?;
    let key = key.trim();
    let value = value.trim_start();
    let quoted = value.strip_prefix('\'');
    let mut characters = quoted.unwrap_or(value).chars();
    let mut plain = String::new();
    loop {
        let before = characters.as_str();
        match characters.next() {
            Some('\\') => plain.extend(characters.next()),
            Some('\'') if quoted.is_some() => return Some((key, plain, characters.as_str())),
            Some(space) if quoted.is_none() && space.is_whitespace() => {
                return Some((key, plain, before));
            }
            Some(other) => plain.push(other),
            None if quoted.is_some() => return None,
            None => return Some((key, plain, "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(
        rest: &str,
        mode: Option<Mode>,
        root: Option<&str>,
    ) -> Result<Parameters, &'static str> {
        Ok(Parameters { rest: rest.to_owned(), mode, root: root.map(str::to_owned) })
    }

    #[test]
    fn takes_tls_parameters_and_keeps_the_rest() {
        use Mode::{Disable, Prefer, VerifyCa, VerifyFull};
        let url = "postgres://u:p@h/d";
        for (text, rest, mode, root) in [
            (url.to_owned(), url.to_owned(), None, None),
            (format!("{url}?sslmode=require"), format!("{url}?"), Some(VerifyFull), None),
            (
                format!("{url}?a=1&sslmode=verify-ca&sslrootcert=%2Fa%20b&c=%3D"),
                format!("{url}?a=1&c=%3D"),
                Some(VerifyCa),
                Some("/a b"),
            ),
            (format!("{url}?sslmode=disable&sslmode=allow"), format!("{url}?"), Some(Prefer), None),
            (format!("{url}?sslrootcert=a&sslrootcert=system"), format!("{url}?"), None, None),
            // A password with the characters of a query.
            (
                "postgres://u:?sslmode=x&@h/d?sslmode=disable".to_owned(),
                "postgres://u:?sslmode=x&@h/d?".to_owned(),
                Some(Disable),
                None,
            ),
            ("host=h sslmode=prefer".to_owned(), "host=h".to_owned(), Some(Prefer), None),
            (
                r"sslrootcert = '/a b\'s' user=u password='sslmode=x' sslmode=verify-full dbname=d"
                    .to_owned(),
                " user=u password='sslmode=x' dbname=d".to_owned(),
                Some(VerifyFull),
                Some("/a b's"),
            ),
            (r"password=a\ sslmode=x".to_owned(), r"password=a\ sslmode=x".to_owned(), None, None),
            (
                "password=it's sslmode=prefer".to_owned(),
                "password=it's".to_owned(),
                Some(Prefer),
                None,
            ),
            ("sslmode='disable".to_owned(), "sslmode='disable".to_owned(), None, None),
            ("password='open".to_owned(), "password='open".to_owned(), None, None),
            ("no pairs".to_owned(), "no pairs".to_owned(), None, None),
        ] {
            assert_eq!(Parameters::take(&text), taken(&rest, mode, root), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_supported() {
        for text in [
            "postgres://h/d?sslmode=full",
            "postgres://h/d?sslmode",
            "sslmode=Require",
            "sslmode=''",
        ] {
            assert_eq!(Parameters::take(text), Err(MODES), "{text}");
        }
        for text in ["postgres://h/d?sslcert=a", "host=h sslkey=a", "postgres://h?%73slcrl=a"] {
            assert_eq!(Parameters::take(text), Err(UNSUPPORTED), "{text}");
        }
    }
}
