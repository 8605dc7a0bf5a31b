"""The command line: examples, round trips, and one line for whatever goes wrong."""

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from fabricated_runs import fabricate
from safetensors.numpy import load_file, save_file

from sws import cli, codec
from sws.cli.process import LEGIBLE, Status
from sws.config.seeds import MAX_SEED
from sws.environment import PACKAGE
from sws.errors import InputError
from sws.models import registry
from sws.network import safetensors
from sws.network.quantized import (
    Architecture,
    InputSpec,
    QuantizedNetwork,
    QuantizedTensor,
    RawTensor,
)
from sws.prior.hyper_priors import GammaPrior

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = sorted(typer.main.get_command(cli.app).commands)
PAIR = "lenet-300-100_mnist-smoke"


def sws(*arguments, **options):
    """Run the command as a user does."""
    command = [sys.executable, "-c", "from sws.cli import main; main()", *map(str, arguments)]
    options = {"capture_output": True, "text": True, "cwd": ROOT, "timeout": 120} | options
    return subprocess.run(command, **options)


def failed(done, status=1):
    """The one line on standard error of a command that failed."""
    assert done.returncode == status, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def network():
    rng = np.random.default_rng(0)
    first = rng.choice(5, (12, 20), p=[0.9, *[0.025] * 4]).astype(np.uint8)
    second = rng.choice(5, (4, 3, 5, 5), p=[0.8, *[0.05] * 4]).astype(np.uint8)
    return QuantizedNetwork(
        (
            QuantizedTensor("conv.weight", "conv", 0, second, 0.5),
            RawTensor("conv.bias", rng.normal(size=4).astype(np.float16)),
            RawTensor("norm.batches", np.array(7, np.int64), trainable=False),
            QuantizedTensor("fc.weight", "fc", 0, first),
            RawTensor("fc.bias", rng.normal(size=12).astype(np.float32)),
        ),
        (np.array([0, -0.2, -0.1, 0.1, 0.2], np.float32),),
        Architecture("lenet-300-100", {"classes": 10}),
        InputSpec((1, 28, 28), (0.0,), (1.0,), tuple("0123456789")),
    )


@pytest.fixture
def model(network, tmp_path):
    path = tmp_path / "model.sws"
    codec.write(network, path)
    return path


# --- help -----------------------------------------------------------------------------------------


def test_all_commands_are_there():
    promised = "pretrain compress tune encode decode evaluate inspect data status tables figures"
    promised += " compare publish profile costs coders prior-cost prior-study"
    promised += " ladder claims sensitivity rate-trial"
    assert set(promised.split()) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command, capsys):
    assert cli.run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"\n    sws {command}" in shown


