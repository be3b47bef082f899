from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from hiresseg.geometry import Window
from hiresseg.scenes.layout import MAX_PAGE_PX, PageLayout

sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@st.composite
def layouts(draw):
    size = draw(sizes)
    unit = tuple(draw(st.integers(1, edge)) for edge in size)
    return PageLayout.plan(size, unit, draw(st.integers(1, 16)), draw(st.integers(1, 1 << 24))), size, unit


def spans(axis):
    found = [axis.page_span(page) for page in range(axis.num_pages)]
    return [(start, stop) for start, stop in found if stop > start]


@settings(max_examples=60, deadline=None)
@given(layouts())
def test_pages_cut_a_level_without_gap_or_overlap(drawn):
    layout, size, _ = drawn
    for axis, edge in zip((layout.rows, layout.cols), size, strict=True):
        cuts = spans(axis)
        assert cuts[0][0] == 0
        assert cuts[-1][1] == edge
        assert all(before[1] == after[0] for before, after in pairwise(cuts))
        assert all(stop - start <= MAX_PAGE_PX for start, stop in cuts)


@settings(max_examples=60, deadline=None)
@given(layouts())
def test_groups_are_whole_units_and_pages_never_cross_them(drawn):
    layout, _, unit = drawn
    for axis, block in zip((layout.rows, layout.cols), unit, strict=True):
        assert axis.group % block == 0
        for start, stop in spans(axis):
            assert start // axis.group == (stop - 1) // axis.group


@settings(max_examples=60, deadline=None)
@given(layouts(), st.data())
def test_pages_over_a_window_are_those_that_meet_it(drawn, data):
    layout, size, _ = drawn
    top, left = (data.draw(st.integers(0, edge - 1)) for edge in size)
    window = Window(
        top, left, data.draw(st.integers(1, size[0] - top)), data.draw(st.integers(1, size[1] - left))
    )
    rows, cols = layout.pages_over(window)
    expected = [
        [
            page
            for page in range(axis.num_pages)
            if axis.page_span(page)[0] < stop and axis.page_span(page)[1] > start
        ]
        for axis, start, stop in (
            (layout.rows, window.top, window.bottom),
            (layout.cols, window.left, window.right),
        )
    ]
    # pages that the last group lacks are empty and meet nothing
    assert [p for p in rows if layout.rows.page_span(p)[1] > layout.rows.page_span(p)[0]] == expected[0]
    assert [p for p in cols if layout.cols.page_span(p)[1] > layout.cols.page_span(p)[0]] == expected[1]


def test_a_group_of_long_strips_stays_small():
    layout = PageLayout.plan((100_000, 200_000), (16, 200_000), 6, 32 << 20)
    assert layout.group_shape == (16, 200_000)
    assert layout.cols.page <= MAX_PAGE_PX


def test_small_blocks_are_decoded_many_at_once():
    assert PageLayout.plan((4096, 4096), (128, 256), 3, 32 << 20).group_shape == (512, 512)


def test_a_large_tile_is_cut_into_pages():
    layout = PageLayout.plan((40_000, 40_000), (16384, 16384), 1, 32 << 20)
    assert layout.group_shape == (16384, 16384)
    assert (layout.rows.page, layout.cols.page) == (1024, 1024)
