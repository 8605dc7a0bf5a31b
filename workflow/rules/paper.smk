# The paper as written: what each of our changes is worth, its claims, and the mixture's rates.

SENSITIVITY = sensitivity.load(Path(workflow.basedir) / "config" / "sensitivity.yaml")
TRIAL = f"{RESULTS}/sensitivity/{{trial}}/seed-{{seed}}"


rule ladder:
    """From the paper's recipe to ours, one change at a time; hours, see docs/as-written.md."""
    input:
        runs("ladder", "metrics.json"),
    output:
        table("ladder", "ladder", "From the paper's recipe to ours"),
        multiext(f"{RESULTS}/tables/ladder/ladder", ".csv", ".md"),
        [
            report(
                f"{RESULTS}/figures/ladder/ladder_{pair}.svg",
                caption="../report/ladder.rst",
                category="The method",
                subcategory="Studies",
                labels={"figure": "From the paper's recipe to ours"},
            )
            for pair in PLAN.target("ladder").runnable
        ],
    log:
        "logs/ladder.log",
    localrule: True
    params:
        results=lambda wildcards: RESULTS,
        pairs=",".join(PLAN.target("ladder").runnable),
        code=code_hash("sws.report.ladder")[:16],
    shell:
        "sws --log {log:q} ladder --results {params.results:q} --pairs {params.pairs:q}"


rule claims:
    """The paper's claims, each with a verdict, from whatever has run; under a minute."""
    input:
        lambda wildcards: plan.finished(RESULTS),
    output:
        table("claims", "claims", "The paper's claims"),
        multiext(f"{RESULTS}/tables/claims/claims", ".csv", ".md"),
    log:
        "logs/claims.log",
    localrule: True
    params:
        results=lambda wildcards: RESULTS,
        code=code_hash("sws.report.claims")[:16],
    shell:
        "sws --log {log:q} claims --results {params.results:q}"


rule trials_start:
    output:
        multiext(
            f"{RESULTS}/tuning/{SENSITIVITY.pair}/pretrained/seed-{{seed}}/",
            "pretrained.safetensors",
            "metrics.json",
        ),
    log:
        "logs/trials-start/seed-{seed}.log",
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
        pair=SENSITIVITY.pair,
        identity=(
            PLAN.identity("pretrain", SENSITIVITY.pair)
            if SENSITIVITY.pair in PLAN.experiments
            else ""
        ),
    shell:
        "sws --log {log:q} pretrain {params.pair:q} --for-trials --seed {wildcards.seed:q}"
        " --results {params.results:q}"


rule rate_trial:
    input:
        ancient(
            f"{RESULTS}/tuning/{SENSITIVITY.pair}/pretrained/seed-{{seed}}/pretrained.safetensors"
        ),
    output:
        multiext(f"{TRIAL}/", "trial.json", "history.csv"),
    log:
        "logs/sensitivity/{trial}/seed-{seed}.log",
    wildcard_constraints:
        trial="[a-z]+-[0-9e-]+",
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
        settings=lambda w: sensitivity.trials(SENSITIVITY, plan.find_experiment(SENSITIVITY.pair))[
            w.trial
        ].fingerprint()[:16],
        code=code_hash("sws.study.sensitivity:run")[:16],
    shell:
        "sws --log {log:q} rate-trial {wildcards.trial:q} --seed {wildcards.seed:q}"
        " --results {params.results:q}"


rule sensitivity:
    """How fast the mixture may follow the weights: 128 trials on validation images; hours."""
    input:
        lambda wildcards: expand(
            f"{TRIAL}/trial.json",
            trial=sensitivity.trials(SENSITIVITY, plan.find_experiment(SENSITIVITY.pair)),
            seed=SENSITIVITY.seeds,
        ),
    output:
        table("sensitivity", "sensitivity", "How fast the mixture may follow the weights"),
        multiext(f"{RESULTS}/tables/sensitivity/sensitivity", ".csv", ".md"),
        report(
            f"{RESULTS}/figures/sensitivity/sensitivity.svg",
            caption="../report/sensitivity.rst",
            category="The method",
            subcategory="Studies",
            labels={"figure": "How fast the mixture may follow the weights"},
        ),
        f"{RESULTS}/figures/sensitivity/sensitivity.png",
    log:
        "logs/sensitivity.log",
    localrule: True
    params:
        results=lambda wildcards: RESULTS,
        code=code_hash("sws.report.sensitivity")[:16],
    shell:
        "sws --log {log:q} sensitivity --results {params.results:q}"
