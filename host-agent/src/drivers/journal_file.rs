//! The journal on disk: written beside the old one, flushed, renamed over it.
//!
//! The one before is kept. If the last can't be read, the agent goes on from that: at most
//! one ADD or DEL is missing, and a pod that isn't known has a closed port. If neither can be
//! read, it doesn't start, and the dataplane goes on enforcing what it has.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::agent::Journal;

/// The version of the file; another one is refused.
const VERSION: u32 = 1;
/// Bytes that are read, at most.
const BYTES_MAX: u64 = 256 << 20;

const NAME: &str = "journal.json";
const NAME_BEFORE: &str = "journal.before.json";
const NAME_NEXT: &str = "journal.next.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    journal: Journal,
}

/// Why a journal can't be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It can't be read or written.
    #[error("{}: {error}", file_name(path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It isn't whole, or makes no sense.
    #[error("{} is damaged: {why}", file_name(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Neither of the two can be used.
    #[error(
        "{last}; {before}; restore one of them, or remove both: then every running pod's \
         port is closed until its ADD comes again"
    )]
    Neither {
        /// What is wrong with the last.
        last: Box<JournalError>,
        /// What is wrong with the one before.
        before: Box<JournalError>,
    },
}

/// Keeps a second agent from the same folder. Ends with the process at the latest.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder, and makes it if need be.
    ///
    /// # Errors
    /// [`JournalError::Io`] if another process has it.
    pub fn take(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join("lock");
        let open = || {
            make(folder)?;
            let mut options = OpenOptions::new();
            let file = options
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(
                |error| match error {
                    rustix::io::Errno::AGAIN => io::Error::other("another agent has this folder"),
                    error => error.into(),
                },
            )?;
            Ok(file)
        };
        match open() {
            Ok(file) => Ok(Self { _file: file }),
            Err(error) => Err(JournalError::Io { path, error }),
        }
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A status shows no folders.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// What was read.
#[derive(Debug)]
pub struct Recovered {
    /// The journal; empty at the first start.
    pub journal: Journal,
    /// Why it is not the last one that was written.
    pub fault: Option<JournalError>,
}

/// The journal's folder.
#[derive(Debug)]
pub struct JournalFile {
    folder: PathBuf,
    written: Option<Journal>,
}

impl JournalFile {
    /// Opens the folder, makes it if need be, and reads the journal.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(folder: &Path) -> Result<(Self, Recovered), JournalError> {
        make(folder).map_err(|error| JournalError::Io {
            path: folder.to_owned(),
            error,
        })?;
        let mut file = Self {
            folder: folder.to_owned(),
            written: None,
        };
        let recovered = match (file.read(NAME), file.read(NAME_BEFORE)) {
            (Ok(Some(journal)), _) => {
                file.written = Some(journal.clone());
                Recovered {
                    journal,
                    fault: None,
                }
            }
            (Ok(None), Ok(None)) => Recovered {
                journal: Journal::default(),
                fault: None,
            },
            (last, Ok(Some(journal))) => {
                let path = file.folder.join(NAME);
                let why = "it is not there".to_owned();
                let fault = last.err().unwrap_or(JournalError::Damaged { path, why });
                Recovered {
                    journal,
                    fault: Some(fault),
                }
            }
            (Err(last), before) => {
                let path = file.folder.join(NAME_BEFORE);
                let why = "it is not there".to_owned();
                let before = before.err().unwrap_or(JournalError::Damaged { path, why });
                return Err(JournalError::Neither {
                    last: Box::new(last),
                    before: Box::new(before),
                });
            }
            (Ok(None), Err(before)) => return Err(before),
        };
        Ok((file, recovered))
    }

    /// Writes a journal if it isn't the one that was written last. When it returns, the
    /// journal outlives a crash of the machine.
    ///
    /// # Errors
    /// [`JournalError::Io`]; the last one stays.
    pub fn write(&mut self, journal: &Journal) -> Result<(), JournalError> {
        if self.written.as_ref() == Some(journal) {
            return Ok(());
        }
        let next = self.folder.join(NAME_NEXT);
        self.replace(journal, &next)
            .map_err(|error| JournalError::Io {
                path: next.clone(),
                error,
            })?;
        self.written = Some(journal.clone());
        Ok(())
    }

    fn replace(&self, journal: &Journal, next: &Path) -> io::Result<()> {
        let (last, before) = (self.folder.join(NAME), self.folder.join(NAME_BEFORE));
        let document = Document {
            version: VERSION,
            journal: journal.clone(),
        };
        let mut bytes = serde_json::to_vec(&document)?;
        bytes.push(b'\n');
        let mut open = OpenOptions::new();
        let open = open.write(true).create(true).truncate(true).mode(0o600);
        let mut file = open.open(next)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // The first that could be read is what may be gone back to.
        if self.written.is_some() {
            match fs::remove_file(&before) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::hard_link(&last, &before)?,
            }
        }
        fs::rename(next, &last)?;
        File::open(&self.folder)?.sync_all()
    }

    fn read(&self, name: &str) -> Result<Option<Journal>, JournalError> {
        let path = self.folder.join(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|it| it.take(BYTES_MAX + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(JournalError::Io { path, error }),
        }
        parse(&bytes)
            .map(Some)
            .map_err(|why| JournalError::Damaged { path, why })
    }
}

