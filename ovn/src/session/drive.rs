//! Moves a link's bytes, and dials the next one when it ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use basalt_runtime::Backoff;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::call::Request;
use super::link::Link;
use super::remote::{Remote, Stream};
use super::{Shared, Status};
use crate::wire::{Decoder, Message};

/// Links forever; the session's last handle drops this.
pub(super) async fn run(shared: Arc<Shared>, remotes: Vec<Remote>, mut queue: mpsc::Receiver<Request>) {
    let (min, max) = shared.options.retry;
    let mut backoff = Backoff::new(min, max);
    let mut said = vec![String::new(); remotes.len()];
    let mut failures = 0;
    for epoch in 1.. {
        // A cast would do: there are a handful of remotes.
        let at = usize::try_from(epoch - 1).unwrap_or_default() % remotes.len();
        let Some(remote) = remotes.get(at) else { return };
        let (why, served) = attempt(&shared, remote, epoch, &mut queue).await;
        if served.is_some() {
            // What the others said before is of old.
            said.iter_mut().for_each(String::clear);
        }
        if let Some(slot) = said.get_mut(at) {
            *slot = format!("{remote}: {why}");
        }
        let all: Vec<&str> = said.iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
        shared.status.send_replace(Status::Down { why: all.join("; ") });
        let database = &shared.options.database;
        match (served, failures) {
            (Some(_), _) | (None, 0) => warn!(database, %remote, why, "no connection to the database"),
            (None, _) => debug!(database, %remote, why, "still no connection to the database"),
        }
        // One that serves and ends at once, over and over, is no success.
        match served.is_some_and(|time| time >= max) {
            true => {
                failures = 0;
                backoff.reset();
            }
            false => failures += 1,
        }
        if failures > 0 && failures % remotes.len() == 0 {
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

/// One link, from its beginning to its end: why it ended, and how long it served.
async fn attempt(
    shared: &Arc<Shared>,
    remote: &Remote,
    epoch: u64,
    queue: &mut mpsc::Receiver<Request>,
) -> (String, Option<Duration>) {
    let greeted = Instant::now() + shared.options.connect;
    let stream = match timeout(shared.options.connect, remote.dial(shared.options.tls.as_ref())).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return (basalt_runtime::chain(&error), None),
        Err(_) => return (format!("no connection within {:?}", shared.options.connect), None),
    };
    let mut link = Link::new(Arc::clone(shared), epoch);
    let mut driver = Driver { shared, remote, epoch, greeted, up: None };
    let why = driver.drive(stream, &mut link, queue).await;
    // The status is down before anybody learns of a lost request.
    let up = driver.up.map(|since| since.elapsed());
    shared.status.send_if_modified(|status| match status {
        Status::Up { .. } => {
            *status = Status::Down { why: format!("{remote}: {why}") };
            true
        }
        Status::Down { .. } => false,
    });
    link.end(&format!("{remote}: {why}"));
    (why, up)
}

struct Driver<'a> {
    shared: &'a Arc<Shared>,
    remote: &'a Remote,
    epoch: u64,
    /// Until when it must have greeted.
    greeted: Instant,
    up: Option<Instant>,
}

impl Driver<'_> {
    /// Until the link ends: why it did.
    async fn drive(&mut self, stream: Box<dyn Stream>, link: &mut Link, queue: &mut mpsc::Receiver<Request>) -> String {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut decoder = Decoder::new(self.shared.options.limit);
        let period = self.shared.options.probe;
        let mut probe = interval_at(Instant::now() + period, period);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut probed, mut unflushed) = (true, false, false);
        loop {
            let output = unflushed || !link.out.is_empty();
            let (takes, serving) = (link.takes(), link.serving());
            // All arms may be dropped: a read, write or receive that is not done has moved nothing.
            tokio::select! {
                biased;
                wrote = write(&mut writer, &mut link.out), if output => match wrote {
                    Ok(bytes) => {
                        // Nothing written means flushed.
                        unflushed = bytes > 0;
                        link.wrote(bytes);
                    }
                    Err(error) => return error.to_string(),
                },
                read = read(&mut reader, &mut decoder) => match read.map(|bytes| self.received(bytes, &mut decoder, link)) {
                    Ok(Ok(())) => heard = true,
                    Ok(Err(why)) => return why,
                    Err(error) => return error.to_string(),
                },
                request = queue.recv(), if takes => match request {
                    Some(request) => {
                        link.push(request);
                        while let Some(request) = link.takes().then(|| queue.try_recv().ok()).flatten() {
                            link.push(request);
                        }
                    }
                    None => return "the session has ended".into(),
                },
                () = self.shared.wake.notified(), if serving => link.start_feeds(),
                _ = probe.tick() => match (std::mem::take(&mut heard), probed) {
                    (true, _) => probed = false,
                    (false, false) => {
                        probed = true;
                        link.probe();
                    }
                    (false, true) => return format!("it was silent for {:?}", 2 * period),
                },
                () = sleep_until(self.greeted), if !serving => {
                    return format!("it did not greet within {:?}", self.shared.options.connect);
                }
            }
        }
    }

    fn received(&mut self, bytes: usize, decoder: &mut Decoder, link: &mut Link) -> Result<(), String> {
        if bytes == 0 {
            return Err("it closed the connection".into());
        }
        self.shared.counters.received.fetch_add(bytes as u64, Ordering::Relaxed);
        while let Some(frame) = decoder.frame().map_err(|e| e.to_string())? {
            let message = Message::parse(&frame).map_err(|e| e.to_string())?;
            link.receive(message)?;
        }
        if let (true, None, Some(schema)) = (link.serving(), self.up, link.schema()) {
            self.up = Some(Instant::now());
            let (remote, epoch) = (self.remote.clone(), self.epoch);
            info!(database = self.shared.options.database, %remote, version = schema.version, "connected");
            self.shared.status.send_replace(Status::Up { remote, epoch, schema: Arc::clone(schema) });
        }
        Ok(())
    }
}

async fn read(reader: &mut (impl AsyncRead + Unpin), decoder: &mut Decoder) -> io::Result<usize> {
    reader.read_buf(decoder.space()).await
}

/// Writes some of it; with nothing left to write, has the stream send on what it kept back.
async fn write(writer: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut) -> io::Result<usize> {
    match out.is_empty() {
        false => {
            let bytes = writer.write(out).await?;
            out.advance(bytes);
            Ok(bytes)
        }
        true => writer.flush().await.map(|()| 0),
    }
}
