//! Load that remembers: writers which know what was acknowledged, so that a test can ask for it afterwards.
//!
//! Each writer owns some keys (`user.*` of one instance's config) and counts up in them. A write that failed is
//! *unknown*, never *absent*: after it, the key may hold either value. What must never happen is that an acknowledged
//! value is gone: reading a smaller number than the last one acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::api::Api;
use crate::wait;

/// What one writer knows of its key.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// The last number the cluster said it keeps.
    acknowledged: u64,
    /// The last number that was sent.
    sent: u64,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    known: Arc<Mutex<Vec<Known>>>,
    acknowledged: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    instance: String,
}

impl Load {
    /// Starts `writers` threads, each with a key of its own in the config of `instance`. Writer `n` talks to node
    /// `n % apis.len()` and moves on to the next when it gets no good answer.
    pub fn start(apis: &[Api], instance: &str, writers: usize) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            threads: Vec::new(),
            known: Arc::new(Mutex::new(vec![Known::default(); writers])),
            acknowledged: Arc::default(),
            refused: Arc::default(),
            instance: instance.to_owned(),
        };
        for writer in 0..writers {
            let apis: Vec<Api> = apis.iter().map(|a| a.clone().timeout(Duration::from_secs(5))).collect();
            let (stop, known) = (load.stop.clone(), load.known.clone());
            let (good, bad) = (load.acknowledged.clone(), load.refused.clone());
            let path = format!("/1.0/instances/{instance}");
            load.threads.push(std::thread::spawn(move || {
                let mut at = writer;
                while !stop.load(Ordering::Relaxed) {
                    let number = {
                        let mut all = known.lock().expect("no writer panics with the lock");
                        all[writer].sent += 1;
                        all[writer].sent
                    };
                    let body = json!({"config": {key(writer): number.to_string()}});
                    if apis[at % apis.len()].run("PATCH", &path, &body).is_ok() {
                        known.lock().expect("no writer panics with the lock")[writer].acknowledged = number;
                        good.fetch_add(1, Ordering::Relaxed);
                    } else {
                        bad.fetch_add(1, Ordering::Relaxed);
                        at += 1;
                        // A dead node refuses at once: do not spin on it.
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
            }));
        }
        load
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Writes refused or without an answer so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits until `count` more writes are acknowledged; how long that took.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn progress(&self, count: u64, within: Duration) -> Result<Duration> {
        let (begun, wanted) = (Instant::now(), self.acknowledged() + count);
        wait::until_true(&format!("{count} more acknowledged writes"), within, || Ok(self.acknowledged() >= wanted))?;
        Ok(begun.elapsed())
    }

    /// Checks, while the load runs, that nothing acknowledged is lost as `api` sees it. A lagging member may show old
    /// values for a while; a lost one stays lost.
    ///
    /// # Errors
    /// When an acknowledged write is not there.
    pub fn check(&self, api: &Api, within: Duration) -> Result<()> {
        let before = self.known.lock().expect("no writer panics with the lock").clone();
        let path = format!("/1.0/instances/{}", self.instance);
        wait::until_true("every acknowledged write", within, || {
            let config = api.get(&path)?["config"].take();
            for (writer, known) in before.iter().enumerate() {
                let text = config[key(writer)].as_str().unwrap_or("0");
                let found: u64 = text.parse().with_context(|| format!("{} is {text:?}", key(writer)))?;
                if found < known.acknowledged {
                    bail!("{} is {found}, but {} was acknowledged", key(writer), known.acknowledged);
                }
            }
            Ok(true)
        })
    }

    /// Ends the load and checks that no value was invented: none larger than what was sent, none smaller than what was
    /// acknowledged.
    ///
    /// # Errors
    /// When one was lost or invented.
    pub fn finish(mut self, api: &Api) -> Result<(u64, u64)> {
        self.end();
        self.check(api, Duration::from_secs(20))?;
        let config = api.get(&format!("/1.0/instances/{}", self.instance))?["config"].take();
        for (writer, known) in self.known.lock().expect("writers have ended").iter().enumerate() {
            let found: u64 = config[key(writer)].as_str().unwrap_or("0").parse()?;
            if found > known.sent {
                bail!("{} is {found}, but only {} was ever sent", key(writer), known.sent);
            }
        }
        Ok((self.acknowledged(), self.refused()))
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn key(writer: usize) -> String {
    format!("user.writer{writer}")
}
