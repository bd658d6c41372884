"""The table ``[images.cvmfs]``: where images are published to CVMFS."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from slurm_gha.config.fields import Duration, Name


def _repository(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*", text) is None:
        raise ValueError('must be the name of a repository, such as "images.example.org"')
    return text


def _host(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*|[0-9A-Fa-f:]+", text) is None:
        raise ValueError('must be the name or address of a machine, such as "stratum0.example.org"')
    return text


def _prefix(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*", text) is None or len(text) > 200:
        raise ValueError('must be a relative path of letters, digits and . _ -, such as "images"')
    return text


class CvmfsTable(BaseModel):
    """Publication of images to a CVMFS repository."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=False
    )

    repository: Annotated[str, AfterValidator(_repository)] = Field(
        description="Name of the repository; nodes see it as `/cvmfs/REPOSITORY`."
    )
    host: Annotated[str, AfterValidator(_host)] | None = Field(
        default=None, description="The stratum 0, reached by ssh without a password. Without it: this machine."
    )
    user: Name | None = Field(
        default=None, description="Account on `host` that owns the repository; without it, ssh's own choice."
    )
    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="images", description="Directory of the images inside the repository."
    )
    method: Literal["transaction", "ingest"] = Field(
        default="transaction",
        description="`transaction`: image and name in one revision, and a killed publication recovers. `ingest`: the "
        "image goes straight into the storage, for a stratum 0 whose scratch area is small.",
    )
    max_wait: Duration = Field(
        default=1800.0, description="How long to wait in all while the repository is busy with others' transactions."
    )
    wait: Duration = Field(default=600.0, description="How long to wait until nodes see a new image; `0s`: not at all.")

    @model_validator(mode="after")
    def _user_needs_host(self) -> CvmfsTable:
        if self.user is not None and self.host is None:
            raise ValueError("user is the account on another machine: it needs host")
        return self
