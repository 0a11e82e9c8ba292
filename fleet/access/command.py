"""``fleet access``."""

from __future__ import annotations

import itertools
import sys

import click

from broker import access as rules
from fleet.access.admin import Admin, Refused, patiently
from fleet.admin_settings import AdminSettings
from process.settings import EXIT_WRONG_SETTING, WrongSettings, load
from wire.errors import InvalidName


@click.command(short_help="Grant each role what it needs at a Pulsar.")
@click.option("--model", "models", multiple=True, help="Also make this model's topics, and let nodes serve it.")
@click.option("--show", is_flag=True, help="Only print the same for pulsar-admin.")
@click.option("--wait-s", default=0.0, help="Seconds to go on trying while the broker refuses, or does not answer.")
def access(*, models: tuple[str, ...], show: bool, wait_s: float) -> None:
    """Let gateway, node, management and controller work at a Pulsar with authorization, each with its own token.

    Makes the tenant, the namespaces and the ledger's subscription, and grants each role what it needs. Asks
    PULSAR_ADMIN_URL with PULSAR_TOKEN, which must be a superuser's. May be repeated.

    \b
    Exit codes: 0 granted, 1 refused or no answer, 2 a wrong setting or option.
    """
    try:
        settings = load(AdminSettings)
        topics = settings.topics
        steps = list(itertools.chain(rules.deployment(topics), *(rules.model(topics, model) for model in models)))
        if show:
            click.echo(f"pulsar-admin tenants create {topics.tenant} --admin-roles {rules.CONTROLLER}")
            for step in steps:
                click.echo(f"pulsar-admin {step.command}")
            return
        if settings.admin_token and not settings.pulsar_admin_url:
            raise click.UsageError("Set PULSAR_ADMIN_URL: the token is shown to no address that was only guessed.")
        admin = Admin(settings.admin_url, settings.admin_token, settings.admin_trust)

        def grant() -> None:
            admin.tenant(topics.tenant)
            admin.take(steps, click.echo)

        patiently(grant, wait_s, lambda why: click.echo(f"{why} Trying again.", err=True))
    except WrongSettings as wrong:
        raise click.UsageError(str(wrong)) from None
    except (InvalidName, ValueError) as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_WRONG_SETTING)
    except (Refused, OSError) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
