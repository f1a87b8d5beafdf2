//! Webhooks from the configuration: targets, and where their secrets lie.

use std::path::{Path, PathBuf};
use std::time::Duration;

use antiphon_api::Webhooks;
use antiphon_api::webhooks::{Config, Kind, Secret, Target, Url};
use antiphon_kvs::Kvs;
use antiphon_record::Recorder;
use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::config::{self, WebhookTarget};
use crate::{key, tls};

/// Secrets of one target at a time: the one in use, the next, and one that somebody forgot.
const MAX_SECRETS: usize = 4;

/// Where a secret lies.
enum Source<'a> {
    File(&'a Path),
    Env(&'a str),
    /// Made of the server's key.
    Key,
}

fn source(text: &str) -> anyhow::Result<Source<'_>> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(Source::File(Path::new(path))),
        Some(("env", name)) if !name.is_empty() => Ok(Source::Env(name)),
        None if text == "key" => Ok(Source::Key),
        // It is not repeated: somebody may have written the secret there.
        _ => bail!("secret: file:PATH, env:NAME, or key"),
    }
}

/// Whether a target is one, as far as can be told without its secret.
pub(crate) fn check(target: &WebhookTarget) -> anyhow::Result<()> {
    target.url.parse::<Url>().context("url")?;
    source(&target.secret)?;
    kinds(&target.events).map(drop)
}

fn kinds(names: &[String]) -> anyhow::Result<Vec<Kind>> {
    ensure!(!names.is_empty(), "events: at least one, or \"*\"");
    let all = |name: &String| match name.as_str() {
        "*" => Ok(Kind::ALL.to_vec()),
        name => {
            let kind = Kind::ALL.into_iter().find(|k| k.as_str() == name);
            let known = || format!("events: {name:?} is none of {:?}", Kind::ALL.map(Kind::as_str));
            kind.map(|kind| vec![kind]).with_context(known)
        }
    };
    Ok(names.iter().map(all).collect::<anyhow::Result<Vec<_>>>()?.concat())
}

fn secrets(target: &WebhookTarget, url: &Url, data: &Path) -> anyhow::Result<Vec<Secret>> {
    let text = match source(&target.secret)? {
        Source::File(path) => std::fs::read_to_string(path)
            .with_context(|| format!("secret: cannot read {}", path.display()))?,
        Source::Env(name) => std::env::var(name).with_context(|| format!("secret: no variable {name}"))?,
        Source::Key => Secret::derive(&key::signing(data)?, url),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    ensure!((1..=MAX_SECRETS).contains(&lines.len()), "secret: 1 to {MAX_SECRETS} lines");
    lines.into_iter().map(|line| Secret::parse(line).map_err(anyhow::Error::new)).collect()
}

/// Starts telling, if the configuration names somebody.
pub(crate) fn start(
    config: &config::Config,
    kvs: Option<&Kvs>,
    recorder: Option<&Recorder>,
) -> anyhow::Result<Option<Webhooks>> {
    let given = &config.webhooks;
    let (Some(kvs), Some(recorder), false) = (kvs, recorder, given.targets.is_empty()) else {
        return Ok(None);
    };
    let target = |(i, target): (usize, &WebhookTarget)| {
        let made = || {
            let url: Url = target.url.parse()?;
            let secrets = secrets(target, &url, &config.data)?;
            anyhow::Ok(Target { url, secrets, events: kinds(&target.events)? })
        };
        made().with_context(|| format!("webhooks.targets: number {i}"))
    };
    let targets = given.targets.iter().enumerate().map(target).collect::<anyhow::Result<Vec<_>>>()?;
    let secure = targets.iter().any(|target| target.url.is_https());
    let webhooks = Webhooks::start(&Config {
        targets,
        interval: Duration::from_secs(given.interval_s),
        give_up: Duration::from_secs(given.give_up_s),
        tls: secure.then(tls::client).transpose().context("webhooks")?,
        ..Config::default()
    });
    let fragments = kvs.news().context("nobody else reads what is stored")?;
    let contacts = recorder.events().context("nobody else reads what is streamed")?;
    webhooks.follow(fragments, contacts);
    Ok(Some(webhooks))
}

/// `antiphon webhook-secret`.
#[derive(Args)]
pub(crate) struct PrintSecret {
    /// Folder with the server's signing key
    #[arg(long, value_name = "DIR", env = "ANTIPHON_DATA", default_value = "data")]
    data: PathBuf,
    /// The target's URL, exactly as the configuration has it
    #[arg(long, value_name = "URL")]
    url: Url,
}

impl PrintSecret {
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        println!("{}", Secret::derive(&key::signing(&self.data)?, &self.url));
        Ok(())
    }
}
