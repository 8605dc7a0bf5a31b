# Input functions, and how outputs are marked for the report. What they ask is in sws/study/plan.py.


def made(target):
    """An input function: all tables and figures of a target."""
    return lambda wildcards: [
        *getattr(rules, f"tables_{target}").output,
        *getattr(rules, f"figures_{target}").output,
        *(
            path
            for kind in ("costs", "coders")
            if target in plan.COMPARING
            for path in getattr(rules, f"{kind}_{target}").output
        ),
    ]


def runs(target, *names):
    """An input function: files of a target's runs; fails before any job if it cannot run."""

    def files(wildcards):
        if problem := PLAN.target(target).problem:
            raise WorkflowError(problem)
        return PLAN.run_files(target, *names)

    return files


def figure(file):
    """Mark a picture for the report: one of each figure, under its network and method."""
    if file.path.endswith(".png"):
        return file.path
    return report(
        file.path,
        caption=f"../report/{file.figure}.rst",
        category=file.subject,
        subcategory=file.method,
        labels={"figure": file.title},
    )


def table(target, name, title):
    """Mark a table for the report: the page of it, which a browser shows as it is."""
    return report(
        f"{RESULTS}/tables/{target}/{name}.html",
        caption=f"../report/{name}.rst",
        category="Tables",
        subcategory=target,
        labels={"table": title},
    )
