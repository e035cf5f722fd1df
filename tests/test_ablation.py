"""The ablation: its split, its bookkeeping, its statistics, its figures and the committed results."""

from __future__ import annotations

import json
import math
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from kdlib.data.pairs import find_scenes
from kdlib.experiments import ablation
from kdlib.experiments.ablation import (
    ALONE,
    ALPHAS,
    BETAS,
    VARIANTS,
    Variant,
    best_cell,
    cell,
    grid,
    hold_out,
    interval,
    prepare_photos,
    run_ablation,
    summarise,
    verdict_table,
)
from kdlib.viz import ablation as viz_ablation

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "what_matters.json"
QUICK = {"epochs": 3, "limit": 32, "size": 32, "batch_size": 16, "device": "cpu"}
TWO = (Variant(ALONE, "teacher"), Variant("no teacher", "teacher", stage1=ablation.OWN, stage1_share=1.0))


def scenes(count: int, exposures: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    """Photos in natural order: each scene at several exposures, one after the other."""
    draws = torch.rand(count, 1, 3, size, size, generator=torch.Generator().manual_seed(seed))
    gains = torch.linspace(0.5, 1, exposures).view(1, -1, 1, 1, 1)
    return (draws * gains * 255).byte().flatten(0, 1)


# Photos


def test_no_scene_is_trained_on_and_held_out():
    photos = scenes(60, 5)
    train, held = hold_out(photos)
    scene = torch.arange(300) // 5
    assert not set(scene[train].tolist()) & set(scene[held].tolist())
    assert 25 <= len(held) <= 35
    assert len(train) >= 200


def test_held_out_are_blocks_with_a_gap_on_either_side():
    train, held = hold_out(torch.stack([torch.rand(3, 32, 32).mul(255).byte() for _ in range(400)]))
    assert len(held) == 40
    starts = [i for i in held.tolist() if i - 1 not in held.tolist()]
    assert len(starts) == 4
    assert all(abs(a - b) > 9 for a in train.tolist() for b in held.tolist())


def test_a_held_out_scene_that_comes_back_elsewhere_is_not_trained_on():
    photos = scenes(80, 5)
    held = hold_out(photos)[1]
    far = 100  # half-way between two blocks
    assert {far, far - 9} <= set(hold_out(photos)[0].tolist())
    photos[far] = photos[held[0]] // 2
    assert far not in hold_out(photos)[0]
    assert far - 9 not in hold_out(photos)[0]


def test_too_few_photos_are_refused_with_a_reason():
    with pytest.raises(ValueError, match="give a larger folder"):
        hold_out(scenes(4, 5))


def test_a_folder_is_read_in_natural_order_and_darkened_only_where_held_out(tmp_path):
    photos = scenes(60, 5)
    for i, photo in enumerate(photos):
        Image.fromarray(photo.permute(1, 2, 0).numpy()).save(tmp_path / f"{i + 1}.png")
    train, held = prepare_photos(tmp_path, 32, 1000)
    wanted, blocks = hold_out(photos)
    assert torch.equal(train, photos[wanted])
    assert held.shape == (len(blocks), 3, 32, 32)
    # Every other one is darkened; a flip does not change the mean.
    assert torch.allclose(held[1::2].float().mean((1, 2, 3)), photos[blocks][1::2].float().mean((1, 2, 3)))
    assert held[::2].float().mean() < 0.8 * photos[blocks][::2].float().mean()
    assert len(prepare_photos(tmp_path, 32, 10)[0]) == 10


def test_an_unreadable_photo_stops_the_ablation_by_name(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"no photo")
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(ValueError, match=r"2\.png"):
        prepare_photos(tmp_path, 32, 10)


@pytest.mark.slow
def test_the_embedded_held_out_photos_are_in_no_crop():
    train, held = ablation.prepare_photos(None, QUICK["size"], QUICK["limit"])
    assert train.shape == (32, 3, 32, 32)
    assert held.shape == (8, 3, 32, 32)
    assert held.dtype == torch.uint8
    scene = find_scenes(torch.cat([train, held]))
    assert not set(scene[:32].tolist()) & set(scene[32:].tolist())


# Variants


def test_variants_have_names_of_their_own_and_something_to_be_compared_with():
    names = [variant.name for variant in VARIANTS]
    assert len(set(names)) == len(names)
    assert {variant.against for variant in VARIANTS} <= set(names)
    for variant in VARIANTS:
        assert (variant.stage1_share > 0) == bool(variant.stage1), variant.name


def test_a_variant_differs_from_its_base_in_one_part():
    by_name = {variant.name: variant for variant in VARIANTS}
    for variant in VARIANTS:
        mine, base = variant.definition(), by_name[variant.against].definition()
        if variant.stage1_share == 1:  # no teacher: the recipe is not used
            continue
        recipe = {name for name in mine["changes"] if mine["changes"][name] != base["changes"][name]}
        others = {name for name in ("stage1", "student", "teacher", "times") if mine[name] != base[name]}
        if variant.group == "grid":
            assert recipe <= {"alpha", "beta"}
            assert not others
        elif variant.name != "two-stage recipe without stage 1":
            assert len((recipe | others) - {"alpha"}) <= 1, variant.name  # shares sum to 1: β and task lower α


def test_the_grid_covers_every_cell_whose_shares_do_not_exceed_one():
    names = {variant.name for variant in VARIANTS}
    cells = [(a, b) for a in ALPHAS for b in BETAS if a + b <= 1 + 1e-9]
    assert len(cells) == 15
    assert {cell(a, b) for a, b in cells} <= names
    recipes = {variant.name: variant.recipe() for variant in VARIANTS}
    assert all((recipes[cell(a, b)].alpha, recipes[cell(a, b)].beta) == (a, b) for a, b in cells)


def test_every_variant_gets_the_same_epochs_photos_and_seed(monkeypatch):
    seen = []

    class Done:
        def __init__(self, model):
            self.model = model

    def note(model, *teacher, photos, epochs, seed, **rest):
        seen.append((epochs, len(photos), seed, "recipe" in rest))
        return Done(model)

    monkeypatch.setattr(ablation, "pretrain", note)
    monkeypatch.setattr(ablation, "train_pairs", note)
    monkeypatch.setattr(ablation, "targets", lambda photos: (photos,))
    monkeypatch.setattr(ablation, "distill", note)
    teacher = ablation.load_model("zero-dce++")
    for variant in VARIANTS:
        seen.clear()
        ablation.train_variant(variant, torch.zeros(7, 3, 32, 32), teacher, "student-565", 15, seed=4)
        assert sum(epochs for epochs, *_ in seen) == 15 * variant.times, variant.name
        assert {what[1:3] for what in seen} == {(7, 4)}
        # Distillation follows stage 1, and is missing only where there is no teacher.
        assert [what[3] for what in seen] == [False] * bool(variant.stage1) + [True] * (variant.stage1_share < 1)


# Bookkeeping


@pytest.fixture(scope="module", autouse=True)
def prepared():
    """The embedded photos are prepared once: darkening them takes longer than training on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "prepare_photos", cache(prepare_photos))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_pairs):
    """The file of an ablation of two variants with one seed."""
    path = tmp_path_factory.mktemp("finished") / "what.json"
    run_ablation(path, eval_dir=few_pairs, variants=TWO, seeds=(0,), **QUICK)
    return path


@pytest.fixture
def begun(finished, tmp_path):
    """A copy of the same file, to go on with."""
    return Path(shutil.copy(finished, tmp_path / "what.json"))


@pytest.mark.slow
def test_an_ablation_goes_on_where_it_was_and_repeats_nothing(begun, few_pairs, before_call):
    first = json.loads(begun.read_text(encoding="utf-8"))["rows"]
    assert [(row["variant"], row["seed"]) for row in first] == [(ALONE, 0), ("no teacher", 0)]
    written = []

    def stop_before_the_second_row(_path):
        written.append(1)
        if len(written) == 2:
            raise KeyboardInterrupt

    before_call("os.rename", "what.json", stop_before_the_second_row)
    with pytest.raises(KeyboardInterrupt):
        run_ablation(begun, eval_dir=few_pairs, variants=TWO, seeds=(0, 1), **QUICK)
    second = json.loads(begun.read_text(encoding="utf-8"))["rows"]
    assert second[:2] == first  # with their seconds, and therefore not trained again
    assert [(row["variant"], row["seed"]) for row in second[2:]] == [(ALONE, 1)]

    rows = run_ablation(begun, eval_dir=few_pairs, variants=TWO, seeds=(0, 1), **QUICK)["rows"]
    assert rows[:3] == second
    assert [(row["variant"], row["seed"]) for row in rows[3:]] == [("no teacher", 1)]
    assert rows[0]["fidelity"] != rows[2]["fidelity"]  # seeds differ
    assert len(written) == 3

    assert run_ablation(begun, eval_dir=few_pairs, variants=TWO, seeds=(0, 1), **QUICK)["rows"] == rows
    assert len(written) == 3, "something was measured again"
    kept = json.loads(begun.read_text(encoding="utf-8"))
    assert kept["rows"] == rows
    assert kept["settings"]["teacher_sha256"] == ablation.sha256_of(ablation.find_weights("zero-dce++"))[:12]


@pytest.mark.slow
def test_a_run_repeats_to_the_last_digit(finished, tmp_path, few_pairs):
    first = json.loads(finished.read_text(encoding="utf-8"))["rows"]
    again = run_ablation(tmp_path / "again", eval_dir=few_pairs, variants=TWO, seeds=(0,), **QUICK)["rows"]
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in first]
    assert first[0]["fidelity"] != first[1]["fidelity"]


@pytest.mark.slow
def test_results_with_other_settings_are_not_mixed(begun, few_pairs):
    before = begun.read_bytes()
    with pytest.raises(ValueError, match=r"what\.json holds results with other settings \(epochs 3 → 4\)"):
        run_ablation(begun, eval_dir=few_pairs, variants=TWO[:1], seeds=(0,), **{**QUICK, "epochs": 4})
    with pytest.raises(ValueError, match="teacher 'zero-dce\\+\\+' → 'zero-dce\\+\\+-pairs'"):
        run_ablation(begun, eval_dir=few_pairs, variants=TWO[:1], seeds=(0,), teacher="zero-dce++-pairs", **QUICK)
    assert begun.read_bytes() == before


@pytest.mark.slow
def test_a_redefined_variant_runs_again_and_the_others_stay(begun, few_pairs):
    first = json.loads(begun.read_text(encoding="utf-8"))["rows"]
    other = Variant(TWO[1].name, "parts", {"ssim": 9.0})
    again = run_ablation(begun, eval_dir=few_pairs, variants=(other,), seeds=(0,), **QUICK)["rows"]
    assert again[0] == first[0]
    assert again[1]["variant"] == first[1]["variant"] == other.name
    assert again[1]["fidelity"] != first[1]["fidelity"]
    assert len(again) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("checkpoints")
def test_a_part_whose_weights_cannot_be_had_is_left_out_and_the_rest_runs(tmp_path, few_pairs):
    variants = (Variant("+ perceptual", "parts", {"perceptual": 1.0}), TWO[0])
    with pytest.warns(UserWarning, match="'\\+ perceptual' is left out: .*squeezenet1_1"):
        rows = run_ablation(tmp_path / "what.json", eval_dir=few_pairs, variants=variants, seeds=(0,), **QUICK)["rows"]
    assert [row["variant"] for row in rows] == [ALONE]


@pytest.mark.slow
def test_results_name_no_folder_of_the_machine(tmp_path, few_pairs):
    photos = scenes(60, 5)
    (tmp_path / "night").mkdir()
    for i, photo in enumerate(photos):
        Image.fromarray(photo.permute(1, 2, 0).numpy()).save(tmp_path / "night" / f"{i}.png")
    path = tmp_path / "what.json"
    settings = run_ablation(path, tmp_path / "night", few_pairs, variants=TWO[:1], seeds=(0,), **QUICK)["settings"]
    assert (settings["data"], settings["eval"]) == ("night", "eval")
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


# Statistics


def rows_of(**scores: list[float]) -> list[dict]:
    return [
        {"variant": name, "seed": seed, "fidelity": value, "psnr": -value}
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]


def made_up(*names: str, base: str = "base") -> tuple[Variant, ...]:
    return tuple(Variant(name, "made up", against=base) for name in (base, *names))


def test_differences_are_paired_by_seed():
    # Seeds differ by 10 dB, the variants by 1.0, 1.1, 1.2: unpaired, nothing could be seen.
    rows = rows_of(base=[20.0, 30.0, 40.0], better=[21.0, 31.1, 41.2])
    base, better = summarise(rows, variants=made_up("better"))
    assert base["verdict"] == "–"
    assert base["difference"] is None
    assert better["mean"] == pytest.approx(31.1)
    assert better["deviation"] == pytest.approx(10.1)
    assert better["difference"] == pytest.approx(1.1)
    # standard deviation 0.1, √3, t = 4.303 for two degrees of freedom
    assert better["margin"] == pytest.approx(4.303 * 0.1 / math.sqrt(3))
    assert better["verdict"] == "higher"
    assert better["ahead"] == 3


@pytest.mark.parametrize(
    ("values", "verdict"),
    [([9.0, 19.0, 28.9], "lower"), ([9.0, 21.0, 30.5], "not shown"), ([10.0, 20.0, 30.0], "not shown")],
)
def test_a_verdict_needs_an_interval_without_zero(values, verdict):
    rows = rows_of(base=[10.0, 20.0, 30.0], other=values)
    assert summarise(rows, variants=made_up("other"))[1]["verdict"] == verdict


def test_more_seeds_narrow_the_interval_and_one_seed_says_nothing():
    steps = [0.5, 1.5] * 5
    margins = []
    for count in (2, 4, 10):
        rows = rows_of(base=[0.0] * count, other=steps[:count])
        margins.append(summarise(rows, variants=made_up("other"))[1]["margin"])
    assert margins == sorted(margins, reverse=True)
    alone = summarise(rows_of(base=[0.0], other=[9.0]), variants=made_up("other"))[1]
    assert (alone["difference"], alone["margin"], alone["verdict"]) == (9.0, None, "–")


def test_only_seeds_that_both_have_are_compared():
    rows = rows_of(base=[1.0, 2.0], other=[2.0, 3.0, 100.0])
    other = summarise(rows, variants=made_up("other"))[1]
    assert other["difference"] == pytest.approx(1.0)
    assert other["seeds"] == 3


def test_another_score_can_be_summarised():
    rows = rows_of(base=[1.0, 2.0, 3.0], other=[2.0, 3.0, 4.1])
    assert summarise(rows, "psnr", made_up("other"))[1]["verdict"] == "lower"


def test_a_student_of_one_curve_has_the_fidelity_of_one_curve():
    teacher = ablation.load_model("zero-dce++")
    photos = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) ** 2
    with ablation.at_scale(1, teacher), torch.no_grad():
        wanted, maps = teacher(photos)
        given = ablation.apply_curve(photos, maps.mean(dim=(0, 2, 3), keepdim=True).expand_as(maps), 8)
    by_hand = [-10 * math.log10(float((x - y).square().mean())) for x, y in zip(given, wanted, strict=True)]
    assert ablation.fixed_curve_fidelity(teacher, photos) == pytest.approx(sum(by_hand) / 6, abs=1e-3)
    # On one photo alone it is the curve for that photo: nearer than the one for all.
    alone = [ablation.fixed_curve_fidelity(teacher, photo[None]) for photo in photos]
    assert sum(alone) / 6 > sum(by_hand) / 6


def test_the_best_cell_is_named_by_fidelity_and_never_by_the_test_pairs():
    rows = rows_of(**{cell(0.7, 0.2): [30.0, 31.0], cell(0.3, 0.0): [35.0, 20.0], ALONE: [30.0, 30.0]})
    for row in rows:
        row["psnr"] = 99.0 if row["variant"] == cell(0.3, 0.0) else 1.0
    assert best_cell(rows) == (0.7, 0.2)
    assert grid(rows)[1.0, 0.0] == [30.0, 30.0]
    assert set(grid(rows)) == {(0.7, 0.2), (0.3, 0.0), (1.0, 0.0)}


# Figures


@pytest.fixture
def complete_rows():
    draws = torch.Generator().manual_seed(0)
    rows = []
    for variant in VARIANTS:
        for seed in range(3):
            values = (30 + 5 * torch.rand(4, generator=draws)).tolist()
            scores = dict(zip(("fidelity", "psnr", "ssim", "seconds"), values, strict=True))
            rows.append({"variant": variant.name, "seed": seed, **scores})
    return rows


def test_variants_are_drawn_with_a_dot_for_each_seed_and_the_mean(complete_rows):
    panels = {"one": {"alone": ALONE, "SSIM": "+ SSIM 3"}, "two": {"none": "no teacher, its own loss"}}
    figure = viz_ablation.plot_variants(complete_rows, panels, lines={"teacher": 31.0})
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["alone", "SSIM"]
    seeds = [line.get_xdata().tolist() for line in ax.lines if len(line.get_xdata()) == 3]
    wanted = [[row["fidelity"] for row in complete_rows if row["variant"] == name] for name in (ALONE, "+ SSIM 3")]
    assert seeds == wanted
    means = [container.lines[0].get_xdata()[0] for container in ax.containers]
    assert means == pytest.approx([sum(values) / 3 for values in wanted])


def test_the_grid_shows_each_cells_mean_and_deviation(complete_rows):
    figure = viz_ablation.plot_grid(complete_rows, outlined={"published": (0.7, 0.2), "best": best_cell(complete_rows)})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == 15
    summary = {line["variant"]: line for line in summarise(complete_rows)}
    for place in grid(complete_rows):
        line = summary[cell(*place)]
        assert f"{line['mean']:.1f}\n± {line['deviation']:.1f}" in texts


def test_one_score_is_drawn_against_another(complete_rows):
    figure = viz_ablation.plot_scores(complete_rows, "fidelity", "psnr", "x", "y", {"teacher": 30.0})
    points = sum(len(container.lines[0].get_xdata()) for container in figure.axes[0].containers)
    assert points == len(VARIANTS)


# The committed results


def test_committed_results_are_complete_and_belong_to_these_variants():
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert results["variants"] == {variant.name: variant.definition() for variant in VARIANTS}
    ran = sorted((row["variant"], row["seed"]) for row in results["rows"])
    seeds = sorted({seed for _, seed in ran})
    assert seeds[:3] == [0, 1, 2]
    assert ran == sorted((variant.name, seed) for variant in VARIANTS for seed in seeds)


def test_committed_results_are_of_the_shipped_teacher_and_the_configuration():
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    settings = results["settings"]
    assert settings["teacher_sha256"] == ablation.short_digest(settings["teacher"])
    config = yaml.safe_load((ROOT / "configs" / "what_matters.yaml").read_text(encoding="utf-8"))
    for name in ("teacher", "student", "epochs", "size", "batch_size", "learning_rate"):
        assert settings[name] == config[name], name
    assert settings["photos"] == config["limit"]
    assert set(results["yardsticks"]) == {"teacher_psnr", "teacher_ssim", "fixed_curve"}
    assert (settings["data"], settings["eval"]) == (Path(config["data_dir"]).name, Path(config["eval_dir"]).name)
    assert sorted({row["seed"] for row in results["rows"]}) == [int(seed) for seed in config["seeds"].split(",")]


def test_an_interval_is_t_times_the_standard_error():
    mean, margin = interval([1.0, 2.0, 6.0])
    assert mean == 3.0
    assert margin == pytest.approx(4.303 * math.sqrt(7) / math.sqrt(3))


def test_a_table_of_verdicts_shows_labels_and_leaves_the_base_without_difference():
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    summary = {line["variant"]: line for line in summarise(rows)}
    heading, _, base, other = verdict_table(summary, {"base": ALONE, "strong": "+ contrastive 0.5"}).splitlines()
    assert "difference, 95%" in heading
    assert "| base |" in base
    assert base.count("–") == 3
    assert "| strong |" in other
    assert "| −2.9 ± 2.2 | base | 0 of 3 | lower |" in other
