"""Who may come in."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from .addresses import http_url

SignIn = Literal["none", "local", "supabase", "cloudflare"]


class SignInSettings(BaseModel):
    """Ways to sign in, and sessions."""

    model_config = ConfigDict(frozen=True, extra="ignore")

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
        return None if value is None else http_url(value)

    @field_validator("supabase_jwt_secret")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        # RFC 7518, 3.2: a key of the size of the hash output or larger
        if value is not None and len(value.get_secret_value().encode()) < 32:
            raise ValueError("expected 32 bytes or more")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> "SignInSettings":
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
