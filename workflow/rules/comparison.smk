# What methods are compared by beside table 1: coders, and the costs of training and inference.


rule profile:
    input:
        f"{RESULTS}/runs/{{model}}_{{dataset}}/{{method}}/{{point}}/seed-{{seed}}/model.sws",
    output:
        f"{RESULTS}/profiles/{{model}}_{{dataset}}/{{method}}/{{point}}/seed-{{seed}}.json",
    log:
        "logs/profile/{model}_{dataset}/{method}/{point}/seed-{seed}.log",
    # asks for a whole machine, so that nothing else runs while it takes times; and computes on one
    # thread, as the runs of small networks do
    threads: 64
    params:
        seconds=lambda w: 0.02 if w.dataset.endswith("-smoke") else 1.0,
        code=code_hash("sws.measure.inference")[:16],
    shell:
        "OMP_NUM_THREADS=1 sws --log {log:q} profile --seconds {params.seconds:q}"
        " -- {input:q} {output:q}"


for target in plan.COMPARING:

    rule:
        name:
            f"costs_{target}"
        input:
            runs=runs(target, "metrics.json", "history.csv"),
            profiles=lambda wildcards, target=target: PLAN.profile_files(target),
        output:
            table(target, "costs", "What training and inference cost"),
            multiext(f"{RESULTS}/tables/{target}/costs", ".csv", ".md"),
        log:
            f"logs/costs/{target}.log",
        localrule: True
        params:
            results=lambda wildcards: RESULTS,
            target=target,
            pairs=",".join(PLAN.target(target).runnable),
            seeds=",".join(map(str, PLAN.target(target).seeds)),
            code=code_hash("sws.report.costs")[:16],
        shell:
            "sws --log {log:q} costs {params.target:q} --results {params.results:q}"
            " --pairs={params.pairs:q} --seeds {params.seeds:q}"

    rule:
        name:
            f"coders_{target}"
        input:
            runs=runs(target, "metrics.json", "model.sws"),
        output:
            table(target, "coders", "Coders on the same weights"),
            multiext(f"{RESULTS}/tables/{target}/coders", ".csv", ".md"),
        log:
            f"logs/coders/{target}.log",
        localrule: True
        params:
            results=lambda wildcards: RESULTS,
            target=target,
            pairs=",".join(PLAN.target(target).runnable),
            seeds=",".join(map(str, PLAN.target(target).seeds)),
            # the command takes it from the environment
            nncodec=os.environ.get("SWS_NNCODEC", ""),
            code=code_hash("sws.report.coders")[:16],
        shell:
            "sws --log {log:q} coders {params.target:q} --results {params.results:q}"
            " --pairs={params.pairs:q} --seeds {params.seeds:q}"