fn parse(bytes: &[u8]) -> Result<Journal, String> {
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("longer than {BYTES_MAX} bytes"));
    }
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|it| it.to_string())?;
    if document.version != VERSION {
        return Err(format!("version {}, not {VERSION}", document.version));
    }
    let identities = &document.journal.identities;
    // Two of one number would be judged as one.
    let mut seen = BTreeSet::new();
    for (_, id) in identities.identities() {
        if id.0 == 0 || !seen.insert(id.0) {
            return Err(format!("identity {id} is there twice, or is zero"));
        }
    }
    let mut seen = BTreeSet::new();
    for (_, id) in identities.policies() {
        if id.0 == 0 || !seen.insert(id.0) {
            return Err(format!("policy {id} is there twice, or is zero"));
        }
    }
    Ok(document.journal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Attachment, Departure};
    use sluice_offload_api::model::PodRef;

    fn journal(names: &[&str]) -> Journal {
        let attachment = |name: &&str| Attachment {
            container: format!("c-{name}"),
            ifname: "eth0".to_owned(),
            uid: (*name).into(),
            pod: PodRef {
                namespace: "shop".to_owned(),
                name: (*name).to_owned(),
            },
            port: "pf0vf0".into(),
            network: None,
            ips: vec!["10.1.0.2".parse().unwrap()],
        };
        Journal {
            attachments: names.iter().map(attachment).collect(),
            departures: vec![Departure {
                uid: "u-0".into(),
                pod: PodRef {
                    namespace: "shop".to_owned(),
                    name: "gone".to_owned(),
                },
                ifname: "eth0".to_owned(),
                ips: vec!["10.1.0.9".parse().unwrap()],
            }],
            identities: Default::default(),
        }
    }

    fn open(folder: &Path) -> (JournalFile, Recovered) {
        JournalFile::open(folder).unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_only_by_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("new/state");
        let (mut file, first) = open(&folder);
        assert!(first.fault.is_none() && first.journal == Journal::default());
        file.write(&journal(&["a"])).unwrap();
        file.write(&journal(&["a", "b"])).unwrap();
        let (_, again) = open(&folder);
        assert!(again.fault.is_none());
        assert_eq!(again.journal, journal(&["a", "b"]));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join(NAME)), 0o600);
    }

    #[test]
    fn a_folder_has_one_agent() {
        let temp = tempfile::tempdir().unwrap();
        let lock = Lock::take(temp.path()).unwrap();
        let error = Lock::take(temp.path()).unwrap_err().to_string();
        assert!(error.contains("another agent"), "{error}");
        drop(lock);
        Lock::take(temp.path()).unwrap();
    }

    #[test]
    fn cut_short_anywhere_the_one_before_is_used_and_the_fault_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let (mut file, _) = open(temp.path());
        file.write(&journal(&["a"])).unwrap();
        file.write(&journal(&["a", "b"])).unwrap();
        let last = temp.path().join(NAME);
        let whole = fs::read(&last).unwrap();
        // The last byte is the newline: without it nothing is missing.
        for len in 0..whole.len() - 1 {
            fs::write(&last, &whole[..len]).unwrap();
            let (_, recovered) = open(temp.path());
            assert_eq!(recovered.journal, journal(&["a"]), "{len}");
            let fault = recovered.fault.expect("it is damaged").to_string();
            assert!(fault.contains("journal.json is damaged"), "{len}: {fault}");
        }
    }

    #[test]
    fn a_damaged_one_is_never_what_is_gone_back_to() {
        let temp = tempfile::tempdir().unwrap();
        let (mut file, _) = open(temp.path());
        file.write(&journal(&["a"])).unwrap();
        file.write(&journal(&["a", "b"])).unwrap();
        fs::write(temp.path().join(NAME), "{").unwrap();
        let (mut file, recovered) = open(temp.path());
        file.write(&recovered.journal).unwrap();
        file.write(&journal(&["c"])).unwrap();
        fs::write(temp.path().join(NAME), "{").unwrap();
        assert_eq!(open(temp.path()).1.journal, journal(&["a"]));
    }

    #[test]
    fn without_a_good_one_there_is_no_start() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(NAME), r#"{"version":1,"#).unwrap();
        let error = JournalFile::open(temp.path()).unwrap_err().to_string();
        assert!(error.contains("journal.json is damaged"), "{error}");
        assert!(
            error.contains("journal.before.json is damaged: it is not there"),
            "{error}"
        );
        assert!(error.contains("remove both"), "{error}");
    }

    #[test]
    fn a_journal_that_makes_no_sense_is_damaged() {
        let numbers = |last: u32, list: &str| format!(r#"{{"last":{last},"numbers":[{list}]}}"#);
        let text = |policies: &str| {
            format!(
                r#"{{"version":1,"journal":{{"attachments":[],"identities":{{"identities":{},"policies":{}}}}}}}"#,
                numbers(0, ""),
                numbers(2, policies)
            )
        };
        let key = |name: &str| {
            format!(r#"{{"policies":[{{"namespace":"shop","name":"{name}"}}],"ports":[]}}"#)
        };
        let one = parse(text(&format!("[1,{}]", key("a"))).as_bytes());
        assert!(one.is_ok(), "{one:?}");
        let twice = format!("[1,{}],[1,{}]", key("a"), key("b"));
        let error = parse(text(&twice).as_bytes()).unwrap_err();
        assert!(error.contains("policy 1 is there twice"), "{error}");
        assert!(parse(text(&format!("[0,{}]", key("a"))).as_bytes()).is_err());
        assert!(parse(br#"{"version":2,"journal":{"attachments":[],"identities":{}}}"#).is_err());
    }

    proptest::proptest! {
        /// What can be read after all makes sense.
        #[test]
        fn a_mangled_journal_is_damaged_or_makes_sense(
            mangles in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()), 1..4),
        ) {
            let key = r#"{"policies":[{"namespace":"shop","name":"a"}],"ports":[]}"#;
            let text = format!(
                r#"{{"version":1,"journal":{{"attachments":[],"identities":{{"identities":{{"last":0,"numbers":[]}},"policies":{{"last":2,"numbers":[[1,{key}],[2,{}]]}}}}}}}}"#,
                key.replace(r#""a""#, r#""b""#)
            );
            let mut bytes = text.into_bytes();
            proptest::prop_assert!(parse(&bytes).is_ok());
            for (at, byte) in mangles {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(journal) = parse(&bytes) {
                let numbers: Vec<_> = journal.identities.policies().map(|(_, it)| it.0).collect();
                let different: BTreeSet<_> = numbers.iter().collect();
                proptest::prop_assert_eq!(different.len(), numbers.len());
            }
        }
    }
}
