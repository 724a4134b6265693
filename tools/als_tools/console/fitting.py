"""Which columns of a listing a table has room for, and how wide those may be whose cells can be cut.

Pure: widths in, widths out. Columns are cut before they are left out: the row's details have all of what was cut.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from als_tools import sheet
from als_tools.columns import Column


@dataclass(frozen=True, slots=True)
class Fitting:
    """The columns that are shown, the greatest width of those that are cut, and the headings of what is left out."""

    columns: tuple[Column, ...] = ()
    widths: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def fit(
    columns: Sequence[Column], needed: Mapping[str, int], expendable: Sequence[str], room: int, padding: int
) -> Fitting:
    """Leave out `expendable` columns, in this order, until the rest fits into `room` cells with its cells cut.

    `needed` is how wide each column is by itself, `padding` what a table adds to each. What fits at no width is
    as narrow as it can be.
    """
    kept, left_out = list(columns), []
    for key in expendable:
        if sum(_least(column, needed) + padding for column in kept) <= room:
            break
        left_out += [column.heading for column in kept if column.key == key]
        kept = [column for column in kept if column.key != key]
    least = [_least(column, needed) for column in kept]
    widths = sheet.squeeze([needed[column.key] for column in kept], least, room - padding * len(kept))
    cut = {column.key: width for column, width in zip(kept, widths, strict=True) if width < needed[column.key]}
    return Fitting(tuple(kept), cut, tuple(left_out))


def _least(column: Column, needed: Mapping[str, int]) -> int:
    """Give the narrowest that a column can be: dates, numbers and serials are nothing when they are cut."""
    return min(needed[column.key], column.width_min) if column.is_elastic else needed[column.key]
