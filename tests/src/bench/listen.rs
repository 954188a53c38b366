//! Listeners of `/1.0/events`: plain WebSockets over the unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Sample;
use crate::api::Api;

const PATIENCE: Duration = Duration::from_secs(10);

/// Milliseconds from the sending of a `PATCH` of `instance` until a listener has its event: of `count` listeners, for
/// `writes` writes one after another.
///
/// # Errors
/// When a listener is refused, or misses an event.
pub fn through(api: &Api, instance: &str, count: usize, writes: usize) -> Result<Sample> {
    let (heard, events) = mpsc::channel();
    let mut ends = Vec::new();
    for _ in 0..count {
        let stream = open(api)?;
        ends.push(stream.get_ref().try_clone().context("a second handle")?);
        let (heard, source) = (heard.clone(), format!("/1.0/instances/{instance}"));
        std::thread::spawn(move || listen(stream, &source, &heard));
    }
    let mut times = Sample::default();
    let mut connection = api.connect()?;
    for write in 0..writes {
        let body = json!({"config": {"user.e": write.to_string()}}).to_string();
        let begun = Instant::now();
        let path = format!("/1.0/instances/{instance}");
        let answer = connection.request("PATCH", &path, "application/json", body.as_bytes())?;
        api.finish(&answer)?;
        for _ in 0..count {
            let at = events.recv_timeout(PATIENCE).with_context(|| format!("a listener missed event {write}"))?;
            times.push_time(at.saturating_duration_since(begun));
        }
    }
    // The threads end with their sockets.
    ends.iter().for_each(|s| drop(s.shutdown(std::net::Shutdown::Both)));
    Ok(times)
}

fn open(api: &Api) -> Result<BufReader<UnixStream>> {
    let mut stream = BufReader::new(UnixStream::connect(api.socket()).context("connect a listener")?);
    stream.get_mut().write_all(
        b"GET /1.0/events?type=lifecycle HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YmVuY2ggYmVuY2ggYmVuYw==\r\n\r\n",
    )?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    ensure!(line.contains(" 101 "), "events: {}", line.trim());
    while !line.trim().is_empty() {
        line.clear();
        stream.read_line(&mut line)?;
    }
    Ok(stream)
}

fn listen(mut stream: BufReader<UnixStream>, source: &str, heard: &Sender<Instant>) {
    // Ends with its socket.
    while let Ok(message) = frame(&mut stream) {
        let at = Instant::now();
        if message.contains("\"instance-updated\"") && message.contains(source) && heard.send(at).is_err() {
            return;
        }
    }
}

/// One frame; servers do not mask theirs.
fn frame(stream: &mut impl Read) -> Result<String> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut long = [0; 2];
            stream.read_exact(&mut long)?;
            u64::from(u16::from_be_bytes(long))
        }
        127 => {
            let mut long = [0; 8];
            stream.read_exact(&mut long)?;
            u64::from_be_bytes(long)
        }
        short => u64::from(short),
    };
    let mut payload = vec![0; usize::try_from(length)?];
    stream.read_exact(&mut payload)?;
    Ok(String::from_utf8_lossy(&payload).into_owned())
}
