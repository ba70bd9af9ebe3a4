"""Files that are damaged, or made to do harm: a clear error each time, soon, in little memory."""

import copy
import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import hypothesis.strategies as st
import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from sklearn.exceptions import ConvergenceWarning

import skemvae
from skemvae import (
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
    VersionMismatchWarning,
    from_batches,
)
from skemvae.models import BayesianMixture, FactorModel
from skemvae.persistence import container
from skemvae.validation import escaped, shown
from tests.own_models import GaussianPair

X = np.random.RandomState(0).normal(size=(20, 2))
WORDS = np.array([[1.0, "a"], [2.5, "b"]] * 10, dtype=object)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind of estimator, by name."""
    folder = tmp_path_factory.mktemp("files")
    estimators = {
        "em": EMGaussianMixture(2, max_iter=1, random_state=np.random.RandomState(0)),
        "bayes": VariationalEM(BayesianMixture(2), max_iter=1, random_state=0),
        "factor": VariationalEM(FactorModel(1, "student_t"), max_iter=1, random_state=0),
        "own": VariationalEM(GaussianPair(), max_iter=1, random_state=0),
        "vae": VAEEstimator(
            hidden_layer_sizes=(3,),
            prior="vamp",
            n_prior_components=2,
            likelihood=[("lognormal", [0]), ("categorical", [1])],
            random_state=0,
        ),
    }
    for name, estimator in estimators.items():
        if name == "vae":
            estimator.partial_fit(WORDS)
        else:
            with pytest.warns(ConvergenceWarning):
                estimator.fit(X)
        if name == "em":
            estimator.partial_fit(X)  # a stream that climbs
        skemvae.save(estimator, folder / name)
    return folder


def load(path):
    return skemvae.load(path, models=[GaussianPair])


def refused(path, match=""):
    """Assert that a file is refused, by its name, soon and in little memory."""
    tracemalloc.start()
    with pytest.raises(ValueError, match=re.escape(str(path)) + "(?s:.*)" + match):
        load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


# Damage.


def test_any_flipped_byte_is_noticed(files, tmp_path):
    content = (files / "em").read_bytes()
    path = tmp_path / "file"
    for position in range(len(content)):
        # 0x20 turns a letter of the header into the other case.
        flipped = bytes([content[position] ^ (1, 0x20, 0x80)[position % 3]])
        path.write_bytes(content[:position] + flipped + content[position + 1 :])
        with pytest.raises(ValueError, match="cannot be loaded"):
            load(path)


def test_any_missing_or_added_end_is_noticed(files, tmp_path):
    content = (files / "em").read_bytes()
    path = tmp_path / "file"
    for n in (*range(64), *range(64, len(content), 17), len(content) - 1):
        path.write_bytes(content[:n])
        with pytest.raises(ValueError, match="cannot be loaded"):
            load(path)
    for more in (b"\0", content[-32:], content):
        path.write_bytes(content + more)
        refused(path, "checksum")


def test_what_is_no_file_of_save(tmp_path, files):
    with pytest.raises(FileNotFoundError, match="nothing"):
        load(tmp_path / "nothing")
    refused(tmp_path, "regular file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "regular file")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "not written by skemvae.save")


class Bomb:
    """Pickles that say so when they run."""

    def __reduce__(self):
        return (pytest.fail, ("code from a file was run",))


def test_pickles_in_disguise_do_not_run(tmp_path, files):
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path, "not written by skemvae.save")
    joblib.dump(Bomb(), path)
    refused(path, "not written by skemvae.save")
    np.savez(tmp_path / "file.npz", means_=np.array([Bomb()], dtype=object))
    refused(tmp_path / "file.npz", "not written by skemvae.save")
    # Zipped, with a name that leads out of the folder, and compressed a thousandfold.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../outside.pkl", pickle.dumps(Bomb()))
        archive.writestr("estimator.json", bytes(2**20))
    refused(path, "not written by skemvae.save")
    # A pickle where an array should be.
    text, arrays = container.read(files / "em")
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    arrays["means_"] = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    path.unlink()
    container.write(path, text, arrays)
    refused(path, "means_ .* array of float64")


# Headers, with a valid checksum.


def write_raw(path, header, data=b"", length=None):
    """A file that is signed properly, whatever it says."""
    header = (
        header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    )
    length = len(header) if length is None else length
    content = length.to_bytes(8, "little") + header + data
    path.write_bytes(content + hashlib.sha256(content).digest())


META = {"format": "skemvae", "format_version": "1", "skemvae_version": "0", "estimator": "1"}
SUM = {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]}
START = b'{"__metadata__":{"format":"skemvae"'


def entry(shape, n_bytes, dtype="F64"):
    checksum = SUM | {"data_offsets": [n_bytes, n_bytes + 32]}
    array = {"dtype": dtype, "shape": shape, "data_offsets": [0, n_bytes]}
    return {"__metadata__": META, "a": array, "sha256": checksum}


@pytest.mark.parametrize(
    ("header", "data", "match"),
    [
        (entry([2**60], 2**63), b"", "cannot be where it says"),
        (entry([2**60], 8), b"8 bytes.", "cannot be where it says"),
        (entry([2**60, 0], 0), b"", "cannot be where it says"),
        (entry([30] * 8, 8 * 30**8), b"", "cannot be where it says"),
        (entry([2**32, 2**32], 0), b"", "cannot be where it says"),
        (entry([-1], -8), b"", "cannot be where it says"),
        (entry([True], 8), b"8 bytes.", "cannot be where it says"),
        (entry([1.0], 8), b"8 bytes.", "cannot be where it says"),
        (entry([1] * 99, 8), b"8 bytes.", "cannot be where it says"),
        (entry("1", 8), b"8 bytes.", "cannot be where it says"),
        (entry([1], 8, "O"), b"8 bytes.", "not described"),
        (entry([1], 8, ["F64"]), b"8 bytes.", ""),
        (entry([1], 1, "BOOL"), b"\2", "true and false"),
        (entry([1], 8), b"8 bytes, and more", "do not fill"),
        (entry([1], 8) | {"more": 1}, b"8 bytes.", "not described"),
        ({"__metadata__": META}, b"", "do not fill"),
        ({"__metadata__": META, "sum": SUM}, b"", "do not fill"),
        ({"__metadata__": META, "sha256": SUM | {"data_offsets": [8, 40]}}, bytes(8), "where it"),
        ({"__metadata__": META | {"n": 1}, "sha256": SUM}, b"", "not text"),
        ({"__metadata__": META | {"format_version": "x"}, "sha256": SUM}, b"", ""),
        ({"__metadata__": {"format": "skemvae"}, "sha256": SUM}, b"", "format_version"),
        (START + b'},"a":1,"a":2}', b"", "twice"),
        (START + b'},"a":NaN}', b"", "NaN"),
        (START + b'},"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}", b"", "too deeply"),
        (START + b'},"a":' + b"9" * 10**5 + b"}", b"", "digits"),
        (START + b"}", b"", ""),
        (START + b'},"\xff":1}', b"", "utf-8"),
    ],
)
def test_headers_that_cannot_be(header, data, match, tmp_path):
    write_raw(tmp_path / "file", header, data)
    refused(tmp_path / "file", match)


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**60, 2**64 - 1])
def test_lengths_of_headers_that_cannot_be(length, tmp_path):
    write_raw(tmp_path / "file", START + b"}}", bytes(64), length)
    refused(tmp_path / "file")


# Documents, with a valid checksum.


def write_document(path, document, arrays):
    path.unlink(missing_ok=True)
    text = {"skemvae_version": skemvae.__version__, "estimator": document}
    container.write(path, text, {n: np.array(a, order="C") for n, a in arrays.items()})


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ("", ""),
        ("1", "no estimator"),
        ('{"Full":{"values":{"array":"means_"}}}', ""),
        ('{"os.system":{"command":"true"}}', "'os.system'.*not of skemvae"),
        ('{"sklearn.pipeline.Pipeline":{}}', "not of skemvae"),
        ('{"__reduce__":["os.system",["true"]]}', "not of skemvae"),
        ('{"EMGaussianMixture":{}}', "lacks"),
        ('{"EMGaussianMixture":[]}', ""),
        ('{"EMGaussianMixture":{},"VAEEstimator":{}}', "more or less"),
        ('{"tuple":[' * 10**4 + "]}" * 10**4, "deep|recursion"),
        ('{"slice":[1,2,3,4]}', ""),
        ('{"objects":{"items":[1,2],"shape":[1152921504606846976]}}', ""),
        ('{"timedelta":[1e300,0,0]}', ""),
        ('{"Categories":{"names":{"tuple":["a"]},"labels":{"tuple":[{"tuple":[[]]}]}}}', "hash"),
        ('{"array":"../../etc/passwd"}', "passwd"),
        ('{"array":["means_"]}', ""),
    ],
)
def test_documents_that_cannot_be(document, match, files, tmp_path):
    arrays = container.read(files / "em")[1] if "EMGaussianMixture" in document else {}
    write_document(tmp_path / "file", document, arrays)
    refused(tmp_path / "file", match)


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        ('"separable":true', '"separable":false', "likelihood with"),
        ('"sizes":[2]', '"sizes":[3]', "likelihood with"),
        ('"unseen_mass":0', '"unseen_mass":1', "between 0 and 1"),
        ('"n_outputs":2', '"n_outputs":1000000000000', "likelihood with"),
        ('"min_variance":1e-06', '"min_variance":-1', "min_variance"),
        ('{"Logarithmic":', '{"Categories":', "lacks"),
        ('"names":{"tuple":["1"]}', '"names":{"tuple":["1","2"]}', "2 names|columns|units"),
        ('["Categorical()",[1]]', '["Categorical()",[0]]', "design"),
    ],
)
def test_likelihoods_are_those_of_the_columns(before, after, match, files, tmp_path):
    text, arrays = container.read(files / "vae")
    assert before in text["estimator"]
    write_document(tmp_path / "file", text["estimator"].replace(before, after), arrays)
    refused(tmp_path / "file", match)


def test_what_climbs_goes_with_the_mixture(files, tmp_path):
    text, arrays = container.read(files / "em")
    (name,) = (name for name in arrays if "climbing.cov" in name)
    write_document(tmp_path / "file", text["estimator"].replace('"Full":', '"Tied":'), arrays)
    refused(tmp_path / "file", "climbs with another covariance_type than 'full'")
    write_document(tmp_path / "file", text["estimator"], {**arrays, name: -arrays[name]})
    refused(tmp_path / "file", "not positive")


def test_every_array_is_one_of_the_estimators(files, tmp_path):
    text, arrays = container.read(files / "em")
    write_document(tmp_path / "file", text["estimator"], {**arrays, "spare": np.ones(3)})
    refused(tmp_path / "file", "spare")


def test_a_random_state_cannot_point_beyond_its_key(tmp_path):
    skemvae.save(EMGaussianMixture(random_state=np.random.RandomState(0)), tmp_path / "file")
    text, arrays = container.read(tmp_path / "file")
    for position in ("-1", "625", "1000000000"):
        document = re.sub(r'"pos":\d+', f'"pos":{position}', text["estimator"])
        write_document(tmp_path / "file", document, arrays)
        refused(tmp_path / "file", "RandomState that cannot be")


@pytest.mark.parametrize("kind", ["em", "bayes", "factor", "own", "vae"])
def test_arrays_of_other_shapes_types_or_with_nan_are_refused(kind, files, tmp_path):
    """But in histories, which may have any length and say NaN."""
    text, arrays = container.read(files / kind)
    path = tmp_path / "file"
    for name, array in arrays.items():
        others = {
            "longer": np.concatenate([array, array]) if array.ndim else np.ones(2, array.dtype),
            "one dimension more": array[None],
            "of another type": np.zeros_like(
                array, dtype=np.float16 if array.dtype.kind == "f" else np.uint8
            ),
            "missing": None,
        }
        if array.dtype.kind == "f" and array.size:
            others["NaN"] = np.full_like(array, np.nan)
        for what, other in others.items():
            changed = {**arrays, name: other}
            if other is None:
                del changed[name]
            write_document(path, text["estimator"], changed)
            if "lower_bounds" in name and what in ("longer", "NaN"):
                load(path)
            elif (
                kind == "own" and "parameters_" in name and what in ("longer", "one dimension more")
            ):
                load(path)  # the shapes of one's own model are its own affair
            else:
                with pytest.raises(ValueError, match="cannot be loaded"):
                    load(path)


def nodes(document, path=()):
    """Where in a document something stands."""
    yield path
    if isinstance(document, dict | list):
        children = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in children:
            yield from nodes(value, (*path, key))


JUNK = [None, True, -1, 0, 10**30, 0.5, "", "means_", [], {}, {"dict": {}}, {"tuple": []}]
JUNK += [{"float": "nan"}, {"array": "means_"}, {"array": "lower_bounds_"}, {"str_": "full"}]
JUNK += [
    {"Gaussian": {"variance": "row", "min_variance": 1.0}},
    {"Counts": {"names": {"tuple": []}}},
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", ["em", "bayes", "factor", "own", "vae"])
@given(data=st.data())
def test_whatever_a_document_says_it_is_refused_or_loaded(kind, files, tmp_path_factory, data):
    text, arrays = container.read(files / kind)
    document = json.loads(text["estimator"])
    *path, last = data.draw(st.sampled_from(list(nodes(document))[1:]))
    place = document
    for key in path:
        place = place[key]
    is_dict = isinstance(place, dict)
    action = data.draw(st.sampled_from(["replace", "remove", "add"] if is_dict else ["replace"]))
    if action == "remove":
        del place[last]
    elif action == "add":
        place["more"] = data.draw(st.sampled_from(JUNK))
    else:
        place[last] = copy.deepcopy(data.draw(st.sampled_from(JUNK)))
    file = tmp_path_factory.mktemp("hostile") / "file"
    write_document(file, json.dumps(document), arrays)
    try:
        estimator = load(file)
    except ValueError as error:
        said = str(error)
    else:
        said = str(file) if isinstance(estimator, skemvae.base.LatentDensityEstimator) else ""
        # What a fit sets last is not there in the estimators that callbacks see.
        assert action == "replace" or last == "_mean_surprise"
    assert str(file) in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_layer_sizes", {"tuple": [2**31, 2**31]}),
        ("n_components", 2**40),
        ("n_prior_components", 2**40),
        ("hidden_layer_sizes", {"tuple": [-3]}),
    ],
)
def test_networks_are_not_made_before_their_weights_are_there(key, value, files, tmp_path):
    text, arrays = container.read(files / "vae")
    document = json.loads(text["estimator"])
    document["VAEEstimator"]["_design"]["dict"]["architecture"]["Architecture"][key] = value
    write_document(tmp_path / "file", json.dumps(document), arrays)
    refused(tmp_path / "file", "weights|sizes")


# Numbers that would make a call run away.


def test_no_number_of_a_file_makes_a_call_run_away(files):
    """One of 23; ``python -m tests.numbers_of_files FOLDER 1`` tries all of them."""
    command = [sys.executable, "-m", "tests.numbers_of_files", str(files), "23"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert run.stdout == "done\n", run.stderr[-2000:]


@pytest.mark.parametrize("key", [np.zeros(624), np.r_[2.0**31 - 1, np.zeros(623)]])
def test_a_random_state_that_would_be_waited_for_is_refused(key, tmp_path):
    """NumPy rejects its zeros for ever, and does not hear Ctrl-C."""
    skemvae.save(EMGaussianMixture(random_state=np.random.RandomState(0)), tmp_path / "file")
    text, arrays = container.read(tmp_path / "file")
    (name,) = (name for name in arrays if "key" in name)
    key = key.astype(np.uint32)
    write_document(tmp_path / "file", text["estimator"], {**arrays, name: key})
    refused(tmp_path / "file", "RandomState that gives zeros only")
    rng = np.random.RandomState(0)
    rng.set_state(("MT19937", key, 624))
    mixture = EMGaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]], random_state=rng)
    calls = [
        lambda: mixture.sample(3),
        lambda: mixture.sample(3, random_state=rng),
        lambda: mixture.fit(X),
        lambda: VariationalEM(random_state=rng).fit(X),
        lambda: VAEEstimator(random_state=rng).fit(X),
        lambda: TransformedDensity("passthrough", mixture).fit(X),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="random_state is a RandomState whose state is zero"):
            call()
    twister, congruential = np.random.MT19937(), np.random.PCG64()
    twister.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 624}}
    congruential.state = {**congruential.state, "state": {"state": 0, "inc": 0}}
    for generator in map(np.random.Generator, (twister, congruential)):
        with pytest.raises(ValueError, match="random_state is a Generator whose state is zero"):
            mixture.sample(3, random_state=generator)
    key[7] = 1
    rng.set_state(("MT19937", key, 624))
    assert mixture.sample(3)[0].shape == (3, 1)


@pytest.mark.parametrize("value", [-1, 2**32, 0.5, "a" * 10**4, np.random.PCG64(0)])
def test_a_random_state_is_named(value):
    with pytest.raises(ValueError, match=r"^random_state=.* must be None, an int from 0") as raised:
        EMGaussianMixture(random_state=value).fit(X)
    harmless(str(raised.value))


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ('"has_gauss":0', '"has_gauss":2', "RandomState that cannot be"),
        ('"gauss":0.0', '"gauss":{"float":"nan"}', "RandomState that cannot be"),
    ],
)
def test_what_a_random_state_has_put_by_is_a_number(field, value, match, tmp_path):
    skemvae.save(EMGaussianMixture(random_state=np.random.RandomState(0)), tmp_path / "file")
    text, arrays = container.read(tmp_path / "file")
    assert field in text["estimator"]
    write_document(tmp_path / "file", text["estimator"].replace(field, value), arrays)
    refused(tmp_path / "file", match)


# Text of a file in messages.

TEXT = st.one_of(
    st.text(min_size=1),
    st.sampled_from(["\x1b[2J\x1b]0;title\a", "\x9b31m", "\r", "\u202e", "\n- a", "a" * 10**5]),
)


def harmless(message):
    """Assert that a message holds nothing that a terminal obeys, and no page of letters."""
    assert all(line.isprintable() for line in message.split("\n"))
    assert len(message) < 1500


@given(text=TEXT)
def test_what_is_shown_is_harmless(text):
    for value in (text, [text], {text: text}, (1, text), np.array([text, None], dtype=object)):
        assert shown(value).isprintable()
        assert len(shown(value)) <= 100
    assert escaped(text).isprintable()
    assert len(escaped(text)) <= 100
    if text.isprintable() and len(text) <= 100:
        assert escaped(text) == text


@given(version=TEXT)
@example(version="'")
def test_a_version_is_shown_as_text(version, files, tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "file"
    text, arrays = container.read(files / "em")
    container.write(path, {**text, "skemvae_version": version}, arrays)
    state = load(files / "em").__getstate__() | {"_skemvae_version": version}
    for read in (lambda: load(path), lambda: EMGaussianMixture().__setstate__(state)):
        with pytest.warns(VersionMismatchWarning) as caught:
            read()
        harmless(str(caught[0].message))
    path.unlink()
    container.write(path, {**text, "skemvae_version": version, "format_version": "7"}, arrays)
    with pytest.raises(ValueError, match=r"(?s)version ['\"].*format '7'.*upgrade") as raised:
        load(path)
    harmless(str(raised.value).replace(str(path), ""))


def strings(document, path=()):
    """Where a document has text, or a key."""
    for place in nodes(document):
        last = place[-1] if place else None
        value = document
        for key in place:
            value = value[key]
        if isinstance(value, str):
            yield place, False
        if isinstance(last, str):
            yield place, True


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", ["em", "bayes", "factor", "own", "vae"])
@given(data=st.data(), said=TEXT)
def test_whatever_text_is_in_a_file_errors_are_harmless(kind, files, tmp_path_factory, data, said):
    text, arrays = container.read(files / kind)
    document = json.loads(text["estimator"])
    (*path, last), is_key = data.draw(st.sampled_from(list(strings(document))))
    place = document
    for key in path:
        place = place[key]
    if is_key:
        place[said] = place.pop(last)
    else:
        place[last] = said
    file = tmp_path_factory.mktemp("hostile") / "file"
    write_document(file, json.dumps(document), arrays)
    try:
        load(file)
    except ValueError as error:
        harmless(str(error).replace(str(file), ""))
        harmless(str(error.__cause__))


@given(name=TEXT.filter(lambda name: name not in ("a", "other", "absent")))
def test_column_names_of_a_file_are_harmless_in_errors(name, tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "file"
    skemvae.save(EMGaussianMixture().fit(pd.DataFrame({"a": X[:, 0], name: X[:, 1]})), path)
    mixture = load(path)
    calls = [
        lambda: mixture.score_samples(pd.DataFrame({"a": X[:, 0], "other": X[:, 1]})),
        lambda: mixture.marginal(["absent"]),
        lambda: mixture.score(from_batches([pd.DataFrame(X, columns=["a", "other"])])),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"feature names|columns") as raised:
            call()
        harmless(str(raised.value))
