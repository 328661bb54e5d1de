"""Tables as people save them: encodings, delimiters, Excel, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from core.cli import UserError
from storage import spreadsheets
from storage.spreadsheets import read_spreadsheet

ROWS = [["path", "mask", "이름"], ["a b.jpg", "with_mask", "홍길동"], ["b.jpg", "", "똠방각하"]]


def saved(tmp_path: Path, encoding: str, delimiter: str = ",", end: str = "\r\n") -> Path:
    path = tmp_path / "photos.csv"
    path.write_bytes(end.join(delimiter.join(row) for row in ROWS).encode(encoding))
    return path


@pytest.mark.parametrize(
    ("encoding", "form"),
    [("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8"), ("cp949", "cp949"), ("utf-16", "UTF-16")],
)
@pytest.mark.parametrize(("delimiter", "name"), [(",", "commas"), (";", "semicolons"), ("\t", "tabs")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_form_reads_the_same(
    tmp_path: Path, *, encoding: str, form: str, delimiter: str, name: str, end: str
) -> None:
    table = read_spreadsheet(saved(tmp_path, encoding, delimiter, end))
    assert [list(table.frame.columns), *table.frame.to_numpy().tolist()] == ROWS
    assert (table.form, table.lines) == (f"{form}, {name}", (2, 3))


@pytest.mark.parametrize("text", ["path,mask\nété.jpg,wear\n", "path,person\na.jpg,Müller\nb.jpg,José\n"])
def test_a_western_encoding_is_refused_instead_of_read_as_korean(tmp_path: Path, text: str) -> None:
    path = tmp_path / "photos.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="neither UTF-8 nor cp949"):
        read_spreadsheet(path)


def test_blank_rows_and_cells_and_trailing_columns(tmp_path: Path) -> None:
    path = tmp_path / "photos.csv"
    path.write_text(' path , mask,,\n a.jpg ,wear,,\n,,,\n"b,c.jpg"\n')
    table = read_spreadsheet(path)
    assert table.frame.to_dict("list") == {"path": ["a.jpg", "b,c.jpg"], "mask": ["wear", ""]}
    assert table.lines == (2, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no header"),
        ("path,mask\na.jpg,wear,extra\n", "line 2: has more cells than the header's 2"),
        ("path,mask,path\n", "column 'path' stands twice"),
        ("path,,mask\n", "column 2 has no name"),
        ('path,mask\n"a.jpg,wear\n', "not a readable CSV"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "photos.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_spreadsheet(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_spreadsheet(tmp_path / "photos.csv")


def test_excel(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["path", "age", "성별"], ["a.jpg", 31, "여"], ["b.jpg", 40.0, None], [None, None, None]):
        book.active.append(row)
    path = tmp_path / "photos.xlsx"
    book.save(path)
    table = read_spreadsheet(path)
    assert table.frame.to_dict("list") == {"path": ["a.jpg", "b.jpg"], "age": ["31", "40"], "성별": ["여", ""]}
    assert table.form == "Excel, sheet 'Sheet'"


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book, path = openpyxl.Workbook(), tmp_path / "photos.xlsx"
    for row in (["path", "mask"], ["a.jpg", "wear"]):
        book.active.append(row)
    book.save(path)
    return path


def change_member(path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Put what `change` makes of a file inside a workbook in its place."""
    with ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, change(content) if member == name else content)


SHEET = "xl/worksheets/sheet1.xml"
ENTITIES = b'<!DOCTYPE x [<!ENTITY a "%s"><!ENTITY b "%s"><!ENTITY c "%s">]>' % (b"a" * 999, b"&a;" * 999, b"&b;" * 999)


@pytest.mark.parametrize(
    ("member", "change"),
    [
        (SHEET, lambda content: content[: len(content) // 2]),
        (SHEET, lambda content: content.replace(b'r="A1"', b'r="!!"')),
        (SHEET, lambda content: ENTITIES + content.replace(b"a.jpg", b"&c;")),
        ("xl/workbook.xml", lambda content: content[:50]),
        ("xl/workbook.xml", lambda content: re.sub(b"<sheets>.*</sheets>", b"<sheets/>", content)),
        ("xl/styles.xml", lambda content: content[:50]),
        ("[Content_Types].xml", lambda content: content[:50]),
    ],
)
def test_a_workbook_damaged_within(workbook: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    change_member(workbook, member, change)
    with pytest.raises(UserError, match=r"photos\.xlsx: not a readable Excel workbook \("):
        read_spreadsheet(workbook)


def test_a_workbook_whose_packed_bytes_are_damaged(workbook: Path) -> None:
    content = bytearray(workbook.read_bytes())
    content[content.index(SHEET.encode()) + 60] ^= 255
    workbook.write_bytes(content)
    with pytest.raises(UserError, match="not a readable Excel workbook"):
        read_spreadsheet(workbook)


def test_a_small_workbook_that_unpacks_to_gigabytes(workbook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_member(workbook, SHEET, lambda content: content + b" " * 3_000_000)
    monkeypatch.setattr(spreadsheets, "MOST_BYTES", 1 << 20)
    with pytest.raises(UserError, match=r"photos\.xlsx: larger than 1 MB when it is unpacked"):
        read_spreadsheet(workbook)


def test_a_cell_far_outside_of_the_table_widens_no_other_row(workbook: Path) -> None:
    """As formatting leaves it behind: of 1,000 rows and 16,384 columns, each cell once would take minutes."""
    far = b'<row r="1000"><c r="XFD1000"/></row></sheetData>'
    change_member(workbook, SHEET, lambda content: content.replace(b"</sheetData>", far))
    change_member(workbook, SHEET, lambda content: content.replace(b'ref="A1:B2"', b'ref="A1:XFD1000"'))
    rows, _ = spreadsheets._excel_rows(workbook)
    assert sum(map(len, rows)) == 2 + 2 + 16_384
    table = read_spreadsheet(workbook)
    assert (table.frame.to_dict("records"), table.lines) == ([{"path": "a.jpg", "mask": "wear"}], (2,))


def test_a_workbook_that_names_a_row_beyond_all_tables(workbook: Path) -> None:
    change_member(workbook, SHEET, lambda content: content.replace(b'r="2"', b'r="99999999999"', 1))
    with pytest.raises(UserError, match=r"photos\.xlsx: more than 16777216 cells; copy the table alone"):
        read_spreadsheet(workbook)


def test_a_damaged_workbook_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photos.xlsx"
    path.write_bytes(b"PK\x03\x04 no workbook")
    with pytest.raises(UserError, match=r"photos\.xlsx: (not a readable Excel workbook|reading Excel files needs)"):
        read_spreadsheet(path)
