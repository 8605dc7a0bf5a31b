# Reads a data set once and checks its hashes, before anything trains on it for hours.


rule data:
    output:
        f"{RESULTS}/data/{{dataset}}.json",
    log:
        "logs/data/{dataset}.log",
    localrule: True
    params:
        digest=lambda wildcards: PLAN.digest(wildcards.dataset),
    shell:
        "sws --log {log:q} data {wildcards.dataset:q} --output {output:q}"
