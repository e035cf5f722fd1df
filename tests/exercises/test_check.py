"""``check``: what it says, what it returns, what it remembers."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from kdlib.exercises import Wrong, check, checking, close_to, exercise, progress, registry, same
from tests.helpers import in_new_process, kdlib, said

GOES_ON = "the lesson goes on with kdlib's version"


def double(values, count=2):
    """The solution."""
    return values * count


@pytest.fixture(autouse=True)
def exercises(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(registry, "_EXERCISES", {})

    @exercise("90.1", "Twice as much", solution=double)
    def check_double(answer):
        values = torch.tensor([1.0, 2.0])
        same(answer(values), 2 * values, "double([1, 2])")
        same(answer(values, count=3), 3 * values, "double([1, 2], count=3)")

    @exercise("90.2", "How much is it?", solution=4.0)
    def check_guess(answer):
        close_to(answer, 4.0, within=0.5)

    @exercise("90.3", "Which of them?", solution="b")
    def check_choice(answer):
        if answer != "b":
            raise Wrong(f"({answer}) is not it: think of the sign.")

    @exercise("90.4", "A step of training", solution=double, in_place=True)
    def check_step(answer):
        values = torch.zeros(2)
        answer(values)
        same(values, torch.ones(2), "the weight")


@pytest.fixture
def told(capsys):
    """What ``check`` says of an answer, after its number; an answer that does not pass gives the solution."""

    def tell(number, answer):
        found = check(number, answer)
        line = capsys.readouterr().out
        assert line.startswith(f"{number} ")
        assert line.count("\n") == 1
        if line.startswith(f"{number} passed"):
            assert found is answer
        else:
            assert found is registry.find(number).solution
            assert GOES_ON in line.lower()
        return line.removeprefix(f"{number} ").removesuffix("\n")

    return tell


def test_an_answer_that_passes_comes_back_and_is_remembered(told):
    assert told("90.1", lambda values, count=2: count * values) == "passed: Twice as much"
    assert told("90.2", 4.2) == "passed: How much is it?"
    assert told("90.3", " B") == "passed: Which of them?"
    assert progress.passed() == {"90.1", "90.2", "90.3"}


def test_a_stub_is_not_solved_yet(told):
    def stub(values, count=2):
        raise NotImplementedError

    assert told("90.1", stub) == f"not solved yet; {GOES_ON}."
    assert told("90.2", None) == f"not solved yet; {GOES_ON}."
    assert not progress.passed()


def test_what_pytorch_does_not_implement_is_no_stub(told):
    def answer(values, count=2):
        return torch.nn.Module()(values)

    assert "missing the required" in told("90.1", answer)


@pytest.mark.parametrize(
    ("number", "answer", "fragment"),
    [
        ("90.1", 3, "a function is expected, not 3: hand over the function itself, such as double, without calling it"),
        ("90.1", "double", "a function is expected, not 'double'"),
        ("90.1", lambda values: 2 * values, "cannot be called with 1 argument and count=…: got an unexpected keyword"),
        ("90.1", lambda: 2, "cannot be called with 1 argument: too many positional arguments"),
        ("90.1", lambda values, count=2: None, "returns None: its last line must return the result"),
        ("90.1", lambda values, count=2: 1 / 0, "of <lambda> raises ZeroDivisionError: division by zero"),
        ("90.1", lambda values, count=2: values.mul_(count), "changes its input"),
        ("90.1", lambda values, count=2: 2 * values, "double([1, 2], count=3) is 0.6667 times what is expected"),
        ("90.2", "4", "a number is expected: write it without quotes, not '4'"),
        ("90.2", [4], "a number is expected, not [4]"),
        ("90.2", True, "a number is expected, not True"),
        ("90.2", double, "a value is expected, not the function double"),
        ("90.2", 3, "the prediction 3 is too low"),
        ("90.2", torch.tensor(5.0), "the prediction 5 is too high"),
        ("90.2", float("nan"), "the prediction nan is not a number"),
        ("90.3", "(a)", "(a) is not it"),
        ("90.3", 2, "a text in quotes is expected, such as 'a', not 2"),
        ("90.3", "A", "(a) is not it: think of the sign. The lesson goes on"),
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong(told, number, answer, fragment):
    assert fragment in told(number, answer)
    assert told(number, answer).startswith("not passed: ")


def test_the_line_that_raises_is_the_readers_own(told):
    def answer(values, count=2):
        return torch.cat([values, torch.ones(2, 2)])  # fails within PyTorch

    line = told("90.1", answer)
    assert (
        "(return torch.cat([values, torch.ones(2, 2)])  # fails within PyTorch) of answer raises RuntimeError:" in line
    )


def test_what_the_check_cannot_use_is_told(told, monkeypatch):
    monkeypatch.setattr(checking, "_NOT_READERS", (*checking._NOT_READERS, __file__))  # the check's own lines
    line = told("90.1", type("Doubling", (), {}))
    assert "what Doubling returns cannot be checked (TypeError: Doubling() takes no arguments)" in line


def test_a_list_that_changes_is_noticed_and_one_with_nan_that_does_not_is_accepted(told):
    given = [np.array([np.nan, 1.0]), {"sizes": [1, 2]}]

    @exercise("90.5", "Nested", solution=len)
    def check_nested(answer):
        answer(given)

    assert told("90.5", len) == "passed: Nested"
    assert "changes its input" in told("90.5", lambda given: given[1]["sizes"].append(3) or 1)
    assert "changes its input" in told("90.5", lambda given: given[0].fill(0) or 1)


def test_an_exercise_in_place_lets_its_answer_change_the_input_and_return_nothing(told):
    def step(values):
        values += 1

    assert told("90.4", step) == "passed: A step of training"
    assert "the weight is 0 at [0], expected 1" in told("90.4", lambda values: None)


def test_a_check_has_gradients_and_leaves_random_generators_as_they_were(told):
    seen = []

    @exercise("90.6", "Random", solution=double)
    def check_random(answer):
        seen.append((drawn(), torch.is_grad_enabled()))

    def drawn():
        return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002

    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    expected = drawn()
    for restore, state in zip((torch.set_rng_state, np.random.set_state, random.setstate), states, strict=True):
        restore(state)
    with torch.no_grad():
        told("90.6", double)
        told("90.6", double)
        assert not torch.is_grad_enabled()
    assert drawn() == expected
    assert seen[0] == seen[1]
    assert seen[0][1]


def test_an_unknown_number_names_the_nearest_and_those_of_its_lesson(monkeypatch, tmp_path):
    (tmp_path / "lesson_04.py").write_text('@exercise("04.1", "First", solution=1)\ndef check_first(answer): ...\n')
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"no exercise '90\.7': did you mean '90\.\d'\? lesson 90 has 90\.1, 90\.2"):
        check("90.7", double)
    with pytest.raises(ValueError, match="no exercise 'xy': no lesson has such a number"):
        check("xy", double)
    with pytest.raises(ValueError, match=r"no exercise 4\.1: did you mean '04\.1'"):
        check(4.1, double)


def test_two_checks_of_one_number_are_refused():
    with pytest.raises(ValueError, match=r"exercise 90\.1 has two checks, check_double and other"):

        @exercise("90.1", "Once more", solution=1)
        def other(answer): ...


@pytest.mark.parametrize(
    ("found", "expected", "sentence"),
    [
        ([1.0], torch.ones(1), "x is a list, expected a tensor"),
        (None, torch.ones(1), "x is None, expected a tensor"),
        (torch.ones(1), np.ones(1), "x is a Tensor, expected an array"),
        (torch.ones(2, 3), torch.ones(3, 2), "x has the shape 2×3, expected 3×2"),
        (torch.ones(1), torch.tensor(1.0), "x has the shape 1, expected () (a single value)"),
        (torch.ones(2).double(), torch.ones(2), "x has the dtype float64, expected float32"),
        (torch.tensor([1.0, -2.0]), torch.tensor([-1.0, 2.0]), "the wrong sign: it is 1 at [0], expected -1"),
        (torch.tensor([2.0, 4.0]), torch.tensor([1.0, 2.0]), "x is 2 times what is expected everywhere, such as 2 at"),
        (torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[1.0, 2.0, 3.0]]), "x is 4 at [0, 2], expected 3"),
        (torch.tensor([1.0, float("nan")]), torch.ones(2), "x is not a number (NaN) at [1], expected 1"),
        (torch.tensor(0.5), torch.tensor(0.25), "x is 0.5, expected 0.25"),
        (torch.tensor([True, False]), torch.tensor([True, True]), "x is 0 at [1], expected 1"),
        (0.5, -0.5, "x is 0.5, with the wrong sign, expected -0.5"),
        ("0.5", 0.5, "x is a str, expected a number"),
        (True, 1, "x is a bool, expected a number"),
        ([1, 2], [1], "x has 2 elements, expected 1"),
        ([1, 2], (1, 3), "element 1 of x is 2, expected 3"),
        ({"a": 1}, {"a": 2}, "entry 'a' of x is 1, expected 2"),
        ({"b": 1}, {"a": 2}, "x has the keys 'b', expected 'a'"),
        (3, {"a": 2}, "x is an int, expected a dictionary"),
        ("one", "two", "x is 'one', expected 'two'"),
    ],
)
def test_a_difference_is_said_in_a_sentence(found, expected, sentence):
    with pytest.raises(Wrong) as caught:
        same(found, expected, "x")
    assert sentence in str(caught.value)


def test_a_usual_mistake_is_recognised_unless_it_is_the_right_answer():
    mistakes = {"lacks the factor T²": torch.tensor(0.5), "is what is right": torch.tensor(1.0)}
    with pytest.raises(Wrong, match=r"^x lacks the factor T²$"):
        same(torch.tensor(0.5), torch.tensor(1.0), "x", mistakes=mistakes)
    same(torch.tensor(1.0), torch.tensor(1.0), "x", mistakes=mistakes)
    with pytest.raises(Wrong, match=r"^x is 0\.7, expected 1$"):
        same(torch.tensor(0.7), torch.tensor(1.0), "x", mistakes=mistakes)


def test_a_guess_is_told_its_side_and_what_it_forgets():
    with pytest.raises(Wrong, match=r"^a factor of 0\.5 is too high: the derivative has another 1/T$"):
        close_to(0.5, 0.25, 0.05, "a factor of", {0.5: "the derivative has another 1/T"})
    with pytest.raises(Wrong, match=r"^a factor of 0\.4 is too high$"):
        close_to(0.4, 0.25, 0.05, "a factor of", {0.5: "the derivative has another 1/T"})


def test_what_is_equal_within_the_tolerance_passes():
    same(torch.tensor([1.0, float("nan")]), torch.tensor([1.00001, float("nan")]))
    same(np.float32(1), 1)
    same([torch.ones(1, requires_grad=True), "a"], (torch.ones(1), "a"))
    with pytest.raises(Wrong):
        same(torch.tensor([1.0]), torch.tensor([1.01]))
    same(torch.tensor([1.0]), torch.tensor([1.01]), rtol=0.1)


def test_what_has_passed_once_stays_passed(told):
    told("90.1", double)
    assert told("90.1", lambda values, count=2: values).startswith("not passed")
    assert progress.passed() == {"90.1"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"passed": 3}', '{"passed": {"90.1": 1}}', "\x00", "[" * 100_000])
def test_a_damaged_file_counts_as_none_and_is_written_anew(told, content):
    progress.path().parent.mkdir()
    progress.path().write_text(content, encoding="utf-8")
    assert not progress.passed()
    assert kdlib("progress").exit_code == 0
    told("90.1", double)
    assert json.loads(progress.path().read_text(encoding="utf-8")) == {"passed": ["90.1"]}


def test_an_answer_passes_where_nothing_can_be_recorded(told, before_call):
    def fail(path):
        raise OSError("no space left")

    before_call("open", ".progress.json.part", fail)
    assert told("90.1", double) == "passed: Twice as much (not recorded: no space left)"


def test_the_solutions_of_kdlib_are_not_recorded(told, monkeypatch, tmp_path):
    folder = tmp_path / "notebooks" / "solutions"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert told("90.1", double) == "passed: Twice as much"
    assert not progress.passed()


LESSON = """
import torch  # which takes seconds to import, or is not installed

