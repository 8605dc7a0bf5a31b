"""Checkpoints: atomic, and only ever resumed by the run that would have written them.

A checkpoint stores the identity of what made it (settings, data, code, seed, device, threads). One
whose identity differs is set aside under another name with a message, never resumed and never
deleted.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sws.files import write_bytes
from sws.training.interruption import protected


@dataclass(frozen=True)
class Checkpoint:
    """One file, replaced as a whole.

    Attributes
    ----------
    path : Path
        Of the file; its folder is made when needed.
    identity : mapping of str to str
        Everything that decides the bytes of the result, as flat strings.
    """

    path: Path
    identity: Mapping[str, str]

    def save(self, state: dict[str, Any]) -> None:
        """Write beside the old file and rename, so that a kill at any time leaves a whole one."""
        with protected():
            self._save(state)

    def _save(self, state: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # through memory: torch's own writer turns a full disk into an internal assertion
        buffer = io.BytesIO()
        torch.save({"identity": dict(self.identity), "state": state}, buffer)
        write_bytes(self.path, buffer.getbuffer())

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None if there is none that this run may go on from.

        Only tensors and plain containers are read (``weights_only``): a checkpoint cannot run code.
        """
        if not self.path.exists():
            return None
        try:
            saved = torch.load(self.path, weights_only=True, map_location="cpu")
            found = saved["identity"]
        except Exception as error:  # a file that is damaged can fail in any way
            self._set_aside(f"cannot be read ({type(error).__name__})")
            return None
        differing = [k for k in self.identity if found.get(k) != self.identity[k]]
        if differing:
            self._set_aside(f"was made with another {', '.join(differing)}")
            return None
        return saved["state"]

    def remove(self) -> None:
        """Delete the file once the outputs of the run are in place."""
        self.path.unlink(missing_ok=True)

    def _set_aside(self, reason: str) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.aside-{number}")).exists():
            number += 1
        self.path.replace(aside)
        print(f"checkpoint {self.path} {reason}: set aside as {aside.name}", file=sys.stderr)
