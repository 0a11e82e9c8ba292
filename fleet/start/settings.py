"""What a start needs to know from the environment. The roles read their own settings from the same one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet.start.ending import CannotStart, Ending
from process.settings import SECONDS_MAX

Port = Annotated[int, Field(ge=1, le=65535)]


class StartSettings(BaseModel):
    """Settings of `fleet start` and `fleet container`; each field's alias is the variable's name."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", alias="HOST")
    port: Port = Field(8081, alias="PORT")
    management_host: str = Field("127.0.0.1", alias="MANAGEMENT_HOST")
    management_port: Port = Field(8082, alias="MANAGEMENT_PORT")
    node_host: str = Field("127.0.0.1", alias="NODE_HOST")
    node_port: Port = Field(8083, alias="NODE_PORT")
    ssl_certfile: Path | None = Field(None, alias="SSL_CERTFILE")
    management_ssl_certfile: Path | None = Field(None, alias="MANAGEMENT_SSL_CERTFILE")
    api_keys: str | None = Field(None, alias="API_KEYS", repr=False)
    api_keys_file: str | None = Field(None, alias="API_KEYS_FILE")
    database_url: str | None = Field(None, alias="DATABASE_URL", repr=False)
    database_url_file: str | None = Field(None, alias="DATABASE_URL_FILE")
    model_name: str = Field("", alias="MODEL_NAME")
    node_type: str = Field("static", alias="NODE_TYPE")
    model_path: str = Field("", alias="MODEL_PATH")

    pulsar_url: str | None = Field(None, alias="PULSAR_URL")
    pulsar_home: Path | None = Field(
        None, alias="PULSAR_HOME", description="a Pulsar distribution, to start its bin/pulsar standalone"
    )
    pulsar_port: Port = Field(6650, alias="PULSAR_PORT", description="the port of a broker that is started")
    pulsar_admin_port: Port = Field(8080, alias="PULSAR_ADMIN_PORT", description="the port of its admin interface")
    pulsar_data: Path | None = Field(
        None, alias="PULSAR_DATA", description="where it keeps its data; data/pulsar in the checkout if unset"
    )

    start_wait_s: float = Field(
        90.0,
        gt=0,
        le=SECONDS_MAX,
        alias="START_WAIT_S",
        description="seconds that broker and roles may each take to be ready",
    )
    stop_wait_s: float = Field(
        40.0, gt=0, le=SECONDS_MAX, alias="STOP_WAIT_S", description="seconds to stop everything, before it is killed"
    )

    @property
    def has_keys(self) -> bool:
        """Whether the gateway asks its clients for a key."""
        return bool(self.api_keys or self.api_keys_file)

    @property
    def has_stored_keys(self) -> bool:
        """Whether the gateway looks for keys in the database."""
        return bool(self.database_url or self.database_url_file)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "StartSettings":
        """Check `environment`; an empty value counts as absent. Raises CannotStart with a line per wrong setting."""
        try:
            return cls.model_validate({name: value.strip() for name, value in environment.items() if value.strip()})
        except ValidationError as wrong:
            lines = (f"{'.'.join(map(str, e['loc']))}={e['input']}: {e['msg']}" for e in wrong.errors())
            raise CannotStart(Ending.SETTING, *lines) from None