from kdlib.exercises import exercise


@exercise("04.1", "The first", solution=1.0)
def check_first(answer): ...


@exercise("04.2", "The second", solution=1.0)
def check_second(answer): ...


@exercise("04.10", "The last", solution=1.0)
def check_last(answer): ...
"""


@pytest.fixture
def lessons(tmp_path, monkeypatch):
    (tmp_path / "lesson_04.py").write_text(LESSON, encoding="utf-8")
    (tmp_path / "lesson_05.py").write_text(LESSON.replace("04.", "05."), encoding="utf-8")
    monkeypatch.setattr(registry, "FOLDER", tmp_path)


def test_the_command_shows_what_has_passed_and_what_is_next(lessons):
    for number in ("04.1", "04.2", "05.1", "05.2", "05.10", "77.1"):
        progress.remember(number)
    rows = [line.split() for line in kdlib("progress").output.splitlines()]
    assert rows == [
        ["lesson", "passed", "next", "exercise"],
        ["04", "2", "of", "3", "04.10", "The", "last"],
        ["05", "3", "of", "3", "all", "solved"],
    ]


def test_the_command_says_what_to_do_if_nothing_has_passed(lessons):
    shown = kdlib("progress")
    assert shown.exit_code == 0
    assert "No exercise has passed here yet. Open a lesson with make lab" in said(shown)


def test_the_command_works_from_the_projects_folders_alike(lessons, tmp_path, monkeypatch):
    monkeypatch.delenv("KDLIB_RUNS")
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    (tmp_path / "kdlib").mkdir()
    for folder in (".", "notebooks", "notebooks/solutions"):
        monkeypatch.chdir(tmp_path / folder)
        if folder == ".":
            progress.remember("04.1")
        assert "1 of 3" in kdlib("progress").output


WITHOUT_EXTRAS = """
import os, sys
from pathlib import Path

os.environ["KDLIB_RUNS"] = sys.argv[2]
from kdlib.extras import EXTRAS

sys.modules.update(dict.fromkeys(EXTRAS))
from kdlib.cli import app
from kdlib import exercises

exercises.__path__.append(sys.argv[1])
exercises.registry.FOLDER = Path(sys.argv[1])
try:
    exercises.check("04.2", 1.0)
except ImportError as error:
    print(error)
app(["progress"])
"""


@pytest.mark.slow
def test_the_command_needs_no_extra_and_a_check_says_which_one_it_needs(lessons):
    progress.remember("04.1")
    done = in_new_process(WITHOUT_EXTRAS, str(registry.FOLDER), str(progress.path().parent))
    assert done.returncode == 0
    assert done.stdout.startswith("exercise 04.2 needs PyTorch, which is not installed: pip install 'kdlib[course]'\n")
    assert "1 of 3" in done.stdout
    assert not done.stderr
