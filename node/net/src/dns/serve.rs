//! The sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use basalt_runtime::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Reply, Transport, reply};
use super::book::Book;

/// Connections at a time: of all, and from one address.
const CONNECTIONS: usize = 64;
const FROM_ONE: usize = 8;
/// Requests over one connection.
const REQUESTS: usize = 128;
/// Requests are a name and a signature: whoever sends more has something else in mind.
const LONGEST: usize = 4096;
/// How long a request may take to arrive, and a message to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves what `book` holds until shutdown, and ends connections then.
///
/// A client that is slow, silent or sends too much is cut off; one too many is turned away at once.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(address: SocketAddr, book: watch::Receiver<Arc<Book>>, shutdown: Shutdown) -> io::Result<()> {
    let (udp, tcp) = (UdpSocket::bind(address).await?, TcpListener::bind(address).await?);
    tracing::info!(%address, "network zones are given to their peers");
    let connected: Connected = Arc::default();
    let mut connections = JoinSet::new();
    let mut datagram = vec![0; LONGEST + 1];
    loop {
        // Cancel-safe: receiving and accepting are, and what they bring is dealt with before the next round.
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(_) = connections.join_next() => {}
            got = udp.recv_from(&mut datagram) => match got {
                Ok((length, from)) if length <= LONGEST => {
                    let now = book.borrow().clone();
                    if let Reply::One(answer) = reply(&now, &datagram[..length], from.ip(), Transport::Udp) {
                        // Whoever misses it asks again.
                        let _ = udp.try_send_to(&answer, from);
                    }
                }
                Ok(_) => {}
                Err(error) => pause("datagrams cannot be read", &error).await,
            },
            got = tcp.accept() => match got {
                Ok((stream, from)) => {
                    if let Some(place) = Place::take(&connected, from.ip()) {
                        let book = book.clone();
                        connections.spawn(async move {
                            let _place = place;
                            connection(stream, from.ip(), &book).await;
                        });
                    }
                }
                Err(error) => pause("connections cannot be taken", &error).await,
            },
        }
    }
}

/// Errors of a socket may last, as when no more files can be opened.
async fn pause(what: &str, error: &io::Error) {
    tracing::warn!(%error, "DNS: {what}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// How many connections there are from each address.
type Connected = Arc<Mutex<BTreeMap<IpAddr, usize>>>;

/// The right to be connected.
struct Place {
    connected: Connected,
    from: IpAddr,
}

impl Place {
    fn take(connected: &Connected, from: IpAddr) -> Option<Self> {
        let mut held = connected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let all: usize = held.values().sum();
        let own = held.get(&from).copied().unwrap_or(0);
        if all >= CONNECTIONS || own >= FROM_ONE {
            return None;
        }
        held.insert(from, own + 1);
        Some(Place { connected: connected.clone(), from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.connected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match held.get_mut(&self.from) {
            Some(many) if *many > 1 => *many -= 1,
            Some(_) | None => {
                held.remove(&self.from);
            }
        }
    }
}

/// Answers requests one after the other until the client goes, or asks too much.
async fn connection(mut stream: TcpStream, from: IpAddr, book: &watch::Receiver<Arc<Book>>) {
    for _ in 0..REQUESTS {
        let Ok(Ok(request)) = timeout(PATIENCE, request(&mut stream)).await else { return };
        let now = book.borrow().clone();
        let outcome = match reply(&now, &request, from, Transport::Tcp) {
            Reply::Nothing => return,
            Reply::One(message) => send(&mut stream, &message).await,
            Reply::Whole(mut transfer) => {
                let mut outcome = Ok(());
                while let Some(message) = transfer.next() {
                    outcome = match message {
                        Ok(message) => send(&mut stream, &message).await,
                        Err(error) => Err(io::Error::other(error.to_string())),
                    };
                    if outcome.is_err() {
                        break;
                    }
                }
                outcome
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%from, %error, "a DNS client was cut off");
            return;
        }
    }
}

async fn request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut request = vec![0; length];
    stream.read_exact(&mut request).await?;
    Ok(request)
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let framed = [&length.to_be_bytes(), message].concat();
    timeout(PATIENCE, stream.write_all(&framed)).await?
}
