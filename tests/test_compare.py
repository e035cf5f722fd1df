from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from kdlib.viz.compare import comparison_pages, plot_targets, write_pages


def photos(count, height=24, width=36):
    generator = torch.Generator().manual_seed(0)
    return [(f"folder/photo {i}.png", torch.rand(3, height, width, generator=generator)) for i in range(count)]


def images_of(page):
    return [ax.get_images()[0].get_array() for ax in page.axes]


def test_every_photo_gets_a_row_and_few_photos_a_page():
    plt.close("all")  # what other tests have left open
    pages = comparison_pages(photos(5), lambda photo: photo**0.2, per_page=2)
    assert [len(page.axes) for page in pages] == [10, 10, 5]
    assert [ax.get_title() for ax in pages[0].axes[:5]] == ["input", "gamma 0.3", "gamma 0.4", "gamma 0.5", "ours"]
    assert pages[2].axes[0].get_ylabel() == "photo 4.png"
    assert not plt.get_fignums()


def test_each_column_shows_what_its_title_says():
    [(name, photo)] = photos(1)
    [page] = comparison_pages([(name, photo)], lambda given: 1 - given, "inverse", exponents=(0.5,))
    expected = [photo, photo**0.5, 1 - photo]
    for image, wanted in zip(images_of(page), expected, strict=True):
        assert np.array_equal(image, wanted.mul(255).round().byte().permute(1, 2, 0).numpy())


def test_a_name_with_a_dot_is_shown_in_full():
    [page] = comparison_pages([("coffee, 1.5 stops down", torch.zeros(3, 8, 8))], lambda p: p)
    assert page.axes[0].get_ylabel() == "coffee, 1.5 stops down"


def test_two_photos_with_the_same_name_are_both_shown():
    [page] = comparison_pages([("a/1.png", torch.zeros(3, 8, 8)), ("b/1.png", torch.ones(3, 8, 8))], lambda p: p)
    assert [int(images_of(page)[i].max()) for i in (0, 5)] == [0, 255]


def test_the_method_gets_the_full_photo_and_the_page_a_downsampled_one():
    seen = []

    def method(photo):
        seen.append(tuple(photo.shape))
        return photo

    [page] = comparison_pages([("large", torch.rand(3, 100, 1200))], method)
    assert seen == [(3, 100, 1200)]
    assert {image.shape for image in images_of(page)} == {(40, 480, 3)}


@pytest.mark.slow
def test_a_file_has_all_pages_no_date_and_reproducible_bytes(tmp_path):
    first, second = (
        write_pages(tmp_path / name, comparison_pages(photos(3), lambda p: p, per_page=1))
        for name in ("a.pdf", "b.pdf")
    )
    assert first.read_bytes() == second.read_bytes()
    assert len(re.findall(rb"/Type /Page\b", first.read_bytes())) == 3
    assert b"CreationDate" not in first.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "b.pdf"]


def test_a_failing_page_leaves_the_earlier_file(tmp_path):
    path = write_pages(tmp_path / "pages.pdf", comparison_pages(photos(1), lambda p: p))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="nope"):
        write_pages(path, [*comparison_pages(photos(1), lambda p: p), "nope"])
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["pages.pdf"]


def test_invalid_pages_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no photos to compare on"):
        comparison_pages([], lambda p: p)
    with pytest.raises(ValueError, match="at least one photo, got 0"):
        comparison_pages(photos(1), lambda p: p, per_page=0)
    with pytest.raises(ValueError, match="at least one page"):
        write_pages(tmp_path / "pages.pdf", [])
    with pytest.raises(ValueError, match=r"extension \.pdf"):
        write_pages(tmp_path / "pages.png", comparison_pages(photos(1), lambda p: p))


def test_every_seed_is_a_dot_and_the_line_connects_the_means():
    rows = [
        {"objective": "zero-dce", "target": target, "seed": seed, "bright": target - 0.5 + seed, "dark": 0.1}
        for target in (0.4, 0.6)
        for seed in (0, 1)
    ]
    bright = plot_targets(rows).axes[0]
    means, dots, _ = bright.get_lines()
    assert means.get_ydata() == pytest.approx([0.4, 0.6])
    assert sorted(dots.get_ydata()) == pytest.approx([-0.1, 0.1, 0.9, 1.1])
    plt.close("all")
