//! What one kind of API knows about itself.

pub mod app_configuration;
