"""CSV and NPY files of sequences: what is known comes back character for character."""

import numpy as np
import pytest

from lanpaint.tables import check_table_output, read_table

TEXT = 'time;b;"a, b";note\r\n0.0;1.50;;"x; y"\r\n0.1; nan;-2e3;\r\n'


def test_known_cells_of_a_csv_stay_character_for_character(tmp_path):
    path, out = tmp_path / "in.csv", tmp_path / "new" / "out.csv"
    path.write_bytes(TEXT.encode())
    table = read_table(path, ["b", "a, b"])
    np.testing.assert_array_equal(table.values, [[1.5, np.nan], [np.nan, -2000]])
    table.write(out, np.array([[1.5, 7.25], [3.0, -2000]]), ~np.isnan(table.values))
    assert out.read_bytes().decode() == 'time;b;a, b;note\r\n0.0;1.50;7.25;"x; y"\r\n0.1;3;-2e3;\r\n'


def test_columns_are_found_by_the_names_of_the_channels_in_their_order(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("\ufefftime,gyro,acc\n0,1,2\n1,,4\n", encoding="utf-8")
    table = read_table(path, expected=("acc", "gyro"))
    np.testing.assert_array_equal(table.values, [[2, 1], [4, np.nan]])
    assert table.names == ("acc", "gyro")


def test_a_csv_without_a_header_and_an_array_hold_the_same_numbers(tmp_path):
    values = np.array([[0.1, 1 / 3], [np.nan, 2.0], [5e-324, 1e300]])
    np.save(tmp_path / "in.npy", values)
    array = read_table(tmp_path / "in.npy")
    filled = np.nan_to_num(values, nan=0.5)
    array.write(tmp_path / "out.csv", filled, ~np.isnan(values), ("a", "b"))
    assert (tmp_path / "out.csv").read_text().startswith("a,b\n0.1,")
    np.testing.assert_array_equal(read_table(tmp_path / "out.csv").values, filled)  # every bit
    array.write(tmp_path / "out.npy", filled, ~np.isnan(values))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), filled)


def test_whole_numbers_are_read_as_real_ones(tmp_path):
    np.save(tmp_path / "in.npy", np.arange(6).reshape(3, 2))
    assert read_table(tmp_path / "in.npy").values.dtype == np.float64


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n3,four\n", r"'four' in row 3, column b, expected a number"),
        ("1,2\n3\n", "2 cells in its first row and 1 in row 2"),
        ("", "is empty"),
        ("a,b\n", "has a header and no rows"),
        ("a,b\n1,2\n", None),
    ],
)
def test_a_csv_that_holds_no_numbers_is_told(tmp_path, text, told):
    path = tmp_path / "in.csv"
    path.write_text(text)
    if told is None:
        assert read_table(path).values.tolist() == [[1, 2]]
        return
    with pytest.raises(ValueError, match=told) as error:
        read_table(path)
    assert "\n" not in str(error.value)


def test_columns_that_are_not_there_are_told(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("a,b,b\n1,2,3\n")
    for names, told in ((["c"], "no column 'c'; it has a, b, b"), (["b"], "more than one column 'b'")):
        with pytest.raises(ValueError, match=told):
            read_table(path, names)
    path.write_text("1,2\n")
    with pytest.raises(ValueError, match="no header"):
        read_table(path, ["a"])
    np.save(tmp_path / "in.npy", np.zeros((3, 2)))
    with pytest.raises(ValueError, match="leave --columns out"):
        read_table(tmp_path / "in.npy", ["a"])


def test_files_that_are_no_arrays_are_told_in_one_line(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, 3], dtype=object), allow_pickle=True)
    np.save(tmp_path / "texts.npy", np.array(["a", "b"]))
    np.save(tmp_path / "complex.npy", np.zeros((3, 2), dtype=complex))
    (tmp_path / "short.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "latin.csv").write_bytes(b"\xe9,1\n2,3\n")
    (tmp_path / "folder.csv").mkdir()
    for name in ("objects.npy", "texts.npy", "complex.npy", "short.npy", "empty.npy", "latin.csv", "folder.csv",
                 "nothing.csv", "data.xlsx"):  # fmt: skip
        with pytest.raises(ValueError, match=name) as error:
            read_table(tmp_path / name)
        assert "\n" not in str(error.value)


def test_an_output_is_a_file_of_one_of_two_kinds(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    for name in ("out.txt", "out", "folder.npy"):
        with pytest.raises(ValueError, match=name):
            check_table_output(tmp_path / name)
    np.save(tmp_path / "in.npy", np.zeros((2, 3, 2)))
    table = read_table(tmp_path / "in.npy")
    with pytest.raises(ValueError, match=r"write an \.npy file"):
        table.write(tmp_path / "out.csv", table.values, table.values == 0)
    assert not (tmp_path / "out.csv").exists()
