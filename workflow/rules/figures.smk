# The figures of each target, from its runs and the tuning trials that lie in the results.


for target in plan.TARGETS:

    rule:
        name:
            f"figures_{target}"
        input:
            runs=runs(target, "metrics.json", "trace.safetensors", "model.sws"),
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
            code=code_hash("sws.report.figures")[:16],
        shell:
            "sws --log {log:q} figures {params.target:q} --results {params.results:q}"
            " --pairs={params.pairs:q} --seeds {params.seeds:q}"
