//! The source `directory`: manifests in a folder, read again when something there changes.
//!
//! inotify says that something has; after a quiet moment the whole folder is read, so that a
//! change of several files is one. A slow look at the files' metadata beside it catches what
//! inotify doesn't tell: a folder that was replaced, a file system over a network.
//!
//! A file that is written in place is seen half-written. Rename it into the folder.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, Metadata};
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::manifest::{Loaded, load_texts};

/// Files that are read, at most.
pub const FILES_MAX: usize = 16_384;
/// Bytes of all files together, at most.
pub const BYTES_MAX: u64 = 256 << 20;

/// Between two looks at the metadata.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// No event for so long: whoever writes has paused.
const QUIET: Duration = Duration::from_millis(25);
/// Waiting for quiet ends, at most.
const QUIET_WAIT_MAX: Duration = Duration::from_millis(250);

/// What became of a change.
#[derive(Debug)]
pub enum SourceEvent {
    /// The manifests are good.
    Loaded(Box<Loaded>),
    /// They are not: `net.yaml:12:9: what is wrong`. What was good before stays.
    Fault(String),
}

/// Reads a folder now, and again after each change. Ends when nobody listens.
pub async fn watch(folder: PathBuf, events: mpsc::Sender<SourceEvent>) {
    let mut seen: Option<u64> = None;
    let mut watch = Watch::default();
    loop {
        watch.renew(&folder);
        let look = look(&folder);
        let read = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || read(&folder)
        });
        let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
        // The same again says nothing new, a fault neither.
        let hash = hash(&read);
        if seen != Some(hash) {
            seen = Some(hash);
            if events.send(parse(read).await).await.is_err() {
                return;
            }
        }
        loop {
            tokio::select! {
                () = watch.event() => {
                    watch.quiet().await;
                    break;
                }
                () = sleep(LOOK_EVERY) => if self::look(&folder) != look { break },
                () = events.closed() => return,
            }
        }
    }
}

/// Reads a folder once.
///
/// # Errors
/// What is wrong, for people.
pub fn load(folder: &Path) -> Result<Loaded, String> {
    parse_texts(&read(folder)?)
}

type Texts = Vec<(String, String)>;

async fn parse(read: Result<Texts, String>) -> SourceEvent {
    let parsed = tokio::task::spawn_blocking(move || parse_texts(&read?));
    match parsed.await.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(loaded) => SourceEvent::Loaded(Box::new(loaded)),
        Err(fault) => SourceEvent::Fault(fault),
    }
}

fn parse_texts(texts: &Texts) -> Result<Loaded, String> {
    let texts: Vec<_> = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    load_texts(&texts).map_err(|error| error.to_string())
}

fn hash(read: &Result<Texts, String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    read.hash(&mut hasher);
    hasher.finish()
}

/// The names of a folder's manifests, in order.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        let extension = Path::new(&name).extension().and_then(|it| it.to_str());
        // A dot hides what an editor or a volume's updater keeps there.
        if matches!(extension, Some("yaml" | "yml" | "json")) && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read(folder: &Path) -> Result<Texts, String> {
    let names = names(folder).map_err(|error| format!("the manifests' folder: {error}"))?;
    if names.is_empty() {
        return Err("the manifests' folder has no *.yaml, *.yml or *.json file".to_owned());
    }
    if names.len() > FILES_MAX {
        return Err(format!(
            "{} manifests are too many; at most {FILES_MAX} are read",
            names.len()
        ));
    }
    let (mut texts, mut left) = (Texts::new(), BYTES_MAX);
    for name in names {
        let mut text = String::new();
        let file = File::open(folder.join(&name)).map_err(|error| format!("{name}: {error}"))?;
        if !file.metadata().is_ok_and(|it| it.is_file()) {
            continue;
        }
        let read = file.take(left + 1).read_to_string(&mut text);
        read.map_err(|error| format!("{name}: {error}"))?;
        left = left.checked_sub(text.len() as u64).ok_or_else(|| {
            format!(
                "{name}: with it the manifests are longer than the {BYTES_MAX} bytes that are read"
            )
        })?;
        texts.push((name, text));
    }
    Ok(texts)
}

/// What metadata say; equal if nothing seems to have changed.
fn look(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut add = |found: io::Result<Metadata>| match found {
        Ok(it) => {
            let time = (it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec());
            (it.dev(), it.ino(), it.len(), time).hash(&mut hasher);
        }
        Err(error) => error.kind().hash(&mut hasher),
    };
    add(fs::metadata(folder));
    for name in names(folder).unwrap_or_default() {
        add(fs::metadata(folder.join(name)));
    }
    hasher.finish()
}

/// inotify on a folder; without it, only the slow look is left.
#[derive(Debug, Default)]
struct Watch(Option<(Receiver, (u64, u64))>);

