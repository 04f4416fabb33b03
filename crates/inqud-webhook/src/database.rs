use std::env;
use std::error::Error;
use std::net::IpAddr;

use inqud_inbox::tokio_postgres::config::{Host, SslMode};
use inqud_inbox::tokio_postgres::{Config, NoTls};
use inqud_inbox::{Inbox, InboxError, Postgres};
use rustls::pki_types::ServerName;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::chain::error_chain;
use crate::parameters::{Mode, Parameters};
use crate::tls;

type BoxError = Box<dyn Error + Send + Sync>;

const VARIABLE: &str = "DATABASE_URL";

const NO_URL: &str = "not a database URL: use postgres://USER@HOST/DATABASE, and percent-encode the \
                      special characters of a password";

pub(crate) const HELP: &str =
    "The Postgres database of the inbox [default: the URL in DATABASE_URL]";

pub(crate) const LONG_HELP: &str = "\
The Postgres database of the inbox. Without a URL, DATABASE_URL is used.

Put a URL that contains a password into DATABASE_URL, because every user of a machine can read
arguments. The URL can say how the connection is protected:

  sslmode=disable      not encrypted. The default for localhost, a loopback address and the directory
                       of a Unix socket
  sslmode=prefer       the same, and refused for another machine
  sslmode=verify-full  encrypted, with a certificate for this host that a trusted root has signed. The
                       default for another machine
  sslmode=require      the same as verify-full. Other clients do not check the certificate
  sslmode=verify-ca    the same, but the certificate can be for any host. Needs sslrootcert=FILE
  sslrootcert=FILE     trusts the certificates in this PEM file instead of the system's roots

Client certificates are not supported.";

/// A Postgres database, and how to connect to it.
pub(crate) struct Database {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Database {
    /// Parses the URL given to `--postgres`, or the one in `DATABASE_URL`. No error quotes the URL, because any
    /// part of a mistyped URL may be the password.
    pub(crate) fn new(argument: Option<&str>) -> Result<Self, BoxError> {
        let (from, url) = match argument {
            Some(url) => ("--postgres", url.to_owned()),
            None => {
                let missing = format!("no database given: set {VARIABLE}, or pass --postgres=URL");
                (VARIABLE, env::var(VARIABLE).map_err(|_| missing)?)
            }
        };
        parse(&url, argument.is_some()).map_err(|error| format!("{from}: {error}").into())
    }

    pub(crate) async fn open(self) -> Result<Inbox<Postgres>, BoxError> {
        let opened = match self.tls {
            Some(tls) => Inbox::postgres(self.config, tls).await,
            None => Inbox::postgres(self.config, NoTls).await,
        };
        opened.map_err(|error| with_advice(&error))
    }

    pub(crate) async fn migrate(self) -> Result<(), BoxError> {
        let migrated = match self.tls {
            Some(tls) => Inbox::migrate(&self.config, tls).await,
            None => Inbox::migrate(&self.config, NoTls).await,
        };
        migrated.map_err(|error| with_advice(&error))
    }
}

fn parse(url: &str, is_argument: bool) -> Result<Database, BoxError> {
    let Parameters { rest, mode, root } = Parameters::take(url)?;
    let mut config: Config = rest.parse().map_err(|_| NO_URL)?;
    // The rest of a password that contains "@" would be looked up as the name of a host.
    if !config.get_hosts().iter().all(is_valid) {
        return Err(NO_URL.into());
    }
    if is_argument && config.get_password().is_some() {
        let shown = "every user of this machine can read a password in an argument: put the URL into \
                     DATABASE_URL instead";
        return Err(shown.into());
    }
    let is_near = is_on_this_machine(&config);
    let tls = match mode {
        _ if is_unix_socket(&config) => None,
        Some(Mode::Disable) => None,
        None if is_near && root.is_none() => None,
        Some(Mode::Prefer) if is_near => None,
        Some(Mode::Prefer) => {
            let exposed = "the database may be on another machine, and sslmode=prefer allows an \
                           unencrypted connection: use sslmode=verify-full, or sslmode=disable if the \
                           network between is trusted";
            return Err(exposed.into());
        }
        Some(Mode::VerifyCa) => Some(tls::any_name(root.as_deref())?),
        None | Some(Mode::VerifyFull) => Some(tls::this_name(root.as_deref())?),
    };
    config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
    Ok(Database { config, tls })
}

fn is_valid(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => ServerName::try_from(name.as_str()).is_ok(),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// Unix sockets are never encrypted, whatever the mode is, as with every client of Postgres.
fn is_unix_socket(config: &Config) -> bool {
    #[cfg(unix)]
    return !config.get_hosts().is_empty()
        && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    #[cfg(not(unix))]
    return false;
}

fn is_on_this_machine(config: &Config) -> bool {
    let is_loopback = |host: &Host| match host {
        Host::Tcp(name) if name == "localhost" => true,
        Host::Tcp(name) => name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(is_loopback)
        && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// Formats an error and its causes in one line. Says what to do if the cause is TLS.
fn with_advice(error: &InboxError) -> BoxError {
    let text = error_chain(error);
    let advice = if text.contains("server does not support TLS") {
        "turn `ssl` on at the server, or add sslmode=disable to the URL if the network between is trusted"
    } else if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        "add sslrootcert=FILE to the URL, with the certificate of the authority that signed the server's"
    } else if text.contains("certificate not valid for name") {
        "use the host's name that the certificate has, or sslmode=verify-ca with sslrootcert=FILE"
    } else {
        return text.into();
    };
    format!("{text}: {advice}").into()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn unix_sockets_are_never_encrypted() {
        for mode in ["prefer", "require", "verify-full", "verify-ca"] {
            let url = format!("host=/run/postgresql user=inqud sslmode={mode}");
            let database = parse(&url, true).unwrap();
            assert!(database.tls.is_none(), "{mode}");
            assert_eq!(database.config.get_ssl_mode(), SslMode::Disable, "{mode}");
        }
    }

    /// Otherwise a resolver would see the end of the password.
    #[test]
    fn password_with_an_at_sign_is_not_a_host() {
        let error = parse("postgres://u:pass@word@shop.example/d", false).err().unwrap();
        assert_eq!(error.to_string(), NO_URL);
    }
}
