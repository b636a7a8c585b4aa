"""How a token is refused."""

import pytest

from sidecar.errors import AtelierError, UnauthenticatedError
from sidecar.identity import TokenCheck


async def refusal(tokens: TokenCheck, token: str) -> tuple[str, str | None]:
    """The code, and the flaw where there is one. The refusal may not repeat the token."""
    with pytest.raises(AtelierError) as refused:
        await tokens.identify(token)
    assert isinstance(refused.value, UnauthenticatedError)
    assert not token or token not in f"{refused.value} {refused.value.details}"
    return refused.value.code, refused.value.details.get("flaw")
