"""Tables that a spreadsheet opens: no cell of ours may be taken for a formula."""

import pandas as pd

_FORMULA = ("=", "+", "-", "@")


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a quotation mark before texts, and headings, that a spreadsheet would run.

    Names of layers and files come from models and uploads, so they may be anything. Numbers stay
    numbers. See OWASP, "CSV Injection".
    """
    texts = [name for name, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    safe = table.assign(**{str(name): table[name].map(_safe) for name in texts})
    return safe.rename(columns={name: _safe(name) for name in safe.columns})


def _safe(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    plain = cell.replace("\r", " ").replace("\t", " ")  # either may begin a cell of its own
    return f"'{plain}" if plain.lstrip().startswith(_FORMULA) else plain
