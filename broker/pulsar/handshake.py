"""A first word with the broker, before anything is opened there: why it cannot be reached, or that it refuses us.

The protocol's first exchange tells at once. Whoever opens a producer instead asks again until its time is over, and the
client library cannot tell a refused token from a silence at all.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from broker.pulsar.channels import Route
from broker.pulsar.failure import FORBIDDEN, PulsarFailure

if TYPE_CHECKING:
    from broker.pulsar.address import Address
    from broker.pulsar.channels import Channels


async def fault(address: Address, channels: Channels, timeout_s: float) -> str | None:
    """Why the broker cannot be reached, or None when one of its hosts lets this process in.

    Raises :class:`PulsarFailure` when it answers and refuses the token.
    """
    why = ""
    for host, port in address.endpoints:
        try:
            channel = await channels.greet(Route(host, port), timeout_s)
        except TimeoutError:
            why = f"there is no answer within {timeout_s:g} s"
        except ssl.SSLCertVerificationError as error:
            why = f"its certificate is not trusted ({error.verify_message})"
        except ConnectionRefusedError:
            why = "nothing listens there"
        except (OSError, EOFError) as error:
            why = getattr(error, "strerror", None) or str(error)
        except PulsarFailure as failure:
            if failure.result in FORBIDDEN:
                raise
            why = f"it answers with an error ({failure.message or failure.result.name})"
        else:
            await channel.aclose()
            return None
    return why
