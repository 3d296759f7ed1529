"""Where passphrases come from: `secrets` in pki.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from pki.config.fields import (
    CommandLine,
    RelativeFile,
    SecretName,
    SourceFile,
    empty_is_mapping,
    matching,
    relative_file,
)
from pki.config.identifiers import ALL_AUTHORITIES, GenerationName
from pki.config.strict_model import StrictModel


class SecretSource(StrictModel):
    """The source of one passphrase: exactly one of the keys."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    command: CommandLine | None = None
    credential: Annotated[str, matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "the name of a systemd credential")] | None = (
        None
    )
    env: Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")] | None = None
    file: SourceFile | None = None
    fd: Annotated[int, Field(ge=0, le=65535)] | None = None
    prompt: Literal["true"] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"expected exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def description(self) -> str:
        """Return the source as messages name it, such as `command: pass show pki/server`."""
        [(kind, value)] = self.model_dump(exclude_none=True).items()
        return "the prompt" if kind == "prompt" else f"`{kind}: {value}`"


class Secrets(StrictModel):
    """The sources of secrets. `file` stores generated ones; every other key names one secret."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[
        SecretName,
        Annotated[SecretSource, BeforeValidator(_prompt, json_schema_input_type=Literal["prompt"] | SecretSource)],
    ]

    file: RelativeFile = "secrets.yaml"

    @property
    def named(self) -> Mapping[str, SecretSource]:
        """Return the secrets that have their own source, by name."""
        return self.__pydantic_extra__

    def source(self, name: str) -> SecretSource | None:
        """Return the source of a secret: under its own name (`server-2`), else under that of its authority (`server`)."""
        named, authority = self.named, GenerationName.parse(name).authority
        return named.get(name) or (named.get(authority) if authority in ALL_AUTHORITIES else None)

    @property
    def names(self) -> list[str]:
        """Return the names of the secrets that have their own source."""
        return list(self.__pydantic_extra__)

    def files(self) -> set[str]:
        """Return the files in the project that contain passphrases, except that of the backups."""
        files = {source.file for name, source in self.named.items() if source.file and name != "backup"}
        return {self.file} | {path for path in files if not path.startswith("/")}


def _secrets_in_one_file(value: Any) -> Any:
    """Expand the short form `secrets: secrets.yaml` to {file: secrets.yaml}."""
    return {"file": relative_file(value)} if isinstance(value, str) and value else empty_is_mapping(value)


def _prompt(value: Any) -> Any:
    """Expand the short form `prompt` of a source."""
    if value == "prompt":
        return {"prompt": "true"}
    if not isinstance(value, dict | SecretSource):
        raise ValueError("expected prompt, or a mapping such as {command: pass show pki/server}")  # noqa: TRY004 - pydantic
    return value


NO_SOURCES = Secrets.model_validate({})
