"""Runs for tests to store."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sidecar.principal import LOCAL
from sidecar.runs.models import Run, Source, Status


def some_run(now: datetime, owner_id: UUID = LOCAL.id, **values: Any) -> Run:
    """A queued run of an empty prompt, except for what ``values`` says."""
    defaults: dict[str, Any] = {
        "id": uuid4(),
        "source": Source.API,
        "status": Status.QUEUED,
        "prompt": {},
        "loras": (),
    }
    return Run(owner_id=owner_id, created_at=now, **(defaults | values))
