"""What the system tells of the CPU's clock, heat and mains: why a time may not come again."""

from pathlib import Path

_SYS = Path("/sys")


def power_state(folder: Path = _SYS) -> str:
    """Governor and clock of the first CPU, the highest temperature, mains or battery.

    `performance, 3.40 GHz, 61 C, battery`; what cannot be read is left out, on many virtual
    machines all of it.
    """
    clock = folder / "devices/system/cpu/cpu0/cpufreq"
    found = [_read(clock / "scaling_governor")]
    kilohertz = _number(clock / "scaling_cur_freq")
    found.append(f"{kilohertz / 1e6:.2f} GHz" if kilohertz else "")
    heats = [_number(zone) for zone in folder.glob("class/thermal/thermal_zone*/temp")]
    known = [heat for heat in heats if heat]
    found.append(f"{max(known) / 1000:.0f} C" if known else "")
    mains = [_read(supply) for supply in folder.glob("class/power_supply/A*/online")]
    found.append({"0": "battery", "1": "mains"}.get(mains[0], "") if mains else "")
    return ", ".join(part for part in found if part)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _read(file)
    return int(text) if text.lstrip("-").isdigit() else None
