"""Times as Kubernetes writes them: RFC 3339, UTC, whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def moment(text: str | None) -> datetime | None:
    """None for nothing, and for what is no time."""
    if not text:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def text_of(time: datetime) -> str:
    """Rounded down to seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def after(text: str | None, seconds: float) -> datetime | None:
    """That long after a time in a status; None where that is never."""
    start = moment(text)
    try:
        return None if start is None else start + timedelta(seconds=seconds)
    except OverflowError:
        return None


def seconds_until(time: datetime, now: datetime) -> float:
    """0 if it has passed."""
    return max(0.0, (time - now).total_seconds())
