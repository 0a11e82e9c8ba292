"""What a start says when everything is ready."""

import json
import shlex

from fleet.start.fleet_plan import Roles
from fleet.start.settings import StartSettings
from process.model_name import model_name

CREATE = "DATABASE_URL=… .venv/bin/python -m fleet keys create NAME"


def greeting(settings: StartSettings) -> tuple[str, ...]:
    """The addresses, a command to try, where keys come from, and how to stop.

    No key is printed: the command takes it from a variable.
    """
    at = Roles.of(settings)
    body = json.dumps(
        {
            "model": model_name(settings.model_name, settings.node_type, settings.model_path),
            "messages": [{"role": "user", "content": "Hello"}],
        }
    )
    key = ' -H "Authorization: Bearer $GATEWAY_KEY"' if settings.has_keys or settings.has_stored_keys else ""
    certificate = at.gateway.certificate
    trust = f"--cacert {shlex.quote(str(certificate))} " if certificate else ""
    return (
        f"ready: gateway {at.gateway.url}, management {at.management.url}, node {at.node.url}",
        f"page:  {at.gateway.url}/",
        f"fleet: {at.management.url}/",
        f"try:   curl -s {trust}{at.gateway.url}/v1/chat/completions -H 'Content-Type: application/json'{key}"
        f" -d {shlex.quote(body)}",
        *(("       with GATEWAY_KEY set to one of API_KEYS",) if settings.has_keys else ()),
        *((f"keys:  {CREATE} makes one, for GATEWAY_KEY",) if settings.has_stored_keys else ()),
        "stop:  Ctrl-C",
    )
