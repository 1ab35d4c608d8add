"""The linear baselines: known answers, no peeking, and what they reach on real and on generated reviews."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from scipy.sparse import hstack
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

import longread
import longread.records
from longread.cli import main as cli
from longread.config import RunConfig
from longread.data.config import DataConfig
from longread.data.examples import Examples
from longread.data.load import load_task
from longread.errors import UserError
from longread.inference.metrics import answers_of
from longread.models.linear import LinearModel, load_linear, save_linear
from longread.problems import MULTI_LABEL
from longread.serving.app import create_app
from longread.serving.service import Service
from longread.serving.settings import ServeSettings
from longread.training.baselines import NBSVM_C, TFIDF_C, fit
from longread.training.run import train

LINEAR = ["tfidf", "nbsvm"]

DATA_DIR = os.environ.get("LONGREAD_DATA_DIR", "")


def examples(texts: list[str], labels: list[int], pairs: list[str] | None = None, classes: int = 2) -> Examples:
    names = tuple("abcdefgh"[:classes])
    return Examples("t", "train", texts, pairs, np.array(labels), np.arange(len(texts)), names)


def answers(model: LinearModel, rows: Examples) -> np.ndarray:
    return answers_of(model.scores(model.encode(rows.texts, rows.pairs)[0]))


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("classes", [2, 3])
def test_learns_what_one_word_tells(name: str, classes: int) -> None:
    words = ["dull", "fine", "odd"][:classes]
    labels = [row % classes for row in range(60)]
    train = examples([f"film {row} was {words[label]}" for row, label in enumerate(labels)], labels, None, classes)
    unseen = examples([f"a {word} play" for word in words], list(range(classes)), None, classes)
    model = fit(name, train)
    probabilities = answers(model, unseen)
    assert probabilities.shape == (classes, classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert probabilities.argmax(axis=1).tolist() == unseen.labels.tolist()
    assert model.num_features > 60


@pytest.mark.parametrize("name", LINEAR)
def test_pairs_are_features_side_by_side(name: str) -> None:
    """The same word counts for one class on the left and for the other on the right."""
    left = ["red", "blue"] * 20
    right = ["blue", "red"] * 20
    train = examples(left, [0, 1] * 20, right)
    model = fit(name, train)
    assert answers(model, examples(["red", "blue"], [0, 1], ["blue", "red"])).argmax(axis=1).tolist() == [0, 1]
    assert model.num_features == 4


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("name", LINEAR)
def test_it_scores_as_scikit_learns_own_pipeline(name: str, classes: int, pairs: bool, tmp_path: Path) -> None:
    """Written down independently, on the library's vectorizers; and again after saving and loading."""
    rng = np.random.default_rng(0)
    words = np.array([*"abcdefghij", "Über", "İstanbul", "!", "it's"])
    texts = [" ".join(rng.choice(words, 12)) for _ in range(80)]
    partners = [" ".join(rng.choice(words, 5)) for _ in range(80)] if pairs else None
    labels = [int(text.count("a")) % classes for text in texts]
    train = examples(texts[:60], labels[:60], None if partners is None else partners[:60], classes)
    unseen = examples(texts[60:], labels[60:], None if partners is None else partners[60:], classes)
    kind = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]")
    if name == "nbsvm":
        kind = CountVectorizer(binary=True, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", dtype=np.float64)
    sides = [(train.texts, unseen.texts)] + ([(train.pairs, unseen.pairs)] if pairs else [])
    kinds = [clone(kind) for _ in sides]
    seen = hstack([own.fit_transform(one) for own, (one, _) in zip(kinds, sides, strict=True)]).tocsr()
    new = hstack([own.transform(other) for own, (_, other) in zip(kinds, sides, strict=True)]).tocsr()
    wanted = []
    for label in range(1, 2) if classes == 2 else range(classes):
        inside = train.labels == label
        if name == "tfidf":
            solver = LogisticRegression(C=TFIDF_C, solver="liblinear", dual=True, max_iter=1000, random_state=0)
            wanted.append(solver.fit(seen, inside).decision_function(new))
            continue
        p, q = (1 + np.asarray(seen[rows].sum(axis=0)).ravel() for rows in (inside, ~inside))
        ratio = np.log(p / p.sum() / (q / q.sum()))
        solver = LogisticRegression(C=NBSVM_C, solver="liblinear", dual=True, max_iter=1000, random_state=0)
        solver.fit(seen.multiply(ratio).tocsr(), inside)
        mixed = 0.75 * np.abs(solver.coef_[0]).mean() + 0.25 * solver.coef_[0]
        wanted.append(new @ (ratio * mixed) + solver.intercept_[0])
    fitted = fit(name, train)
    save_linear(fitted, tmp_path / "checkpoint")
    loaded, _ = load_linear(tmp_path / "checkpoint")
    for model in (fitted, loaded):
        scores = model.scores(model.encode(unseen.texts, unseen.pairs)[0])
        found = [scores[:, 1] - scores[:, 0]] if classes == 2 else list(scores.T)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert loaded.fingerprint == fitted.fingerprint


def test_the_majority_is_the_most_frequent_class_with_the_frequencies_as_probabilities() -> None:
    model = fit("majority", examples(["x", "", "y", "z"], [1, 1, 0, 1]))
    np.testing.assert_allclose(answers(model, examples(["anything", ""], [0, 1])), [[0.25, 0.75]] * 2, rtol=1e-6)


@pytest.mark.parametrize("change", ["weights", "vocabulary", "labels", "one name", "checksum"])
def test_a_damaged_checkpoint_is_refused(change: str, tmp_path: Path) -> None:
    model = fit("tfidf", examples(["good film", "bad film"] * 4, [1, 0] * 4))
    if change == "weights":
        model = replace(model, weights=model.weights[:, 1:])
    elif change == "vocabulary":
        model = replace(model, vocabularies=(model.vocabularies[0][1:],))
    elif change == "labels":
        model = replace(model, label_names=("a", "b", "c"))
    elif change == "one name":
        model = replace(model, label_names=("a", "a"))
    save_linear(model, tmp_path / "checkpoint")
    if change == "checksum":
        (tmp_path / "checkpoint" / "vocabulary.json").write_text("[[]]")
    with pytest.raises(UserError, match="is not what was saved" if change == "checksum" else "no whole linear model"):
        load_linear(tmp_path / "checkpoint")


def test_wrong_input_is_one_line() -> None:
    train = examples([" ", ""], [0, 1])
    with pytest.raises(UserError, match="unknown baseline 'svm'; there are majority, tfidf, nbsvm"):
        fit("svm", train)
    with pytest.raises(UserError, match="no word in its train texts"):
        fit("tfidf", train)


@pytest.mark.parametrize("name", LINEAR)
def test_counting_words_does_not_decide_generated_reviews(name: str) -> None:
    """Better than chance, as the easy reviews are easy, and far from what an attention model reaches."""
    train, evaluation = load_task(DataConfig("reviews", train_rows=2000))
    accuracy = (answers(fit(name, train), evaluation).argmax(axis=1) == evaluation.labels).mean()
    assert 0.60 <= accuracy <= 0.76


@pytest.mark.skipif(not DATA_DIR, reason="LONGREAD_DATA_DIR is not set: no real reviews here")
@pytest.mark.parametrize("name", LINEAR)
def test_real_reviews(name: str) -> None:
    if not (Path(DATA_DIR) / "imdb").is_dir():
        pytest.skip("LONGREAD_DATA_DIR holds no imdb")
    train, evaluation = load_task(DataConfig("imdb", data_dir=DATA_DIR, train_rows=1000, eval_rows=500))
    accuracy = (answers(fit(name, train), evaluation).argmax(axis=1) == evaluation.labels).mean()
    assert accuracy >= 0.78


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of NB-SVM on letters of three kinds, and the file of its rows."""
    folder = tmp_path_factory.mktemp("letters")
    words = {"complaint": "late broken refund", "praise": "thanks great quick", "question": "how when where"}
    rows = [f"dear team {words[kind]} {number},{kind}" for number in range(20) for kind in words]
    (folder / "letters.csv").write_text("\n".join(["text,label", *rows]))
    run = train(RunConfig(task=str(folder / "letters.csv"), attention="nbsvm", out=folder))
    assert run.record["metrics"]["accuracy"] == 1
    return run.directory


def test_a_linear_run_predicts_explains_and_is_evaluated_like_any_other(
    letters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = longread.load(letters)
    assert list(classifier.classes_) == ["complaint", "praise", "question"]
    found = classifier.predict(["a REFUND, too late!", "", "great thanks"])
    assert [one.label for one in found] == ["complaint", None, "praise"]
    assert (found[0].tokens, found[0].tokens_in_text, found[0].truncated) == (6, 6, False)
    assert classifier.predict_proba(["great"]).sum() == pytest.approx(1)
    assert cli.main(["evaluate", str(letters), "--out", str(tmp_path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    own = longread.records.load_run(letters)
    assert own is not None
    assert record["metrics"] == own.record["metrics"]
    assert record["dataset"]["eval"] == own.record["dataset"]["eval"]
    assert cli.main(["explain", str(letters), "great thanks, but late"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("praise ")
    assert "'great'" in told
    assert told.splitlines()[-1].endswith("(0.00 % of it unexplained)")


def test_of_two_at_once_one_trains(tmp_path: Path) -> None:
    config = RunConfig(attention="nbsvm", task="reviews:128", train_rows=60, eval_rows=20, out=tmp_path)
    events: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: train(config, on_event=lambda e: events.append(e["event"])), range(4)))
    assert sorted(events) == ["end", *["skipped"] * 3, "start"]
    assert [run.record["status"] for run in done] == ["ok"] * 4


@pytest.mark.parametrize("label", [None, "question", "complaint"])
def test_what_words_add_is_the_score(letters: Path, label: str | None) -> None:
    (found,) = longread.load(letters).explain(["İ say: great, great. Thanks! But how late?"], label=label)
    assert sum(token.attribution for token in found.tokens) == pytest.approx(found.logit - found.baseline_logit)
    assert found.tokens[0].text == "İ"
    assert [s.text for s in found.sentences] == ["İ say: great, great.", "Thanks!", "But how late?"]
    assert sum(s.attribution for s in found.sentences) == pytest.approx(found.logit - found.baseline_logit)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("export {run} --out {out}/m.onnx", "a linear model (nbsvm) has no network"),
        ("convert {run}/checkpoint --attention longformer --out {out}/m", "a linear model (nbsvm), which has no"),
        ("train {csv} --init {run}/checkpoint --out {out}", "a linear model (nbsvm), which has no network"),
        ("evaluate {run} --max-length 9 --out {out}", "--max-length: {run} is a linear model"),
        ("predict {run} --truncation tail text", "--truncation tail: a linear model reads every word"),
    ],
)
def test_what_a_linear_model_cannot_is_said(
    command: str, words: str, letters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"run": letters, "out": tmp_path, "csv": letters.parents[1] / "letters.csv"}
    assert cli.main(command.format(**named).split()) == 2
    assert words.format(**named) in capsys.readouterr().err


def test_a_linear_run_is_served(letters: Path) -> None:
    with TestClient(create_app(lambda: Service(longread.load(letters), ServeSettings()), ServeSettings())) as client:
        while client.get("/ready").status_code == 503:
            time.sleep(0.01)
        ready = client.get("/ready").json()
        assert (ready["attention"], ready["max_length"], ready["pairs"]) == ("nbsvm", None, False)
        answer = client.post("/predict", json={"inputs": "great thanks"}).json()
        (wanted,) = longread.load(letters).predict(["great thanks"])
        assert answer["label"] == "praise"
        assert answer["probabilities"] == pytest.approx(wanted.probabilities)
        assert client.post("/predict", json={"inputs": "xyz"}).status_code == 200  # no known word
        assert client.post("/explain", json={"text": "great"}).json()["label"] == "praise"


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of texts with two labels each may have, and with a number that a word tells."""
    folder = tmp_path_factory.mktemp("kinds")
    words = {"late": "delayed waiting", "rude": "shouted insulted"}
    rows = []
    for number in range(60):
        own = [name for place, name in enumerate(words) if number >> place & 1]
        rows.append(f"dear team {' '.join(words[name] for name in own)} {number},{';'.join(own)},{number % 4 == 3:d}")
    (folder / "several.csv").write_text("\n".join(["text,labels,other", *rows]))
    marks = ("awful", "poor", "fair", "good")
    numbers = [f"a {marks[n % 4]} thing {n},{10.5 + 3 * (n % 4)}" for n in range(60)]
    (folder / "numbers.csv").write_text("\n".join(["text,label", *numbers]))
    return folder


@pytest.mark.parametrize("name", [*LINEAR, "majority"])
def test_several_labels_are_learned_each_against_its_absence(name: str, kinds: Path, tmp_path: Path) -> None:
    config = RunConfig(
        task=str(kinds / "several.csv"), text_columns=("text",), label_columns=("labels",), label_separator=";",
        attention=name, out=tmp_path, class_weights="none" if name == "majority" else "balanced",
        choose_threshold="f1", selection_fraction=0.3,
    )  # fmt: skip
    run = train(config)
    record = run.record
    assert record["dataset"]["problem_type"] == "multi_label_classification"
    assert set(record["decision"]["thresholds"]) == {"late", "rude"}
    assert (record["metrics"]["exact_match"] == 1) == (name != "majority")
    classifier = longread.load(run.directory)
    both, none = classifier.predict(["dear team delayed waiting shouted insulted 3", "dear team 1"])
    assert classifier.decision.to_json() == record["decision"]
    if name != "majority":
        assert (both.labels, none.labels) == (("late", "rude"), ())
        (why,) = classifier.explain(["waiting, then insulted"], label="rude")
        assert max(why.tokens, key=lambda token: token.attribution).text == "insulted"
        assert sum(t.attribution for t in why.tokens) == pytest.approx(why.logit - why.baseline_logit)
    again = longread.evaluate(RunConfig(task=config.task, out=tmp_path), run.directory)
    assert again.record["metrics"] == record["metrics"]
    assert again.record["dataset"]["problem_type"] == record["dataset"]["problem_type"]


def test_numbers_are_predicted_by_ridge_and_by_the_mean(kinds: Path, tmp_path: Path) -> None:
    found = {}
    for name in ("tfidf", "majority"):
        run = train(RunConfig(task=str(kinds / "numbers.csv"), attention=name, out=tmp_path))
        found[name] = run.record["metrics"]["r2"]
        classifier = longread.load(run.directory)
        low, high = (one.value for one in classifier.predict(["an awful thing", "a good thing"]))
        assert low is not None and high is not None
        assert (high > low + 5) == (name == "tfidf")
        (why,) = classifier.explain(["a good thing"])
        assert why.probability is None and why.value == pytest.approx(high)
        assert sum(t.attribution for t in why.tokens) == pytest.approx(why.logit - why.baseline_logit)
        again = longread.evaluate(RunConfig(task=str(kinds / "numbers.csv"), out=tmp_path), run.directory)
        assert again.record["metrics"] == run.record["metrics"]
    assert found["tfidf"] > 0.8 > 0.01 > found["majority"]
    runs = longread.compare(
        [RunConfig(task=str(kinds / "numbers.csv"), attention=name, out=tmp_path) for name in ("nbsvm", "majority")]
    )
    assert [run.record["attention"] for run in runs] == ["majority"]  # NB-SVM is left out, and that is said


def test_ridge_is_scikit_learns(kinds: Path) -> None:
    train_rows, evaluation = load_task(DataConfig(str(kinds / "numbers.csv")))
    model = fit("tfidf", train_rows)
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]")
    wanted = Ridge(alpha=1.0, solver="cholesky").fit(
        vectorizer.fit_transform(train_rows.texts).toarray(), train_rows.labels
    )
    expected = wanted.predict(vectorizer.transform(evaluation.texts).toarray())
    np.testing.assert_allclose(model.scores(model.encode(evaluation.texts, None)[0])[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", LINEAR)
def test_a_label_that_none_or_all_rows_have_is_said_with_its_frequency(name: str) -> None:
    labels = np.array([[1, 0, row % 2] for row in range(20)], dtype=np.int8)
    texts = [f"{'red' if row % 2 else 'blue'} car {row}" for row in range(20)]
    rows = Examples("t", "train", texts, None, labels, np.arange(20), ("all", "none", "some"), MULTI_LABEL)
    model = fit(name, rows)
    given = answers_of(model.scores(model.encode(["red", "blue"], None)[0]), MULTI_LABEL)
    np.testing.assert_allclose(given[:, :2], [[39 / 40, 1 / 40]] * 2, rtol=1e-5)
    assert given[0, 2] > 0.5 > given[1, 2]


@pytest.mark.parametrize("name", LINEAR)
def test_weights_of_classes_move_the_rare_one_up(name: str) -> None:
    rows = examples([f"w{n % 7} w{n % 5} w{n % 3}" for n in range(100)], [int(n % 10 == 0) for n in range(100)])
    plain, weighted = fit(name, rows), fit(name, rows, weights=np.array([1.0, 9.0]))
    unseen = examples(["w1 w2", "w0 w1", "w6"], [0, 0, 0])
    assert (answers(weighted, unseen)[:, 1] > answers(plain, unseen)[:, 1]).all()


def test_a_temperature_and_a_threshold_are_chosen_kept_and_used(tmp_path: Path) -> None:
    config = RunConfig(task="reviews:128", train_rows=300, eval_rows=100, attention="tfidf", out=tmp_path)
    plain = train(config)
    chosen = train(replace(config, calibrate=True, choose_threshold="f1_macro"))
    assert chosen.record["run_id"] != plain.record["run_id"]
    decision = chosen.record["decision"]
    assert decision["rows"] == chosen.record["dataset"]["selection"]["rows"] == 30
    assert longread.load(chosen.directory).decision.to_json() == decision
    assert "selection_fraction" not in plain.record["config"]
    predicted = chosen.predictions()
    assert predicted is not None
    (threshold,) = decision["thresholds"].values()
    np.testing.assert_array_equal(predicted["predicted"], predicted["probabilities"][:, 1] > np.float32(threshold))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--attention nbsvm", "predicts classes; for numbers there are tfidf"),
        ("--attention tfidf --class-weights balanced", "a regression has no classes"),
        ("--attention tfidf --calibrate", "no probabilities"),
        ("--attention tfidf --choose-threshold f1", "--choose-threshold"),
        ("--attention tfidf --learning-rate 1", "--learning-rate: tfidf has no such setting"),
    ],
)
def test_what_fits_no_number_is_refused(
    options: str, words: str, kinds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(kinds / "numbers.csv"), *options.split(), "--out", str(tmp_path)]
    assert cli.main(command) == 2
    assert words in capsys.readouterr().err
    command = ["train", str(kinds / "several.csv"), *["--attention", "majority", "--class-weights", "balanced"]]
    command += ["--label-columns", "labels", "--text-columns", "text", "--label-separator", ";", "--out", str(tmp_path)]
    assert cli.main(command) == 2
    assert "the most frequent class has no weights" in capsys.readouterr().err
