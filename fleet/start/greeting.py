"""What a start says when everything is ready."""

import json
import shlex

from fleet.start.fleet_plan import Roles
from fleet.start.settings import StartSettings


def greeting(settings: StartSettings) -> tuple[str, ...]:
    """The addresses, a command to try, and how to stop. No key is printed: the command takes it from a variable."""
    at = Roles.of(settings)
    body = json.dumps({"model": settings.model_name, "messages": [{"role": "user", "content": "Hello"}]})
    key = ' -H "Authorization: Bearer $GATEWAY_KEY"' if settings.has_keys else ""
    return (
        f"ready: gateway {at.gateway.url}, management {at.management.url}, node {at.node.url}",
        f"try:   curl -s {at.gateway.url}/v1/chat/completions -H 'Content-Type: application/json'{key}"
        f" -d {shlex.quote(body)}",
        *(("       with GATEWAY_KEY set to one of API_KEYS",) if key else ()),
        "stop:  Ctrl-C",
    )
