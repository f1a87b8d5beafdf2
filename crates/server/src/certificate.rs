//! A certificate for the host names by which programs know Kinesis Video Streams: for those whose endpoint cannot be changed, and whose
//! resolver or hosts file can.
//!
//! The authority that signs it signs nothing else: its key is never written down, and its names are limited to these.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use data_encoding::BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};

/// Days for which it is good: clients that ask for less than this are browsers.
const GOOD_DAYS: u64 = 825;

/// Which names, and where to.
#[derive(Args)]
pub(crate) struct Issue {
    /// Folder for ca.pem (whom the programs have to trust), cert.pem and key.pem (the server's `tls.cert` and `tls.key`)
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Regions whose host names it is for
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "us-east-1")]
    regions: Vec<String>,
}

/// PEM files.
struct Issued {
    ca: String,
    cert: String,
    key: String,
}

impl Issue {
    /// Writes the files, and says what they are for.
    pub(crate) fn run(&self, now_ms: u64) -> anyhow::Result<()> {
        let issued = issue(&self.regions, now_ms / 86_400_000)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.out).context("out")?;
        for (name, text) in [("ca.pem", issued.ca), ("cert.pem", issued.cert), ("key.pem", issued.key)] {
            let path = self.out.join(name);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
            written.with_context(|| path.display().to_string())?;
        }
        println!("{} days, for {}", GOOD_DAYS, names(&self.regions).join(", "));
        Ok(())
    }
}

/// Of the service itself and of the data endpoints that Amazon has below it.
fn names(regions: &[String]) -> Vec<String> {
    let hosts = |region: &String| {
        let host = format!("kinesisvideo.{region}.amazonaws.com");
        [format!("*.{host}"), host]
    };
    regions.iter().flat_map(hosts).rev().collect()
}

fn issue(regions: &[String], today: u64) -> anyhow::Result<Issued> {
    let letters =
        |region: &String| region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    ensure!(
        !regions.is_empty() && regions.iter().all(|r| !r.is_empty() && letters(r)),
        "regions: such as us-east-1"
    );
    let mut authority = params(Vec::new(), "Antiphon, for these names only", today)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let permitted = regions.iter().map(|region| format!("kinesisvideo.{region}.amazonaws.com"));
    authority.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted.map(GeneralSubtree::DnsName).collect(),
        excluded_subtrees: Vec::new(),
    });
    let (signs, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let ca = authority.self_signed(&signs)?;
    let mut server = params(names(regions), "Antiphon", today)?;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let cert = server.signed_by(&key, &Issuer::from_params(&authority, &signs))?;
    Ok(Issued {
        ca: pem("CERTIFICATE", ca.der()),
        cert: pem("CERTIFICATE", cert.der()),
        key: pem("PRIVATE KEY", &key.serialize_der()),
    })
}

fn params(names: Vec<String>, common: &str, today: u64) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common);
    let midnight = |days| -> anyhow::Result<_> {
        let (year, month, day) = antiphon_store::date(days);
        Ok(rcgen::date_time_ymd(year.try_into()?, month.try_into()?, day.try_into()?))
    };
    // Since yesterday: clocks differ.
    params.not_before = midnight(today.saturating_sub(1))?;
    params.not_after = midnight(today + GOOD_DAYS)?;
    Ok(params)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_for_its_names_and_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let issue = Issue {
            out: folder.path().join("new"),
            regions: vec!["us-west-2".into(), "eu-central-1".into()],
        };
        issue.run(1_764_288_000_000).unwrap();
        let at = |name: &str| issue.out.join(name);
        let tls = crate::config::Tls { cert: at("cert.pem"), key: at("key.pem") };
        assert!(crate::tls::load(&tls).unwrap().is_some());
        assert!(issue.run(1_764_288_000_000).is_err(), "nothing is written over");
        let mode = std::os::unix::fs::PermissionsExt::mode(&at("key.pem").metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0);
        for bad in ["", "a.b", "*", "US"] {
            let issue = Issue { out: folder.path().join("other"), regions: vec![bad.into()] };
            assert!(issue.run(0).is_err() && !issue.out.exists(), "{bad}");
        }
    }
}
