//! One data core: accepts connections until it is told to stop, and lets those that are open end.
//!
//! Everything of a core stays on its thread. What becomes of a connection is in `data/connection.rs`.
//! Nothing here reads a byte.

mod answering;
mod connection;
mod ending;

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use coatroom::timer::CoarseTimer;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::time::Instant;

use self::connection::Server;
use super::admission::{Admission, Place};
use super::connections::Connections;
use super::guarded::Watch;
use super::listener::{self, Accepted, Bound, Listener};

/// A service that can be served on a data core. It need not be `Send`.
pub(crate) trait HttpService:
    tower::Service<
        Request<Incoming>,
        Response = Response<Self::ResponseBody>,
        Error: Into<BoxError>,
        Future: 'static,
    > + Clone
    + 'static
{
    /// The body of its answers.
    type ResponseBody: Body<Error: Into<BoxError>> + 'static;
}

impl<S, B> HttpService for S
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: 'static>
        + Clone
        + 'static,
    B: Body<Error: Into<BoxError>> + 'static,
{
    type ResponseBody = B;
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Until a head is complete; a connection that idles this long is closed too.
    pub(crate) header_timeout: Duration,
    /// Until a TLS handshake is complete.
    pub(crate) handshake_timeout: Duration,
    /// The longest head, in bytes.
    pub(crate) head_size: u32,
    /// Concurrent streams of one HTTP/2 connection.
    pub(crate) streams: u32,
    /// How long a client may take nothing of its answer.
    pub(crate) write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            head_size: 64 * 1024,
            streams: 200,
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// What a data core is started with.
pub(super) struct DataCore {
    pub(super) socket: Bound,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) limits: Limits,
    pub(super) admission: Admission,
    pub(super) drain: Duration,
    /// Turns true when the core is to stop.
    pub(super) stop: watch::Receiver<bool>,
    pub(super) timer: CoarseTimer,
}

/// Accepts and serves until told to stop, then until the connections are done or the time for
/// that is over.
pub(super) async fn serve<S: HttpService>(
    mut core: DataCore,
    service: S,
    started: impl FnOnce(),
) -> std::io::Result<()> {
    let mut listener = core.socket.listen()?;
    let connections = Connections::default();
    let stopping = Rc::new(Cell::new(false));
    let admission = core.admission;
    let server = Server::new(
        service,
        core.tls,
        core.limits,
        Watch {
            timer: core.timer.clone(),
            admission: admission.clone(),
            write_timeout: core.limits.write_timeout,
        },
        stopping.clone(),
    );
    let server = Rc::new(server);
    let serve = |(accepted, place): (Accepted, Place)| {
        let connection = server
            .clone()
            .connection(accepted, connections.open(), place.occupy());
        tokio::task::spawn_local(connection);
    };
    let looking = tokio::task::spawn_local(look_when_crowded(connections.clone(), admission.clone()));
    started();
    loop {
        tokio::select! {
            biased;
            // A stop that can no longer come is a stop.
            _ = core.stop.wait_for(|stop| *stop) => break,
            accepted = admit(&mut listener, &admission) => serve(accepted),
        }
    }
    stopping.set(true);
    // Whoever connected or sent something before the signal is answered: the kernel hands it out
    // over the next turns of the loop.
    let last_call = Instant::now() + LAST_CALL;
    while Instant::now() < last_call {
        tokio::select! {
            biased;
            accepted = admit(&mut listener, &admission) => serve(accepted),
            () = tokio::time::sleep_until(last_call) => {}
        }
    }
    // On a busy machine that time was too short to take them all, and the kernel resets whoever
    // still waits in a socket that is closed.
    let closing = last_call + CLOSING.min(core.drain);
    while Instant::now() < closing
        && let Some(accepted) = waiting(admit(&mut listener, &admission)).await
    {
        serve(accepted);
    }
    drop(listener);
    tokio::time::sleep(LAST_CALL).await;
    connections.drain();
    looking.abort();
    let _ = core.timer.timeout(core.drain, connections.all_closed()).await;
    Ok(())
}

/// The next connection, once there is a place for it.
async fn admit(listener: &mut Listener, admission: &Admission) -> (Accepted, Place) {
    let place = admission.place().await;
    (listener::accept(listener).await, place)
}

/// What waits in the kernel already, if anything does, as of the last turn of the loop.
async fn waiting<T>(accepting: impl Future<Output = T>) -> Option<T> {
    tokio::task::yield_now().await;
    let mut accepting = pin!(tokio::task::coop::unconstrained(accepting));
    std::future::poll_fn(|cx| {
        Poll::Ready(match accepting.as_mut().poll(cx) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        })
    })
    .await
}

/// Makes room while places are short.
async fn look_when_crowded(connections: Connections, admission: Admission) {
    loop {
        tokio::time::sleep(LOOK).await;
        if admission.is_crowded() {
            connections.look(admission.is_full());
        }
    }
}

/// How long after the signal new connections are still taken, and then how long what they and the
/// others have sent is still read before idle ones are closed.
const LAST_CALL: Duration = Duration::from_millis(100);

/// How long those are still taken at most who were not by then.
const CLOSING: Duration = Duration::from_secs(5);

/// How often it is looked whether places are short.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod ending_tests;
#[cfg(test)]
mod framing_tests;
#[cfg(test)]
mod http2_flood_tests;
#[cfg(test)]
mod http2_stall_tests;
#[cfg(test)]
mod http2_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod raw_upstream;
#[cfg(test)]
mod recorder;
