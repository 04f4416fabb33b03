use std::env;
use std::error::Error;

use inqud_inbox::tokio_postgres::Config;
use inqud_inbox::tokio_postgres::config::{Host, SslMode};

const VARIABLE: &str = "DATABASE_URL";

pub(crate) const HELP: &str =
    "The database of an inbox in Postgres; without a URL, that of DATABASE_URL";

pub(crate) const LONG_HELP: &str = "\
The database of an inbox in Postgres; without a URL, that of DATABASE_URL.

A URL with a password in it has to be there: everyone on a machine can read arguments. The connection
is not encrypted. So a host that is neither a loopback address, localhost nor the folder of a Unix
socket is refused, unless the URL says sslmode=disable.";

/// Of the database that `--postgres` names, with a URL or without. No error shows any of the URL: where
/// it is mistyped, any part of it may be the password.
pub(crate) fn config(argument: Option<&str>) -> Result<Config, Box<dyn Error + Send + Sync>> {
    let (from, url) = match argument {
        Some(url) => ("--postgres", url.to_owned()),
        None => {
            let missing = format!("no database: set {VARIABLE}, or give --postgres a URL");
            (VARIABLE, env::var(VARIABLE).map_err(|_| missing)?)
        }
    };
    let wrong = |error: &str| format!("{from}: {error}");
    let no_url = "no URL of a database, such as postgres://USER@HOST/DATABASE";
    let config: Config = url.parse().map_err(|_| wrong(no_url))?;
    if argument.is_some() && config.get_password().is_some() {
        let shown = "a password, which everyone on this machine can read in an argument: put the URL \
                     in DATABASE_URL";
        return Err(wrong(shown).into());
    }
    if !is_of_this_machine(&config) && config.get_ssl_mode() != SslMode::Disable {
        let exposed = "the database may be on another machine, and the connection is not \
                       encrypted: if nobody listens there, add sslmode=disable to the URL";
        return Err(wrong(exposed).into());
    }
    Ok(config)
}

fn is_of_this_machine(config: &Config) -> bool {
    let is_loopback = |host: &Host| match host {
        Host::Tcp(name) if name == "localhost" => true,
        Host::Tcp(name) => name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(is_loopback)
        && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}
