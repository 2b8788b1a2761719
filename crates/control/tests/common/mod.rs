//! A group over simulated surroundings that can be ended and opened again.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use control::simulated::{SimEngine, SimFrontend, SimRuntime};
use control::{Group, GroupConfig};
use std::sync::Arc;

/// A group and what it runs on.
pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) engine: Arc<SimEngine>,
    pub(crate) frontend: Arc<SimFrontend>,
    pub(crate) runtime: Arc<SimRuntime>,
    group: Option<Arc<Group>>,
}

impl Fixture {
    /// An empty group.
    pub(crate) async fn new() -> Self {
        let mut fixture = Self {
            directory: tempfile::tempdir().unwrap(),
            engine: Arc::default(),
            frontend: Arc::default(),
            runtime: Arc::default(),
            group: None,
        };
        fixture.restart().await;
        fixture
    }

    /// Ends the group without closing it, as a kill would, and opens it again.
    pub(crate) async fn restart(&mut self) {
        self.group = None;
        self.frontend = Arc::default();
        let config = GroupConfig {
            file: self.directory.path().join("group.redb"),
            engine: self.engine.clone(),
            frontend: self.frontend.clone(),
            runtime: self.runtime.clone(),
        };
        self.group = Some(Group::open(config).await.unwrap());
    }

    /// The group as it is open now.
    pub(crate) fn group(&self) -> &Arc<Group> {
        self.group.as_ref().unwrap()
    }
}