def test_help_answers_without_heavy_imports():
    code = (
        "import sys; from sws import cli; cli.run(['--help']); "
        "print([m for m in ('torch', 'numpy', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_summary_of_every_command_fits_its_line(capsys):
    assert cli.run(["--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def test_version(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sws 0.")


# --- files ----------------------------------------------------------------------------------------


def test_decode_writes_the_weights_that_the_file_stands_for(network, model, tmp_path):
    output = tmp_path / "weights.safetensors"
    assert cli.run(["decode", str(model), str(output)]) == 0
    found = load_file(output)
    assert set(found) == {t.name for t in network.tensors}
    for name, values in network.state_dict().items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_encoding_what_was_decoded_gives_the_same_bytes(network, model, tmp_path):
    indexes, again = tmp_path / "indexes.safetensors", tmp_path / "again.sws"
    assert cli.run(["decode", str(model), str(indexes), "--indexes"]) == 0
    assert cli.run(["encode", str(indexes), str(again)]) == 0
    assert again.read_bytes() == model.read_bytes()
    assert safetensors.read_quantized(indexes) == network


def test_a_network_of_no_registered_kind_survives_the_exchange(network, tmp_path):
    foreign = QuantizedNetwork(network.tensors, network.codebooks)
    safetensors.write_quantized(foreign, tmp_path / "foreign.safetensors")
    assert safetensors.read_quantized(tmp_path / "foreign.safetensors") == foreign


def test_inspect_accounts_for_every_byte(model, capsys):
    assert cli.run(["inspect", str(model)]) == 0
    shown = capsys.readouterr().out
    for name in ("conv.weight", "conv.bias", "norm.batches", "fc.weight", "fc.bias"):
        assert name in shown
    assert "lenet-300-100 (classes = 10)" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("bytes:")]
    parts, total = line.removeprefix("bytes: ").split(" = ")
    counted = sum(int(part.split()[0].replace(",", "")) for part in parts.split(" + "))
    assert counted == int(total.replace(",", "")) == model.stat().st_size


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["inspect", "decode", "evaluate"])
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_file_is_refused(command, damage, model, tmp_path):
    data = bytearray(model.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    model.write_bytes(data)
    output = tmp_path / "weights.safetensors"
    more = {"inspect": [], "decode": [output], "evaluate": ["mnist-smoke"]}[command]
    line = failed(sws(command, model, *more))
    assert str(model) in line
    assert not output.exists()


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in failed(sws("inspect", tmp_path / "none.sws"))
    assert "no such file" in failed(sws("encode", tmp_path / "none", tmp_path / "model.sws"))


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_outputs_go_to_ordinary_files_in_folders_that_exist(command, model, tmp_path):
    line = failed(sws(command, model, tmp_path / "none" / "output"))
    assert line == f"error: {tmp_path / 'none'}: there is no such folder; make it first"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "no ordinary file" in failed(sws(command, model, pipe))
    assert pipe.is_fifo()


def test_encode_wants_a_quantised_network(tmp_path):
    dense, model = tmp_path / "dense.safetensors", tmp_path / "model.sws"
    save_file({"fc.weight": np.zeros((2, 2), np.float32)}, dense)
    assert "sws decode --indexes" in failed(sws("encode", dense, model))
    dense.write_bytes(b"not safetensors at all")
    assert "no safetensors file" in failed(sws("encode", dense, model))
    assert list(tmp_path.iterdir()) == [dense]


def test_encode_refuses_an_index_outside_its_codebook(network, tmp_path):
    path = tmp_path / "indexes.safetensors"
    safetensors.write_quantized(network, path)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    arrays["indexes/fc.weight"][0, 0] = 99
    save_file(arrays, path, metadata)
    assert "outside its codebook" in failed(sws("encode", path, tmp_path / "model.sws"))


@pytest.mark.parametrize("command", ["pretrain", "compress"])
def test_an_unknown_pair_lists_those_there_are(command, tmp_path):
    line = failed(sws(command, "lenet-9_mnist", "--results", tmp_path))
    assert "lenet-9_mnist" in line
    assert PAIR in line
    assert not list(tmp_path.iterdir())


def test_an_unknown_network_or_data_set_in_an_experiment_is_named(tmp_path):
    text = (ROOT / "config" / "experiments" / f"{PAIR}.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("model: lenet-300-100", "model: lenet-9"))
    assert "model = 'lenet-9': choose one of lenet-300-100" in failed(sws("pretrain", path))
    path.write_text(text.replace("dataset: mnist-smoke", "dataset: svhn"))
    assert "dataset = 'svhn': choose one of mnist" in failed(sws("pretrain", path))


def test_unknown_point_method_data_set_and_target():
    assert "its points are main" in failed(sws("compress", PAIR, "--point", "best"))
    assert "unknown method 'magic'" in failed(sws("compress", PAIR, "--method", "magic"))
    assert "unknown data set 'svhn'" in failed(sws("data", "svhn"))
    assert "unknown data set 'svhn'" in failed(sws("evaluate", "model.sws", "svhn"))
    assert "no target 'imagenet'" in sws("tables", "imagenet").stderr


def test_missing_data_tells_how_to_supply_them(tmp_path):
    environment = os.environ | {"SWS_CACHE": str(tmp_path)}
    environment.pop("SWS_DATA_ROOT", None)
    done = sws("data", env=environment)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("cifar-10 ")]
    assert "no data; set SWS_DATA_ROOT to a folder" in line


def test_altered_data_are_refused(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for path in (ROOT / "resources" / "mnist").glob("*.gz"):
        (folder / path.name).write_bytes(path.read_bytes())
    labels = folder / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-100])
    line = failed(sws("--data-root", tmp_path, "data", "mnist", "--output", tmp_path / "x.json"))
    assert str(folder) in line
    assert not (tmp_path / "x.json").exists()


