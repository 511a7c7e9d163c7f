//! Which path is what, and what can be done there.

use axum::http::Method;

use super::super::spec::is_name;

/// What there is. The name of an agent is kept apart, since it is no label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The page.
    Page,
    /// The description of all this.
    OpenApi,
    /// All agents.
    Agents,
    /// One of them.
    Agent,
    /// It acts.
    Act,
    /// It is sent experience.
    Experience,
    /// What acts, as a file.
    Policy,
    /// What it would go on from.
    Checkpoints,
    /// It learns no more.
    Pause,
    /// It learns again.
    Resume,
    /// How learning went.
    Metrics,
}

impl Route {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Page,
        Self::OpenApi,
        Self::Agents,
        Self::Agent,
        Self::Act,
        Self::Experience,
        Self::Policy,
        Self::Checkpoints,
        Self::Pause,
        Self::Resume,
        Self::Metrics,
    ];

    /// As the description has it.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Page => "/",
            Self::OpenApi => "/openapi.json",
            Self::Agents => "/v1/agents",
            Self::Agent => "/v1/agents/{name}",
            Self::Act => "/v1/agents/{name}/act",
            Self::Experience => "/v1/agents/{name}/experience",
            Self::Policy => "/v1/agents/{name}/policy",
            Self::Checkpoints => "/v1/agents/{name}/checkpoints",
            Self::Pause => "/v1/agents/{name}/pause",
            Self::Resume => "/v1/agents/{name}/resume",
            Self::Metrics => "/v1/agents/{name}/metrics",
        }
    }

    /// As a metric has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::OpenApi => "openapi",
            Self::Agents => "agents",
            Self::Agent => "agent",
            Self::Act => "act",
            Self::Experience => "experience",
            Self::Policy => "policy",
            Self::Checkpoints => "checkpoints",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Metrics => "metrics",
        }
    }

    /// What can be done there. HEAD is GET without what it brings.
    #[must_use]
    pub fn methods(self) -> &'static str {
        match self {
            Self::Page | Self::OpenApi | Self::Policy | Self::Metrics => "GET, HEAD",
            Self::Agents | Self::Checkpoints => "GET, HEAD, POST",
            Self::Agent => "GET, HEAD, DELETE",
            Self::Act | Self::Experience | Self::Pause | Self::Resume => "POST",
        }
    }

    /// Whether doing so changes something: acting does not.
    #[must_use]
    pub fn changes(self, method: &Method) -> bool {
        *method != Method::GET && *method != Method::HEAD && self != Self::Act
    }

    /// Whether it tells something of an agent.
    #[must_use]
    pub fn tells(self) -> bool {
        !matches!(self, Self::Page | Self::OpenApi)
    }

    /// The route of a path, and the name in it. A name that cannot be one leads nowhere, so that no trick with it leads anywhere else.
    #[must_use]
    pub fn of(path: &str) -> Option<(Self, &str)> {
        match path {
            "/" => return Some((Self::Page, "")),
            "/openapi.json" => return Some((Self::OpenApi, "")),
            "/v1/agents" => return Some((Self::Agents, "")),
            _ => {}
        }
        let rest = path.strip_prefix("/v1/agents/")?;
        let (name, what) = match rest.split_once('/') {
            None => (rest, None),
            Some((name, what)) => (name, Some(what)),
        };
        let route = match what {
            None => Self::Agent,
            Some("act") => Self::Act,
            Some("experience") => Self::Experience,
            Some("policy") => Self::Policy,
            Some("checkpoints") => Self::Checkpoints,
            Some("pause") => Self::Pause,
            Some("resume") => Self::Resume,
            Some("metrics") => Self::Metrics,
            Some(_) => return None,
        };
        is_name(name).then_some((route, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_found_at_its_path() {
        for route in Route::ALL {
            let path = route.path().replace("{name}", "a-1");
            let name = if path.contains("a-1") { "a-1" } else { "" };
            assert_eq!(Route::of(&path), Some((route, name)), "{path}");
        }
    }

    #[test]
    fn tricks_with_paths_lead_nowhere() {
        for path in [
            "",
            "//",
            "/v1",
            "/v1/agents/",
            "/v1/agents//act",
            "/v1/agents/a/",
            "/v1/agents/a/act/",
            "/v1/agents/../act",
            "/v1/agents/..%2f..%2fetc/policy",
            "/v1/agents/%2e%2e/policy",
            "/v1/agents/a/../../policy",
            "/v1/agents/.removed-a",
            "/v1/agents/a%00/act",
            "/v1/agents/-a",
            "/V1/agents",
            "*",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
        let long = format!("/v1/agents/{}", "a".repeat(64));
        assert_eq!(Route::of(&long), None);
    }
}
