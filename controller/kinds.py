"""The kinds of objects the controller handles, and where the API server has them."""

from __future__ import annotations

from dataclasses import dataclass

from controller.aimodel import API_VERSION, KIND


@dataclass(frozen=True)
class Kind:
    """``api_version`` as in a manifest. ``optional``: comes with something that a cluster may lack."""

    name: str
    api_version: str
    plural: str
    optional: bool = False

    @property
    def api(self) -> str:
        """The path of its group and version."""
        return f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of an object, or of all: of a namespace, or of the cluster if that is empty."""
        place = f"/namespaces/{namespace}" if namespace else ""
        return self.api + place + "".join(f"/{part}" for part in (self.plural, name, subresource) if part)


AIMODEL = Kind(KIND, API_VERSION, "aimodels")
DEPLOYMENT = Kind("Deployment", "apps/v1", "deployments")
SCALED_OBJECT = Kind("ScaledObject", "keda.sh/v1alpha1", "scaledobjects", optional=True)
TRIGGER_AUTHENTICATION = Kind("TriggerAuthentication", "keda.sh/v1alpha1", "triggerauthentications", optional=True)
POD_MONITOR = Kind("PodMonitor", "monitoring.coreos.com/v1", "podmonitors", optional=True)
POD = Kind("Pod", "v1", "pods")
EVENT = Kind("Event", "v1", "events")
LEASE = Kind("Lease", "coordination.k8s.io/v1", "leases")

MANAGED = (
    Kind("ServiceAccount", "v1", "serviceaccounts"),
    Kind("Role", "rbac.authorization.k8s.io/v1", "roles"),
    Kind("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings"),
    Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
    Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
    DEPLOYMENT,
    TRIGGER_AUTHENTICATION,
    SCALED_OBJECT,
    POD_MONITOR,
)
"""What an AIModel may own."""
BY_NAME = {kind.name: kind for kind in MANAGED}
