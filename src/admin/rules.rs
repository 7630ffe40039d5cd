//! What the configuration says of the operator's port: who may use it, and for what. A reload replaces it.

use std::path::PathBuf;

use super::AdminTokenError;
use super::authorization;
use crate::config::Config;
use crate::credentials::token_file::Absent;
use crate::headers::request_source::AllowedSources;

/// See the module.
#[derive(Clone, Debug)]
pub struct AdminRules {
    pub(super) sources: AllowedSources,
    /// The token for what changes state.
    pub(super) token_file: Option<PathBuf>,
    /// Whether the sidecar may be stopped here.
    pub(super) can_quit: bool,
}

impl AdminRules {
    /// The rules of a configuration. Reads the token file; `absent_token` says what becomes of one that is configured and not there.
    ///
    /// # Errors
    /// [`AdminTokenError`] when there is a token file that can neither be read nor created.
    pub fn new(config: &Config, absent_token: Absent) -> Result<Self, AdminTokenError> {
        let admin = &config.admin;
        let mut sources = AllowedSources::new(&config.guard.allowed_hosts, &config.guard.allowed_origins);
        if admin.allow_remote {
            sources = sources.with_any_address();
        }
        if let Some(path) = &admin.token_file {
            authorization::prepare_token(path, absent_token)?;
        }
        Ok(Self { sources, token_file: admin.token_file.clone(), can_quit: admin.quit })
    }
}
