//! `sluicectl ca` and `sluicectl csr`: files around [`crate::ca`].

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::Outcome;
use crate::ca::{Authority, Certificate, KeyPem, Role, SvidId, TrustDomain, renewal, request};

/// Bytes of a file that is read, at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Days a certificate may be in force, at most.
const DAYS_MAX: u32 = 36_500;

#[derive(Debug, Subcommand)]
pub(super) enum CaCommand {
    /// Make a CA: DIR/ca.pem, and DIR/ca.key, which must never leave it.
    Init {
        /// Whom it signs for: `example.org`.
        #[arg(long)]
        domain: TrustDomain,
        /// Its folder.
        #[arg(long, default_value = "ca")]
        dir: PathBuf,
        /// How long it is in force.
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
        days: u32,
    },
    /// Sign the request of a dataplane or an agent.
    Sign {
        /// The CA's folder.
        #[arg(long, default_value = "ca")]
        dir: PathBuf,
        /// The request, PEM.
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
        /// Where the certificate goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// How long it is in force.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
        days: u32,
    },
    /// Write what nodes trust: this CA's certificate, and while CAs change the other's too.
    Trust {
        /// The CA's folder.
        #[arg(long, default_value = "ca")]
        dir: PathBuf,
        /// Another CA's certificate, of the same domain.
        #[arg(long, value_name = "FILE")]
        with: Vec<PathBuf>,
        /// Where it goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Say what a certificate is; 1 if it is not what that CA signs, or not in force.
    Show {
        /// The certificate, PEM.
        certificate: PathBuf,
        /// The CA's certificate.
        #[arg(long, value_name = "FILE")]
        trust: PathBuf,
    },
}

/// Make a key and the request to sign it, for labs and tests: a dataplane makes its own.
#[derive(Debug, Args)]
pub(super) struct CsrArgs {
    /// Whose CA is to sign it.
    #[arg(long)]
    domain: TrustDomain,
    #[command(flatten)]
    who: Who,
    /// Where the key goes; one that is there is used again.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the request goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Who {
    /// For this node's dataplane.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// For this node's agent.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

pub(super) fn run(command: CaCommand) -> anyhow::Result<Outcome> {
    let now = OffsetDateTime::now_utc();
    match command {
        CaCommand::Init { domain, dir, days } => init(&domain, &dir, days, now),
        CaCommand::Sign {
            dir,
            csr,
            out,
            days,
        } => {
            let signed = open(&dir)?
                .sign(&read(&csr)?, now, Duration::days(days.into()))
                .with_context(|| csr.display().to_string())?;
            write(&out, &signed.pem)?;
            let id = signed.id.to_string();
            let text = format!("signed {id} for {days} days at most: {}\n", out.display());
            Outcome::new(text, &json!({"id": id, "days": days}))
        }
        CaCommand::Trust { dir, with, out } => trust(&dir, &with, &out),
        CaCommand::Show { certificate, trust } => show(&certificate, &trust, now),
    }
}

fn init(
    domain: &TrustDomain,
    dir: &Path,
    days: u32,
    now: OffsetDateTime,
) -> anyhow::Result<Outcome> {
    let (ca, key) = Authority::create(domain, now, Duration::days(days.into()))?;
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    // First, and never over another: with its key a CA would be gone.
    write_key(&dir.join("ca.key"), &key)?;
    write(&dir.join("ca.pem"), ca.pem())?;
    let text = format!(
        "made the CA of {domain} in {}; keep ca.key off every node\n",
        dir.display()
    );
    Outcome::new(text, &json!({"domain": domain.to_string(), "days": days}))
}

fn trust(dir: &Path, with: &[PathBuf], out: &Path) -> anyhow::Result<Outcome> {
    let path = dir.join("ca.pem");
    let own = read(&path)?;
    let domain = Certificate::parse(&own)?.authority_of()?;
    let mut bundle = own;
    for path in with {
        let pem = read(path)?;
        let certificate = Certificate::parse(&pem).with_context(|| path.display().to_string())?;
        let other = certificate
            .authority_of()
            .with_context(|| path.display().to_string())?;
        if other != domain {
            bail!("{} is the CA of {other}, not of {domain}", path.display());
        }
        bundle.push_str(&pem);
    }
    write(out, &bundle)?;
    let authorities = 1 + with.len();
    let text = format!("wrote {authorities} CAs of {domain}: {}\n", out.display());
    Outcome::new(
        text,
        &json!({"domain": domain.to_string(), "authorities": authorities}),
    )
}

fn show(path: &Path, trust: &Path, now: OffsetDateTime) -> anyhow::Result<Outcome> {
    let certificate =
        Certificate::parse(&read(path)?).with_context(|| path.display().to_string())?;
    let authority =
        Certificate::parse(&read(trust)?).with_context(|| trust.display().to_string())?;
    let (id, fault) = match certificate.check(&authority, now) {
        Ok(id) => (Some(id.to_string()), None),
        Err(fault) => (None, Some(fault)),
    };
    let (from, to) = (
        certificate.not_before.to_string(),
        certificate.not_after.to_string(),
    );
    let text = match (&id, &fault) {
        (Some(id), _) => format!("{id}, in force from {from} to {to}\n"),
        (_, Some(fault)) => format!("not fit: {fault}\n"),
        _ => String::new(),
    };
    let fine = fault.is_none();
    let json = json!({"id": id, "uris": certificate.uris, "not_before": from, "not_after": to, "fault": fault});
    Ok(Outcome {
        fine,
        ..Outcome::new(text, &json)?
    })
}

pub(super) fn csr(args: &CsrArgs) -> anyhow::Result<Outcome> {
    let (role, name) = match (&args.who.node, &args.who.agent) {
        (Some(name), _) => (Role::Node, name),
        (None, Some(name)) => (Role::Agent, name),
        (None, None) => bail!("name a node or an agent"),
    };
    let id = SvidId::new(args.domain.clone(), role, name)?;
    let csr = if args.key.exists() {
        check_mode(&args.key)?;
        let key = KeyPem::new(read(&args.key)?);
        renewal(&id, &key).with_context(|| args.key.display().to_string())?
    } else {
        let (key, csr) = request(&id)?;
        write_key(&args.key, &key)?;
        csr
    };
    write(&args.out, &csr)?;
    let text = format!("{id} asks to be signed: {}\n", args.out.display());
    Outcome::new(text, &json!({"id": id.to_string()}))
}

fn open(dir: &Path) -> anyhow::Result<Authority> {
    let key_path = dir.join("ca.key");
    check_mode(&key_path)?;
    let key = KeyPem::new(read(&key_path)?);
    let pem = read(&dir.join("ca.pem"))?;
    Authority::open(&pem, &key).with_context(|| dir.display().to_string())
}

fn check_mode(path: &Path) -> anyhow::Result<()> {
    let found = fs::metadata(path).with_context(|| path.display().to_string())?;
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "{} may be read by others (mode {mode:o}); chmod 600 it",
            path.display()
        );
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let context = || path.display().to_string();
    let len = fs::metadata(path).with_context(context)?.len();
    if len > FILE_BYTES_MAX {
        bail!(
            "{} is longer than the {FILE_BYTES_MAX} bytes that are read",
            path.display()
        );
    }
    fs::read_to_string(path).with_context(context)
}

/// Writes a key for its user only, and never over another.
fn write_key(path: &Path, key: &KeyPem) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = match file {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!(
                "{} is there already; a key is never written over",
                path.display()
            )
        }
        file => file.with_context(|| path.display().to_string())?,
    };
    let written = file
        .write_all(key.as_bytes())
        .and_then(|()| file.sync_all());
    written.with_context(|| path.display().to_string())
}

/// Writes a file whole or not at all.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let next = PathBuf::from(next);
    let written = fs::write(&next, text).and_then(|()| fs::rename(&next, path));
    written.with_context(|| path.display().to_string())
}
