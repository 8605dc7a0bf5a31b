# Entry point: `snakemake --cores all mnist`. Rules call one `sws` command each; what a target
# covers is in sws/study/plan.py, what to run in config/config.yaml.
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

try:
    from sws.study import plan, sensitivity
    from sws.study.code_hash import code_hash
    from sws.runs import published
    from sws.config.configuration import validate_configuration
    from sws.config.schema import ConfigurationError
except ImportError as error:
    raise WorkflowError(
        f"the Python of this Snakemake lacks what the rules need ({error}); "
        "use .venv/bin/snakemake, which `make mnist` sets up, or run `pip install -e .`"
    )

min_version("9.19")


configfile: Path(workflow.basedir) / "config" / "config.yaml"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    model="[a-z0-9-]+",
    dataset="[a-z0-9-]+",
    method="[a-z0-9-]+",
    point="[a-z0-9-]+",
    seed=r"0|[1-9]\d*",


try:
    CONFIGURATION = validate_configuration(config, "configuration")
    PLAN = plan.Plan(CONFIGURATION, Path(workflow.basedir) / "config" / "experiments")
except ConfigurationError as error:
    raise WorkflowError(str(error))

RESULTS = CONFIGURATION.results.as_posix()
PUBLISHED = os.path.relpath(published.DEFAULT)

# `sws` lies beside the Python that runs Snakemake, which need not be on PATH.
os.environ |= {
    "PATH": os.pathsep.join([os.path.dirname(sys.executable), *os.get_exec_path()]),
    **PLAN.environment(),
}

# On one machine, jobs that fill a GPU take turns. A cluster's profile lifts this.
workflow.global_resources.setdefault("gpu", 1)


include: "workflow/rules/common.smk"
include: "workflow/rules/targets.smk"


rule all:
    """Every configured pair whose data is on this machine (the default)."""
    input:
        made("all"),
    localrule: True


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/comparison.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/studies.smk"
include: "workflow/rules/paper.smk"


onstart:
    print(PLAN.left_out(), end="", file=sys.stderr)


onsuccess:
    print(PLAN.left_out(), end="", file=sys.stderr)


onerror:
    print(PLAN.left_out(), end="", file=sys.stderr)
