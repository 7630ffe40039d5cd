//! When the configuration is read anew.

use std::time::Duration;

use super::key::HOUR;
use super::section::section;

section! {
    /// Section `[reload]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ReloadSettings in "reload" {
        /// How often the configuration file is looked at; zero: never.
        pub interval: Duration = "5s", within(0, HOUR);
    }
}
