use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use tower_inqud::Secret;
use zeroize::Zeroizing;

const VARIABLE: &str = "INQUD_WEBHOOK_SECRET";

/// Selects where the secret is read from. The secret itself is never an argument.
#[derive(Args)]
pub(crate) struct SecretArgs {
    /// Reads the secret from this file instead of INQUD_WEBHOOK_SECRET. A newline at its end is ignored.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretArgs {
    /// Returns `None` if neither the file nor the variable is set.
    pub(crate) fn read_if_set(&self) -> Result<Option<Secret>, Box<dyn Error + Send + Sync>> {
        let is_set = self.secret_file.is_some() || env::var_os(VARIABLE).is_some();
        if is_set { self.read().map(Some) } else { Ok(None) }
    }

    pub(crate) fn read(&self) -> Result<Secret, Box<dyn Error + Send + Sync>> {
        match &self.secret_file {
            Some(path) => from_file(path)
                .map_err(|error| format!("secret file {}: {error}", path.display()).into()),
            None => {
                let secret = env::var(VARIABLE).map_err(|_| {
                    format!("no secret given: set {VARIABLE}, or pass --secret-file")
                })?;
                Secret::new(secret).map_err(|error| format!("{VARIABLE}: {error}").into())
            }
        }
    }
}

fn from_file(path: &Path) -> Result<Secret, Box<dyn Error + Send + Sync>> {
    Ok(Secret::new(&**line(path)?)?)
}

/// Reads a file without the newline at its end. Editors add one, and it is not part of a secret.
pub(crate) fn line(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = read(File::open(path)?)?;
    if text.ends_with(b"\n") {
        text.pop();
        if text.ends_with(b"\r") {
            text.pop();
        }
    }
    Ok(text)
}

/// Reads all bytes without leaving copies: `fs::read` leaves some on the stack, and on the heap as it grows.
fn read(mut file: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; 4096]);
    let mut len = 0_usize;
    loop {
        if len == bytes.len() {
            let mut larger = Zeroizing::new(vec![0; len.saturating_mul(2)]);
            larger.iter_mut().zip(bytes.iter()).for_each(|(to, from)| *to = *from);
            bytes = larger;
        }
        match file.read(bytes.split_at_mut(len).1) {
            Ok(0) => break,
            Ok(more) => len = len.saturating_add(more),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind, Read};

    use super::read;

    /// Fails with each of these errors in turn, and then has these bytes.
    struct Failing(Vec<ErrorKind>, &'static [u8]);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.pop().map_or_else(|| self.1.read(buffer), |kind| Err(kind.into()))
        }
    }

    #[test]
    fn continues_after_a_signal_and_fails_on_other_errors() {
        let interrupted = Failing(vec![ErrorKind::Interrupted; 2], b"secret");
        assert_eq!(**read(interrupted).unwrap(), b"secret"[..]);
        let broken = read(Failing(vec![ErrorKind::IsADirectory], b"secret")).unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::IsADirectory);
    }

    #[test]
    fn reads_files_of_any_length() {
        for len in [0, 1, 4095, 4096, 4097, 20_000] {
            let bytes = (0..=u8::MAX).cycle().take(len).collect::<Vec<_>>();
            assert_eq!(*read(&*bytes).unwrap(), bytes);
        }
    }
}
