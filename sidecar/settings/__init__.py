"""Every environment variable, once: typed, documented, frozen.

``ARCHITECTURE.md`` lists them; a test compares the two.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, SecretStr, ValidationError, field_validator

from ..errors import InvalidError
from .addresses import http_url
from .signing_in import SignIn, SignInSettings
from .storage import LoraSettings, StorageSettings

__all__ = ["Settings", "SignIn", "read_settings"]


class Settings(LoraSettings, SignInSettings, StorageSettings):
    """What the environment says. Sizes are in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    comfyui_url: str = Field(
        "http://127.0.0.1:8188", alias="COMFYUI_URL", description="this sidecar's ComfyUI"
    )
    comfyui_web_user: str | None = Field(
        None, alias="COMFYUI_WEB_USER", description="basic auth in front of ComfyUI: the user"
    )
    comfyui_web_password: SecretStr | None = Field(
        None,
        alias="COMFYUI_WEB_PASSWORD",
        description="basic auth in front of ComfyUI: the password",
    )
    comfyui_verify_tls: bool = Field(
        True,
        alias="COMFYUI_VERIFY_TLS",
        description="check ComfyUI's certificate; the launcher turns it off for a local one",
    )
    comfyui_loras_dir: Path | None = Field(
        None,
        alias="COMFYUI_LORAS_DIR",
        description="where synced LoRAs go: one of ComfyUI's own LoRA folders; none: "
        "`comfyui-loras` in the data folder, which extra_model_paths.yaml must then name",
    )
    host: str = Field("127.0.0.1", alias="ATELIER_HOST", description="where the sidecar listens")
    port: int = Field(
        8190,
        alias="ATELIER_PORT",
        ge=0,
        le=65535,
        description="where the sidecar listens; 0 takes a free port",
    )
    pack_token: SecretStr | None = Field(
        None,
        alias="ATELIER_PACK_TOKEN",
        description="secret shared with the pack that started the sidecar; none: no pack",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", alias="ATELIER_LOG_LEVEL", description="how much is logged"
    )
    max_workflow_bytes: int = Field(
        10 << 20,
        alias="ATELIER_MAX_WORKFLOW_BYTES",
        gt=0,
        description="largest JSON body with a graph in it",
    )
    user_runs: int = Field(
        1000,
        alias="ATELIER_USER_RUNS",
        gt=0,
        description="unfinished runs that one account may have",
    )
    runs_at_once: int = Field(
        4,
        alias="ATELIER_RUNS_AT_ONCE",
        gt=0,
        le=100,
        description="runs prepared and queued in ComfyUI at the same time; more than one "
        "hides the fetching of LoRAs behind the GPU's work",
    )
    run_attempts: int = Field(
        3,
        alias="ATELIER_RUN_ATTEMPTS",
        gt=0,
        description="how often a run is given to ComfyUI when that dies or forgets it",
    )
    comfyui_patience: float = Field(
        900.0,
        alias="ATELIER_COMFYUI_PATIENCE",
        gt=0,
        description="how long a run waits for a ComfyUI that is away",
    )
    object_info_seconds: float = Field(
        30.0,
        alias="ATELIER_OBJECT_INFO_SECONDS",
        ge=0,
        description="how long ComfyUI's node descriptions are kept before they are asked for again",
    )

    @field_validator("comfyui_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value)

    @property
    def loras_dir(self) -> Path:
        """ComfyUI's LoRA folder."""
        return self.comfyui_loras_dir or self.data_dir / "comfyui-loras"


_SECRETS = {
    "COMFYUI_WEB_PASSWORD",
    "ATELIER_PACK_TOKEN",
    "DATABASE_URL",
    "DATABASE_ADMIN_URL",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "SUPABASE_ANON_KEY",
    "SUPABASE_JWT_SECRET",
}


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the environment. An empty variable counts as absent.

    InvalidError("invalid_setting") names the variable, what it held (never a secret) and what was
    expected, in one line.
    """
    names = [field.alias for field in Settings.model_fields.values() if field.alias]
    values: dict[str, Any] = {name: environment[name] for name in names if environment.get(name)}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = str(problem["loc"][0]) if problem["loc"] else "ATELIER_AUTH"
        held = "a secret" if name in _SECRETS and name in values else repr(values.get(name))
        expected = problem["msg"].removeprefix("Value error, ")
        raise InvalidError("invalid_setting", f"{name} is {held}: {expected}.") from None
