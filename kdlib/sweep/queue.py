"""The trials of a sweep in a database that several processes and machines share, with Optuna."""

import contextlib
import uuid
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from kdlib.extras import needed_by
from kdlib.files import changed_settings
from kdlib.sweep.settings import Range, Sweep

_POINT, _OWNER, _REASON, _SECONDS = "point", "owner", "reason", "seconds"  # what is kept with each trial


@dataclass(frozen=True)
class Claim:
    """A trial that this process is to run, and no other.

    Attributes:
        point: its number in the sweep, by which its folder is named.
        parameters: what is swept.
    """

    trial: Any
    point: int
    parameters: dict[str, Any]


class Queue:
    """Points of a sweep: which are waiting, running, done or failed.

    A point that is done is never run again. Of a trial whose process died, the point waits again, with its parameters:
    at once, if this machine can see that the process is dead, else when it has not been heard of for ``grace`` seconds.

    Args:
        retry: points that failed wait again.

    Raises:
        MissingExtraError: Optuna is not installed.
        ValueError: the database holds trials of other settings, or cannot be reached.
        OSError: as a context manager, when the database fails later.
    """

    def __init__(self, sweep: Sweep, *, grace: int = 60, retry: bool = False) -> None:
        with needed_by("a sweep"):
            import optuna
        self._sweep, self._optuna, self._grid = sweep, optuna, sweep.grid
        self._state = optuna.trial.TrialState
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._alive = sweep.output / ".processes"
        self._alive.mkdir(parents=True, exist_ok=True)
        self._owner = uuid.uuid4().hex
        self._own_lock = FileLock(self._alive / self._owner)
        self._own_lock.acquire()  # until this process ends, however it does
        # SQLite does not lock rows, and servers reach further than a file: both guards are needed.
        file = sweep.storage.removeprefix("sqlite:///")
        self._lock = FileLock(f"{file}.lock" if file != sweep.storage else sweep.output / ".lock")
        with self._lock:
            self._storage, self._study = self._open(grace)
            self.refill(retry=retry)

    def _open(self, grace: int) -> tuple[Any, Any]:
        sweep, optuna = self._sweep, self._optuna
        wait = {"connect_args": {"timeout": 60}} if sweep.storage.startswith("sqlite") else {}
        try:
            beats = {"heartbeat_interval": max(1, grace // 6), "grace_period": grace}
            storage = optuna.storages.RDBStorage(sweep.storage, engine_kwargs=wait, **beats)
            study = optuna.create_study(
                storage=storage, study_name=sweep.name, direction=sweep.direction, load_if_exists=True
            )
        except Exception as error:  # of SQLAlchemy and of each database's own package
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(f"the database of the sweep cannot be opened ({reason})") from error
        wanted = sweep.definition()
        found = study.user_attrs.get("definition", wanted)
        if not study.get_trials(deepcopy=False, states=(self._state.COMPLETE,)):
            found = {**found, "metric": wanted["metric"]}  # a misspelt one has failed every trial
        if changes := changed_settings(found, wanted):
            raise ValueError(f"{sweep.output} holds a sweep with other settings ({changes}); use another output_dir")
        study.set_user_attr("definition", wanted)
        return storage, study

    def _trials(self) -> dict[int, list[Any]]:
        """All trials of each point, the oldest first."""
        points = defaultdict(list)
        for trial in self._study.get_trials(deepcopy=False):
            points[trial.user_attrs[_POINT]].append(trial)
        return points

    def _failed(self, trial: Any) -> bool:
        """Whether the notebook failed; a trial whose process died has no reason."""
        return trial.state == self._state.FAIL and _REASON in trial.user_attrs

    def refill(self, *, retry: bool = False) -> None:
        """Let the points of trials wait again whose process died, and with ``retry`` those that failed."""
        live = (self._state.WAITING, self._state.RUNNING, self._state.COMPLETE)
        with self._lock:
            for trial in self._study.get_trials(deepcopy=False, states=(self._state.RUNNING,)):
                if self._is_dead(trial.user_attrs.get(_OWNER)):
                    self._end(trial, self._state.FAIL)
            self._optuna.storages.fail_stale_trials(self._study)
            found = self._trials()
            for point in range(self._sweep.trials):
                trials = found[point]
                if any(trial.state in live or (self._failed(trial) and not retry) for trial in trials):
                    continue
                begun = [trial.params for trial in trials if trial.state == self._state.FAIL and trial.params]
                parameters = begun[-1] if begun else self._grid[point] if self._grid else {}
                self._study.enqueue_trial(parameters, user_attrs={_POINT: point})

    def _is_dead(self, owner: str | None) -> bool:
        """Whether a process was seen to have ended; of one on another machine nothing is seen."""
        if owner is None or owner == self._owner or not (self._alive / owner).exists():
            return False
        with contextlib.suppress(Timeout), FileLock(self._alive / owner, timeout=0):
            return True
        return False

    def claim(self) -> Claim | None:
        """The next point that waits, now this process's; None if none does."""
        with self._lock:
            for waiting in self._study.get_trials(deepcopy=False, states=(self._state.WAITING,)):
                key = self._key(waiting)
                with contextlib.suppress(self._optuna.exceptions.UpdateFinishedTrialError):
                    self._storage.record_heartbeat(key)
                    if not self._storage.set_trial_state_values(key, self._state.RUNNING):
                        continue
                    point = waiting.user_attrs[_POINT]
                    self._study.sampler = self._sampler(point)
                    trial = self._optuna.trial.Trial(self._study, key)
                    trial.set_user_attr(_OWNER, self._owner)
                    if self._is_taken(waiting):
                        self._end(waiting, self._state.PRUNED)
                    else:
                        return Claim(trial, point, {name: self._suggest(trial, name) for name in self._sweep.space})
        return None

    def _is_taken(self, trial: Any) -> bool:
        """Whether another trial has the same point: two machines may both have let it wait."""
        others = [other for other in self._trials()[trial.user_attrs[_POINT]] if other.number != trial.number]
        return any(
            other.state == self._state.COMPLETE
            or (other.state == self._state.RUNNING and other.number < trial.number)
            or (self._failed(other) and other.number > trial.number)
            for other in others
        )

    def _sampler(self, point: int) -> Any:
        samplers, seed = self._optuna.samplers, self._sweep.seed + point
        if self._sweep.sampler == "random" or self._grid:
            return samplers.RandomSampler(seed)
        return samplers.TPESampler(seed=seed, constant_liar=True)

    def _suggest(self, trial: Any, name: str) -> Any:
        values = self._sweep.space[name]
        if not isinstance(values, Range):
            return trial.suggest_categorical(name, values)
        if values.whole:
            return trial.suggest_int(name, values.low, values.high, step=values.step or 1, log=values.log)
        return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)

    def _key(self, trial: Any) -> int:
        study = self._storage.get_study_id_from_name(self._sweep.name)
        key: int = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        return key

    def _end(self, trial: Any, state: Any) -> None:
        with contextlib.suppress(self._optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_state_values(self._key(trial), state)

    def is_ours(self, claim: Claim) -> bool:
        """Say that a trial is alive: whether it still is this process's, which may have slept for too long."""
        key = self._key(claim.trial)
        self._storage.record_heartbeat(key)
        return bool(self._storage.get_trial(key).state == self._state.RUNNING)

    def finish(self, claim: Claim, seconds: float, value: float | None, reason: str = "") -> None:
        """Record a trial's metric, or why it has none; nothing, if the trial is not this process's any more."""
        state = self._state.FAIL if value is None else self._state.COMPLETE
        with contextlib.suppress(self._optuna.exceptions.UpdateFinishedTrialError):
            claim.trial.set_user_attr(_SECONDS, round(seconds, 1))
            if value is None:
                claim.trial.set_user_attr(_REASON, reason)
            self._study.tell(claim.trial, value, state=state, skip_if_finished=True)

    def release(self, claim: Claim) -> None:
        """Let a trial that was stopped wait again."""
        self._end(claim.trial, self._state.FAIL)
        self.refill()

    def rows(self) -> list[dict[str, Any]]:
        """What is known of each point, in their order: ``trial``, ``state`` (done, failed, running or waiting),
        its parameters, the ``metric``, ``seconds``, and why it failed."""
        return [self._row(point, trials) for point, trials in sorted(self._trials().items())]

    def _row(self, point: int, trials: list[Any]) -> dict[str, Any]:
        # A trial without a reason is one whose process has died, and nobody has seen to that yet.
        by_name = {
            "done": [trial for trial in trials if trial.state == self._state.COMPLETE],
            "running": [trial for trial in trials if trial.state == self._state.RUNNING],
            "waiting": [trial for trial in trials if trial.state == self._state.WAITING],
            "failed": [trial for trial in trials if self._failed(trial)],
        }
        name, of_state = next(((name, found) for name, found in by_name.items() if found), ("waiting", trials))
        kept = of_state[-1]
        swept = {parameter: kept.params.get(parameter) for parameter in self._sweep.space}
        swept = {**swept, **(self._grid[point] if self._grid else {})}
        about = {_SECONDS: kept.user_attrs.get(_SECONDS), _REASON: kept.user_attrs.get(_REASON, "")}
        return {"trial": point, "state": name, **swept, "metric": kept.value if name == "done" else None, **about}

    def close(self) -> None:
        """Say that this process does no more."""
        self._own_lock.release()
        with contextlib.suppress(OSError):
            (self._alive / self._owner).unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.close()
        if isinstance(error, self._optuna.exceptions.StorageInternalError):
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise OSError(
                f"the database of the sweep in {self._sweep.output} has failed ({reason}); when it works again, or the "
                "disk has room, start the sweep again: what is done is kept"
            ) from error


def finished(rows: list[dict[str, Any]]) -> bool:
    """Whether nothing is left to run."""
    return all(row["state"] in {"done", "failed"} for row in rows)


def folder_of(output: Path, point: int) -> Path:
    """A trial's own folder."""
    return output / f"trial-{point:04}"
