# The two stages that cost time. Settings, data and code count as parameters: a change of any of
# them runs the stage again. Experiment files are no inputs: they hold the settings of both stages,
# and a change for the one would run the other.


rule pretrain:
    input:
        ancient(f"{RESULTS}/data/{{dataset}}.json"),
    output:
        multiext(
            f"{RESULTS}/pretrained/{{model}}_{{dataset}}/seed-{{seed}}/",
            "pretrained.safetensors",
            "metrics.json",
            "history.csv",
        ),
    log:
        "logs/pretrain/{model}_{dataset}/seed-{seed}.log",
    threads: lambda w: PLAN.threads(w.model)
    resources:
        gpu=lambda w: PLAN.gpus(w.model),
        mem_mb=lambda w, attempt: PLAN.memory_mb(w.model, attempt),
        runtime=lambda w, attempt: PLAN.minutes(w.model, attempt),
    params:
        results=lambda wildcards: RESULTS,
        identity=lambda w: PLAN.identity("pretrain", f"{w.model}_{w.dataset}"),
    shell:
        "sws --log {log:q} pretrain {wildcards.model:q}_{wildcards.dataset:q}"
        " --seed {wildcards.seed:q} --results {params.results:q}"


rule pretrain_start:
    """The networks of other starts than the shared one, which a point may name."""
    input:
        ancient(f"{RESULTS}/data/{{dataset}}.json"),
    output:
        multiext(
            f"{RESULTS}/pretrained/{{model}}_{{dataset}}/{{start}}/seed-{{seed}}/",
            "pretrained.safetensors",
            "metrics.json",
            "history.csv",
        ),
    log:
        "logs/pretrain/{model}_{dataset}/{start}/seed-{seed}.log",
    wildcard_constraints:
        start="[a-z0-9-]+",
    threads: lambda w: PLAN.threads(w.model)
    resources:
        gpu=lambda w: PLAN.gpus(w.model),
        mem_mb=lambda w, attempt: PLAN.memory_mb(w.model, attempt),
        runtime=lambda w, attempt: PLAN.minutes(w.model, attempt),
    params:
        results=lambda wildcards: RESULTS,
        identity=lambda w: PLAN.identity("pretrain", f"{w.model}_{w.dataset}", start=w.start),
    shell:
        "sws --log {log:q} pretrain {wildcards.model:q}_{wildcards.dataset:q}"
        " --start {wildcards.start:q} --seed {wildcards.seed:q} --results {params.results:q}"


rule compress:
    input:
        lambda w: PLAN.start_files(f"{w.model}_{w.dataset}", w.method, w.point, w.seed),
    output:
        multiext(
            f"{RESULTS}/runs/{{model}}_{{dataset}}/{{method}}/{{point}}/seed-{{seed}}/",
            "metrics.json",
            "model.sws",
            "history.csv",
            "trace.safetensors",
        ),
    log:
        "logs/compress/{model}_{dataset}/{method}/{point}/seed-{seed}.log",
    wildcard_constraints:
        method=f"(?!(?:{'|'.join(plan.FOLLOWING)})/)[a-z0-9-]+",
    threads: lambda w: PLAN.threads(w.model)
    resources:
        gpu=lambda w: PLAN.gpus(w.model),
        mem_mb=lambda w, attempt: PLAN.memory_mb(w.model, attempt),
        runtime=lambda w, attempt: PLAN.minutes(w.model, attempt),
    params:
        results=lambda wildcards: RESULTS,
        identity=lambda w: PLAN.identity("compress", f"{w.model}_{w.dataset}", w.method, w.point),
    shell:
        "sws --log {log:q} compress {wildcards.model:q}_{wildcards.dataset:q}"
        " --method {wildcards.method:q} --point {wildcards.point:q}"
        " --seed {wildcards.seed:q} --results {params.results:q}"


# A method that matches the size of another's file waits for that file. It has a rule of its own: a
# rule that waits for itself never starts under `--until compress`.
use rule compress as compress_following with:
    input:
        lambda w: PLAN.start_files(f"{w.model}_{w.dataset}", w.method, w.point, w.seed),
        lambda w: PLAN.followed(f"{w.model}_{w.dataset}", w.method, w.point, w.seed),
    wildcard_constraints:
        method="|".join(plan.FOLLOWING),
