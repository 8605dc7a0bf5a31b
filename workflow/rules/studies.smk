# Studies of the method itself: what a step of the prior costs.

PRIOR_COST = f"{RESULTS}/studies/prior/{{case}}/{{estimator}}.json"


rule prior_cost:
    output:
        PRIOR_COST,
    log:
        "logs/prior-cost/{case}/{estimator}.log",
    wildcard_constraints:
        case="[a-z0-9-]+",
        estimator="[a-z0-9-]+",
    # asks for a whole machine, so that nothing else runs while it takes times
    threads: 64
    params:
        code=code_hash("sws.measure.prior_cost")[:16],
    shell:
        "sws --log {log:q} prior-cost -- {wildcards.case:q} {wildcards.estimator:q} {output:q}"


rule prior_study:
    input:
        expand(PRIOR_COST, case=plan.PRIOR_CASES, estimator=plan.PRIOR_ESTIMATORS),
    output:
        table("studies", "prior", "What a step of the prior costs"),
        multiext(f"{RESULTS}/tables/studies/prior", ".csv", ".md"),
        report(
            f"{RESULTS}/figures/studies/fig10_prior.svg",
            caption="../report/prior.rst",
            category="The method",
            subcategory="Studies",
            labels={"figure": "What a step of the prior costs"},
        ),
        f"{RESULTS}/figures/studies/fig10_prior.png",
    log:
        "logs/prior-study.log",
    localrule: True
    params:
        results=lambda wildcards: RESULTS,
        code=code_hash("sws.report.prior_study")[:16],
    shell:
        "sws --log {log:q} prior-study --results {params.results:q}"


rule studies:
    """What a step of the prior costs; a quarter of an hour, on a machine that does nothing else."""
    input:
        rules.prior_study.output,
    localrule: True
