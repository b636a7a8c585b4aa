"""Where the sidecar is right now, for everything in this process that talks to it."""

import os
from collections.abc import MutableMapping

URL = "ATELIER_SIDECAR_URL"
TOKEN = "ATELIER_PACK_TOKEN"  # noqa: S105 - the name of a variable
AUTH = "ATELIER_AUTH"
LAUNCHED = "ATELIER_LAUNCHED_SIDECAR_URL"
"""Which URL the launcher wrote into the environment.

ComfyUI-Manager restarts ComfyUI by exec: the next ComfyUI inherits what this one wrote, and would
otherwise take a dead sidecar's URL for the user's choice.
"""


class SidecarAddress:
    """The base URL (None while the sidecar is away) and the pack token.

    The environment carries the same, for the nodes. The token stays while the sidecar restarts.
    A ``chosen`` sidecar is the user's own.
    """

    def __init__(
        self,
        token: str | None,
        environment: MutableMapping[str, str] = os.environ,
        *,
        chosen: bool = False,
    ) -> None:
        self.token = token
        self.url: str | None = None
        self._environment = environment
        self._chosen = chosen
        self._said: bool | None = None

    @classmethod
    def chosen_by_user(
        cls, environment: MutableMapping[str, str] = os.environ
    ) -> "SidecarAddress | None":
        """The user's own sidecar, or None: then the pack launches one."""
        url = environment.get(URL)
        if not url or url == environment.get(LAUNCHED):
            return None
        address = cls(environment.get(TOKEN) or None, environment, chosen=True)
        address.url = url.rstrip("/")
        return address

    @property
    def has_accounts(self) -> bool:
        """Whether people sign in at the sidecar: what our environment or it says.

        One that we launch has our environment; of another it counts as true until that one says no.
        """
        if self._environment.get(AUTH, "").replace(" ", "") not in ("", "none"):
            return True
        return self._chosen if self._said is None else self._said

    def heard(self, accounts: str | None) -> None:
        """The sidecar said whether people sign in: ``on`` or ``off``. The rest says nothing."""
        if accounts in ("on", "off"):
            self._said = accounts == "on"

    def arrived(self, url: str) -> None:
        """The launched sidecar is ready at ``url``."""
        self._environment.update({URL: url, LAUNCHED: url, TOKEN: self.token or ""})
        self.url = url

    def left(self) -> None:
        """The launched sidecar is gone."""
        self.url = None
        for name in (URL, LAUNCHED, TOKEN):
            self._environment.pop(name, None)
