# A table for each target, from its runs alone.


for target in plan.TARGETS:

    rule:
        name:
            f"tables_{target}"
        input:
            runs=runs(target, "metrics.json", "model.sws"),
            published=PUBLISHED,
        output:
            table(target, "table1", "Table 1: ours beside the published"),
            table(target, "layers", "Layer by layer"),
            [
                table(target, "fixed", "What each method reaches at a fixed error")
                for _ in range(PLAN.target(target).compares)
            ],
            PLAN.table_files(target),
        log:
            f"logs/tables/{target}.log",
        localrule: True
        params:
            results=lambda wildcards: RESULTS,
            target=target,
            pairs=",".join(PLAN.target(target).pairs),
            seeds=",".join(map(str, PLAN.target(target).seeds)),
            missing=",".join(PLAN.target(target).missing),
            points=lambda wildcards, target=target: PLAN.points_id(target),
            code=code_hash("sws.report.tables")[:16],
        # an empty list is quoted as nothing: with "=" it is still a value
        shell:
            "sws --log {log:q} tables {params.target:q} --results {params.results:q}"
            " --pairs={params.pairs:q} --seeds {params.seeds:q} --no-data={params.missing:q}"
