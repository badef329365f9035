//! The daemon and its spool, as commands find them: what is asked over the control socket, and the database beside it.

use super::output::complain;
use crate::config::Config;
use crate::mail::OsEntropy;
use crate::net::{CONTROL, connect_control};
use crate::spool::{EmbeddedSpool, SpoolError, disk};
use crate::telemetry::{self, HashKey};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// Octets of an answer: a line for each of the configuration's listeners, routes and organizations, and bounded lists.
const MOST_OCTETS: usize = 64 << 20;
/// For the daemon to bring its last moves into the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the spool beside the daemon, which has brought into the database what it knows. One that does not answer has done so
/// within the last minute; that is said on stderr, as is what is found wrong with the spool.
///
/// # Errors
/// As [`EmbeddedSpool::open_beside`].
pub(super) async fn open(config: &Config) -> Result<EmbeddedSpool, SpoolError> {
    telemetry::start(&config.log, &HashKey::draw(&OsEntropy));
    let path = &config.spool.path;
    let failed = match timeout(PATIENCE, get(path, "/complete")).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) if is_nobody_there(&error) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("it does not answer within {} s", PATIENCE.as_secs())),
    };
    if let Some(why) = failed {
        complain(&format!(
            "what came within the last minute may be missing: the daemon has not brought it into the database: {why}"
        ));
    }
    EmbeddedSpool::open_beside(path, disk::system())
}

/// Whether no daemon runs.
fn is_nobody_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// What the daemon of the spool in `path` answers. Who asks bounds how long that may take.
///
/// # Errors
/// No daemon runs, or it does not answer as it should.
pub(super) async fn get(path: &Path, what: &str) -> io::Result<Bytes> {
    let stream = connect_control(path).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = Request::get(what).header(HOST, CONTROL).body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            return Err(io::Error::other(format!("it says {}", response.status())));
        }
        let body = Limited::new(response.into_body(), MOST_OCTETS).collect().await.map_err(io::Error::other)?;
        Ok(body.to_bytes())
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        body = &mut answer => body,
        // The daemon may close behind what it said.
        _ = &mut connection => answer.await,
    }
}
