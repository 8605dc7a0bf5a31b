# The figures of each target, from its runs and the tuning trials that lie in the results.


for target in targets.TARGETS:

    rule:
        name:
            f"figures_{target}"
        input:
            runs=runs(target, "metrics.json", "trace.safetensors"),
            trials=PLAN.trial_files(target),
            published=PUBLISHED,
        output:
            [figure(file) for file in PLAN.figure_files(target)],
        log:
            f"logs/figures/{target}.log",
        localrule: True
        params:
            results=lambda wildcards: RESULTS,
            target=target,
            pairs=",".join(PLAN.target(target).runnable),
            seeds=",".join(map(str, PLAN.target(target).seeds)),
            points=lambda wildcards, target=target: PLAN.points_id(target),
            code=provenance.code_hash("sws.figures")[:16],
        shell:
            "sws --log {log} figures {params.target} --results {params.results}"
            " --pairs '{params.pairs}' --seeds {params.seeds}"
