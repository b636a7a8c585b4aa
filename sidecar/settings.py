"""Every environment variable, once: typed, documented, frozen.

``ARCHITECTURE.md`` lists them; a test compares the two.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from .errors import InvalidError

GIB = 1 << 30

SignIn = Literal["none", "local", "supabase", "cloudflare"]


class Settings(BaseModel):
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
    data_dir: Path = Field(
        Path("atelier-data"), alias="ATELIER_DATA_DIR", description="database and blobs"
    )
    database_url: SecretStr | None = Field(
        None,
        alias="DATABASE_URL",
        description="Postgres (`postgresql://...`) as the sidecar's own role, which owns nothing; "
        "none: a SQLite file in the data folder",
    )
    database_admin_url: SecretStr | None = Field(
        None,
        alias="DATABASE_ADMIN_URL",
        description="the same database as a role that may create roles and schemas; only `migrate` "
        "needs it, and a sidecar that shall migrate by itself when it starts",
    )
    auth: tuple[SignIn, ...] = Field(
        ("none",),
        alias="ATELIER_AUTH",
        description="how people sign in, a comma list of `local`, `supabase` and `cloudflare`; "
        "`none`: everyone is one account",
    )
    supabase_url: str | None = Field(
        None,
        alias="SUPABASE_URL",
        description="the project: `https://<ref>.supabase.co` or where it is self-hosted",
    )
    supabase_anon_key: SecretStr | None = Field(
        None, alias="SUPABASE_ANON_KEY", description="its publishable (or anon) key"
    )
    supabase_jwt_secret: SecretStr | None = Field(
        None,
        alias="SUPABASE_JWT_SECRET",
        description="legacy secret, only for a project that still signs tokens with HS256",
    )
    cf_access_team: str | None = Field(
        None,
        alias="CF_ACCESS_TEAM",
        description="Cloudflare Access: `<team>` of `<team>.cloudflareaccess.com`, or its URL",
    )
    cf_access_aud: str | None = Field(
        None,
        alias="CF_ACCESS_AUD",
        description="Cloudflare Access: the application's audience tag; several with commas",
    )
    cf_access_service_tokens: str | None = Field(
        None,
        alias="CF_ACCESS_SERVICE_TOKENS",
        description="Cloudflare Access service tokens that may come in, each as an account: "
        "`<client id>=<email>`, several with commas",
    )
    session_seconds: int = Field(
        14 * 24 * 3600,
        alias="ATELIER_SESSION_SECONDS",
        gt=0,
        description="a session ends when it was not used for so long",
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
    max_lora_bytes: int = Field(
        16 * GIB, alias="ATELIER_MAX_LORA_BYTES", gt=0, description="largest LoRA file"
    )
    user_bytes: int | None = Field(
        None,
        alias="ATELIER_USER_BYTES",
        gt=0,
        description="LoRA bytes that one account may keep; none: as much as the disk has",
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
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("expected http://host:port or https://host:port")
        return value.rstrip("/")

    @field_validator("database_url", "database_admin_url")
    @classmethod
    def _is_a_database(cls, value: SecretStr | None) -> SecretStr | None:
        known = ("sqlite:///", "postgresql://", "postgres://")
        if value is not None and not value.get_secret_value().startswith(known):
            raise ValueError("expected postgresql://user:password@host/database or sqlite:///file")
        return value

    @field_validator("auth", mode="before")
    @classmethod
    def _is_a_list(cls, value: Any) -> Any:
        names = value.replace(" ", "").split(",") if isinstance(value, str) else value
        if "none" in names and len(names) > 1:
            raise ValueError("none cannot be combined with a way to sign in")
        return names

    @field_validator("supabase_url")
    @classmethod
    def _is_a_project(cls, value: str | None) -> str | None:
        return None if value is None else cls._is_http(value)

    @field_validator("supabase_jwt_secret")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        # RFC 7518, 3.2: a key of the size of the hash output or larger
        if value is not None and len(value.get_secret_value().encode()) < 32:
            raise ValueError("expected 32 bytes or more")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> "Settings":
        needed: dict[SignIn, dict[str, object]] = {
            "supabase": {
                "SUPABASE_URL": self.supabase_url,
                "SUPABASE_ANON_KEY": self.supabase_anon_key,
            },
            "cloudflare": {
                "CF_ACCESS_TEAM": self.cf_access_team,
                "CF_ACCESS_AUD": self.cf_access_aud,
            },
        }
        for way in self.auth:
            missing = [name for name, value in needed.get(way, {}).items() if value is None]
            if missing:
                raise ValueError(f"{way} needs {' and '.join(missing)}")
        return self

    @property
    def postgres_url(self) -> str | None:
        """The Postgres to use; None for SQLite."""
        url = None if self.database_url is None else self.database_url.get_secret_value()
        return url if url is not None and not url.startswith("sqlite:") else None

    @property
    def database_file(self) -> Path:
        """The SQLite file."""
        if self.database_url is None:
            return self.data_dir / "atelier.db"
        return Path(self.database_url.get_secret_value().removeprefix("sqlite:///"))

    @property
    def loras_dir(self) -> Path:
        """ComfyUI's LoRA folder."""
        return self.comfyui_loras_dir or self.data_dir / "comfyui-loras"


_SECRETS = {
    "COMFYUI_WEB_PASSWORD",
    "ATELIER_PACK_TOKEN",
    "DATABASE_URL",
    "DATABASE_ADMIN_URL",
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
        held = "a secret" if name in _SECRETS else repr(values.get(name))
        expected = problem["msg"].removeprefix("Value error, ")
        raise InvalidError("invalid_setting", f"{name} is {held}: {expected}.") from None
