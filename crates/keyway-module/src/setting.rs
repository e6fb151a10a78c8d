//! What is configured, and where; errors tell the place.

use std::fmt;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// The variable or `file:line`.
    pub place: String,
}

impl<T> Setting<T> {
    /// Something is wrong with the value.
    pub fn wrong(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError {
            place: self.place.clone(),
            problem: problem.into(),
        }
    }
}

/// What is wrong with the configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable, `file:line` or file.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for ConfigError {}