def test_a_full_disk_is_called_that(model):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "wb") as full:
        done = sws("inspect", model, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert "no space left on the disk" in failed(done)


def test_nobody_reading_on_is_no_error_to_report(model):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = sws("inspect", model, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (Status.OK, "")


SCRIPT = f"{shlex.quote(sys.executable)} -c 'from sws.cli import main; main()'"


def shell(line, **options):
    """Run a line of shell in which SWS stands for the command."""
    line = line.replace("SWS", SCRIPT)
    options = {"capture_output": True, "text": True, "cwd": ROOT, "timeout": 120} | options
    return subprocess.run(["bash", "-c", line], **options)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_no_work(closed, network, model, tmp_path):
    output = tmp_path / "weights.safetensors"
    done = shell(f"SWS decode {model} {output} {closed}")
    assert (done.returncode, done.stderr) == (Status.OK, "")
    found = load_file(output)  # nothing was printed into it
    assert set(found) == {t.name for t in network.tensors}
    assert shell(f"SWS inspect {tmp_path / 'none.sws'} {closed}").returncode == Status.FAILED


def test_who_stops_reading_stops_no_training(tmp_path):
    line = f"SWS pretrain {PAIR} --results {tmp_path} 2>&1 | true; exit ${{PIPESTATUS[0]}}"
    done = shell(line, timeout=400)
    assert (done.returncode, done.stdout + done.stderr) == (Status.OK, "")
    assert (tmp_path / "pretrained" / PAIR / "seed-1" / "metrics.json").is_file()


# --- languages ------------------------------------------------------------------------------------


def ascii_locale():
    return os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory):
    """The environment of a user whose locale is in Latin-1, made for this test."""
    folder = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", folder / "de_DE.ISO-8859-1"]
    try:
        done = subprocess.run(command, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs localedef")
    if done.returncode != 0:
        pytest.skip("needs the sources of locales: apt-get install locales")
    names = {"LC_ALL": "de_DE.ISO-8859-1", "LOCPATH": str(folder), "PYTHONUTF8": "0"}
    environment = os.environ | names
    code = "import locale; print(locale.getpreferredencoding())"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
    assert found.strip() == "ISO-8859-1"
    return environment


def test_symbols_that_a_terminal_lacks_become_ascii(model):
    plain = sws("inspect", model)
    done = sws("inspect", model, env=ascii_locale())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == plain.stdout.replace("×", "x").replace("–", "-")
    assert "×" in plain.stdout


def test_symbols_that_a_terminal_has_stay(model, latin_1):
    done = sws("inspect", model, env=latin_1, text=False)
    assert (done.returncode, done.stderr) == (0, b"")
    plain = sws("inspect", model).stdout
    assert done.stdout.decode("latin-1") == plain.replace("–", "-")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_comparison_status_and_tables_in_any_locale(encoding, tmp_path, request):
    environment = ascii_locale() if encoding == "ascii" else request.getfixturevalue("latin_1")
    for folder in ("new", "old"):
        for seed in range(3):
            fabricate(tmp_path / folder, seed=seed, scale=10, epochs=4)
    options = {"env": environment, "encoding": encoding}
    done = sws("compare", tmp_path / "new", tmp_path / "old", **options)
    assert (done.returncode, done.stderr) == (Status.OK, "")
    assert "Reproduces: all 8 numbers" in done.stdout
    done = sws("status", "smoke", "--results", tmp_path / "none", **options)
    assert (done.returncode, done.stderr) == (Status.OK, "")
    pairs = ["--pairs", "lenet-300-100_mnist", "--seeds", "0,1,2"]
    done = sws("tables", "mnist", "--results", tmp_path / "new", *pairs, **options)
    assert (done.returncode, done.stderr) == (Status.OK, "")
    text = (tmp_path / "new/tables/mnist/table1.md").read_text(encoding="utf-8")
    assert "±" in text


def test_a_file_whose_name_is_no_text(model, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xe9.sws"
    os.rename(model, name)
    for environment in (os.environ, ascii_locale()):
        done = subprocess.run(
            [sys.executable, "-c", "from sws.cli import main; main()", "inspect", name],
            env=environment,
            cwd=ROOT,
            capture_output=True,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(name + b": lenet-300-100")


def test_what_an_encoding_lacks_becomes_legible():
    assert "1.2 ± 0.1 × ü".encode("ascii", LEGIBLE) == b"1.2 +- 0.1 x \\xfc"
    assert "1.2 ± 0.1 – ü".encode("latin-1", LEGIBLE) == b"1.2 \xb1 0.1 - \xfc"
    assert "\udcff×".encode("ascii", LEGIBLE) == b"\xffx"


def test_the_log_is_in_utf_8_whatever_the_locale(model, tmp_path):
    log = tmp_path / "log"
    done = sws("--log", log, "inspect", model, env=ascii_locale())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "×" in log.read_text(encoding="utf-8")


# --- what a command takes -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [MAX_SEED + 1, 2**64 - 1, "9" * 20, "9" * 5000, -1])
def test_a_seed_has_bounds(seed, tmp_path):
    for arguments in (["pretrain", PAIR, "--seed"], ["compress", PAIR, "--seed"]):
        done = sws(*arguments, seed, "--results", tmp_path)
        assert done.returncode == Status.USAGE
        assert "--seed" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    done = sws("tune", PAIR, ROOT / "pyproject.toml", "--seeds", seed)
    assert done.returncode == Status.USAGE
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_largest_seed_trains(tmp_path):
    done = sws("pretrain", PAIR, "--seed", MAX_SEED, "--results", tmp_path, timeout=400)
    assert done.returncode == Status.OK, done.stderr
    assert (tmp_path / "pretrained" / PAIR / f"seed-{MAX_SEED}" / "metrics.json").is_file()


def test_compare_tells_a_difference_from_a_failure(tmp_path):
    for name, change in (("new", 0), ("old", 0), ("worse", 3)):
        for seed in range(3):
            path = fabricate(tmp_path / name, seed=seed, scale=10, epochs=4) / "metrics.json"
            metrics = json.loads(path.read_text(encoding="utf-8"))
            metrics["error_end_pct"] += change
            path.write_text(json.dumps(metrics), encoding="utf-8")
    assert sws("compare", tmp_path / "new", tmp_path / "old").returncode == 0
    done = sws("compare", tmp_path / "worse", tmp_path / "old")
    assert (done.returncode, done.stderr) == (3, "")
    assert "Differs: 1 of 8 numbers" in done.stdout
    assert "no finished run" in failed(sws("compare", tmp_path / "none", tmp_path / "old"))
    # nobody reads on: the verdict is the same
    line = f"SWS compare {tmp_path / 'worse'} {tmp_path / 'old'} | true; exit ${{PIPESTATUS[0]}}"
    assert shell(line).returncode == 3


def test_each_status_has_one_number_and_is_explained(capsys):
    assert len({int(status) for status in Status}) == len(Status.__members__)
    assert cli.run(["--help"]) == 0
    epilog = " ".join(capsys.readouterr().out.split()).partition("Exit status:")[2]
    assert [int(n) for n in re.findall(r"\b\d+\b", epilog)] == [int(s) for s in Status]


# --- places ---------------------------------------------------------------------------------------


def elsewhere(tmp_path):
    """How to run a command in a folder that holds nothing."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for name in ("SWS_DATA_ROOT", "SWS_CHECKPOINT_ROOT"):
        environment.pop(name, None)
    return {"cwd": folder, "env": environment}


def test_commands_find_the_configuration_from_anywhere(tmp_path):
    options = elsewhere(tmp_path)
    done = sws("status", "mnist", **options)
    assert done.returncode == 0, done.stderr
    assert "to do    pretrain lenet-300-100_mnist seeds 1, 2, 3" in done.stdout
    done = sws("tables", "mnist", **options)
    assert done.returncode == 0, done.stderr
    assert (options["cwd"] / "results/tables/mnist/table1.csv").is_file()


def test_the_working_directory_comes_first(tmp_path):
    options = elsewhere(tmp_path)
    (options["cwd"] / "config").mkdir()
    (options["cwd"] / "config/config.yaml").write_text(
        f"pairs: [{PAIR}]\nseeds: [7]\nresults: here\ncheckpoint_root: there\ndata_root: nowhere\n",
        encoding="utf-8",
    )
    done = sws("status", **options)
    assert f"to do    pretrain {PAIR} seed 7" in done.stdout, done.stderr
    assert "to do    tables all" in done.stdout
    done = sws("pretrain", PAIR, "--seed", "7", timeout=400, **options)
    assert done.stdout.splitlines()[-1] == f"here/pretrained/{PAIR}/seed-7", done.stderr
    assert f"done     pretrain {PAIR} seed 7" in sws("status", **options).stdout
    assert {path.name for path in options["cwd"].iterdir()} == {"config", "here", "there"}
    assert "not in the data root" not in done.stderr
    line = failed(sws("data", "cifar-10", **options))
    assert f"the data root {options['cwd'] / 'nowhere'} is no folder" in line


def test_tracebacks_are_for_those_who_ask(tmp_path):
    place = tmp_path / "out"
    place.write_text("a file where a folder should be")
    arguments = ["tables", "smoke", "--pairs", PAIR, "--seeds", "1", "--output", place]
    assert str(place) in failed(sws(*arguments))
    assert "Traceback" in sws(*arguments, env=os.environ | {"SWS_DEBUG": "1"}).stderr


def test_what_nobody_meant_is_called_unexpected():
    try:
        {}["tau"]
    except KeyError as error:
        assert cli.describe(error).startswith("unexpected KeyError: 'tau' (SWS_DEBUG=1 shows")


def test_an_error_meant_for_the_user_is_its_message():
    with pytest.raises(InputError) as caught:
        registry.spec("lenet-6")
    assert cli.describe(caught.value).startswith("unknown model 'lenet-6'; choose one of lenet-300")


def test_a_value_error_that_nobody_meant_is_a_fault_wherever_it_was_raised():
    with pytest.raises(ValueError) as caught:
        GammaPrior(-1.0, 1.0)
    assert cli.describe(caught.value).startswith("unexpected ValueError: Gamma(-1.0, 1.0)")


def test_every_error_with_a_name_is_one_for_the_user():
    """But for what is caught where it is raised, and for a signal, which is no error."""
    classes = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                "Error" in ast.unparse(b) for b in node.bases
            ):
                classes[node.name] = {ast.unparse(base) for base in node.bases}
    assert {"ConfigurationError", "DivergedError", "MissingDataError"} <= set(classes)
    known = {"SwsError"}
    for _ in classes:
        known |= {name for name, bases in classes.items() if bases & known}
    assert set(classes) - known <= {"ResolutionError"}


def test_wrong_usage_has_its_own_status(tmp_path):
    assert sws("pretrain").returncode == 2
    assert sws("nonsense").returncode == 2
    assert sws("tune", PAIR, ROOT / "pyproject.toml", "--seeds", "1;2").returncode == 2


def test_the_log_takes_everything_and_the_screen_the_last_word(model, tmp_path):
    log = tmp_path / "logs" / "inspect.log"
    done = sws("--log", log, "inspect", model)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "fc.weight" in log.read_text()
    line = failed(sws("--log", log, "inspect", tmp_path / "none.sws"))
    assert line.endswith(f"(log: {log})")
    assert log.read_text().strip() == line.removesuffix(f" (log: {log})")


def test_ctrl_c_ends_in_one_line(tmp_path):
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)
    code = "from sws.cli import main; main()"
    running = subprocess.Popen(
        [sys.executable, "-c", code, "status", "mnist", "--config", str(pipe)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    with pipe.open("wb"):  # opens once the command reads, and then it waits for bytes
        running.send_signal(signal.SIGINT)
        _, shown = running.communicate(timeout=60)
    assert running.returncode == 130
    assert shown.strip() == "interrupted; run the same command again to go on"
