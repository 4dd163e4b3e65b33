"""What to say of the models' licences before they are fused: unknown ones, and ones that differ."""

from __future__ import annotations

from fusechat.pins import Pins


def licence_notes(pins: Pins) -> list[str]:
    """Sentences for a person; whether licences are compatible is for lawyers to say."""
    licences = {name: pin.licence for name, pin in pins.models.items()}
    unknown = [name for name, licence in licences.items() if licence is None]
    known = {name: licence for name, licence in licences.items() if licence is not None}
    notes = []
    if unknown:
        notes.append(f"unknown for {', '.join(unknown)}: their model cards name none. Check before you publish.")
    if len({licence.lower() for licence in known.values()}) > 1:
        named = ", ".join(f"{name} {licence}" for name, licence in known.items())
        notes.append(f"the models' differ ({named}): the fused model must satisfy all of them.")
    return notes