impl Watch {
    /// Watches the folder that is there now.
    fn renew(&mut self, folder: &Path) {
        let Ok(found) = fs::metadata(folder).map(|it| (it.dev(), it.ino())) else {
            self.0 = None;
            return;
        };
        if self
            .0
            .as_ref()
            .is_some_and(|(_, watched)| *watched == found)
        {
            return;
        }
        self.0 = Self::on(folder).ok().map(|events| (events, found));
    }

    fn on(folder: &Path) -> io::Result<Receiver> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        inotify::add_watch(&fd, folder, flags)?;
        // Not a pipe, but a readable descriptor all the same.
        Receiver::from_owned_fd_unchecked(fd)
    }

    /// Waits until something has changed.
    async fn event(&self) {
        let drained = match &self.0 {
            Some((events, _)) => drain(events).await.is_ok(),
            None => false,
        };
        if !drained {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until nothing changes for a moment.
    async fn quiet(&self) {
        let end = Instant::now() + QUIET_WAIT_MAX;
        while Instant::now() < end && timeout(QUIET, self.event()).await.is_ok() {}
    }
}

/// Waits for events and takes all that are there. What they say is of no interest.
async fn drain(events: &Receiver) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        events.readable().await?;
        let mut any = false;
        loop {
            match events.try_read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if any {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "{kind: Pod, metadata: {namespace: shop, name: cart}, spec: {nodeName: a}}";

    /// The next event; a test that waits longer has failed.
    async fn next(events: &mut mpsc::Receiver<SourceEvent>) -> Result<usize, String> {
        let event = timeout(Duration::from_secs(20), events.recv()).await;
        match event.expect("an event comes").expect("the watch goes on") {
            SourceEvent::Loaded(loaded) => Ok(loaded.cluster.pods.len()),
            SourceEvent::Fault(fault) => Err(fault),
        }
    }

    /// Puts a file there as a careful writer does.
    fn put(folder: &Path, name: &str, text: &str) {
        let next = folder.join(format!(".{name}.next"));
        fs::write(&next, text).unwrap();
        fs::rename(next, folder.join(name)).unwrap();
    }

    #[tokio::test]
    async fn each_change_is_read_and_a_fault_names_its_line() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("manifests");
        let (sender, mut events) = mpsc::channel(4);
        let watch = tokio::spawn(watch(folder.clone(), sender));
        let fault = next(&mut events).await.unwrap_err();
        assert!(fault.starts_with("the manifests' folder: "), "{fault}");

        fs::create_dir(&folder).unwrap();
        let fault = next(&mut events).await.unwrap_err();
        assert!(fault.contains("has no *.yaml"), "{fault}");
        put(&folder, "a.yaml", POD);
        assert_eq!(next(&mut events).await, Ok(1));
        put(&folder, "b.yaml", &POD.replace("cart", "db"));
        assert_eq!(next(&mut events).await, Ok(2));
        put(&folder, "b.yaml", "\nkind: [");
        let fault = next(&mut events).await.unwrap_err();
        assert!(fault.starts_with("b.yaml:2:"), "{fault}");
        fs::remove_file(folder.join("b.yaml")).unwrap();
        assert_eq!(next(&mut events).await, Ok(1));
        fs::write(folder.join("notes.txt"), "no manifest").unwrap();
        put(&folder, "a.json", &POD.replace("cart", "db"));
        assert_eq!(next(&mut events).await, Ok(2));

        drop(events);
        watch.await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_is_watched_again() {
        let temp = tempfile::tempdir().unwrap();
        let (folder, other) = (temp.path().join("m"), temp.path().join("n"));
        fs::create_dir(&folder).unwrap();
        put(&folder, "a.yaml", POD);
        fs::create_dir(&other).unwrap();
        put(&other, "b.yaml", &POD.replace("cart", "db"));
        put(&other, "c.yaml", POD);
        let (sender, mut events) = mpsc::channel(4);
        tokio::spawn(watch(folder.clone(), sender));
        assert_eq!(next(&mut events).await, Ok(1));
        fs::rename(&folder, temp.path().join("old")).unwrap();
        fs::rename(&other, &folder).unwrap();
        // In between there may be no folder, which is a fault that passes.
        let mut loaded = next(&mut events).await;
        if loaded.is_err() {
            loaded = next(&mut events).await;
        }
        assert_eq!(loaded, Ok(2));
        fs::remove_file(folder.join("c.yaml")).unwrap();
        assert_eq!(next(&mut events).await, Ok(1));
    }

    #[test]
    fn what_an_editor_hides_is_no_manifest() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(".a.yaml.swp.yaml"), "kind: [").unwrap();
        assert!(load(temp.path()).unwrap_err().contains("has no *.yaml"));
        fs::write(temp.path().join("a.yaml"), POD).unwrap();
        assert_eq!(load(temp.path()).unwrap().cluster.pods.len(), 1);
    }
}
