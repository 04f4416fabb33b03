use std::env;
use std::error::Error;

use inqud_inbox::tokio_postgres::Config;
use inqud_inbox::tokio_postgres::config::{Host, SslMode};

const VARIABLE: &str = "DATABASE_URL";

pub(crate) const HELP: &str =
    "The Postgres database of the inbox [default: the URL in DATABASE_URL]";

pub(crate) const LONG_HELP: &str = "\
The Postgres database of the inbox. Without a URL, DATABASE_URL is used.

Put a URL that contains a password into DATABASE_URL, because every user of a machine can read
arguments. The connection is not encrypted. Therefore the host must be localhost, a loopback address or
the directory of a Unix socket, unless the URL says sslmode=disable.";

/// Parses the URL given to `--postgres`, or the one in `DATABASE_URL`. No error quotes the URL, because any
/// part of a mistyped URL may be the password.
pub(crate) fn config(argument: Option<&str>) -> Result<Config, Box<dyn Error + Send + Sync>> {
    let (from, url) = match argument {
        Some(url) => ("--postgres", url.to_owned()),
        None => {
            let missing = format!("no database given: set {VARIABLE}, or pass --postgres=URL");
            (VARIABLE, env::var(VARIABLE).map_err(|_| missing)?)
        }
    };
    let wrong = |error: &str| format!("{from}: {error}");
    let no_url = "not a database URL: use postgres://USER@HOST/DATABASE";
    let config: Config = url.parse().map_err(|_| wrong(no_url))?;
    if argument.is_some() && config.get_password().is_some() {
        let shown = "every user of this machine can read a password in an argument: put the URL into \
                     DATABASE_URL instead";
        return Err(wrong(shown).into());
    }
    if !is_on_this_machine(&config) && config.get_ssl_mode() != SslMode::Disable {
        let exposed = "the database may be on another machine, and the connection is not \
                       encrypted: if the network between is trusted, add sslmode=disable to the URL";
        return Err(wrong(exposed).into());
    }
    Ok(config)
}

fn is_on_this_machine(config: &Config) -> bool {
    let is_loopback = |host: &Host| match host {
        Host::Tcp(name) if name == "localhost" => true,
        Host::Tcp(name) => name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(is_loopback)
        && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}
