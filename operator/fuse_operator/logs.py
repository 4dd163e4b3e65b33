"""Log lines: what happened, and the fields by which it is found: namespace, name, action, reason. JSON or text."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["json", "text"]
_BRIEF = 1000


def fields(**values: object) -> dict[str, dict[str, object]]:
    """For a logging call's `extra`."""
    return {"fields": values}


def brief(error: BaseException) -> str:
    """An error in one short line: what it quotes may be as large as whatever caused it."""
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}..."


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """For people: message, then name=value."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        rest = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        line = f"{moment} {record.levelname:<7} {record.getMessage()} {rest}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(log_format: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """All loggers of the process. Libraries that talk at every request are heard from WARNING on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("leaderelection", "kubernetes", "urllib3", "asyncio", "aiohttp", "kopf"):
        logging.getLogger(name).setLevel(logging.DEBUG if level.upper() == "DEBUG" else logging.WARNING)
