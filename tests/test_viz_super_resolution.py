"""Figures about super-resolution show what their labels say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdlib.viz.super_resolution import cut, draw_msafn, plot_psnr, plot_spread, show_crops


def photos(count, height=40, width=60):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, height, width, generator=generator) for _ in range(count)]


def test_a_crop_shows_the_box():
    [photo] = photos(1)
    assert torch.equal(cut(photo, (10, 4, 16)), photo[:, 4:20, 10:26])


@pytest.mark.parametrize("box", [(50, 4, 16), (10, 30, 16), (-1, 4, 16), (10, 4, 0)])
def test_a_box_beyond_the_photo_is_refused(box):
    with pytest.raises(ValueError, match="is not inside the photo of 60×40"):
        cut(photos(1)[0], box)


def test_no_photos_are_refused():
    with pytest.raises(ValueError, match="no photos to show"):
        show_crops({}, {}, {})


def test_crops_are_above_their_errors():
    truth, answer = photos(2)
    figure = show_crops({"a": {"bicubic": answer, "ours": truth}}, {"a": truth}, {"a": (10, 4, 16)})
    titled = {ax.get_title().split("\n")[0]: ax for ax in figure.axes if ax.get_title()}
    assert list(titled) == ["a", "bicubic", "ours", "truth"]
    assert titled["ours"].get_title() == "ours\ninf dB"
    shown = titled["bicubic"].get_images()[0].get_array()
    assert np.array_equal(shown, cut(answer, (10, 4, 16)).mul(255).round().byte().permute(1, 2, 0).numpy())
    maps = [ax.get_images()[0].get_array() for ax in figure.axes[4:8] if ax.get_images()]
    assert [bool(np.any(error)) for error in maps] == [True, False]
    assert all(error.shape == (16, 16) for error in maps)


def test_a_psnr_is_marked_at_its_error():
    figure = plot_psnr({"one level": 48.1308, "ten levels": 28.1308})
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [float(mark.get_ydata()[0]) for mark in marks] == pytest.approx([1, 10], rel=1e-4)


def test_a_histogram_labels_its_mean_and_maximum():
    figure = plot_spread({"some": [1.0, 2.0, 6.0], "others": [4.0, 4.0]}, "dB")
    texts = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes]
    assert texts == [["mean 3.0", "largest 6.0"], ["mean 4.0", "largest 4.0"]]


def test_the_network_is_drawn():
    texts = {text.get_text() for text in draw_msafn().axes[0].texts}
    assert {"quarter: block, gate", "recurrent\nunit"} <= texts
