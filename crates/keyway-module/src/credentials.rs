//! Whom we trust behind a TLS connection, and who we are there.

use crate::address::Port;
use crate::lock::lock;
use crate::setting::{ConfigError, Setting};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, Error, InconsistentKeys, RootCertStore};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

/// The files, all PEM.
#[derive(Debug)]
pub struct Files {
    /// Certificates of those who sign servers' certificates.
    pub ca: Setting<PathBuf>,
    /// Who we are.
    pub own: Option<Own>,
    /// What the server's certificate is to be for, where that is not the address's host.
    pub server_name: Option<Setting<String>>,
}

/// A client certificate.
#[derive(Debug)]
pub struct Own {
    /// The certificate and those between it and the server's CA.
    pub certificate: Setting<PathBuf>,
    /// Its private key.
    pub key: Setting<PathBuf>,
}

/// What the files hold.
pub struct Credentials {
    files: Files,
    server_name: Option<ServerName<'static>>,
    /// As last read.
    config: Mutex<Arc<ClientConfig>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what is in them.
        self.files.fmt(f)
    }
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is not what it should be.
    pub fn read(files: Files) -> Result<Self, ConfigError> {
        let server_name = files.server_name.as_ref().map(|setting| {
            let problem = format!("\"{}\" is neither a host's name nor an IP address", setting.value);
            ServerName::try_from(setting.value.clone()).map_err(|_| setting.wrong(problem))
        });
        Ok(Self {
            server_name: server_name.transpose()?,
            config: Mutex::new(load(&files)?),
            files,
        })
    }

    /// What the certificate of the server at `port` is to be for.
    ///
    /// # Errors
    /// The host can't be in a certificate, and `server_name` is not set.
    pub fn server_name(&self, port: &Port) -> Result<ServerName<'static>, String> {
        if let Some(name) = &self.server_name {
            return Ok(name.clone());
        }
        ServerName::try_from(port.host.clone()).map_err(|_| {
            let host = &port.host;
            format!("no certificate can be for \"{host}\"; set server_name (KEYWAY_SERVER_NAME) to what it is for")
        })
    }

    /// The client's side of a new connection.
    ///
    /// # Errors
    /// What it failed of.
    pub fn connection(&self, port: &Port) -> Result<ClientConnection, String> {
        // Certificates are renewed while applications run. A process that may not read the files any more goes on with
        // what it has.
        if let Ok(config) = load(&self.files) {
            *lock(&self.config) = config;
        }
        let config = Arc::clone(&lock(&self.config));
        ClientConnection::new(config, self.server_name(port)?).map_err(|error| error.to_string())
    }
}

fn load(files: &Files) -> Result<Arc<ClientConfig>, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        let unfit = |error| about(&files.ca, &format!("a certificate in it can't be used: {error}"));
        roots.add(certificate).map_err(unfit)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| about(&files.ca, &error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match &files.own {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(certificates(&own.certificate)?, key(&own.key)?)
            .map_err(|error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    about(&own.key, "not the key of the certificate")
                }
                error => about(&own.key, &format!("not a key for the certificate: {error}")),
            })?,
    };
    // A connection lasts as long as the context; there is nothing to win, and a forked child would share the tickets.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn certificates(file: &Setting<PathBuf>) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let text = fs::read(&file.value).map_err(|error| about(file, &error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(about(file, "no certificate in it")),
        Err(error) => Err(about(file, &format!("not in PEM: {error}"))),
    }
}

fn key(file: &Setting<PathBuf>) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let text = Zeroizing::new(fs::read(&file.value).map_err(|error| about(file, &error.to_string()))?);
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => about(file, "no private key in it, or one with a passphrase"),
        // The error might hold part of the file.
        _ => about(file, "not in PEM"),
    })
}

fn about(file: &Setting<PathBuf>, problem: &str) -> ConfigError {
    file.wrong(format!("{}: {problem}", file.value.display()))
}
