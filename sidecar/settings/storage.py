"""Where rows and files are kept, and how many of them."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

GIB = 1 << 30


class StorageSettings(BaseModel):
    """Database and blobs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

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
    minio_endpoint: str | None = Field(
        None,
        alias="MINIO_ENDPOINT",
        description="any S3 for LoRAs and outputs: `host:port`, or a URL; none: a local folder",
    )
    minio_access_key: SecretStr | None = Field(
        None, alias="MINIO_ACCESS_KEY", validate_default=True, description="its access key"
    )
    minio_secret_key: SecretStr | None = Field(
        None, alias="MINIO_SECRET_KEY", validate_default=True, description="its secret key"
    )
    minio_bucket: str = Field(
        "atelier",
        alias="MINIO_BUCKET",
        description="its bucket, made where it is missing and the key may do that",
    )
    minio_secure: bool = Field(
        True, alias="MINIO_SECURE", description="speak HTTPS to it; a URL's scheme has precedence"
    )
    minio_region: str = Field("us-east-1", alias="MINIO_REGION", description="its region")
    minio_path_style: bool | None = Field(
        None,
        alias="MINIO_PATH_STYLE",
        description="the bucket is in the path (`true`) or in the host name (`false`) of a "
        "request; none: in the host name for AWS alone",
    )
    minio_public_endpoint: str | None = Field(
        None,
        alias="MINIO_PUBLIC_ENDPOINT",
        description="where browsers reach the same S3: downloads of LoRAs are sent there with a "
        "signed link; none: they go through the sidecar",
    )

    @field_validator("database_url", "database_admin_url")
    @classmethod
    def _is_a_database(cls, value: SecretStr | None) -> SecretStr | None:
        known = ("sqlite:///", "postgresql://", "postgres://")
        if value is not None and not value.get_secret_value().startswith(known):
            raise ValueError("expected postgresql://user:password@host/database or sqlite:///file")
        return value

    @field_validator("minio_endpoint", "minio_public_endpoint")
    @classmethod
    def _is_a_host(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value if "//" in value else f"//{value}")
        is_plain = parts.path in ("", "/") and not parts.query and parts.username is None
        if not parts.hostname or not is_plain or parts.scheme not in ("", "http", "https"):
            raise ValueError("expected host:port, http://host:port or https://host:port")
        return value.rstrip("/")

    @field_validator("minio_access_key", "minio_secret_key")
    @classmethod
    def _comes_with_an_endpoint(
        cls, value: SecretStr | None, info: ValidationInfo
    ) -> SecretStr | None:
        if value is None and info.data.get("minio_endpoint") is not None:
            raise ValueError("MINIO_ENDPOINT needs it")
        return value

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


class LoraSettings(BaseModel):
    """The library, and ComfyUI's disk."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_lora_bytes: int = Field(
        16 * GIB, alias="ATELIER_MAX_LORA_BYTES", gt=0, description="largest LoRA file"
    )
    user_bytes: int | None = Field(
        None,
        alias="ATELIER_USER_BYTES",
        gt=0,
        description="LoRA bytes that one account may keep; none: as much as the store has",
    )
    user_loras: int | None = Field(
        None,
        alias="ATELIER_USER_LORAS",
        gt=0,
        description="LoRAs that one account may keep, each with all its versions; none: any number",
    )
    lora_cache_bytes: int | None = Field(
        None,
        alias="ATELIER_LORA_CACHE_BYTES",
        gt=0,
        description="what accounts' LoRAs may take on ComfyUI's disk: the least recently used make "
        "room and are fetched again when a run needs them; none: what the disk has",
    )
    loras_min_free_bytes: int = Field(
        1 * GIB,
        alias="ATELIER_LORAS_MIN_FREE_BYTES",
        ge=0,
        description="what stays free on ComfyUI's disk whatever LoRAs need",
    )
    upload_seconds: int = Field(
        24 * 3600,
        alias="ATELIER_UPLOAD_SECONDS",
        gt=0,
        description="a resumable upload is given up when nothing arrived for so long",
    )
