"""Trains, evaluates and uses a model on a table. The model file holds the columns' encoding beside the estimator."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn import metrics
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Doc = dict[str, Any]
Row = dict[str, str]
VALUES_MAX = 30  # of a column of texts that get a column of their own
CLASSES_MAX = 20  # a column of numbers with more values is a quantity
SHOWN = 20
FORMAT = 1
TRUSTED = ["numpy.dtype", "sklearn.tree._tree.Tree"]  # the rest of what train writes, skops trusts by itself


class Unusable(Exception):
    """The table or the model does not allow it; the message says why."""


def rows_of(file: str) -> tuple[list[str], list[Row]]:
    with open(file, encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened, delimiter="\t" if file.endswith(".tsv") else ",")
        rows = [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
    if not rows or not reader.fieldnames:
        raise Unusable(f"{file} has no rows below its first line")
    return list(reader.fieldnames), rows


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def is_number(values: list[str]) -> bool:
    filled = [value for value in values if value.strip()]
    return bool(filled) and all(np.isfinite(number(value)) for value in filled)


# --- from columns of text to a matrix ------------------------------------------------------------


def learn_columns(names: list[str], rows: list[Row]) -> list[Doc]:
    """How each column becomes numbers; one that says nothing is left out."""
    columns: list[Doc] = []
    for name in names:
        values = [row.get(name, "") for row in rows]
        if is_number(values):
            columns.append({"name": name, "values": []})
        elif kept := [value for value, _ in Counter(values).most_common(VALUES_MAX) if value.strip()]:
            columns.append({"name": name, "values": kept})
    return columns


def matrix(columns: list[Doc], rows: list[Row]) -> Any:
    parts = []
    for column in columns:
        values = [row.get(column["name"], "") for row in rows]
        if column["values"]:
            parts += [[float(value == known) for value in values] for known in column["values"]]
        else:
            parts.append([number(value) for value in values])
    return np.array(parts, dtype=float).T


def features(columns: list[Doc]) -> list[str]:
    return [f"{c['name']}={v}" if v else c["name"] for c in columns for v in (c["values"] or [""])]


# --- the entrypoints -----------------------------------------------------------------------------


def train(params: Doc) -> Doc:
    names, rows = rows_of(params["table"])
    target = params["target"]
    if target not in names:
        raise Unusable(f"{params['table']} has no column {target!r}; it has {', '.join(names)}")
    rows = [row for row in rows if row[target].strip()]
    answers = [row[target] for row in rows]
    task = task_of(params["task"], answers)
    columns = learn_columns([name for name in names if name not in (target, *params["ignore"])], rows)
    if not columns or len(rows) < 10 or len(set(answers)) < 2:
        raise Unusable("it takes 10 rows, 2 different answers and a column to learn from")
    x, y = matrix(columns, rows), as_targets(task, answers)
    rare = task == "classification" and min(Counter(answers).values()) < 2
    held_back = train_test_split(
        x, y, test_size=params["test_share"], random_state=params["seed"],
        stratify=None if rare or task == "regression" else y,
    )  # fmt: skip
    x_train, x_test, y_train, y_test = held_back
    model = estimator(task, params).fit(x_train, y_train)
    report = {"task": task, "algorithm": params["algorithm"], "target": target, "rows": len(rows)}
    report |= {"columns": [column["name"] for column in columns], "tested_on": len(y_test)}
    report |= {
        "test": scores(task, y_test, model.predict(x_test)),
        "baseline": baseline(task, y_train, y_test),
    }
    report["most_telling"] = telling(model, features(columns))
    model = estimator(task, params).fit(x, y)  # with what it was tested on, too
    bundle = {"format": FORMAT, "task": task, "target": target, "columns": columns, "model": model}
    Path(params["model"]).write_bytes(skops.io.dumps(bundle))
    return written(report, params["report"])


def evaluate(params: Doc) -> Doc:
    bundle, (names, rows) = load(params["model"]), rows_of(params["table"])
    if bundle["target"] not in names:
        raise Unusable(f"{params['table']} has no column {bundle['target']!r} to compare with")
    rows = [row for row in rows if row[bundle["target"]].strip()]
    answers = as_targets(bundle["task"], [row[bundle["target"]] for row in rows])
    guesses = bundle["model"].predict(matrix(bundle["columns"], rows))
    report = {"task": bundle["task"], "target": bundle["target"], "rows": len(rows)}
    return written(report | {"test": scores(bundle["task"], answers, guesses)}, params["report"])


def predict(params: Doc) -> Doc:
    bundle, (names, rows) = load(params["model"]), rows_of(params["table"])
    x = matrix(bundle["columns"], rows)
    column = f"predicted_{bundle['target']}"
    extra = {column: [str(each) for each in bundle["model"].predict(x).tolist()]}
    if bundle["task"] == "classification":
        extra["probability"] = [
            f"{each:.4f}" for each in bundle["model"].predict_proba(x).max(axis=1).tolist()
        ]
    with open(params["out"], "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*names, *extra])
        writer.writeheader()
        writer.writerows(
            {**row, **{key: values[n] for key, values in extra.items()}} for n, row in enumerate(rows)
        )
    return {"out": params["out"], "rows": len(rows), "column": column}


# --- parts of them -------------------------------------------------------------------------------


def task_of(asked: str, answers: list[str]) -> str:
    if asked == "regression" and not is_number(answers):
        raise Unusable("regression needs a target of numbers")
    if asked != "auto":
        return asked
    return "regression" if is_number(answers) and len(set(answers)) > CLASSES_MAX else "classification"


def as_targets(task: str, answers: list[str]) -> Any:
    return np.array([number(each) for each in answers]) if task == "regression" else np.array(answers)


def estimator(task: str, params: Doc) -> Any:
    trees, seed = params["trees"], params["seed"]
    if params["algorithm"] == "forest":
        kind = RandomForestClassifier if task == "classification" else RandomForestRegressor
        last = kind(n_estimators=trees, random_state=seed, n_jobs=-1)
    else:
        last = LogisticRegression(max_iter=2000) if task == "classification" else Ridge()
    return make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), last)


def scores(task: str, answers: Any, guesses: Any) -> Doc:
    if task == "regression":
        return {
            "r2": float(metrics.r2_score(answers, guesses)),
            "mean_absolute_error": float(metrics.mean_absolute_error(answers, guesses)),
            "root_mean_squared_error": float(metrics.mean_squared_error(answers, guesses) ** 0.5),
        }
    labels = sorted({*answers.tolist(), *guesses.tolist()})
    return {
        "accuracy": float(metrics.accuracy_score(answers, guesses)),
        "f1_macro": float(metrics.f1_score(answers, guesses, average="macro", zero_division=0)),
        "labels": labels,
        "confusion": metrics.confusion_matrix(answers, guesses, labels=labels).tolist(),
    }


def baseline(task: str, known: Any, answers: Any) -> Doc:
    """What always guessing the same would have reached."""
    guess = np.median(known) if task == "regression" else Counter(known.tolist()).most_common(1)[0][0]
    found = scores(task, answers, np.full(len(answers), guess, dtype=answers.dtype))
    return {key: found[key] for key in (("mean_absolute_error",) if task == "regression" else ("accuracy",))}


def telling(model: Any, names: list[str]) -> list[Doc]:
    last = model[-1]
    weights = getattr(last, "feature_importances_", None)
    if weights is None:
        weights = np.abs(np.atleast_2d(last.coef_)).mean(axis=0)
    best = np.argsort(weights)[::-1][:SHOWN]
    return [{"feature": names[n], "weight": round(float(weights[n]), 6)} for n in best]


def load(file: str) -> Doc:
    """The model, from a file that may be anyone's: only known types, and no tree that leads out of itself."""
    try:
        bundle = skops.io.load(file, trusted=TRUSTED)
    except Exception as error:  # whatever a broken file makes its reader say
        raise Unusable(f"{file} is no model that can be read: {type(error).__name__}: {error}") from None
    if not isinstance(bundle, dict) or bundle.get("format") != FORMAT:
        raise Unusable(f"{file} is no model of this skill")
    width = len(features(bundle["columns"]))
    for each in getattr(bundle["model"][-1], "estimators_", ()):
        tree = each.tree_
        parents = np.arange(tree.node_count)
        inner = tree.children_left != -1
        for children in (tree.children_left, tree.children_right):
            if ((children[inner] <= parents[inner]) | (children[inner] >= tree.node_count)).any():
                raise Unusable(f"{file} has a tree that leads out of itself")
        if (tree.feature[inner] >= width).any() or (tree.feature[inner] < 0).any():
            raise Unusable(f"{file} has a tree that asks for a column that there is not")
    return bundle


def written(report: Doc, file: str) -> Doc:
    Path(file).write_text(json.dumps(report, indent=2) + "\n")
    return report


if __name__ == "__main__":
    try:
        print(
            json.dumps(
                {"train": train, "evaluate": evaluate, "predict": predict}[sys.argv[1]](
                    json.loads(sys.argv[2])
                )
            )
        )
    except (Unusable, UnicodeDecodeError, csv.Error) as problem:
        sys.exit(f"table-model: {problem}")
